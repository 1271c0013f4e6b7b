//! What is made for a stack is made once for all stacks that it is the same for.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use bindery::layer::derive::{Layer, Merge};
use bindery::layer::stack::stack;

use crate::bench::shop;

/// Returns the topmost layer of a stack of these packages.
fn top(packages: &[&str]) -> PathBuf {
    let shop = shop();
    let is_one = |layer: &Layer| packages.iter().any(|name| layer.cpv.to_string().starts_with(&format!("{name}-")));
    let layers: Vec<_> = shop.layers().into_iter().filter(is_one).collect();
    assert_eq!(layers.len(), packages.len(), "{packages:?}");
    stack(&shop.context(&Merge::default()), &layers, &AtomicBool::new(false)).unwrap().remove(0)
}

#[test]
fn only_packages_with_libraries_or_settings_have_it_made_anew() {
    let one = top(&["app-misc/hello"]);
    assert_eq!(one, top(&["app-misc/procserv"]));
    assert_eq!(one, top(&["app-misc/hello", "app-misc/procserv"]));
    let library = top(&["app-misc/hello", "app-arch/bzip2"]);
    assert_ne!(one, library);
    assert_eq!(library, top(&["app-arch/bzip2", "app-misc/procserv"]));
    assert_ne!(library, top(&["app-arch/bzip2", "own/odd"]));
}
