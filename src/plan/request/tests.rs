use super::*;

fn request(parts: &[(&str, &str)]) -> Request {
    let mut request = Request::default();
    for (part, value) in parts {
        request.set(*part, *value);
    }
    request
}

/// Returns a request with one dependency: `sub-slot flags`, the three parts of its output digest.
fn with(ask: bool, cpv: &str, about: &str, roles: &[Role], output: &str) -> Request {
    let mut request = request(if ask { &[(ASKS, "yes")] } else { &[] });
    let (sub_slot, flags) = about.split_once(' ').unwrap_or((about, ""));
    let flags = flags.split_whitespace().map(|flag| flag.parse().unwrap()).collect();
    let identity = Identity::new(&"0".parse().unwrap(), &sub_slot.parse().unwrap(), &flags);
    let [link, archives, tools] = [0, 1, 2].map(|at| Digest::of(&output[at..=at]));
    let output = Output { link, archives, tools };
    request.set_dependency(&cpv.parse().unwrap(), &identity, &roles.iter().copied().collect(), &output);
    request
}

fn changes(old: &Request, new: &Request) -> Vec<String> {
    new.changes_since(old, Policy::default()).iter().map(Change::to_string).collect()
}

#[test]
fn equal_requests_have_equal_keys_and_no_changes() {
    let (a, b) = (request(&[("use", "nls"), ("ebuild", "x")]), request(&[("ebuild", "x"), ("use", "nls")]));
    assert_eq!(a.key(), b.key());
    assert_eq!(a.changes_since(&b, Policy::default()), []);
    assert_ne!(a.key(), request(&[("use", "nls")]).key());
}

#[test]
fn a_change_is_named() {
    for (part, old, new, said) in [
        ("use", "a b", "b nls", "USE changed: +nls -a"),
        ("env CFLAGS", "-O2", "-O3", "CFLAGS changed: `-O2` to `-O3`"),
        ("env LDFLAGS", "", "-s", "LDFLAGS is now set: `-s`"),
        ("env LDFLAGS", "-s", "", "LDFLAGS is no longer set (it was `-s`)"),
        ("ebuild", "1", "2", "the ebuild changed"),
        ("files", "1", "", "a file beside the ebuild is gone"),
        ("eclass x", "1", "2", "eclass `x` changed"),
        ("patches", "", "2", "a user patch is new"),
        ("image", "1", "2", "what the image's definition sets up changed"),
        (
            "toolchain compiler",
            "gcc-14=14.2.0-19",
            "gcc-14=14.2.0-20",
            "compiler changed: gcc-14 14.2.0-19 → 14.2.0-20",
        ),
        ("toolchain compiler", "gcc=1 g++=1", "gcc=2 g++=2", "compiler changed: gcc 1 → 2 and 1 more"),
        ("toolchain C library", "libc6=1", "libc6=1 libc6-dev=1", "C library changed: libc6-dev none → 1"),
        ("toolchain make", "make=4.4", "", "make changed: make 4.4 → none"),
    ] {
        let one = |value: &str| if value.is_empty() { request(&[]) } else { request(&[(part, value)]) };
        assert_eq!(changes(&one(old), &one(new)), [said]);
    }
}

#[test]
fn of_a_dependency_counts_what_its_role_can_see() {
    const LINK: &[Role] = &[Role::Link];
    const TOOL: &[Role] = &[Role::Tool];
    let lib = |about: &str, roles: &[Role], output: &str| with(false, "a/lib-1", about, roles, output);
    for (old, new, said) in [
        (lib("0", LINK, "xxx"), lib("0", LINK, "xxx"), &[][..]),
        (lib("0", LINK, "xxx"), lib("0 nls", LINK, "xxy"), &[]),
        (lib("0", TOOL, "xxx"), lib("0 nls", TOOL, "yyx"), &[]),
        (lib("0", LINK, "xxx"), with(false, "a/lib-2", "0", LINK, "xxx"), &[]),
        (lib("0", LINK, "xxx"), lib("0", LINK, "yxx"), &["`a/lib`'s ABI changed"]),
        (lib("0", LINK, "xxx"), lib("0", LINK, "xyx"), &["`a/lib`'s static archives changed"]),
        (lib("0", TOOL, "xxx"), lib("0", TOOL, "xxy"), &["`a/lib` changed, which runs while it is built"]),
        (lib("1", LINK, "xxx"), lib("2", LINK, "xxx"), &["`a/lib`'s sub-slot changed: 1 → 2"]),
        // For no role that is known: everything.
        (lib("0", &[], "xxx"), lib("0", &[], "xxy"), &["`a/lib` changed, which runs while it is built"]),
        (lib("0", &[], "xxx"), lib("0", &[], "yxx"), &["`a/lib`'s ABI changed"]),
        (request(&[]), lib("0", LINK, "xxx"), &["it is now built with `a/lib`"]),
        (lib("0", LINK, "xxx"), request(&[]), &["it is no longer built with `a/lib`"]),
    ] {
        assert_eq!(changes(&old, &new), said);
        assert_eq!(new.is_met_by(&old, Policy::default()), said.is_empty());
    }
    let both = lib("0", &[Role::Link, Role::Tool], "xxx");
    assert_eq!(changes(&lib("0", LINK, "xxx"), &both), ["it is now built with the tool `a/lib`"]);
}

