//! The command line: types, dispatch, and the only place that prints.
