//! Lists of processors, as cpuset(7) writes them.

use std::fmt;
use std::str::FromStr;

use crate::atom::NameError;

/// What Linux counts at most on any architecture (NR_CPUS).
const MOST: u32 = 8192;

/// Processors by number, such as `0-3,8`: at least one, each once, in order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CpuList(Vec<u32>);

impl CpuList {
    /// Returns the list of some processors; none for none.
    pub fn of(cpus: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut cpus: Vec<u32> = cpus.into_iter().filter(|cpu| *cpu < MOST).collect();
        cpus.sort_unstable();
        cpus.dedup();
        (!cpus.is_empty()).then_some(Self(cpus))
    }

    /// Returns their numbers, in order.
    pub fn numbers(&self) -> &[u32] {
        &self.0
    }
}

impl FromStr for CpuList {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::new(text, "a list of processors (as `0-3,8`)");
        let number = |text: &str| {
            let digits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|number| digits && *number < MOST).ok_or_else(error)
        };
        let mut all = Vec::new();
        // Longer than the longest list that says each processor once.
        if text.len() > MOST as usize * 5 {
            return Err(error());
        }
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            // Each adds at most all of them, and is bounded by the text's length.
            if first > last || all.len() > MOST as usize {
                return Err(error());
            }
            all.extend(first..=last);
        }
        Self::of(all).ok_or_else(error)
    }
}

impl TryFrom<String> for CpuList {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<CpuList> for String {
    fn from(list: CpuList) -> Self {
        list.to_string()
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        while let Some((&first, _)) = rest.split_first() {
            let length = rest.iter().zip(first..).take_while(|(cpu, wanted)| **cpu == *wanted).count();
            let last = rest[length - 1];
            let comma = if rest.len() == self.0.len() { "" } else { "," };
            match length {
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            rest = &rest[length..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_as_the_kernel_writes_them() {
        for (text, wanted) in
            [("0", "0"), ("0-3,8", "0-3,8"), ("3,1,2", "1-3"), ("5-5", "5"), ("0-1,1-2,9", "0-2,9"), ("8191", "8191")]
        {
            assert_eq!(text.parse::<CpuList>().unwrap().to_string(), wanted);
        }
        assert_eq!("1,4-5".parse::<CpuList>().unwrap().numbers(), [1, 4, 5]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in
            ["", ",", "0,", "-1", "1-", "3-1", "a", "0x1", " 1", "1\n", "8192", "0-99999", "+1", "0-8191,0-8191,0"]
        {
            assert!(text.parse::<CpuList>().is_err(), "{text:?}");
        }
        assert_eq!(CpuList::of([]), None);
    }
}