#[test]
fn what_may_be_asked_for_counts_where_it_may_be_asked_for() {
    let lib = |cpv: &str, about: &str| with(true, cpv, about, &[Role::Link], "xxx");
    let old = lib("a/lib-1", "0 ssl");
    assert_eq!(changes(&old, &lib("a/lib-1", "0 ssl")), [""; 0]);
    let said = "`a/lib`'s USE changed: +nls -ssl, and the ebuild may ask for that";
    assert_eq!(changes(&old, &lib("a/lib-1", "0 nls")), [said]);
    let said = "`a/lib-2` is there instead of `a/lib-1`, and the ebuild may ask for that";
    assert_eq!(changes(&old, &lib("a/lib-2", "0 ssl")), [said]);
}

#[test]
fn what_a_person_changed_is_named_before_what_follows_from_it() {
    let old = request(&[("image", "1"), ("link a/b:0", "x"), ("dependency a/b:0", "0"), ("use", "a"), ("ebuild", "1")]);
    let new = request(&[("image", "2"), ("link a/b:0", "y"), ("dependency a/b:0", "0"), ("use", "b"), ("ebuild", "2")]);
    let changes = changes(&old, &new);
    assert_eq!(changes[0], "the ebuild changed");
    assert_eq!(changes[3], "`a/b`'s ABI changed");
}

#[test]
fn without_dependencies_nothing_of_them_is_left() {
    let mut request = with(true, "a/lib-1", "0 ssl", &[Role::Link, Role::Tool], "xyz");
    request.set("use", "nls");
    let parts = request.without_dependencies().to_parts();
    assert_eq!(parts.keys().map(String::as_str).collect::<Vec<_>>(), ["asks", "use", "version"]);
}

#[test]
fn another_version_of_bindery_builds_again() {
    let old: Request = serde_json::from_str(r#"{"version":0,"parts":{}}"#).unwrap();
    assert_eq!(Request::default().changes_since(&old, Policy::default()).len(), 1);
}

#[test]
fn what_the_profile_leaves_out_makes_no_difference() {
    use crate::plan::Tools;
    let lib = |output: &str| with(false, "a/lib-1", "0", &[Role::Link], output);
    let gen_ = |output: &str| with(false, "a/gen-1", "0", &[Role::Tool], output);
    let (any, abi, never) = (Tools::Any, Tools::Abi, Tools::Never);
    for (archives, tools, old, new, said) in [
        (false, any, lib("xxx"), lib("xyx"), None),
        (false, any, lib("xxx"), lib("yxx"), Some("`a/lib`'s ABI changed")),
        (true, never, lib("xxx"), lib("xyx"), Some("`a/lib`'s static archives changed")),
        (true, any, gen_("xxx"), gen_("xxy"), Some("`a/gen` changed, which runs while it is built")),
        (true, abi, gen_("xxx"), gen_("xxy"), None),
        (true, abi, gen_("xxx"), gen_("yxy"), Some("`a/gen`'s ABI changed, which runs while it is built")),
        (true, never, gen_("xxx"), gen_("yxy"), None),
        (true, never, gen_("xxx"), with(false, "a/gen-1", "2", &[Role::Tool], "xxx"), Some("sub-slot changed: 0 → 2")),
    ] {
        let policy = Policy { archives, tools };
        let changes: Vec<String> = new.changes_since(&old, policy).iter().map(Change::to_string).collect();
        assert_eq!(changes.len(), usize::from(said.is_some()), "{policy:?} {changes:?}");
        assert!(said.is_none_or(|said| changes[0].ends_with(said)), "{policy:?} {changes:?}");
        assert_eq!(new.is_met_by(&old, policy), said.is_none());
    }
    // A request of an earlier bindery does not say what the interface was.
    let mut old = gen_("xxx");
    old.parts.remove("interface a/gen:0");
    assert!(gen_("xxx").is_met_by(&old, Policy::default()));
    let abi = Policy { archives: true, tools: abi };
    assert!(gen_("xxx").is_met_by(&old, abi));
    assert!(!gen_("xxy").is_met_by(&old, abi));
}
