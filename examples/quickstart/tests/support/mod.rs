//! Runs the program, to its end or until it is killed.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use hivemind_core::{IdSource, SeededIds};
use serde_json::Value;

/// The program with these arguments.
pub(crate) fn quickstart<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    command.args(arguments);
    command
}

/// A directory of its own, removed in the end.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Runs `command` to its end, which must be a good one; returns its summary without what depends on speed.
pub(crate) fn summary(command: &mut Command) -> Value {
    let output = command.arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
    let mut told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fields = told.as_object_mut().unwrap();
    for of_speed in ["elapsed_ms", "deployments_per_second"] {
        assert!(fields.remove(of_speed).unwrap().is_u64());
    }
    told
}

/// Checks that two summaries are the same; the sizes of backups differ a little, since ids and nonces are random and do
/// not compress to the same size.
pub(crate) fn same(found: &Value, expected: &Value, context: &str) {
    let (mut found, mut expected) = (found.clone(), expected.clone());
    let bytes = |summary: &mut Value| {
        summary.as_object_mut().unwrap().remove("backup_bytes").unwrap().as_u64().unwrap()
    };
    let (a, b) = (bytes(&mut found), bytes(&mut expected));
    assert_eq!(found, expected, "{context}");
    assert!(a.abs_diff(b) * 10 < b, "{context}: {a} bytes of backup, {b} expected");
}

/// Checks that the program refuses to begin, and says so.
pub(crate) fn refused(command: &mut Command, reason: &str) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), stdout.as_slice()), (Some(2), &b""[..]), "{said}");
    assert!(said.contains(reason), "{said:?} does not say {reason:?}");
    assert!(!said.contains("panicked"), "{said}");
}

/// When to kill the program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    /// Once it has told so many lines.
    Lines(usize),
    /// Once so many changes of volumes are written down.
    Changes(usize),
    /// After so many microseconds.
    Microseconds(u64),
}

impl Moment {
    /// Somewhere in a story of about that length.
    pub(crate) fn any(ids: &SeededIds, lines: u64, changes: u64, milliseconds: u64) -> Self {
        let below = |most: u64| u64::try_from(ids.next_u128() % u128::from(most)).unwrap();
        let count = |most| usize::try_from(below(most)).unwrap();
        match below(3) {
            0 => Self::Lines(count(lines)),
            1 => Self::Changes(count(changes)),
            _ => Self::Microseconds(below(milliseconds * 1000)),
        }
    }
}

/// Runs `command` until `moment`, and kills it; tells whether that was before its end.
pub(crate) fn killed_at(command: &mut Command, world: &Path, moment: Moment) -> bool {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    match moment {
        Moment::Lines(count) => drop(lines.by_ref().take(count).count()),
        Moment::Changes(count) => {
            while changes(world) < count && child.try_wait().unwrap().is_none() {
                std::thread::yield_now();
            }
        }
        Moment::Microseconds(count) => pause(Duration::from_micros(count)),
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.code().is_none_or(|code| code == 0), "{moment:?}: {status}");
    status.code().is_none()
}

#[allow(clippy::disallowed_methods, reason = "the program lives in real time")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Where the volumes of a world are written down.
pub(crate) fn volumes(world: &Path) -> PathBuf {
    world.join("volumes")
}

/// How many changes are written down.
pub(crate) fn changes(world: &Path) -> usize {
    std::fs::read(volumes(world)).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count())
}
