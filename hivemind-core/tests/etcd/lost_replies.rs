//! A commit whose reply is lost happened, and whoever asks finds out.

use std::sync::Arc;
use std::thread;

use hivemind_core::testkit::context;
use hivemind_core::{Effect, ErrorKind, EtcdStore, Once, StateStore, Timestamp, block_on, transact};

use crate::proxy::Proxy;
use crate::server::shared;
use crate::support::{connect, eventually, fresh_prefix, key, options, read, txn, wait, write};

/// A store behind a proxy, and one beside it that sees the same.
fn stores() -> Option<(Proxy, Arc<EtcdStore>, EtcdStore)> {
    let server = shared()?;
    let proxy = Proxy::before(server.port);
    let prefix = fresh_prefix();
    let [through, direct] = [format!("127.0.0.1:{}", proxy.port), server.endpoint()]
        .map(|endpoint| connect(&options(&[endpoint]).with_prefix(&prefix).unwrap()));
    Some((proxy, Arc::new(through), direct))
}

#[test]
fn a_lost_reply_is_in_doubt_and_not_sent_again() {
    let Some((proxy, store, direct)) = stores() else { return };
    write(&store, "+before=1");
    proxy.swallow_replies();
    let committing = thread::spawn({
        let store = Arc::clone(&store);
        move || wait("the commit", store.commit(&txn("+a=1")))
    });
    eventually("the commit has happened", || read(&direct, "a").is_some());
    let revision = block_on(direct.revision()).unwrap();
    proxy.cut();
    let error = committing.join().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::Unknown), "{error}");
    assert_eq!(block_on(direct.revision()).unwrap(), revision, "it was sent again");
    // The store itself goes on.
    assert_eq!(read(&store, "a").as_deref(), Some("1"));
}

#[test]
fn a_request_whose_reply_is_lost_happens_once() {
    let Some((proxy, store, direct)) = stores() else { return };
    let begun = write(&store, "+count=0");
    let once = Once::new(&context("acme", "request-1"), "count", Timestamp::from_secs(1)).unwrap();
    proxy.swallow_replies();
    let requesting = thread::spawn({
        let (store, once) = (Arc::clone(&store), once.clone());
        move || wait("the request", once.commit(&*store, txn("+count=1"), "counted".to_owned()))
    });
    eventually("the commit has happened", || read(&direct, "count").as_deref() == Some("1"));
    let revision = block_on(direct.revision()).unwrap();
    proxy.cut();
    let answered = requesting.join().unwrap().unwrap();
    assert_eq!((answered.value.as_str(), answered.revision, answered.replayed), ("counted", revision, true));

    // Sent once more, it is answered the same, and nothing happens.
    let again = wait(
        "the request",
        transact(&*store, &once, &[], |_, txn| {
            txn.put(key("count"), "2");
            Ok("again".to_owned())
        }),
    );
    assert_eq!(again.unwrap().value, "counted");
    assert_eq!(read(&direct, "count").as_deref(), Some("1"));
    let record = block_on(direct.get(&key("count"), None)).unwrap().unwrap();
    assert_eq!((record.create_revision, record.mod_revision), (begun, revision));
}
