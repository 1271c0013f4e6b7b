//! Links the program at a fixed address where it is static.
//!
//! A sandbox is five starts of this program, and one that can be loaded anywhere has to mend some ten thousand addresses
//! at each of them first, which costs more than what it then does. What is loaded elsewhere each time all the same:
//! stack, heap, and the kernel's page.

#![expect(clippy::disallowed_methods, reason = "that is how cargo talks to build scripts")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|all| all.split(',').any(|one| one == value));
    if is("CARGO_CFG_TARGET_ENV", "gnu") && is("CARGO_CFG_TARGET_FEATURE", "crt-static") {
        // After rustc's own `-static-pie`, which the last one wins over.
        println!("cargo::rustc-link-arg-bins=-no-pie");
        println!("cargo::rustc-link-arg-bins=-static");
    }
}
