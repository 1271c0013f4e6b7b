//! Users and groups as records: what a package's phases add to the system's account files, and those files with what
//! many packages add. Pure.
//!
//! The files are lists of lines whose fields are separated by colons, the first being the name: passwd(5), group(5),
//! shadow(5), gshadow(5). A package may add lines, and names to the list of members that a line ends with. Ids are the
//! ebuild's to fix: two packages that give one name two ids, or one id two names, do not go together.

use std::collections::{BTreeMap, BTreeSet};

/// One of the files.
#[derive(Debug)]
pub(in crate::layer) struct Form {
    /// Its path, without a slash at the beginning.
    pub(in crate::layer) path: &'static str,
    /// Its mode, where the root has none yet.
    pub(in crate::layer) mode: u32,
    fields: usize,
    id: Option<usize>,
    members: Option<usize>,
    /// The day of the last change, since 1970.
    day: Option<usize>,
}

/// The files, each after those that it refers to.
pub(in crate::layer) const FORMS: [Form; 4] = [
    Form { path: "etc/group", mode: 0o644, fields: 4, id: Some(2), members: Some(3), day: None },
    Form { path: "etc/passwd", mode: 0o644, fields: 7, id: Some(2), members: None, day: None },
    Form { path: "etc/shadow", mode: 0o640, fields: 9, id: None, members: None, day: Some(2) },
    Form { path: "etc/gshadow", mode: 0o640, fields: 4, id: None, members: Some(3), day: None },
];

/// What a package adds.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::layer) struct Accounts {
    /// Lines of each file, in their order.
    lines: BTreeMap<String, Vec<String>>,
    /// Names that lists of members get: by file, then by the line's name.
    members: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl Accounts {
    /// Returns whether nothing is added.
    pub(in crate::layer) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.members.is_empty()
    }

    /// Takes up what one file has more than it had; `day` stands for the day of the change. Anything but an addition is an
    /// error, which names the line.
    pub(in crate::layer) fn add(&mut self, form: &Form, before: &str, after: &str, day: u64) -> Result<(), String> {
        let (before, after) = (lines(form, before)?, lines(form, after)?);
        let by_name = |lines: &[Line]| -> BTreeMap<String, Line> {
            lines.iter().map(|line| (line.name().to_string(), line.clone())).collect()
        };
        let (known, now) = (by_name(&before), by_name(&after));
        if let Some(name) = known.keys().find(|name| !now.contains_key(*name)) {
            return Err(name.clone());
        }
        if now.len() != after.len() {
            let mut seen = BTreeSet::new();
            let twice = after.iter().find(|line| !seen.insert(line.name())).map_or("", Line::name);
            return Err(twice.to_string());
        }
        let ids: BTreeSet<&str> = before.iter().filter_map(|line| line.id(form)).collect();
        for mut line in after {
            let name = line.name().to_string();
            match known.get(&name) {
                Some(old) if *old == line => {}
                Some(old) => {
                    let more = added_members(form, old, &line).ok_or_else(|| name.clone())?;
                    self.members.entry(form.path.to_string()).or_default().insert(name, more);
                }
                None if line.id(form).is_some_and(|id| ids.contains(id)) => return Err(name),
                None => {
                    if let Some(field) = form.day.and_then(|at| line.0.get_mut(at)).filter(|field| !field.is_empty()) {
                        *field = day.to_string();
                    }
                    self.lines.entry(form.path.to_string()).or_default().push(line.text());
                }
            }
        }
        Ok(())
    }

    /// Returns the name or id that two packages disagree on, if there is one.
    pub(in crate::layer) fn conflict(&self, other: &Self) -> Option<String> {
        for form in &FORMS {
            let parse = |accounts: &Self| -> Vec<Line> {
                accounts.lines.get(form.path).into_iter().flatten().map(|line| Line::of(line)).collect()
            };
            let theirs = parse(other);
            for mine in parse(self) {
                if let Some(same) = theirs.iter().find(|line| line.name() == mine.name()) {
                    if *same != mine {
                        return Some(format!("`{}` in `/{}`", mine.name(), form.path));
                    }
                } else if let Some(same) =
                    theirs.iter().find(|line| mine.id(form).is_some() && line.id(form) == mine.id(form))
                {
                    let id = mine.id(form).unwrap_or_default();
                    return Some(format!("the id {id} of `{}` and `{}` in `/{}`", mine.name(), same.name(), form.path));
                }
            }
        }
        None
    }
}

/// Returns a file with what packages add, in their order; nothing where none adds to it. A member of a group that is not
/// there is left out: nobody could be in it.
pub(in crate::layer) fn merged<'a>(
    form: &Form,
    text: &str,
    records: impl IntoIterator<Item = &'a Accounts>,
) -> Option<String> {
    let mut all: Vec<Line> = text.lines().map(Line::of).collect();
    let mut more = false;
    for record in records {
        for line in record.lines.get(form.path).into_iter().flatten().map(|line| Line::of(line)) {
            if !all.iter().any(|known| known.name() == line.name()) {
                all.push(line);
                more = true;
            }
        }
        for (name, members) in record.members.get(form.path).into_iter().flatten() {
            let line = all.iter_mut().find(|line| line.name() == name);
            let Some(field) = line.zip(form.members).and_then(|(line, at)| line.0.get_mut(at)) else { continue };
            for member in members {
                if !field.split(',').any(|known| known == member) {
                    field.push_str(if field.is_empty() { "" } else { "," });
                    field.push_str(member);
                    more = true;
                }
            }
        }
    }
    more.then(|| all.iter().map(|line| line.text() + "\n").collect())
}

