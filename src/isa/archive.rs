//! The members of a static archive (ar(5), in the form of System V and GNU).

/// The most members.
const MOST: usize = 1 << 20;
const MAGIC: &[u8] = b"!<arch>\n";
const HEADER: usize = 60;

/// Returns name and content of each member that is no index; nothing where it is not an archive, or damaged.
pub(super) fn members(data: &[u8]) -> Option<Vec<(String, &[u8])>> {
    let mut rest = data.strip_prefix(MAGIC)?;
    let (mut members, mut names): (Vec<(String, &[u8])>, &[u8]) = (Vec::new(), &[]);
    while rest.len() > 1 {
        let (header, after) = rest.split_at_checked(HEADER)?;
        if header.get(58..60)? != b"`\n" || members.len() > MOST {
            return None;
        }
        let text = |range: std::ops::Range<usize>| std::str::from_utf8(header.get(range)?).ok().map(str::trim);
        let length: usize = text(48..58)?.parse().ok()?;
        let (content, after) = after.split_at_checked(length)?;
        let name = text(0..16)?;
        match name {
            "//" => names = content,
            "/" | "/SYM64/" => {}
            _ => members.push((long(name, names), content)),
        }
        rest = after.get(length % 2..).unwrap_or_default();
    }
    Some(members)
}

/// Returns a member's name, from the table of long names where it is one.
fn long(name: &str, names: &[u8]) -> String {
    let at = name.strip_prefix('/').and_then(|number| number.parse::<usize>().ok());
    match at.and_then(|at| names.get(at..)) {
        Some(rest) => {
            let name = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
            String::from_utf8_lossy(name).trim_end_matches('/').to_string()
        }
        None => name.trim_end_matches('/').to_string(),
    }
}
