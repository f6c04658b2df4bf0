//! Three members, each of which is killed once under load: nothing is lost, and nothing happens twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hivemind_core::store::{Guard, Prefix, Revision};
use hivemind_core::testkit::context;
use hivemind_core::{EtcdStore, Once, StateStore, Timestamp, block_on, transact};

use crate::server::Server;
use crate::support::{connect, eventually, key, options, read, told, wait, watch, write};

/// Adds one, exactly once, however often it takes.
fn count(store: &EtcdStore, n: u64) {
    let once = Once::new(&context("acme", &format!("request-{n}")), "add", Timestamp::from_secs(1)).unwrap();
    let counter = key("counter/value");
    let scope = [Prefix::new(["counter"]).unwrap()];
    eventually("the request is answered", || {
        let done = wait(
            "the request",
            transact(store, &once, &scope, |view, txn| {
                let found = view.get(&counter);
                let guard = found.map_or(Guard::Absent, |found| Guard::Unchanged(found.mod_revision));
                txn.guard(&counter, guard)?;
                txn.put(counter.clone(), vec![b'|'; found.map_or(0, |found| found.value.len()) + 1]);
                Ok(n)
            }),
        );
        done.is_ok()
    });
}

#[test]
fn members_may_die() {
    let Some(mut servers) = Server::cluster() else { return };
    let endpoints: Vec<_> = servers.iter().map(Server::endpoint).collect();
    let options = options(&endpoints).with_request_timeout(Duration::from_secs(4));
    let (store, observer) = (connect(&options), connect(&options));
    let mut heard = watch(&observer, Revision::ZERO);
    let done = AtomicBool::new(false);
    let added = thread::scope(|scope| {
        let adding = scope.spawn(|| {
            let mut n = 0;
            while !done.load(Ordering::SeqCst) {
                count(&store, n);
                n += 1;
            }
            n
        });
        for server in &mut servers {
            thread::sleep(Duration::from_millis(500));
            server.kill();
            thread::sleep(Duration::from_millis(1500));
            server.resume_from_disk();
        }
        done.store(true, Ordering::SeqCst);
        adding.join().unwrap()
    });
    assert_eq!(read(&store, "counter/value").unwrap().len() as u64, added);
    let last = write(&store, "+end=1");
    // One transaction for each request, one for the end, and nobody else is there.
    let told = told(&mut heard, last);
    let first = told.first().unwrap().as_u64();
    assert_eq!(told, (first..).map(Revision::new).take(told.len()).collect::<Vec<_>>());
    assert_eq!(told.len() as u64, added + 1);
    assert_eq!(block_on(store.revision()).unwrap(), last);
}
