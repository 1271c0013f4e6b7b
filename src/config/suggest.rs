//! "Did you mean": the nearest of some known names.

/// The longest text that is compared, in characters: longer ones are no slip of the finger, and the work grows with it.
const LONGEST: usize = 80;

/// Returns the known name that differs least from `word`, if it is near enough to be what was meant: at most one slip
/// in three characters, counting a wrong, missing, additional or swapped character as one.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (slips(word, name), name))
        .filter(|(slips, _)| *slips <= limit)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name)
}

/// Returns how many slips lead from one text to the other (optimal string alignment distance).
fn slips(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(LONGEST).flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().take(LONGEST).flat_map(char::to_lowercase).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let mut best = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

/// Returns names as they read in a sentence: "`a`, `b`", or "none".
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_string() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_what_was_meant_and_something_else_nothing() {
        let known = ["amd64", "x86-64-v3", "app-misc/hello"];
        assert_eq!(closest("amd46", known), Some("amd64"));
        assert_eq!(closest("x86-64v3", known), Some("x86-64-v3"));
        assert_eq!(closest("app-misc/helo", known), Some("app-misc/hello"));
        assert_eq!(closest("sparc", known), None);
        assert_eq!(closest("", known), None);
    }
}