/// A line by its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line(Vec<String>);

impl Line {
    fn of(text: &str) -> Self {
        Self(text.split(':').map(str::to_string).collect())
    }

    fn name(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    fn id(&self, form: &Form) -> Option<&str> {
        form.id.and_then(|at| self.0.get(at)).map(String::as_str)
    }

    fn text(&self) -> String {
        self.0.join(":")
    }
}

/// Reads a file; a line that is none is an error.
fn lines(form: &Form, text: &str) -> Result<Vec<Line>, String> {
    let read = |text: &str| {
        let line = Line::of(text);
        let digits = |id: &str| !id.is_empty() && id.len() <= 10 && id.bytes().all(|b| b.is_ascii_digit());
        let plain = !line.name().is_empty() && !text.chars().any(char::is_control);
        let good = plain && line.0.len() == form.fields && line.id(form).is_none_or(digits);
        if good { Ok(line) } else { Err(text.chars().take(100).flat_map(char::escape_debug).collect()) }
    };
    text.lines().map(read).collect()
}

/// Returns the members that a line has more, if that is all that differs.
fn added_members(form: &Form, old: &Line, new: &Line) -> Option<Vec<String>> {
    let at = form.members?;
    let others =
        |line: &Line| line.0.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, f)| f.clone()).collect::<Vec<_>>();
    let members = |line: &Line| -> Vec<String> {
        line.0
            .get(at)
            .into_iter()
            .flat_map(|field| field.split(','))
            .filter(|m| !m.is_empty())
            .map(str::to_string)
            .collect()
    };
    let (before, after) = (members(old), members(new));
    let grown = others(old) == others(new) && before.iter().all(|member| after.contains(member));
    let more: Vec<String> = after.into_iter().filter(|member| !before.contains(member)).collect();
    (grown && !more.is_empty()).then_some(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &Form = &FORMS[0];
    const PASSWD: &Form = &FORMS[1];
    const SHADOW: &Form = &FORMS[2];

    fn added(form: &Form, before: &str, after: &str) -> Result<Accounts, String> {
        let mut accounts = Accounts::default();
        accounts.add(form, before, after, 7).map(|()| accounts)
    }

    #[test]
    fn added_lines_and_members_come_into_another_roots_file() {
        let before = "root:x:0:\ntty:x:5:a\n";
        let accounts = added(GROUP, before, "root:x:0:\ntty:x:5:a,b\ncron:x:16:b\n").unwrap();
        let there = "root:x:0:\ntty:x:5:\nother:x:9:\n";
        assert_eq!(merged(GROUP, there, [&accounts]).unwrap(), "root:x:0:\ntty:x:5:b\nother:x:9:\ncron:x:16:b\n");
        // Once is enough, and what nobody adds to is left alone.
        assert_eq!(merged(GROUP, there, [&accounts, &accounts]), merged(GROUP, there, [&accounts]));
        assert_eq!(merged(PASSWD, "root:x:0:0::/root:/bin/sh\n", [&accounts]), None);
        assert!(!accounts.is_empty() && added(GROUP, before, before).unwrap().is_empty());
        // A group that is not there has no members.
        let member = added(GROUP, "cron:x:16:\n", "cron:x:16:b\n").unwrap();
        assert_eq!(merged(GROUP, "root:x:0:\n", [&member]), None);
    }

    #[test]
    fn what_is_no_addition_names_the_line() {
        let before = "root:x:0:\ntty:x:5:a\n";
        for (after, name) in [
            ("root:x:0:\n", "tty"),
            ("root:x:0:\ntty:x:5:\n", "tty"),
            ("root:x:0:\ntty:x:6:a\n", "tty"),
            ("root:x:0:\ntty:x:5:a\ncron:x:5:\n", "cron"),
            ("root:x:0:\ntty:x:5:a\ncron:x:16:\ncron:x:17:\n", "cron"),
            ("root:x:0:\ntty:x:5:a\ncron:x:sixteen:\n", "cron:x:sixteen:"),
            ("root:x:0:\ntty:x:5:a\ncron\n", "cron"),
            ("root:x:0:\ntty:x:5:a\n:x:16:\n", ":x:16:"),
        ] {
            assert_eq!(added(GROUP, before, after), Err(name.to_string()), "{after}");
        }
    }

    #[test]
    fn no_clock_is_in_a_shadow_line() {
        let accounts = added(SHADOW, "", "cron:!:20000::::::\nlocked:!:::::::\n").unwrap();
        assert_eq!(merged(SHADOW, "", [&accounts]).unwrap(), "cron:!:7::::::\nlocked:!:::::::\n");
    }

    #[test]
    fn a_name_with_two_ids_and_an_id_with_two_names_conflict() {
        let of = |line: &str| added(PASSWD, "", line).unwrap();
        let cron = of("cron:x:16:16::/var/spool/cron:/sbin/nologin\n");
        assert_eq!(cron.conflict(&cron), None);
        assert_eq!(cron.conflict(&of("at:x:25:25::/:/sbin/nologin\n")), None);
        let other = of("cron:x:17:16::/var/spool/cron:/sbin/nologin\n");
        assert_eq!(cron.conflict(&other).unwrap(), "`cron` in `/etc/passwd`");
        let taken = of("at:x:16:25::/:/sbin/nologin\n");
        assert_eq!(cron.conflict(&taken).unwrap(), "the id 16 of `cron` and `at` in `/etc/passwd`");
    }
}
