use super::*;
use crate::config::{Config, Search};
use crate::fs;

/// A profile `own` that inherits `base`, in a folder.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        bench.write(
            "bindery.toml",
            "version = 1\n[defaults]\nimage = \"img\"\n[trees.one]\npath = \"one\"\n[trees.two]\npath = \"two\"\n",
        );
        bench.write("images/img.toml", "");
        let base = "version = 1\nbackend = \"portage\"\nchost = \"x86_64-pc-linux-gnu\"\nportage-profile = \"default\"\n\
                    trees = [\"one\"]\n[flags]\ncflags = \"-O2\"\n";
        bench.write("profiles/base.toml", base);
        bench.write("profiles/own.toml", "version = 1\ninherits = \"base\"\n");
        bench
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }

    fn explain(&self, problem: serde_json::Value) -> Explanation {
        self.explain_of(problem, false)
    }

    /// Likewise, of the build side, whose profile is `side`.
    fn explain_of(&self, problem: serde_json::Value, of_build_side: bool) -> Explanation {
        let problem: Problem = serde_json::from_value(problem).unwrap();
        let config = Config::load(Search::of(vec![self.0.path().to_path_buf()])).unwrap();
        let profile = Profile::load(&config, &"own".parse().unwrap()).unwrap();
        let known: Vec<Cpv> = ["dev-libs/serd-1"].map(|cpv| cpv.parse().unwrap()).to_vec();
        let trees: Vec<_> = config.trees.iter().map(|(name, path)| (name, path.value.as_path())).collect();
        let side = of_build_side.then(|| Profile::load(&config, &"side".parse().unwrap()).unwrap());
        Explanation::of(&problem, of_build_side, Sides { own: &profile, build: side.as_ref() }, &known, &trees)
    }

    /// Returns what an explanation says, without the folder's path.
    fn says(&self, problem: serde_json::Value) -> String {
        self.explain(problem).to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn needs_flag() -> serde_json::Value {
    serde_json::json!({"kind": "use", "cpv": "a/b-1", "changes": {"x": true, "y": false}, "chain": [{"atom": "a/b[x,-y]"}]})
}

#[test]
fn the_line_goes_into_the_profile_or_into_the_native_list_that_hides_it() {
    let bench = Bench::new();
    let head = "`a/b-1` is needed with USE=`x -y`\n    asked for as `a/b[x,-y]`\n    ";
    assert_eq!(bench.says(needs_flag()), format!("{head}add `=a/b-1 x -y` to `package.use` in `profiles/own.toml`"));
    // Also where an inherited profile has it, the generated list is not read.
    bench.write("profiles/base/portage/package.use", "");
    assert_eq!(bench.says(needs_flag()), format!("{head}add `=a/b-1 x -y` to `profiles/base/portage/package.use`"));
    bench.write("profiles/own/portage/package.use/some", "");
    let folder = "add `=a/b-1 x -y` to `profiles/own/portage/package.use/bindery`";
    assert_eq!(bench.says(needs_flag()), format!("{head}{folder}"));
    let additions = bench.explain(needs_flag()).remedies;
    assert_eq!((additions[0][0].key, additions[0][0].line.as_str()), (None, "=a/b-1 x -y"));
}

#[test]
fn a_problem_of_the_build_side_is_for_that_sides_profile_and_one_of_who_wants_it_for_that_ones() {
    let bench = Bench::new();
    bench.write("profiles/side.toml", "version = 1\ninherits = \"base\"\n");
    let link = |more: serde_json::Value| {
        let mut link = serde_json::json!({"atom": "a/tool[x]", "cpv": "a/b-1", "use": ["docs"]});
        link.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::json!({"kind": "use", "cpv": "a/tool-1", "changes": {"x": true}, "chain": [link]})
    };
    let says = |problem| {
        let explanation = bench.explain_of(problem, true);
        assert_eq!(explanation.build_side.as_ref().unwrap().as_str(), "side");
        explanation.to_string().replace(&format!("{}/", bench.0.path().display()), "")
    };
    let said = says(link(serde_json::json!({})));
    assert!(said.starts_with("of the build side, profile `side`: `a/tool-1` is needed with USE=`x`\n"), "{said}");
    let ways = "\n    add `=a/tool-1 x` to `package.use` in `profiles/side.toml`\n    or add `=a/b-1 -docs` to `package.use` in ";
    assert!(said.ends_with(&format!("{ways}`profiles/own.toml`")), "{said}");
    let said = says(link(serde_json::json!({"build-side": true})));
    assert!(said.ends_with(&format!("{ways}`profiles/side.toml`")), "{said}");
}

#[test]
fn lines_that_a_profile_has_no_key_for_go_into_its_native_folder() {
    let masks = serde_json::json!([
        {"by": "license", "licenses": ["MIT"]}, {"by": "keyword", "accept": "~amd64", "keywords": []},
        {"by": "restrict", "words": ["bindist"]},
    ]);
    let said = Bench::new().says(serde_json::json!({"kind": "masked", "cpv": "a/b-1", "masks": masks, "chain": []}));
    let way = "add `=a/b-1 MIT` to `package.license` and `=a/b-1 ~amd64` to `package.accept-keywords` in `profiles/own.toml` \
               and `=a/b-1 bindist` to `profiles/own/portage/package.accept_restrict`";
    assert!(said.ends_with(&format!("\n    {way}")), "{said}");
}

#[test]
fn what_is_misspelt_is_told_with_what_was_meant_and_what_is_not_with_advice() {
    let missing = |chain: serde_json::Value| serde_json::json!({"kind": "unsatisfied", "chain": chain, "candidates": [], "others": []});
    let bench = Bench::new();
    let said = bench.says(missing(serde_json::json!([{"atom": ">=dev-util/serd-2:0"}])));
    assert!(said.ends_with("\n    did you mean `dev-libs/serd`?"), "{said}");
    let said = bench.says(missing(serde_json::json!([{"atom": "x/y", "cpv": "a/b-1"}])));
    assert!(said.ends_with("add a tree that has it to `trees`, or leave out what wants it"), "{said}");
}

#[test]
fn a_tree_that_has_it_is_named_where_the_profile_does_not() {
    let bench = Bench::new();
    bench.write("two/dev-util/serd/serd-1.ebuild", "");
    let missing = |atom: &str| serde_json::json!({"kind": "unsatisfied", "chain": [{"atom": atom}], "candidates": [], "others": []});
    let said = bench.says(missing(">=dev-util/serd-2[x]"));
    assert!(said.ends_with("\n    tree `two` has it: add `two` to the profile's `trees`"), "{said}");
    // What is no name is no path.
    bench.write("two/x", "");
    for atom in ["../two/dev-util", "dev-util/..", "serd"] {
        assert_eq!(bench.explain(missing(atom)).elsewhere, None, "{atom}");
    }
}

#[test]
fn no_more_is_shown_than_can_be_read() {
    let bench = Bench::new();
    let all: Vec<Explanation> = std::iter::repeat_n(bench.explain(needs_flag()), 50).collect();
    let text = show(&all, 3);
    assert_eq!(text.matches("is needed with").count(), SHOWN);
    assert!(text.ends_with("\n  and 33 more; `--json` tells more of them"), "{text}");
    assert!(!show(&all[..2], 0).contains("more"));
}
