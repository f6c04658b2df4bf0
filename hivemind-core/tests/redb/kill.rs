//! A process that commits is killed at random moments, again and again: nothing acknowledged is lost.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use hivemind_core::store::{Key, Prefix, Revision, Txn};
use hivemind_core::testkit::SimRng;
use hivemind_core::{ErrorKind, RedbStore, StateStore, StateStoreExt, block_on};

use crate::rounds;

/// How a child says that the file is held by somebody else.
pub(crate) const HELD: i32 = 42;
const WRITERS: usize = 4;
/// How many numbered records of each writer stay.
const KEPT: u64 = 20;

/// This program again, doing `what` with the file at `path`.
pub(crate) fn child(what: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kill::the_child", "--nocapture"]);
    command.env("HIVEMIND_CHILD", what).env("HIVEMIND_CHILD_FILE", path);
    command.stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// Not a test by itself: what a child process does.
#[test]
fn the_child() {
    let Ok(what) = std::env::var("HIVEMIND_CHILD") else { return };
    let path = std::env::var_os("HIVEMIND_CHILD_FILE").unwrap();
    match (what.as_str(), RedbStore::open(path)) {
        ("held", Err(e)) if e.kind() == ErrorKind::Unavailable => std::process::exit(HELD),
        ("commit", Ok(store)) => commit_for_ever(store),
        (what, other) => panic!("{what}: {other:?}"),
    }
}

fn count(store: &RedbStore, writer: u64, name: &str) -> u64 {
    let key = Key::new([format!("w{writer}"), name.to_owned()]).unwrap();
    let found = block_on(store.get(&key, None)).unwrap();
    found.map_or(0, |record| std::str::from_utf8(&record.value).unwrap().parse().unwrap())
}

/// Each writer counts in three records at once and leaves numbered ones; it says what was acknowledged.
fn commit_for_ever(store: RedbStore) {
    let (store, out) = (Arc::new(store), Arc::new(Mutex::new(std::io::stdout())));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS as u64 {
            let (store, out) = (Arc::clone(&store), Arc::clone(&out));
            scope.spawn(move || {
                for n in count(&store, writer, "a") + 1.. {
                    let mut txn = Txn::new();
                    let key = |name: String| Key::new([format!("w{writer}"), name]).unwrap();
                    for name in ["a", "m", "z"] {
                        txn.put(key(name.to_owned()), n.to_string());
                    }
                    txn.put(key(format!("n{n:09}")), vec![b'x'; usize::try_from(n % 700).unwrap()]);
                    if let Some(old) = n.checked_sub(KEPT) {
                        txn.delete(key(format!("n{old:09}")));
                    }
                    let revision = block_on(store.commit(&txn)).unwrap();
                    writeln!(out.lock().unwrap(), "\nack {writer} {n} {revision}").unwrap();
                    if writer == 0 && n % 50 == 0 {
                        block_on(store.compact(Revision::new(revision.as_u64() - 10))).unwrap();
                    }
                }
            });
        }
    });
}

/// What a writer was told last: its number, and the revision.
type Acknowledged = [(u64, u64); WRITERS];

fn hear(line: &str, acknowledged: &mut Acknowledged) -> bool {
    let Some(numbers) = line.strip_prefix("ack ") else { return false };
    let numbers: Vec<u64> = numbers.split(' ').filter_map(|n| n.parse().ok()).collect();
    // The last line may have been cut off by the kill.
    let &[writer, n, revision] = numbers.as_slice() else { return false };
    let slot = &mut acknowledged[usize::try_from(writer).unwrap()];
    if n > slot.0 {
        *slot = (n, revision);
    }
    true
}

fn check(path: &Path, acknowledged: &Acknowledged, round: u64) {
    let store = RedbStore::open(path).unwrap();
    let newest = block_on(store.revision()).unwrap();
    for (writer, (told, at)) in (0..).zip(acknowledged) {
        let n = count(&store, writer, "a");
        assert!(n >= *told, "round {round}: writer {writer} was told {told}, and {n} is there");
        assert!(newest.as_u64() >= *at, "round {round}: revision {at} was told, {newest} is the newest");
        for name in ["m", "z"] {
            assert_eq!(
                count(&store, writer, name),
                n,
                "round {round}: half a transaction of writer {writer}"
            );
        }
        let below = Prefix::new([format!("w{writer}")]).unwrap();
        let (_, records) = block_on(store.scan_all(&below, None)).unwrap();
        let numbered: Vec<_> = records.iter().filter(|r| r.key.last().starts_with(b"n")).collect();
        let first = (n + 1).saturating_sub(KEPT).max(1);
        let expected: Vec<_> = (first..=n).map(|n| format!("n{n:09}").into_bytes()).collect();
        let found: Vec<_> = numbered.iter().map(|r| r.key.last().to_vec()).collect();
        assert_eq!(found, expected, "round {round}: the numbered records of writer {writer}");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let (mut rng, mut acknowledged, mut acks) = (SimRng::new(9), Acknowledged::default(), 0u64);
    for round in 0..rounds(200) {
        let mut child = child("commit", &path).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed after so many acknowledgements, somewhere in the middle of the ones after.
        let patience = rng.below(60);
        let mut heard = 0;
        while heard < patience {
            let line = lines.next().expect("the child ended by itself").unwrap();
            heard += u64::from(hear(&line, &mut acknowledged));
        }
        child.kill().unwrap();
        // What it still said before it died counts too.
        for line in lines.map_while(Result::ok) {
            heard += u64::from(hear(&line, &mut acknowledged));
        }
        child.wait().unwrap();
        acks += heard;
        check(&path, &acknowledged, round);
    }
    assert!(acks > rounds(200) * 10, "only {acks} commits were acknowledged");
}
