//! What transactions come to in etcd's terms.

use hivemind_core::store::{Conflict, Guard, Key, MAX_KEY_LEN, OverLimit, Prefix, Revision, Txn};
use hivemind_core::{Effect, ErrorKind, StateStore, StateStoreExt, block_on};

use crate::server::shared;
use crate::support::{key, read, store_on, txn, write};

fn guarded(name: &str, guard: Guard, words: &str) -> Txn {
    let mut txn = txn(words);
    txn.guard(&key(name), guard).unwrap();
    txn
}

#[test]
fn deletes_alone_are_a_change_only_if_there_was_something() {
    let Some(server) = shared() else { return };
    let store = store_on(server);
    let first = write(&store, "+a=1 +b=1 +c=1");
    assert_eq!(write(&store, "-x -y"), first);
    assert_eq!(block_on(store.commit(&guarded("c", Guard::Exists, "-x -y"))).unwrap(), first);
    let second = write(&store, "-a -x");
    assert!(second > first);
    let third = block_on(store.commit(&guarded("c", Guard::Unchanged(first), "-b -y"))).unwrap();
    assert!(third > second);
    assert_eq!(block_on(store.revision()).unwrap(), third);
    let refused = block_on(store.commit(&guarded("b", Guard::Exists, "-c -y"))).unwrap_err();
    assert_eq!(refused.detail::<Conflict>().unwrap(), &Conflict::new(key("b"), None));
    assert_eq!(read(&store, "c").as_deref(), Some("1"));
}

#[test]
fn a_missing_key_was_not_put_at_zero() {
    let Some(server) = shared() else { return };
    let store = store_on(server);
    for at in [0, u64::MAX] {
        let guard = Guard::Unchanged(Revision::new(at));
        let refused = block_on(store.commit(&guarded("a", guard, "+b=1"))).unwrap_err();
        assert_eq!((refused.kind(), refused.effect()), (ErrorKind::Conflict, Effect::NotStarted));
    }
}

#[test]
fn what_etcd_would_refuse_is_refused_before_it_is_sent() {
    let Some(server) = shared() else { return };
    let store = store_on(server);
    let before = block_on(store.revision()).unwrap();
    let mut txn = Txn::new();
    for n in 0..100 {
        txn.guard(&key(&format!("g{n}")), Guard::Absent).unwrap();
        txn.delete(key(&format!("d{n}")));
    }
    let refused = block_on(store.commit(&txn)).unwrap_err();
    assert!(refused.detail::<OverLimit>().is_some(), "{refused}");
    assert_eq!(refused.effect(), Effect::NotStarted);
    assert_eq!(block_on(store.revision()).unwrap(), before);
}

fn longest(n: usize) -> Key {
    Key::new([format!("{n:0>width$}", width = MAX_KEY_LEN)]).unwrap()
}

#[test]
fn the_largest_transaction_fits_into_the_largest_namespace() {
    let Some(server) = shared() else { return };
    let options = crate::support::options(&[server.endpoint()]);
    let prefix = format!("{:x<128}", crate::support::fresh_prefix() + "/");
    let store = crate::support::connect(&options.with_prefix(&prefix).unwrap());
    let limits = store.limits();
    let mut txn = Txn::new();
    for n in 0..limits.max_ops {
        txn.guard(&longest(1000 + n), Guard::Absent).unwrap();
    }
    let mut left = limits.max_txn_bytes - limits.max_ops * MAX_KEY_LEN;
    for n in 0..limits.max_ops {
        let value = (left - (limits.max_ops - n) * MAX_KEY_LEN) / (limits.max_ops - n);
        txn.put(longest(n), vec![b'x'; value]);
        left -= value + MAX_KEY_LEN;
    }
    assert!(limits.check(&txn).is_ok() && left == 0);
    block_on(store.commit(&txn)).unwrap();

    let mut txn = Txn::new();
    for n in 0..limits.max_ops {
        txn.delete(longest(n));
    }
    block_on(store.commit(&txn)).unwrap();
    assert!(block_on(store.scan_all(&Prefix::ROOT, None)).unwrap().1.is_empty());
}

/// More than one reply may hold, and more than the client takes in at once.
#[test]
fn large_records_come_in_smaller_pages() {
    let Some(server) = shared() else { return };
    let store = store_on(server);
    for n in 0..100 {
        let mut txn = Txn::new();
        txn.put(key(&format!("r{n:03}")), vec![b'x'; store.limits().max_value_bytes]);
        block_on(store.commit(&txn)).unwrap();
    }
    let mut names = Vec::new();
    let (_, records) = block_on(store.scan_all(&Prefix::ROOT, None)).unwrap();
    names.extend(records.into_iter().map(|record| record.key.to_string()));
    assert_eq!(names, (0..100).map(|n| format!("r{n:03}")).collect::<Vec<_>>());
}
