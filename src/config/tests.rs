use std::path::Path;

use super::*;
use crate::fs;

fn load(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(&dir.path().join("bindery.toml"), text).unwrap();
    Config::load(Search::of(vec![dir.path().to_path_buf()]))
}

fn complaint(text: &str) -> String {
    let error = load(text).unwrap_err();
    let text = error.diagnostic().unwrap().render(false);
    // The place of the temporary folder is nothing to compare.
    text.lines().filter(|line| !line.contains("-->")).collect::<Vec<_>>().join("\n")
}

#[test]
fn paths_start_from_the_folder_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let text = "version = 1\n[defaults]\nmirrors = [\"dist\", \"https://m.example\"]\n[trees.x]\npath = \"./a/b\"";
    fs::write(&dir.path().join("bindery.toml"), text).unwrap();
    let config = Config::load(Search::of(vec![dir.path().to_path_buf()])).unwrap();
    assert_eq!(config.trees[&"x".parse().unwrap()].value, dir.path().join("a/b"));
    let mirrors = config.defaults.mirrors.unwrap().value;
    assert_eq!(mirrors[0].folder(), Some(dir.path().join("dist").as_path()));
    assert_eq!(mirrors[1].as_str(), "https://m.example");
}

#[test]
fn archives_are_named_by_label_and_must_be_uris() {
    let config = load("version = 1\n[archives]\nDebian-Security = \"https://m.example/s\"").unwrap();
    assert_eq!(config.archives["Debian-Security"].as_str(), "https://m.example/s");
    let text = complaint("version = 1\n[archives]\nDebian = \"m.example\"");
    assert!(text.contains("a URI that apt understands"), "{text}");
}

#[test]
fn an_earlier_file_hides_values_of_a_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for (folder, text) in [
        (&a, "version = 1\n[defaults]\nkey = \"mine\"\n[sets]\nworld = [\"app-misc/a\"]"),
        (&b, "version = 1\n[defaults]\nkey = \"theirs\"\nimage = \"i\"\n[sets]\nworld = []\nmore = [\"@world\"]"),
    ] {
        fs::create_dir_all(folder).unwrap();
        fs::write(&folder.join("bindery.toml"), text).unwrap();
    }
    let config = Config::load(Search::of(vec![a.clone(), b.clone()])).unwrap();
    assert_eq!(config.defaults.key.as_ref().unwrap().value.as_str(), "mine");
    assert_eq!(config.defaults.image.as_ref().unwrap().value.as_str(), "i");
    assert_eq!(config.defaults.image.unwrap().place(), format!("{}:4", b.join("bindery.toml").display()));
    assert_eq!(config.sets.len(), 2);
    assert_eq!(config.sets[&"world".parse().unwrap()].value.len(), 1);
    assert_eq!(config.files.len(), 2);
}

#[test]
fn no_file_at_all_is_fine() {
    let config = Config::load(Search::of(vec!["/nowhere".into()])).unwrap();
    assert!(config.trees.is_empty() && config.files.is_empty());
}

#[test]
fn a_misspelt_key_is_named() {
    insta::assert_snapshot!(complaint("version = 1\n[defaults]\nimgae = \"x\"\n"), @r#"
    error: unknown field `imgae`, expected one of `image`, `trees`, `portage-profile`, `key`, `source-date-epoch`, `mirrors`, `jobs`, `yield`
      |
    3 | imgae = "x"
      | ^^^^^
    "#);
}

#[test]
fn a_newer_version_is_refused_for_being_newer() {
    insta::assert_snapshot!(complaint("version = 2\nnews = true\n"), @r"
    error: this bindery does not read that version
      |
    1 | version = 2
      |           ^ expected 1
      |
      = help: it was written for another bindery: use that one
    ");
}

#[test]
fn a_missing_version_is_asked_for() {
    insta::assert_snapshot!(complaint("[defaults]\n"), @r"
    error: the file does not say its version
     = help: begin it with `version = 1`
    ");
}

#[test]
fn a_tree_name_that_is_a_path_is_refused() {
    insta::assert_snapshot!(complaint("version = 1\n[trees.\"../x\"]\npath = \"x\"\n"), @r#"
    error: `../x` is not a name (letters, digits, `.`, `_`, `-`; at most 64; starting with a letter or digit)
      |
    2 | [trees."../x"]
      |        ^^^^^^
    "#);
}

#[test]
fn ids_that_hold_the_hosts_root_or_are_too_few_are_refused() {
    for ids in ["start = 0", "start = 1000\ncount = 10", "start = 4294967295", "start = 4294901761"] {
        assert!(load(&format!("version = 1\n[ids]\n{ids}\n")).is_err(), "{ids}");
    }
    let config = load("version = 1\n[ids]\nstart = 4294901759\n[serve]\nlisten = \"[::1]:80\"").unwrap();
    assert_eq!(config.ids, Some((4_294_901_759, 4_294_901_759)));
    assert_eq!(config.listen.unwrap().port(), 80);
}

#[test]
fn a_file_too_long_to_be_written_by_hand_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(&dir.path().join("bindery.toml"), " ".repeat((1 << 20) + 1)).unwrap();
    let error = Config::load(Search::of(vec![dir.path().to_path_buf()])).unwrap_err();
    assert!(error.to_string().starts_with("cannot read `"), "{error}");
}

#[test]
fn the_projects_own_file_parses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = Config::load(Search::of(vec![root.to_path_buf()])).unwrap();
    assert_eq!(config.trees[&"bindery-test".parse().unwrap()].value, root.join("tests/tree"));
}
