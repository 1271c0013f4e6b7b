//! Holds the code to ARCHITECTURE.md: which module may use which, how long a file may be, where `unsafe` may stand.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Returns every source file below `src/` with its text.
fn all_sources() -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    files.sort();
    files
        .into_iter()
        .map(|f| (f.strip_prefix(&src).unwrap().to_path_buf(), std::fs::read_to_string(&f).unwrap()))
        .collect()
}

/// Returns the module that a file belongs to.
fn module(file: &Path) -> String {
    file.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_string()
}

/// Returns the table "Who may use whom" of ARCHITECTURE.md: module to the modules it may use.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let section = text.split("## Who may use whom").nth(1).expect("ARCHITECTURE.md has the section");
    let section = section.split("\n## ").next().unwrap();
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_string).collect::<BTreeSet<_>>();
    let mut table = BTreeMap::new();
    // The first table of the section; others may follow.
    let rows = section.lines().skip_while(|l| !l.starts_with("| `")).take_while(|l| l.starts_with("| `"));
    for line in rows {
        let mut cells = line.split('|').skip(1);
        let (modules, uses) = (words(cells.next().unwrap()), words(cells.next().unwrap()));
        for module in modules {
            table.insert(module, uses.clone());
        }
    }
    table
}

/// Returns the code of a file: no comments, no unit tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let text = text.split("#[cfg(test)]").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Returns whether a file holds unit tests only, which may use what the module may not: `tests.rs`, and below `tests/`.
fn is_unit_tests(file: &Path) -> bool {
    file.iter().any(|part| part == "tests" || part == "tests.rs")
}

/// Returns every `crate::NAME` that a file's code names.
fn used(text: &str) -> BTreeSet<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let text = code(text).collect::<Vec<_>>().join(" ");
    let mut used = BTreeSet::<String>::new();
    for rest in text.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            // `use crate::{a, b::{self, C}};`: what stands before a comma or the end, outside of inner braces.
            Some(list) => {
                let (mut depth, mut item) = (0, String::new());
                for c in list.chars() {
                    match c {
                        '}' if depth == 0 => break,
                        ',' if depth == 0 => {
                            used.insert(name(&std::mem::take(&mut item)));
                            continue;
                        }
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    item.push(c);
                }
                used.insert(name(&item));
            }
            None => {
                used.insert(name(rest));
            }
        }
    }
    used.remove("");
    used
}

#[test]
fn every_way_to_name_a_module_is_seen() {
    let text = "use crate::fs;\nuse crate::{\n    atom::{self, Cpv},\n    event,\n};\nfn f() { crate::plan::go() }";
    assert_eq!(used(text).into_iter().collect::<Vec<_>>(), ["atom", "event", "fs", "plan"]);
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let table = table();
    let mut wrong = Vec::new();
    for (file, text) in all_sources() {
        let module = module(&file);
        if module == "lib" || module == "main" || is_unit_tests(&file) {
            continue;
        }
        let Some(allowed) = table.get(&module) else {
            wrong.push(format!("{}: `{module}` is not in the table", file.display()));
            continue;
        };
        for name in used(&text) {
            if name != module && !allowed.contains(&name) && !allowed.contains("*") {
                wrong.push(format!("{}: uses `{name}`, which the table does not allow `{module}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_names_only_modules_that_exist() {
    let modules: BTreeSet<String> = all_sources().iter().map(|(file, _)| module(file)).collect();
    for (module, uses) in table() {
        for name in uses.into_iter().chain([module]).filter(|n| n != "*") {
            assert!(modules.contains(&name), "`{name}` is in the table and not in src/");
        }
    }
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let long: Vec<_> = all_sources().into_iter().filter(|(_, t)| t.lines().count() > 500).map(|(f, _)| f).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn unsafe_stands_in_one_module_only() {
    for (file, text) in all_sources() {
        let found = code(&text).any(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
        assert!(!found || file == Path::new("sandbox/sys.rs"), "{} has unsafe code", file.display());
    }
}

#[test]
fn only_cli_prints() {
    for (file, text) in all_sources() {
        let macros = ["println!(", "eprintln!(", "print!(", "eprint!("];
        let prints = code(&text).any(|line| macros.iter().any(|m| line.trim_start().starts_with(m)));
        assert!(!prints || file.starts_with("cli"), "{} prints", file.display());
    }
}
