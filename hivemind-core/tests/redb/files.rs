//! Files that are held, foreign, newer, missing, or in the way.

use hivemind_core::{Durability, ErrorKind, RedbOptions, RedbStore, block_on};
use redb::{Database, TableDefinition};

use crate::{commit, shown};

#[test]
fn a_file_held_by_another_handle_or_process_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let store = RedbStore::open(&path).unwrap();
    let refused = RedbStore::open(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.message().contains("another process or handle has it open"), "{refused}");
    assert_eq!(RedbStore::check(&path).unwrap_err().kind(), ErrorKind::Unavailable);
    let status = crate::kill::child("held", &path).status().unwrap();
    assert_eq!(status.code(), Some(crate::kill::HELD));
    drop(store);
    RedbStore::open(&path).unwrap();
}

#[test]
fn what_is_not_a_store_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    std::fs::write(&text, "not a database, and dear to somebody".repeat(500)).unwrap();
    let before = std::fs::read(&text).unwrap();
    assert_eq!(RedbStore::open(&text).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(std::fs::read(&text).unwrap(), before);

    let other = directory.path().join("other.redb");
    let database = Database::create(&other).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(TableDefinition::<&str, u64>::new("somebody-elses")).unwrap().insert("a", 1).unwrap();
    txn.commit().unwrap();
    drop(database);
    let refused = RedbStore::open(&other).unwrap_err();
    assert!(
        refused.kind() == ErrorKind::Corrupt && refused.message().contains("something other"),
        "{refused}"
    );
}

#[test]
fn a_newer_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    drop(RedbStore::open(&path).unwrap());
    let database = Database::create(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap().insert("schema", 2).unwrap();
    txn.commit().unwrap();
    drop(database);
    for refused in [RedbStore::open(&path).unwrap_err(), RedbStore::check(&path).unwrap_err()] {
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        assert!(refused.message().contains("its schema is 2"), "{refused}");
    }
}

#[test]
fn impossible_paths_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("no/such/directory/state.redb");
    assert_eq!(RedbStore::open(&missing).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(RedbStore::open(directory.path()).unwrap_err().kind(), ErrorKind::Invalid);
    let absent = directory.path().join("absent.redb");
    assert_eq!(RedbStore::check(&absent).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!absent.exists(), "a check made a file");
}

#[test]
fn a_snapshot_does_not_replace_a_file_and_leaves_no_part_of_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path().join("state.redb")).unwrap();
    commit(&store, "a", "1").unwrap();
    let taken = directory.path().join("taken");
    std::fs::write(&taken, "mine").unwrap();
    assert_eq!(block_on(store.snapshot(&taken)).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&taken).unwrap(), b"mine");
    let nowhere = directory.path().join("no/such/copy");
    assert_eq!(block_on(store.snapshot(&nowhere)).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_snapshot_goes_on_while_others_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path().join("state.redb")).unwrap();
    for n in 0..200 {
        commit(&store, &format!("k{n}"), "1").unwrap();
    }
    let copy = directory.path().join("copy");
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for n in 0..100 {
                commit(&store, &format!("k{n}"), "2").unwrap();
            }
        });
        block_on(store.snapshot(&copy)).unwrap();
        writing.join().unwrap();
    });
    let copied = RedbStore::open(&copy).unwrap();
    let at = block_on(hivemind_core::StateStore::revision(&copied)).unwrap();
    assert!(at.as_u64() >= 200);
    assert_eq!(shown(&copied, None).unwrap(), shown(&store, Some(at)).unwrap());
}

#[test]
fn deferred_commits_are_written_when_the_store_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let store = RedbOptions::new().with_durability(Durability::Deferred).open(&path).unwrap();
    for n in 0..1_000 {
        commit(&store, "a", &n.to_string()).unwrap();
    }
    drop(store);
    assert_eq!(shown(&RedbStore::open(&path).unwrap(), None).unwrap(), ["a=999@1,1000"]);
}
