//! Watches across restarts and compactions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hivemind_core::store::{Compacted, Prefix, Revision, Txn};
use hivemind_core::{ErrorKind, StateStore, block_on};

use crate::proxy::Proxy;
use crate::server::{Server, shared};
use crate::support::{connect, fresh_prefix, key, next, options, store_on, told, txn, wait, watch, write};

#[test]
fn a_restart_leaves_neither_gap_nor_repeat() {
    let Some(mut server) = Server::start(&[]) else { return };
    let options = options(&[server.endpoint()]);
    let (store, writer) = (connect(&options), connect(&options));
    let mut watch = watch(&store, Revision::ZERO);
    let done = AtomicBool::new(false);
    let (committed, told) = thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut count = 0;
            // What a broken connection leaves in doubt shows in the scan below.
            while !done.load(Ordering::SeqCst) {
                count += u64::from(wait("the commit", writer.commit(&txn(&format!("+a={count}")))).is_ok());
            }
            count
        });
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(200));
            server.kill();
            server.resume_from_disk();
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        done.store(true, Ordering::SeqCst);
        let committed = writing.join().unwrap();
        let last = write(&writer, "+end=1");
        (committed, told(&mut watch, last))
    });
    // Nobody else writes, so there is no number but those of our transactions.
    let first = told.first().unwrap().as_u64();
    let expected: Vec<_> = (first..).map(Revision::new).take(told.len()).collect();
    assert_eq!(told, expected);
    assert!(told.len() as u64 > committed, "{} told, {committed} committed", told.len());
}

#[test]
fn a_watch_overtaken_by_a_compaction_says_so_and_ends() {
    let Some(server) = Server::start(&[]) else { return };
    let proxy = Proxy::before(server.port);
    let prefix = fresh_prefix();
    let [store, direct] = [format!("127.0.0.1:{}", proxy.port), server.endpoint()]
        .map(|endpoint| connect(&options(&[endpoint]).with_prefix(&prefix).unwrap()));
    let first = write(&store, "+a=1");
    let mut watch = watch(&store, first);
    assert_eq!(told(&mut watch, first), [first]);
    // While the watch hears nothing, history moves on and is forgotten.
    proxy.swallow_replies();
    write(&direct, "+a=2");
    let newest = write(&direct, "+a=3");
    block_on(direct.compact(newest)).unwrap();
    proxy.cut();
    let error = next(&mut watch).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Expired);
    assert_eq!(error.detail::<Compacted>(), Some(&Compacted::new(first.next(), newest)));
    assert!(next(&mut watch).is_none());
}

#[test]
fn a_watch_from_a_compaction_is_refused() {
    let Some(server) = Server::start(&[]) else { return };
    let store = store_on(&server);
    write(&store, "+a=1 +b=1");
    let gone = write(&store, "-a");
    block_on(store.compact(gone)).unwrap();
    // etcd itself would start there, and say nothing of the delete.
    let Err(error) = block_on(store.watch(&Prefix::ROOT, gone)) else { panic!("it was not refused") };
    assert_eq!(error.detail::<Compacted>(), Some(&Compacted::new(gone, gone)));
    let mut after = watch(&store, gone.next());
    let last = write(&store, "+c=1");
    assert_eq!(told(&mut after, last), [last]);
}

#[test]
fn deletes_of_missing_keys_are_no_reason_to_worry() {
    let Some(server) = shared() else { return };
    let store = store_on(server);
    let first = write(&store, "+a=1 +b=1");
    let mut watch = watch(&store, first);
    let second = write(&store, "-a -missing");
    let third = write(&store, "+c=1 -missing");
    assert_eq!(told(&mut watch, third), [first, second, third]);
}

#[test]
fn a_watch_outlives_its_store() {
    let Some(server) = shared() else { return };
    let options = options(&[server.endpoint()]);
    let (store, other) = (connect(&options), connect(&options));
    let first = write(&store, "+a=1");
    let mut watch = watch(&store, first);
    drop(store);
    let last = write(&other, "+a=2");
    assert_eq!(told(&mut watch, last), [first, last]);
}

/// More than one message may hold: etcd cuts it up, also within transactions.
#[test]
fn a_long_past_comes_in_whole_transactions() {
    let Some(server) = shared() else { return };
    let store = store_on(server);
    let mut expected = Vec::new();
    for n in 0..30_u8 {
        let mut txn = Txn::new();
        for name in ["a", "b", "c"] {
            txn.put(key(name), vec![n; 400_000]);
        }
        expected.push(block_on(store.commit(&txn)).unwrap());
    }
    let mut watch = watch(&store, Revision::ZERO);
    let mut told = Vec::new();
    while told.last() != expected.last() {
        let batch = next(&mut watch).unwrap().unwrap();
        assert_eq!(batch.events.len(), 3);
        told.push(batch.revision);
    }
    assert_eq!(told, expected);
}
