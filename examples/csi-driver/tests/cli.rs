//! The program as its users run it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "it waits for another process")]

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn driver(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_csi-driver"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    driver(arguments).output().unwrap()
}

/// Starts it, and waits until somebody listens.
fn start(socket: &Path) -> Child {
    let mut child = driver(&["--endpoint", socket.to_str().unwrap(), "--memory"]).spawn().unwrap();
    while UnixStream::connect(socket).is_err() {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "the driver ended before it listened: {ended:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child
}

#[test]
fn wrong_arguments_are_refused_with_exit_code_2_and_a_reason() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("csi.sock");
    let (socket, missing) = (socket.to_str().unwrap(), place.path().join("missing"));
    let nowhere = missing.join("csi.sock");
    let wrong: [(&[&str], &str); 7] = [
        (&["--memory"], "--endpoint"),
        (&["--endpoint", socket], "--pool"),
        (&["--endpoint", socket, "--memory", "--pool", "/tmp"], "cannot be used with"),
        (&["--endpoint", "tcp://127.0.0.1:1", "--memory"], "absolute path"),
        (&["--endpoint", nowhere.to_str().unwrap(), "--memory"], "there is no directory"),
        (&["--endpoint", socket, "--memory", "--name", "no_domain"], "domain name"),
        (&["--endpoint", socket, "--pool", missing.to_str().unwrap()], "there is no such directory"),
    ];
    for (arguments, reason) in wrong {
        let output = run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

#[test]
fn a_live_socket_is_left_alone_a_stale_one_is_replaced_and_an_end_is_clean() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("csi.sock");
    let mut first = start(&socket);
    let second = run(&["--endpoint", socket.to_str().unwrap(), "--memory"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8(second.stderr).unwrap().contains("somebody listens"));
    // Killed, it leaves its socket behind.
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(socket.exists());
    let mut third = start(&socket);
    let asked = Command::new("kill").arg(third.id().to_string()).status().unwrap();
    assert!(asked.success());
    assert_eq!(third.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());
}
