//! What works: from a profile to a published generation, once and again.

use crate::bench::{Bench, Who};

#[test]
fn a_package_is_built_published_and_verified() {
    let bench = Bench::new("chain-hello");
    bench.build(&["app-misc/hello"]).works();
    let package = bench.profile_dir().join("current/app-misc/hello/hello-2.10-1.gpkg.tar");
    let path = package.to_str().unwrap();
    bench.run(&["verify", path]).works();
    // Unchanged: not built again, nothing published.
    let said = bench.build(&["app-misc/hello"]);
    said.works();
    assert!(said.err.contains("nothing to build; 1 packages are unchanged"), "{said}");
    assert!(!bench.profile_dir().join("generations/2").exists());
    // Another flag: built again, with the reason, and published as a second build.
    bench.write_profile("[package]\nuse = [\"app-misc/hello nls\"]\n");
    let said = bench.build(&["app-misc/hello", "--pretend"]);
    said.works();
    assert!(said.out.contains("USE changed: +nls"), "{said}");
    bench.build(&["app-misc/hello"]).works();
    assert!(bench.profile_dir().join("current/app-misc/hello/hello-2.10-2.gpkg.tar").exists());
}

#[test]
fn an_ordinary_user_builds_the_same_package_as_root() {
    let (root, user) = (Bench::new("chain-same"), Bench::of(Who::Other, "chain-same"));
    let content = |bench: &Bench| {
        bench.build(&["app-arch/bzip2"]).works();
        let record = bench.profile_dir().join("pool/app-arch/bzip2/bzip2-1.0.8-1.json");
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
        record["facts"]["content"].as_str().unwrap().to_string()
    };
    assert_eq!(content(&root), content(&user));
}
