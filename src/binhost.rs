//! Pool, index and generations: what clients install from.
