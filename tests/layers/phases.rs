//! Packages whose phases do something: merged once, and then layers, or not.

use std::sync::atomic::AtomicBool;

use bindery::layer::derive::{Derived, Merge, Package};
use bindery::layer::stack::{StackError, stack};

use crate::bench::{USER, shop};

#[test]
fn what_phases_do_comes_into_the_layer_and_users_and_groups_into_the_root() {
    let shop = shop();
    let merge = Merge::default();
    let lower = stack(&shop.context(&merge), &shop.layers(), &AtomicBool::new(false)).unwrap();
    let script = "grep -E '^cron' /etc/passwd /etc/group | sort\n\
        stat -c '%U:%G %a %n' /usr/bin/crontab /var/spool/cron /var/spool/cron/crontabs /etc/cron.deny /etc/cron.allow \
        /var/lib/phases /var/cache/phases/index\n\
        cat /var/cache/phases/index; tail -n 1 /etc/shells; ls /usr/share/phases /var/cache/phases\n\
        grep -c removed /var/db/pkg/own/phases-1/CONTENTS || true\n\
        grep -cE '/usr/share/phases/(added|changed|kept)' /var/db/pkg/own/phases-1/CONTENTS";
    let ran = shop.run(lower, script).works();
    let expected = "/etc/group:cron:x:16:\n/etc/group:crontab:x:248:cron\n\
        /etc/passwd:cron:x:16:16::/var/spool/cron:/sbin/nologin\n\
        root:crontab 2755 /usr/bin/crontab\ncron:cron 750 /var/spool/cron\nroot:crontab 1730 /var/spool/cron/crontabs\n\
        cron:cron 640 /etc/cron.deny\nroot:crontab 640 /etc/cron.allow\ncron:crontab 3770 /var/lib/phases\n\
        cron:cron 600 /var/cache/phases/index\none\nmore\nthree\n/usr/bin/phases\n\
        /usr/share/phases:\nadded\nchanged\nkept\n\n/var/cache/phases:\nindex\nlink\n0\n4\n";
    assert_eq!(ran.out, expected);
}

#[test]
fn phases_run_once_and_then_what_came_of_them_is_on_record() {
    let shop = shop();
    // Whether they run now depends on earlier runs of this test: the state stays.
    shop.build(&[], "own/user").works().lacks("is installed, and no layer");
    let again = shop.build(&[("user", &format!("{USER}# changed\n"))], "own/user");
    again.works().lacks("running the phases").lacks("is installed, and no layer");
    assert!(again.err.contains("building own/user-1"), "{again}");
}

#[test]
fn what_no_layer_can_hold_is_installed_and_each_path_is_named() {
    let shop = shop();
    let said = shop.build(&[], "own/slow");
    said.works();
    for reason in [
        "own/bad-1 is installed, and no layer",
        "its phases change `/etc/odd.conf`, which is not its own",
        "its phases change `/usr/share/odd`, which is not its own",
        "its phases remove `/etc/debian_version`, which is not its own",
        "its phases make `/var/lib/pipe` a device, pipe or socket",
        "its phases do not only add to `/etc/passwd`: see `daemon` there",
    ] {
        assert!(said.err.contains(reason), "no `{reason}` in:\n{said}");
    }
}

#[test]
fn a_merge_that_fails_fails_what_needs_it_and_says_where() {
    let shop = shop();
    let said = shop.build(&[], "own/unlucky");
    said.fails(3, &["own/failing-1 is installed, and no layer: a merge of it on its own failed: no (in setup)"]);
}

#[test]
fn two_groups_with_one_id_are_refused_and_both_packages_are_named() {
    let shop = shop();
    let said = shop.build(&[], "own/clash");
    let texts = ["disagree on the id 16 of `cron` and `sixteen` in `/etc/group`", "acct-group/cron-0", "own/sixteen-1"];
    said.fails(3, &texts);
}

#[test]
fn what_was_merged_on_other_layers_is_not_on_record() {
    let shop = shop();
    let merge = Merge::default();
    let cx = shop.context(&merge);
    let layers = shop.layers();
    let package = |cp: &str| Package { file: &shop.entry(cp).file, facts: &shop.entry(cp).facts };
    let of = |cp: &str| layers.iter().find(|layer| layer.cpv.cp() == cp).unwrap().clone();
    let group = package("acct-group/cron");
    let known = |on: &[_]| bindery::layer::derive::learned(&cx, &group, on).unwrap();
    assert_eq!(known(&[]), Some(Derived::Layer(of("acct-group/cron"))));
    assert_eq!(known(&[of("app-misc/hello")]), None);
    let error = stack(&cx, &[of("acct-group/cron"), of("acct-group/cron")], &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, StackError::Collision { .. }), "{error}");
}
