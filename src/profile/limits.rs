//! What a build may use before it is stopped.

use std::time::Duration;

use crate::atom::CpuList;

/// The longest a build may take where nobody says otherwise: what a large browser takes on a small machine fits in.
const TIME: Duration = Duration::from_secs(12 * 60 * 60);
/// The longest a build may print nothing where nobody says otherwise: linking a large program with link-time
/// optimisation is silent for some minutes.
const SILENCE: Duration = Duration::from_secs(30 * 60);

/// The longest a build may do nothing at all where nobody says otherwise: it has no network, and so nothing to wait for but
/// itself. A test that sleeps for minutes has happened.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// What a build may use. There is always a limit of time, of silence and of idleness, because Portage can hang for ever (an exception
/// in one of its callbacks leaves it waiting); all else is unlimited unless set.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Processors: 1.5 is one and a half.
    pub cpus: Option<f64>,
    /// The processors by number.
    pub cpuset: Option<CpuList>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes of swap beside the memory.
    pub swap: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Share of the disk beside others'.
    pub io_weight: Option<u16>,
    /// Bytes written below the root.
    pub disk: Option<u64>,
    /// Wall time; serialised in seconds.
    #[serde(with = "seconds")]
    pub time: Option<Duration>,
    /// Time without any output; serialised in seconds.
    #[serde(with = "seconds")]
    pub silence: Option<Duration>,
    /// Time without any output and without processor time; serialised in seconds.
    #[serde(with = "seconds")]
    pub idle: Option<Duration>,
    /// Whether builds make way for others when they wait.
    #[serde(rename = "yield")]
    pub gives_way: bool,
}

/// The serialised form of a limit of time: whole seconds, of which a parsed one always has at least one.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_secs))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpus: None,
            cpuset: None,
            memory: None,
            swap: None,
            pids: None,
            io_weight: None,
            disk: None,
            time: Some(TIME),
            silence: Some(SILENCE),
            idle: Some(IDLE),
            gives_way: false,
        }
    }
}

/// Processors: more than nothing, at most what Linux knows.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Cpus(pub(super) f64);

impl TryFrom<f64> for Cpus {
    type Error = String;
    fn try_from(cpus: f64) -> Result<Self, String> {
        // Below a hundredth of a processor nothing ever ends; Linux counts at most 8192.
        if (0.01..=8192.0).contains(&cpus) {
            Ok(Self(cpus))
        } else {
            Err(format!("`{cpus}` is not a number of processors (0.01 to 8192)"))
        }
    }
}

/// Reads a number of processors, as `1.5`.
pub fn parse_cpus(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().map_err(|_| format!("`{}` is not a number", Text(text.to_string()).shown()))?;
    Cpus::try_from(number).map(|cpus| cpus.0)
}

/// Reads a number of bytes that may be none at all, as `512MiB` or `0`.
pub fn parse_swap(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { parse_size(text) }
}

/// Bytes of swap: a [`Size`], or `"0"`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(try_from = "Text")]
pub(super) struct Swap(pub(super) u64);

impl TryFrom<Text> for Swap {
    type Error = String;
    fn try_from(text: Text) -> Result<Self, String> {
        parse_swap(&text.0).map(Self)
    }
}

/// A share of the disk: the OCI's range.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(try_from = "u16")]
pub(super) struct IoWeight(pub(super) u16);

impl TryFrom<u16> for IoWeight {
    type Error = String;
    fn try_from(weight: u16) -> Result<Self, String> {
        if (10..=1000).contains(&weight) { Ok(Self(weight)) } else { Err(format!("`{weight}` is not from 10 to 1000")) }
    }
}

/// Reads a share of the disk, from 10 to 1000.
pub fn parse_io_weight(text: &str) -> Result<u16, String> {
    let number = text.parse::<u16>().map_err(|_| "expected a number from 10 to 1000".to_string())?;
    IoWeight::try_from(number).map(|weight| weight.0)
}

/// A number of bytes, written with its unit: `512MiB`, `4GiB`, `1.5TiB`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(try_from = "Text")]
pub(super) struct Size(pub(super) u64);

