//! What the tests are written in.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use std::{sync::Arc, thread};

use hivemind_core::store::{Key, Prefix, Revision, Txn, WatchBatch};
use hivemind_core::{EtcdOptions, EtcdStore, Result, StateStore, WatchStream, block_on};

use crate::server::Server;

/// Nothing here takes nearly as long. Whoever waits so long waits in vain.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it `holds`.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Like `block_on`, and fails instead of hanging.
pub(crate) fn wait<T>(what: &str, future: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::park_timeout(Duration::from_secs(1));
    }
}

/// A prefix that no other test has.
pub(crate) fn fresh_prefix() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("test/{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Options that notice trouble soon.
pub(crate) fn options(endpoints: &[String]) -> EtcdOptions {
    let options = EtcdOptions::new(endpoints).unwrap().with_prefix(&fresh_prefix()).unwrap();
    options.with_keep_alive(Duration::from_millis(300), Duration::from_millis(700))
}

pub(crate) fn connect(options: &EtcdOptions) -> EtcdStore {
    block_on(EtcdStore::connect(options.clone())).unwrap()
}

/// A store of its own on `server`.
pub(crate) fn store_on(server: &Server) -> EtcdStore {
    connect(&options(&[server.endpoint()]))
}

pub(crate) fn key(name: &str) -> Key {
    Key::from_bytes(name.as_bytes()).unwrap()
}

/// A transaction from words: `+key=value` puts, `-key` deletes.
pub(crate) fn txn(words: &str) -> Txn {
    let mut txn = Txn::new();
    for word in words.split_whitespace() {
        match word.strip_prefix('-') {
            Some(name) => txn.delete(key(name)),
            None => {
                let (name, value) = word.strip_prefix('+').unwrap().split_once('=').unwrap();
                txn.put(key(name), value.to_owned());
            }
        }
    }
    txn
}

pub(crate) fn write(store: &EtcdStore, words: &str) -> Revision {
    block_on(store.commit(&txn(words))).unwrap()
}

pub(crate) fn read(store: &EtcdStore, name: &str) -> Option<String> {
    let found = block_on(store.get(&key(name), None)).unwrap();
    found.map(|record| String::from_utf8(record.value.to_vec()).unwrap())
}

pub(crate) fn watch(store: &EtcdStore, from: Revision) -> WatchStream {
    block_on(store.watch(&Prefix::ROOT, from)).unwrap()
}

pub(crate) fn next(watch: &mut WatchStream) -> Option<Result<WatchBatch>> {
    wait("the watch", std::future::poll_fn(|context| watch.as_mut().poll_next(context)))
}

/// The revisions of the transactions that the watch tells until `end`.
pub(crate) fn told(watch: &mut WatchStream, end: Revision) -> Vec<Revision> {
    let mut revisions = Vec::new();
    loop {
        let batch = next(watch).expect("the watch ended").unwrap();
        if !batch.events.is_empty() {
            revisions.push(batch.revision);
        }
        if batch.revision >= end {
            return revisions;
        }
    }
}
