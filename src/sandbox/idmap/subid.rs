//! Reads subuid(5), subgid(5), passwd(5) and group(5): who owns which ids.

/// A run of ids that belongs to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owned {
    /// A login or group name, or a number where the entry has only that.
    pub(super) owner: String,
    /// The first id.
    pub(super) start: u32,
    /// How many.
    pub(super) count: u32,
}

impl Owned {
    /// Returns whether any of the `count` ids from `start` is among these.
    pub(super) fn overlaps(&self, start: u32, count: u32) -> bool {
        let end = |start: u32, count: u32| u64::from(start) + u64::from(count);
        u64::from(self.start) < end(start, count) && u64::from(start) < end(self.start, self.count)
    }

    /// Returns whether all of the `count` ids from `start` are among these.
    pub(super) fn contains(&self, start: u32, count: u32) -> bool {
        self.start <= start && u64::from(start) + u64::from(count) <= u64::from(self.start) + u64::from(self.count)
    }
}

/// Returns the entries `OWNER:START:COUNT`; what is none is skipped, as newuidmap(1) does.
pub(super) fn parse_subids(text: &str) -> Vec<Owned> {
    let entry = |line: &str| {
        let mut fields = line.trim().split(':');
        let owned = Owned {
            owner: fields.next().filter(|owner| !owner.is_empty() && !owner.starts_with('#'))?.to_string(),
            start: fields.next()?.parse().ok()?,
            count: fields.next()?.parse().ok()?,
        };
        fields.next().is_none().then_some(owned)
    };
    text.lines().filter_map(entry).collect()
}

/// Returns name and id of each line of passwd(5) or group(5): both have them in the first and third field.
pub(super) fn parse_names(text: &str) -> Vec<Owned> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?.to_string();
        Some(Owned { owner, start: fields.nth(1)?.parse().ok()?, count: 1 })
    };
    text.lines().filter_map(entry).collect()
}

/// Returns the ids that each line of a uid_map or gid_map (user_namespaces(7)) gives to its namespace.
pub(super) fn parse_map(text: &str) -> Vec<Owned> {
    let entry = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let (Some(Ok(start)), _, Some(Ok(count))) = (numbers.next(), numbers.next(), numbers.next()) else {
            return None;
        };
        Some(Owned { owner: String::new(), start, count })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(owner: &str, start: u32, count: u32) -> Owned {
        Owned { owner: owner.to_string(), start, count }
    }

    #[test]
    fn lines_that_are_no_entries_are_skipped() {
        let text = "# comment\nann:100000:65536\n\nbob:x:1\n1001:200000:65536\nc:1:2:3\n:1:2\nd:99999999999:1\n";
        assert_eq!(parse_subids(text), [owned("ann", 100_000, 65536), owned("1001", 200_000, 65536)]);
    }

    #[test]
    fn names_have_their_ids() {
        assert_eq!(
            parse_names("root:x:0:0::/:\nbroken\nann:x:1000:1000::/home:/bin/sh\n"),
            [owned("root", 0, 1), owned("ann", 1000, 1)]
        );
    }

    #[test]
    fn overlap_and_containment_do_not_overflow() {
        let all = owned("x", 1, u32::MAX);
        assert!(all.overlaps(u32::MAX, u32::MAX) && all.contains(5, 10));
        assert!(!owned("x", 10, 5).overlaps(15, 5) && owned("x", 10, 5).overlaps(14, 5));
        assert!(!owned("x", 10, 5).contains(11, 5));
    }
}