/// The units of [`Size`]: powers of 1024, and of 1000 where they say so.
const UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

impl TryFrom<Text> for Size {
    type Error = String;
    fn try_from(text: Text) -> Result<Self, String> {
        bytes(&text.0)
            .map(Self)
            .ok_or_else(|| format!("`{}` is not a size (a number and a unit, as \"512MiB\" or \"4GiB\")", text.shown()))
    }
}

/// Reads a number of bytes with its unit, as `512MiB`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    Size::try_from(Text(text.to_string())).map(|size| size.0)
}

/// Reads a length of time with its units, as `90s` or `1h 30min`; from a second to a year.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    Span::try_from(Text(text.to_string())).map(|span| span.0)
}

fn bytes(text: &str) -> Option<u64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = (text.get(..at)?.trim_end(), text.get(at..)?);
    let unit = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u128>().ok()? * u128::from(unit) / scale;
    let bytes = u128::from(whole.parse::<u64>().ok()?) * u128::from(unit) + part;
    u64::try_from(bytes).ok().filter(|bytes| (1..=i64::MAX.cast_unsigned()).contains(bytes))
}

/// A length of time, written with its units: `90s`, `30min`, `1h 30min`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(try_from = "Text")]
pub(super) struct Span(pub(super) Duration);

impl TryFrom<Text> for Span {
    type Error = String;
    fn try_from(text: Text) -> Result<Self, String> {
        let error = || format!("`{}` is not a length of time (as \"90s\", \"30min\" or \"2h\")", text.shown());
        let span = humantime::parse_duration(&text.0).map_err(|_| error())?;
        // Nothing at all would stop every build at once, and a year is as good as never.
        if span.as_secs() >= 1 && span.as_secs() <= 366 * 24 * 60 * 60 {
            Ok(Self(span))
        } else {
            Err(format!("`{}` is too short or too long (from a second to a year)", text.shown()))
        }
    }
}

/// Text that a quantity is read from. A bare number is answered with the unit it lacks.
struct Text(String);

impl Text {
    fn shown(&self) -> String {
        self.0.chars().take(40).flat_map(char::escape_debug).collect()
    }
}

impl<'de> serde::Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Text;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a quantity with its unit in quotes, as \"4GiB\" or \"30min\"")
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Result<u64, String> {
        Size::try_from(Text(text.to_string())).map(|size| size.0)
    }

    fn span(text: &str) -> Result<Duration, String> {
        Span::try_from(Text(text.to_string())).map(|span| span.0)
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("4GiB"), Ok(4 << 30));
        assert_eq!(size("1.5 MiB"), Ok((1 << 20) + (1 << 19)));
        assert_eq!(size("2GB"), Ok(2_000_000_000));
        for text in [
            "",
            "4",
            "GiB",
            "4gib",
            "4 G",
            "-1GiB",
            "1.GiB",
            ".5GiB",
            "0KiB",
            "1e9kB",
            "9999999999999999KiB",
            "999999999TiB",
            "1GiB\n",
            "½GiB",
        ] {
            assert!(size(text).is_err(), "{text:?}");
        }
        assert_eq!(
            size("4 G\n").unwrap_err(),
            "`4 G\\n` is not a size (a number and a unit, as \"512MiB\" or \"4GiB\")"
        );
    }

    #[test]
    fn lengths_of_time_have_units_and_an_end() {
        assert_eq!(span("1h 30min"), Ok(Duration::from_secs(5400)));
        for text in ["", "5", "0s", "10ms", "2 years", "-1s", "forever", "99999999999999999999s"] {
            assert!(span(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_watchdog_is_on_by_default() {
        let limits = Limits::default();
        assert!(limits.time.is_some() && limits.silence.is_some() && limits.idle < limits.silence);
    }

    #[test]
    fn processors_are_a_positive_number() {
        for cpus in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(Cpus::try_from(cpus).is_err(), "{cpus}");
        }
        assert_eq!(Cpus::try_from(1.5), Ok(Cpus(1.5)));
    }
}
