//! `bindery run` and `shell` as people use them: at a terminal, in pipes, in scripts, with Ctrl-C and Ctrl-Z.
//!
//! The program itself runs here, with a terminal of its own (setsid(1), `--ctty`) or without one. Nothing is waited for but
//! what can be seen: output, a process's state, its end.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use bindery::fs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::folders::{ranged, text};
use crate::host::{Host, processes_with, variable, wait_until};
use crate::window::Window;

const CTRL_C: &[u8] = b"\x03";
const CTRL_D: &[u8] = b"\x04";
const CTRL_Z: &[u8] = b"\x1a";

/// Returns the argument of a `sleep` that no other process has.
fn marker(test: u32) -> String {
    format!("85{test}.{}", std::process::id())
}

/// Returns the words that run a script in the host's root.
fn words(host: &Host, script: &str) -> Vec<String> {
    let program = variable("BINDERY_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_bindery").to_string());
    let (state, root) = (host.dir.path().display().to_string(), ranged(host).display().to_string());
    let before = [&program, "--state", &state, "run", "--root", &root, "--env", "PATH=/bin", "--", "sh", "-c", script];
    before.map(str::to_string).to_vec()
}

/// Returns the words as a shell reads them.
fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect::<Vec<_>>().join(" ")
}

fn command(words: &[String]) -> Command {
    let mut command = bindery::process::command(&words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for the end of a command without a terminal.
fn end(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_until("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// Reads until a text comes.
fn read_until(from: &mut impl std::io::Read, text: &str) -> String {
    let (mut all, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&all).contains(text) {
        assert_eq!(from.read(&mut byte).unwrap(), 1, "no {text:?} in {:?}", String::from_utf8_lossy(&all));
        all.push(byte[0]);
    }
    String::from_utf8(all).unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// Returns the one process that sleeps so long, once it does.
fn sleeper(marker: &str) -> i32 {
    let mut found = Vec::new();
    wait_until("the sleep runs", || {
        found = processes_with(&format!("sleep\0{marker}"));
        found.len() == 1
    });
    found[0]
}

fn wait_for_state(pid: i32, states: &str) {
    wait_until(&format!("{pid} is {states}"), || states.contains(&stat(pid)[0]));
}

/// Returns what the kernel says of a process, from its state on (proc_pid_stat(5), field 3): the parent, the group, the
/// session, the terminal, the terminal's foreground group …
fn stat(pid: i32) -> Vec<String> {
    let stat = fs::read_to_string(Path::new(&format!("/proc/{pid}/stat"))).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').map(str::to_string).collect()
}

/// Returns the process so many generations above another.
fn above(generations: u32, pid: i32) -> i32 {
    (0..generations).fold(pid, |pid, _| stat(pid)[1].parse().unwrap())
}

const CATCHES: &str = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 1; done";

#[test]
fn ctrl_c_is_for_the_command_to_handle_at_a_terminal_and_without_one_of_its_own() {
    let host = Host::new();
    let mut window = Window::open();
    let mut child = window.start(&words(&host, CATCHES), |_| {});
    window.until("ready\r\n");
    assert!(window.is_raw());
    window.type_in(CTRL_C);
    window.until("caught\r\n");
    assert_eq!(window.end(&mut child).code(), Some(9));
    window.is_as_before();

    let mut child = window.start(&words(&host, "echo ready too; sleep 1000"), |_| {});
    window.until("ready too\r\n");
    window.type_in(CTRL_C);
    assert_eq!(window.end(&mut child).code(), Some(130));

    // In a pipe, as before `| less`.
    let mut child = window.start(&words(&host, CATCHES), |command| {
        command.stdout(Stdio::piped());
    });
    let mut out = child.stdout.take().unwrap();
    read_until(&mut out, "ready\n");
    assert!(!window.is_raw());
    window.type_in(CTRL_C);
    assert_eq!(read_until(&mut out, "caught\n"), "caught\n");
    assert_eq!(window.end(&mut child).code(), Some(9));
}

#[test]
fn a_second_ctrl_c_ends_what_does_not_care_for_the_first() {
    let (host, marker) = (Host::new(), marker(1));
    let mut window = Window::open();
    let script = format!("trap 'echo heard' INT; echo ready; while :; do sleep {marker}; done");
    let mut child = window.start(&words(&host, &script), |command| {
        command.stdout(Stdio::piped());
    });
    let mut out = child.stdout.take().unwrap();
    read_until(&mut out, "ready\n");
    sleeper(&marker);
    window.type_in(CTRL_C);
    read_until(&mut out, "heard\n");
    window.type_in(CTRL_C);
    assert_eq!(window.end(&mut child).code(), Some(130));
    assert!(window.seen.contains("bindery: stopping"), "{:?}", window.seen);
    assert_eq!(processes_with(&marker), [] as [i32; 0]);
}

#[test]
fn a_signal_to_bindery_ends_everything_with_128_and_its_number() {
    let (host, marker) = (Host::new(), marker(2));
    let script = format!("trap '' TERM HUP QUIT; echo ready; sleep {marker}");
    for (sent, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGQUIT, 131)] {
        let mut window = Window::open();
        let mut child = window.start(&words(&host, &script), |_| {});
        window.until("ready\r\n");
        sleeper(&marker);
        signal(&child, sent);
        assert_eq!(window.end(&mut child).code(), Some(code), "{:?}", window.seen);
        assert_eq!(processes_with(&marker), [] as [i32; 0]);
        window.is_as_before();

        // And with no terminal at all.
        let mut command = bindery::process::command("setsid");
        command.args(words(&host, &script)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        read_until(child.stdout.as_mut().unwrap(), "ready\n");
        signal(&child, sent);
        assert_eq!(end(&mut child).code(), Some(code));
        assert_eq!(processes_with(&marker), [] as [i32; 0]);
    }
}

#[test]
fn a_terminal_is_as_it_was_however_the_command_or_bindery_ends() {
    let (host, marker) = (Host::new(), marker(3));
    let mut window = Window::open();
    for (script, code) in [("exit 3", 3), ("kill -9 $$", 137), ("stty raw -echo; exit 4", 4)] {
        let mut child = window.start(&words(&host, script), |_| {});
        assert_eq!(window.end(&mut child).code(), Some(code), "{:?}", window.seen);
        window.is_as_before();
    }
    let mut child = window.start(&words(&host, &format!("echo ready; sleep {marker}; true")), |_| {});
    window.until("ready\r\n");
    // Above the shell and init: what bindery waits for stands still, so that the second signal finds it waiting.
    let enter = above(3, sleeper(&marker));
    kill(Pid::from_raw(enter), Signal::SIGSTOP).unwrap();
    wait_for_state(enter, "T");
    signal(&child, Signal::SIGTERM);
    window.until("bindery: stopping");
    signal(&child, Signal::SIGTERM);
    assert_eq!(window.end(&mut child).code(), Some(130), "{:?}", window.seen);
    window.is_as_before();
    wait_until("nothing is left", || processes_with(&marker).is_empty());
}

#[test]
fn ctrl_z_stops_the_command_with_bindery_where_it_has_no_terminal_of_its_own() {
    let (host, marker) = (Host::new(), marker(4));
    let mut window = Window::open();
    let file = host.folder("out").join("file");
    let inner = quoted(&words(&host, &format!("echo ready; sleep {marker}")));
    let script = format!("set -m; {inner} >{}; echo stopped; read line; fg; echo ended $?", file.display());
    let mut child = window.start(&["sh".to_string(), "-c".to_string(), script], |_| {});
    let sleep = sleeper(&marker);
    window.type_in(CTRL_Z);
    window.until("stopped\r\n");
    wait_for_state(sleep, "T");
    window.is_as_before();
    window.type_in(b"\n");
    wait_for_state(sleep, "S");
    window.type_in(CTRL_C);
    window.until("ended 130\r\n");
    window.end(&mut child);
}

#[test]
fn ctrl_z_is_for_the_command_at_a_terminal_of_its_own() {
    let (host, marker) = (Host::new(), marker(5));
    let mut window = Window::open();
    // A shell with jobs stops them.
    let script = format!("set -m; sleep {marker}; echo stopped; read line; fg");
    let mut child = window.start(&words(&host, &script), |_| {});
    let sleep = sleeper(&marker);
    window.type_in(CTRL_Z);
    window.until("stopped\r\n");
    wait_for_state(sleep, "T");
    window.type_in(b"\n");
    wait_for_state(sleep, "S");
    window.type_in(CTRL_C);
    assert_eq!(window.end(&mut child).code(), Some(130));
    // Without one nobody could continue it: the key does nothing, and the next one works.
    let mut child = window.start(&words(&host, &format!("echo alone; exec sleep {marker}")), |_| {});
    window.until("alone\r\n");
    sleeper(&marker);
    window.type_in(CTRL_Z);
    window.type_in(CTRL_C);
    assert_eq!(window.end(&mut child).code(), Some(130));
}

#[test]
fn a_job_in_the_background_leaves_the_terminal_to_others() {
    let (host, marker) = (Host::new(), marker(6));
    let mut window = Window::open();
    let file = host.folder("out").join("file");
    for redirected in [format!(">{}", file.display()), String::new()] {
        let inner = quoted(&words(&host, &format!("echo running; sleep {marker}; true")));
        let script = format!("set -m; {inner} {redirected} & read line; echo got $line; fg; echo ended $?");
        let mut child = window.start(&["sh".to_string(), "-c".to_string(), script], |_| {});
        let bindery = above(4, sleeper(&marker));
        assert!(!window.is_raw(), "{:?}", window.seen);
        window.type_in(b"what is typed\n");
        window.until("got what is typed\r\n");
        // In the foreground it has the keys.
        wait_until("it is in the foreground", || stat(bindery)[2] == stat(bindery)[5]);
        wait_until("the keys are its", || window.is_raw() == redirected.is_empty());
        window.type_in(CTRL_C);
        window.until("ended 130\r\n");
        window.end(&mut child);
    }
}

#[test]
fn a_window_has_its_size_from_the_start_and_when_it_changes() {
    let host = Host::new();
    let mut window = Window::open();
    let script = "trap 'stty size' WINCH; stty size; tty; echo ready; while :; do sleep 1; done";
    let mut child = window.start(&words(&host, script), |_| {});
    window.until("ready\r\n");
    assert!(window.seen.starts_with("33 99\r\n/dev/pts/0\r\n"), "{:?}", window.seen);
    tcsetwinsize(&window.user, Winsize { ws_row: 44, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    window.until("44 111\r\n");
    window.type_in(CTRL_C);
    assert_eq!(window.end(&mut child).code(), Some(130));
}

#[test]
fn a_terminal_on_one_side_only_is_passed_through_pipes() {
    let host = Host::new();
    let mut window = Window::open();
    let script = "tty; test -t 1 || echo no terminal; cat";
    // Out is a pipe; the end of what is typed is the end of its input.
    let mut child = window.start(&words(&host, script), |command| {
        command.stdout(Stdio::piped());
    });
    let mut out = child.stdout.take().unwrap();
    read_until(&mut out, "not a tty\nno terminal\n");
    window.type_in(b"line\n");
    read_until(&mut out, "line\n");
    window.type_in(CTRL_D);
    assert_eq!(window.end(&mut child).code(), Some(0));
    // In is a pipe.
    let words = words(&host, script);
    let mut command = command(&words);
    let mut child = command.stdout(window.stream()).stderr(window.stream()).spawn().unwrap();
    drop(command);
    child.stdin.take().unwrap().write_all(b"from a pipe\n").unwrap();
    window.until("not a tty\r\nno terminal\r\nfrom a pipe\r\n");
    assert_eq!(window.end(&mut child).code(), Some(0));
    window.is_as_before();
}

#[test]
fn the_end_of_input_is_passed_on_while_output_goes_on() {
    let host = Host::new();
    let mut child = command(&words(&host, "cat; echo ended; sleep 1; echo and more")).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut out = child.stdout.take().unwrap();
    input.write_all(b"one\n").unwrap();
    read_until(&mut out, "one\n");
    drop(input);
    assert_eq!(read_until(&mut out, "more\n"), "ended\nand more\n");
    assert!(end(&mut child).success());
    let mut window = Window::open();
    let mut child = window.start(&words(&host, "cat; echo ended"), |_| {});
    window.type_in(b"typed\n");
    window.until("typed\r\ntyped\r\n");
    window.type_in(CTRL_D);
    window.until("ended\r\n");
    assert!(window.end(&mut child).success());
}

#[test]
fn whoever_stops_reading_ends_a_command_that_goes_on_writing() {
    let host = Host::new();
    let mut child = command(&words(&host, "exec yes")).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    read_until(&mut out, "y\ny\n");
    drop(out);
    // Its input is still open.
    assert_eq!(end(&mut child).code(), Some(141));
    let ended = "yes; echo \"$?\" >&2";
    let mut child = command(&words(&host, ended)).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    read_until(&mut out, "y\ny\n");
    drop(out);
    read_until(child.stderr.as_mut().unwrap(), "141\n");
    assert!(end(&mut child).success());
}

#[test]
fn a_terminal_that_goes_away_is_hung_up_for_the_command_too() {
    let host = Host::new();
    let mut window = Window::open();
    // Not the terminal of its session: nobody sends it SIGHUP.
    let mut command = bindery::process::command("setsid");
    let script = "trap 'exit 5' HUP; echo ready; while :; do sleep 1; done";
    command.args(words(&host, script)).stdin(window.stream()).stdout(window.stream()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(command);
    window.until("ready\r\n");
    drop(window);
    assert_eq!(end(&mut child).code(), Some(5));
    // Its session's: bindery ends, and everything. The kernel wakes who reads a terminal before it signals its session, and
    // the command may have been told, and have ended, in between.
    let mut window = Window::open();
    let mut child = window.start(&words(&host, script), |_| {});
    window.until("ready\r\n");
    drop(window);
    assert!([5, 129].map(Some).contains(&end(&mut child).code()));
    // One that does not care is ended by bindery, or by nothing.
    let mut window = Window::open();
    let mut child = window.start(&words(&host, "trap '' HUP; echo ready; while :; do sleep 1; done"), |_| {});
    window.until("ready\r\n");
    drop(window);
    assert_eq!(end(&mut child).code(), Some(129));
}

#[test]
fn a_terminal_that_nobody_reads_keeps_nothing_from_ending() {
    let (host, marker) = (Host::new(), marker(7));
    for input in [true, false] {
        let mut window = Window::open();
        let script = format!("sleep {marker} & exec yes");
        let mut child = if input {
            window.start(&words(&host, &script), |_| {})
        } else {
            command(&words(&host, &script)).stdout(window.stream()).stderr(window.stream()).spawn().unwrap()
        };
        window.until("y\r\ny\r\n");
        signal(&child, Signal::SIGTERM);
        assert_eq!(end(&mut child).code(), Some(143));
        assert_eq!(processes_with(&marker), [] as [i32; 0]);
    }
}

#[test]
fn a_command_may_close_its_terminal_and_come_back_to_it() {
    let host = Host::new();
    let mut window = Window::open();
    let script = "exec </dev/null >/dev/null 2>&1; sleep 1; echo back >/dev/tty; stty size </dev/tty >/dev/tty";
    let mut child = window.start(&words(&host, script), |_| {});
    window.until("back\r\n33 99\r\n");
    assert!(window.end(&mut child).success());
}

#[test]
fn streams_that_go_to_one_place_keep_their_order_and_others_stay_apart() {
    let host = Host::new();
    let script = "i=0; while [ $i -lt 2000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
    let shell = format!("{} 2>&1", quoted(&words(&host, script)));
    let output = bindery::process::command("sh").args(["-c", &shell]).output().unwrap();
    let expected: String = (0..2000).map(|i| format!("out {i}\nerr {i}\n")).collect();
    assert!(text(&output.stdout) == expected, "{}", text(&output.stdout));
    let output = command(&words(&host, script)).output().unwrap();
    let lines = |name: &str| (0..2000).map(|i| format!("{name} {i}\n")).collect::<String>();
    assert!(text(&output.stdout) == lines("out") && text(&output.stderr) == lines("err"));
}

#[test]
fn streams_can_be_opened_by_name() {
    let host = Host::new();
    let script = "echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin; cat </proc/self/fd/1; echo $?";
    let mut child = command(&words(&host, script)).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"in\n").unwrap();
    let output = child.wait_with_output().unwrap();
    // What it has written cannot be taken back by it.
    assert_eq!(text(&output.stdout), "out\nin\n1\n", "{}", text(&output.stderr));
    assert!(text(&output.stderr).starts_with("err\nsh: can't open"), "{}", text(&output.stderr));
    // As a build has them.
    let ran = host.sh("echo out >/dev/stdout; echo err >/dev/stderr").unwrap();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_shell_has_the_terminal_and_its_status_is_passed_on() {
    let host = Host::new();
    fs::write(&host.base().join("bin/bash"), "#!/bin/sh\ntty; echo shell $*; read line; exit $line\n").unwrap();
    fs::set_mode(&host.base().join("bin/bash"), 0o755).unwrap();
    let mut shell = words(&host, "");
    let end_of_options = shell.iter().position(|word| word == "--").unwrap();
    shell.truncate(end_of_options);
    shell[3] = "shell".to_string();
    let mut window = Window::open();
    let mut child = window.start(&shell, |_| {});
    window.until("/dev/pts/0\r\nshell -l\r\n");
    window.type_in(b"6\n");
    assert_eq!(window.end(&mut child).code(), Some(6));
    window.is_as_before();
    // What is piped in is a script.
    let mut child = command(&shell).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"7\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "not a tty\nshell -l\n", "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(7));
}
