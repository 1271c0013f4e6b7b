//! What is no layer, and what is made once.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use bindery::digest::Digest;
use bindery::layer::derive::{Context, DeriveError, Derived, Merge, Package, Settings, derive};
use bindery::layer::stack::{StackError, stack};
use bindery::process::chain;

use crate::bench::shop;

/// Returns the digest of an image for which nothing is on record, not even from an earlier run: the state stays.
fn unknown_image(test: &str) -> Digest {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Digest::of(format!("{test} {} {}", std::process::id(), now.as_nanos()))
}

fn derive_one(cx: &Context<'_>, cp: &str) -> Derived {
    let entry = shop().entry(cp);
    derive(cx, &[Package { file: &entry.file, facts: &entry.facts }]).unwrap().remove(0)
}

#[test]
fn a_layer_is_made_once_and_then_needs_no_package() {
    let shop = shop();
    let merge = Merge::default();
    let first = derive_one(&shop.context(&merge), "app-misc/hello");
    let facts = &shop.entry("app-misc/hello").facts;
    let again = derive(&shop.context(&merge), &[Package { file: Path::new("/does/not/exist"), facts }]).unwrap();
    assert_eq!(again, [first]);
}

#[test]
fn a_layer_is_the_same_on_another_image_with_the_same_folders() {
    let shop = shop();
    let merge = Merge::default();
    let digest = unknown_image("same");
    let other = Context { image_digest: &digest, ..shop.context(&merge) };
    assert_eq!(derive_one(&other, "app-misc/hello"), derive_one(&shop.context(&merge), "app-misc/hello"));
}

#[test]
fn a_flipped_byte_anywhere_in_a_package_is_noticed() {
    let shop = shop();
    let entry = shop.entry("app-misc/procserv");
    let bytes = std::fs::read(&entry.file).unwrap();
    let dir = tempfile::tempdir_in(shop.bench.config.path()).unwrap();
    let file = dir.path().join("flipped.gpkg.tar");
    let merge = Merge::default();
    // Of metadata and image; none of what is asked for is on record, because it is asked for on another image.
    let digest = unknown_image("flipped");
    let cx = Context { image_digest: &digest, ..shop.context(&merge) };
    let name = |name: &[u8]| bytes.windows(name.len()).position(|window| window == name).unwrap() + 512;
    for at in [name(b"/metadata.tar.zst\0") + 300, name(b"/image.tar.zst\0") + 2000, bytes.len() - 1] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        std::fs::write(&file, flipped).unwrap();
        let error = derive(&cx, &[Package { file: &file, facts: &entry.facts }]).unwrap_err();
        assert!(matches!(error, DeriveError::Package { .. }), "{}", chain(&error));
        assert!(chain(&error).contains("flipped.gpkg.tar"), "{}", chain(&error));
    }
    let hello = shop.entry("app-misc/hello");
    let error = derive(&cx, &[Package { file: &hello.file, facts: &entry.facts }]).unwrap_err();
    assert!(chain(&error).contains("not the package that its record names"), "{}", chain(&error));
    // Nothing is left of it, and nothing of it is believed.
    assert!(derive(&cx, &[Package { file: &entry.file, facts: &entry.facts }]).is_ok());
}

#[test]
fn settings_that_change_a_merge_change_the_layer_or_are_a_reason() {
    let shop = shop();
    let of = |settings: Settings| {
        let merge: Merge = settings.into();
        derive_one(&shop.context(&merge), "app-misc/hello")
    };
    let plain = of(Settings::default());
    let Derived::Layer(masked) = of(Settings { install_mask: "/usr/share/doc *.info*".into(), ..Settings::default() })
    else {
        panic!("it is a layer")
    };
    assert_ne!(plain, Derived::Layer(masked.clone()));
    let merge = Merge::default();
    let lower = stack(&shop.context(&merge), &[masked], &AtomicBool::new(false)).unwrap();
    let script = "hello; ls /usr/share/doc/hello-2.10 /usr/share/info 2>/dev/null || echo none\n\
        cat /var/db/pkg/app-misc/hello-2.10/INSTALL_MASK; grep -c '^obj' /var/db/pkg/app-misc/hello-2.10/CONTENTS";
    let ran = shop.run(lower, script).works();
    assert_eq!(ran.out, "Hello, world!\n/usr/share/info:\nnone\n/usr/share/doc *.info*\n2\n");
    for (settings, why) in [
        (Settings { features: vec!["sfperms".into()], ..Settings::default() }, "FEATURES has `sfperms`"),
        (Settings { bashrc: Some("bashrc".into()), ..Settings::default() }, "the configuration has `bashrc`"),
    ] {
        let Derived::NotStackable(reasons) = of(settings) else { panic!("{why}") };
        assert!(reasons[0].to_string().contains(why), "{reasons:?}");
    }
    // The image has Debian's bzip2.
    let merge: Merge = Settings { config_protect: "/usr/bin".into(), ..Settings::default() }.into();
    let Derived::NotStackable(reasons) = derive_one(&shop.context(&merge), "app-arch/bzip2") else { panic!("a layer") };
    assert!(reasons[0].to_string().contains("CONFIG_PROTECT keeps that"), "{reasons:?}");
}

#[test]
fn layers_that_hide_each_others_files_are_not_stacked() {
    let shop = shop();
    let merge = Merge::default();
    let Derived::Layer(hello) = derive_one(&shop.context(&merge), "app-misc/hello") else { panic!("a layer") };
    let mut other = hello.clone();
    other.cpv = "app-misc/other-1".parse().unwrap();
    let error = stack(&shop.context(&merge), &[hello, other], &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, StackError::Collision { .. }), "{error}");
    assert_eq!(stack(&shop.context(&merge), &[], &AtomicBool::new(false)).unwrap(), shop.image.layers);
}

#[test]
fn a_package_whose_phases_do_something_is_no_layer_before_it_is_merged() {
    let shop = shop();
    let merge = Merge::default();
    let package = Package { file: &shop.phase.file, facts: &shop.phase.facts };
    let Derived::NotStackable(reasons) = derive(&shop.context(&merge), &[package]).unwrap().remove(0) else {
        panic!("it is a layer")
    };
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert_eq!(reasons[0].to_string(), "it runs pkg_preinst, which does more than print");
}
