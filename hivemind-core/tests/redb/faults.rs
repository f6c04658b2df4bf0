//! A disk that fills up or fails while the store is in use: a clear error, and never a wrong answer.

use hivemind_core::{Effect, ErrorKind, RedbOptions, RedbStore, Retry, StateStore, block_on};

use crate::disk::Disk;
use crate::{commit, shown};

fn open(disk: &Disk) -> hivemind_core::Result<RedbStore> {
    let disk = disk.clone();
    RedbOptions::new().open_on("the platter", move || Ok(disk.clone()))
}

#[test]
fn a_full_disk_refuses_and_goes_on_once_there_is_room() {
    let disk = Disk::default();
    let store = open(&disk).unwrap();
    disk.0.lock().unwrap().faults.room = Some(300_000);
    let large = "x".repeat(20_000);
    let mut done = 0;
    let refused = loop {
        match commit(&store, &format!("k{done}"), &large) {
            Ok(_) => done += 1,
            Err(e) => break e,
        }
    };
    assert!(done > 3, "{done}");
    assert_eq!((refused.kind(), refused.effect()), (ErrorKind::Exhausted, Effect::NotStarted));
    // Again and again, and nothing of it is ever seen.
    for _ in 0..3 {
        assert_eq!(commit(&store, "more", &large).unwrap_err().kind(), ErrorKind::Exhausted);
    }
    let held = shown(&store, None).unwrap();
    assert_eq!((held.len(), block_on(store.revision()).unwrap().as_u64()), (done, done as u64));
    disk.0.lock().unwrap().faults.room = None;
    assert_eq!(commit(&store, "more", &large).unwrap().as_u64(), done as u64 + 1);
    drop(store);
    assert_eq!(shown(&open(&disk).unwrap(), None).unwrap().len(), done + 1);
}

#[test]
fn a_failed_write_is_told_and_the_store_goes_on_when_the_disk_does() {
    let disk = Disk::default();
    let store = open(&disk).unwrap();
    commit(&store, "a", "1").unwrap();
    let now = disk.0.lock().unwrap().calls();
    disk.0.lock().unwrap().faults.writes_fail_at = Some(now + 2);
    let failed = commit(&store, "a", "2").unwrap_err();
    assert_eq!((failed.kind(), failed.retry()), (ErrorKind::Unavailable, Retry::Later));
    assert_ne!(failed.effect(), Effect::Done);
    assert_eq!(shown(&store, None).unwrap(), ["a=1@1,1"]);
    assert!(commit(&store, "a", "3").is_err());
    disk.0.lock().unwrap().faults.writes_fail_at = None;
    commit(&store, "b", "4").unwrap();
    assert!(shown(&store, None).unwrap().iter().any(|line| line.starts_with("b=4")));
    let before = shown(&store, None).unwrap();
    drop(store);
    assert_eq!(shown(&open(&disk).unwrap(), None).unwrap(), before);
}

#[test]
fn after_a_failed_sync_nothing_more_is_accepted_and_the_outcome_is_unknown() {
    let disk = Disk::default();
    let store = open(&disk).unwrap();
    commit(&store, "a", "1").unwrap();
    disk.0.lock().unwrap().faults.syncs_fail_at = Some(0);
    let failed = commit(&store, "a", "2").unwrap_err();
    assert_eq!((failed.kind(), failed.effect()), (ErrorKind::Unavailable, Effect::Unknown));
    disk.0.lock().unwrap().faults.syncs_fail_at = None;
    let refused = commit(&store, "a", "3").unwrap_err();
    assert_eq!((refused.effect(), refused.retry()), (Effect::NotStarted, Retry::Never));
    // What was durable before can still be read.
    assert_eq!(shown(&store, None).unwrap(), ["a=1@1,1"]);
}

/// The n-th read fails, for every n that there is: an error or the truth.
#[test]
fn whichever_read_fails_at_the_start_it_is_told() {
    let disk = Disk::default();
    let store = open(&disk).unwrap();
    for n in 0..40 {
        commit(&store, &format!("k{n}"), &"x".repeat(500)).unwrap();
    }
    block_on(store.compact(block_on(store.revision()).unwrap())).unwrap();
    commit(&store, "last", "1").unwrap();
    let truth = shown(&store, None).unwrap();
    drop(store);
    let (mut failed, mut at) = (0, 1);
    loop {
        {
            let mut platter = disk.0.lock().unwrap();
            let mut rng = hivemind_core::testkit::SimRng::new(0);
            platter.power_cycle(&mut rng, 100);
            platter.faults.reads_fail_at = Some(at);
        }
        match open(&disk) {
            Ok(store) => {
                assert_eq!(shown(&store, None).unwrap(), truth);
                break;
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Unavailable, "read {at}: {e}");
                failed += 1;
            }
        }
        at += 1;
        assert!(at < 10_000, "opening takes ever more reads");
    }
    assert!(failed > 5, "only {failed} reads could fail");
}
