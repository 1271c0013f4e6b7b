//! Decides from a package's metadata whether a merge would run code of it.
//!
//! `setup`, `preinst` and `postinst` run when a binary package is merged. `pretend` does, too, and may change nothing (PMS,
//! "Phase functions"); it has passed when the package was built. The rest runs when the package goes, or never by itself.
//! A phase that does nothing but print is none: each of its lines, in the form that bash gives a function when it
//! prints it, must be one call of a printing function with plain arguments.

use super::reason::Reason;
use crate::package::environment;
use crate::package::metadata::{self, ENVIRONMENT, Metadata};

/// What runs in a merge, without `pkg_`.
const RUN: [&str; 3] = ["setup", "preinst", "postinst"];
/// Commands that print and do nothing else.
const PRINTING: [&str; 11] =
    [":", "true", "echo", "einfo", "einfon", "elog", "ewarn", "eerror", "eqawarn", "ebegin", "eend"];

/// Returns why a merge would not only copy files.
pub(super) fn reasons(metadata: &Metadata) -> Vec<Reason> {
    let defined = metadata.get("DEFINED_PHASES").map(|value| String::from_utf8_lossy(value));
    let defined: Vec<&str> = defined.as_deref().unwrap_or_default().split_whitespace().collect();
    let Some(text) = metadata.get(ENVIRONMENT).and_then(|packed| environment::unpack(packed, metadata::LIMIT).ok())
    else {
        return vec![Reason::Environment];
    };
    let text = String::from_utf8_lossy(&text);
    let mut reasons = Vec::new();
    for phase in RUN {
        if defined.contains(&phase) && !only_prints(&text, &format!("pkg_{phase}")) {
            reasons.push(Reason::Phase { phase: phase.to_string() });
        }
        let hooks = ["pre", "post"].map(|when| format!("{when}_pkg_{phase}"));
        reasons.extend(hooks.into_iter().filter(|hook| body(&text, hook).is_some()).map(|hook| Reason::Hook { hook }));
    }
    reasons
}

/// Returns whether a function is there, and does nothing but print.
fn only_prints(text: &str, function: &str) -> bool {
    // A function of the ebuild's own may have the name of a printing one.
    let redefined = PRINTING.iter().any(|name| body(text, name).is_some());
    !redefined && body(text, function).is_some_and(|mut lines| lines.all(|line| prints(line.trim())))
}

/// Returns the lines of a function, where there is one: `NAME () `, `{ `, its lines, `}`.
fn body<'a>(text: &'a str, function: &str) -> Option<impl Iterator<Item = &'a str>> {
    let mut lines = text.lines();
    lines.find(|line| line.strip_prefix(function).is_some_and(|rest| rest.trim_end() == " ()"))?;
    lines.next().filter(|line| line.trim_end() == "{")?;
    Some(lines.take_while(|line| *line != "}"))
}

/// Returns whether a line is one call of a printing command: words, in quotes or not, where nothing but plain
/// variables is replaced.
fn prints(line: &str) -> bool {
    let line = line.strip_suffix(';').unwrap_or(line);
    let (command, arguments) = line.split_once(' ').unwrap_or((line, ""));
    PRINTING.contains(&command) && is_plain(arguments)
}

fn is_plain(arguments: &str) -> bool {
    let mut quote = None;
    let mut chars = arguments.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => {}
            (_, '`') => return false,
            (_, '$') => {
                let braces = chars.next_if_eq(&'{').is_some();
                let mut length = 0;
                while chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_').is_some() {
                    length += 1;
                }
                if length == 0 || (braces && chars.next() != Some('}')) {
                    return false;
                }
            }
            (_, '\\') => {
                if chars.next().is_none() {
                    return false;
                }
            }
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, ';' | '&' | '|' | '<' | '>' | '(' | ')' | '#' | '\n') => return false,
            (None, _) => {}
        }
    }
    quote.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(phases: &str, environment: &str) -> Vec<String> {
        let metadata = Metadata::from([
            ("DEFINED_PHASES".into(), phases.into()),
            (ENVIRONMENT.into(), environment::pack(environment.as_bytes()).unwrap()),
        ]);
        reasons(&metadata).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn phases_that_no_merge_runs_do_not_matter() {
        let environment = "pkg_prerm () \n{ \n    rm -rf /\n}\n";
        assert!(of("compile prerm postrm pretend config info nofetch\n", environment).is_empty());
        assert!(of("-\n", "").is_empty());
    }

    #[test]
    fn a_phase_that_only_prints_is_none() {
        let environment = "pkg_postinst () \n{ \n    elog \"Try: ${PN} --greeting='how' $PV\";\n    echo;\n    \
            einfo 'all $(of) this; is > text';\n    ewarn a\\;b\n}\nx=1\n";
        assert!(of("postinst\n", environment).is_empty());
    }

    #[test]
    fn a_phase_that_may_do_more_is_named() {
        for line in [
            "useradd x",
            "elog \"$(useradd x)\"",
            "elog \"`useradd x`\"",
            "elog \"${x@P}\"",
            "elog \"${x:=y}\"",
            "elog a > /etc/x",
            "elog a; useradd x",
            "elog a && useradd x",
            "elog \"never closed",
            "elog <(useradd x)",
            "if true; then",
            "elog $((x))",
            "cat <<< x",
            "elog \\",
        ] {
            let found = of("postinst\n", &format!("pkg_postinst () \n{{ \n    {line}\n}}\n"));
            assert_eq!(found, ["it runs pkg_postinst, which does more than print"], "{line}");
        }
    }

    #[test]
    fn a_phase_without_its_function_or_with_other_printing_functions_is_named() {
        assert_eq!(of("setup preinst\n", "").len(), 2);
        let printing = "pkg_setup () \n{ \n    elog x\n}\n";
        assert!(of("setup\n", printing).is_empty());
        assert_eq!(of("setup\n", &format!("elog () \n{{ \n    useradd x\n}}\n{printing}")).len(), 1);
    }

    #[test]
    fn hooks_of_the_bashrc_are_named() {
        let found = of("-\n", "post_pkg_preinst () \n{ \n    rm -r \"${ED}/usr\"\n}\n");
        assert_eq!(found, ["`post_pkg_preinst` of the configuration's bashrc runs when it is merged"]);
    }

    #[test]
    fn without_an_environment_nobody_knows() {
        assert_eq!(reasons(&Metadata::new()), [Reason::Environment]);
    }
}
