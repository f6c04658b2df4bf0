//! A run whose state is in a real etcd, on loopback: the same summary as in memory, whatever is killed.
//!
//! Without `etcd` on the path the tests say loudly that they are skipped; with `CI` set they fail.
#![cfg(feature = "etcd")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test may panic")]

mod support;

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hivemind_core::SeededIds;

use self::support::{Moment, changes, directory, killed_at, pause, quickstart, refused, same, summary};

/// An etcd of its own, which is killed in the end.
struct Etcd {
    directory: tempfile::TempDir,
    ports: [u16; 2],
    process: Child,
}

impl Etcd {
    /// A fresh one, or nothing if there is no etcd.
    fn start() -> Option<Self> {
        if Command::new("etcd").arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "etcd is not installed, and CI must not go without");
            eprintln!("SKIPPED: etcd is not installed: apt-get install etcd-server");
            return None;
        }
        // Both at once, so that they differ.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = free.map(|listener| listener.local_addr().unwrap().port());
        let directory = directory();
        let process = Self::spawn(&directory, ports);
        let started = Self { directory, ports, process };
        started.wait();
        Some(started)
    }

    fn spawn(directory: &tempfile::TempDir, [client, peer]: [u16; 2]) -> Child {
        let (url, peer_url) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let cluster = format!("default={peer_url}");
        Command::new("etcd")
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &cluster, "--logger", "zap", "--log-level", "error"])
            .args(["--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn wait(&self) {
        let [port, _] = self.ports;
        for _ in 0..3000 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return;
            }
            pause(Duration::from_millis(10));
        }
        panic!("etcd does not listen on port {port}");
    }

    /// Kills it without a farewell, and starts it again on the same data.
    fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = Self::spawn(&self.directory, self.ports);
        self.wait();
    }

    /// The program on a prefix of this etcd, with a temporary directory of its own.
    fn run(&self, prefix: &str) -> Command {
        let [port, _] = self.ports;
        let mut command = quickstart(["--store", &format!("etcd://127.0.0.1:{port}/{prefix}")]);
        command.env("TMPDIR", self.directory.path());
        command
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn etcd_gives_the_summary_of_memory_and_gives_it_again() {
    let Some(etcd) = Etcd::start() else { return };
    let expected = summary(&mut quickstart([""; 0]));
    let first = summary(&mut etcd.run(""));
    same(&first, &expected, "first");
    assert_eq!(summary(&mut etcd.run("quickstart")), first);
    let worlds = std::fs::read_dir(etcd.directory.path()).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("hivemind-quickstart-")
    });
    assert_eq!(worlds.count(), 1, "one world, in the temporary directory");
    refused(etcd.run("").args(["--nodes", "6"]), "this store holds a run of 3 apps of shop on 5 nodes");
    let elsewhere = etcd.directory.path().join("elsewhere");
    refused(etcd.run("").arg("--world").arg(elsewhere), "give the --world of then");
}

#[test]
fn two_runs_share_an_etcd_and_hear_nothing_of_each_other() {
    let Some(etcd) = Etcd::start() else { return };
    let arguments = ["--apps", "12", "--nodes", "8"];
    let expected = summary(quickstart([""; 0]).args(arguments));
    std::thread::scope(|scope| {
        for prefix in ["one", "two", "two-spare/x"] {
            let (etcd, expected) = (&etcd, &expected);
            scope.spawn(move || same(&summary(etcd.run(prefix).args(arguments)), expected, prefix));
        }
    });
}

#[test]
fn killed_anywhere_it_goes_on_where_it_was() {
    let Some(etcd) = Etcd::start() else { return };
    let expected = summary(&mut quickstart([""; 0]));
    let mut kills = 0;
    for seed in 0..8 {
        let (prefix, ids) = (format!("run-{seed}"), SeededIds::new(seed));
        let world = etcd.directory.path().join(&prefix);
        let mut moments = Vec::new();
        for _ in 0..3 {
            let moment = Moment::any(&ids, 40, 30, 250);
            moments.push(moment);
            kills += u32::from(killed_at(etcd.run(&prefix).arg("--world").arg(&world), &world, moment));
        }
        let last = summary(etcd.run(&prefix).arg("--world").arg(&world));
        same(&last, &expected, &format!("seed {seed}, killed at {moments:?}"));
    }
    assert!(kills >= 8, "only {kills} of 24 were killed before the end");
}

#[test]
fn etcd_itself_may_be_killed_and_come_back() {
    let Some(mut etcd) = Etcd::start() else { return };
    let expected = summary(&mut quickstart([""; 0]));
    for after in [3, 6, 15] {
        let world = etcd.directory.path().join(after.to_string());
        let mut command = etcd.run(&format!("after-{after}"));
        command.arg("--world").arg(&world);
        let told = std::thread::scope(|scope| {
            let run = scope.spawn(|| summary(&mut command));
            while changes(&world) < after && !run.is_finished() {
                std::thread::yield_now();
            }
            etcd.restart();
            run.join().unwrap()
        });
        same(&told, &expected, &format!("killed after {after} changes"));
    }
}

#[test]
fn an_etcd_that_is_not_there_is_refused() {
    refused(&mut quickstart(["--store", "etcd://127.0.0.1:1"]), "127.0.0.1:1: etcd cannot be reached");
    refused(&mut quickstart(["--store", "etcd://localhost"]), "is not HOST:PORT");
    let with_password = quickstart(["--store", "etcd://me:secret@localhost:1"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&with_password.stderr).contains("secret"));
}
