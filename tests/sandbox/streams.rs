//! Relayed streams and terminals, from the outside: the tests run each other with pipes or a terminal of their own.

use std::io::{Read, Write};
use std::process::{Command, Stdio as ProcessStdio};

use bindery::sandbox::Stdio;
use bindery::state::Lease;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::host::{Host, own_program};

fn this_test(name: &str) -> Command {
    let mut command = bindery::process::command(own_program());
    command.args(["--ignored", "--exact", "--nocapture", name]);
    command
}

#[test]
fn relayed_streams_carry_everything_both_ways() {
    let mut command = this_test("streams::relay");
    command.stdin(ProcessStdio::piped()).stdout(ProcessStdio::piped()).stderr(ProcessStdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&b"0123456789".repeat(100_000)).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains(&"0123456789".repeat(100_000)), "{} bytes", out.len());
    assert!(err.contains("to stderr\n"), "{err}");
    assert!(output.status.success());
}

#[test]
#[ignore = "is run by another test"]
fn relay() {
    let host = Host::new();
    let mut lease = Lease::take(&host.state, "test").unwrap();
    let exit = host.run(&mut lease, &["sh", "-c", "echo to stderr >&2; cat"], Stdio::Relay).unwrap();
    assert!(exit.status.success());
}

#[test]
fn a_terminal_is_the_payloads_own_and_ours_is_as_it_was() {
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&user).unwrap();
    tcsetwinsize(&user, Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let open = || ioctl_tiocgptpeer(&user, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    let ours = open();
    let before = tcgetattr(&ours).unwrap();
    let mut command = this_test("streams::terminal");
    let mut child = command.stdin(open()).stdout(open()).stderr(open()).spawn().unwrap();
    drop(command);
    let mut text = String::new();
    let mut answered = false;
    let mut file = std::fs::File::from(user);
    let mut bytes = [0; 4096];
    while !text.contains("test result") {
        let length = file.read(&mut bytes).unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes[..length]));
        if text.contains("name?") && !answered {
            file.write_all(b"fred\r").unwrap();
            answered = true;
        }
    }
    assert!(child.wait().unwrap().success(), "{text}");
    for line in ["/dev/pts/0\r\n", "33 99\r\n", "hello fred\r\n", "job control\r\n"] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    let after = tcgetattr(&ours).unwrap();
    assert!(before.local_modes.contains(LocalModes::ICANON));
    assert_eq!((before.local_modes, before.input_modes), (after.local_modes, after.input_modes));
}

#[test]
#[ignore = "is run by another test"]
fn terminal() {
    let host = Host::new();
    let mut lease = Lease::take(&host.state, "test").unwrap();
    let script = "tty; stty size; printf 'name?'; read name; echo hello $name; set -m && echo job control; : </dev/tty";
    let exit = host.run(&mut lease, &["sh", "-c", script], Stdio::Terminal).unwrap();
    assert!(exit.status.success());
}
