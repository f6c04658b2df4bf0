//! Servers that are down, frozen, or one of several.

use std::time::Duration;

use hivemind_core::{Effect, ErrorKind, EtcdStore, Retry, StateStore, block_on};

use crate::proxy::Proxy;
use crate::server::Server;
use crate::support::{
    connect, eventually, fresh_prefix, options, read, store_on, told, txn, wait, watch, write,
};

#[test]
fn a_commit_to_a_dead_server_did_not_start() {
    let Some(mut server) = Server::start(&[]) else { return };
    let store = store_on(&server);
    write(&store, "+a=1");
    server.kill();
    // The first may find its connection breaking under it; after that there is none.
    eventually("the connection is refused", || {
        let error = wait("the commit", store.commit(&txn("+a=2"))).unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Later));
        error.effect() == Effect::NotStarted
    });
    let error = wait("the connection", EtcdStore::connect(options(&[server.endpoint()]))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("refused"), "{error}");
    server.resume_from_disk();
    eventually("the store goes on", || wait("the commit", store.commit(&txn("+a=3"))).is_ok());
    assert_eq!(read(&store, "a").as_deref(), Some("3"));
}

#[test]
fn a_dead_endpoint_is_passed_over() {
    let Some(server) = Server::start(&[]) else { return };
    let Some(mut dead) = Server::start(&[]) else { return };
    dead.kill();
    let store = connect(&options(&[dead.endpoint(), server.endpoint(), dead.endpoint()]));
    write(&store, "+a=1");
    assert_eq!(read(&store, "a").as_deref(), Some("1"));
}

#[test]
fn a_frozen_server_leaves_a_commit_in_doubt() {
    let Some(server) = Server::start(&[]) else { return };
    let store = connect(&options(&[server.endpoint()]).with_request_timeout(Duration::from_millis(800)));
    write(&store, "+a=1");
    server.freeze();
    let error = wait("the commit", store.commit(&txn("+a=2"))).unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::Unknown), "{error}");
    let error = wait("the read", store.revision()).unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::NotStarted), "{error}");
    server.thaw();
    eventually("the store goes on", || wait("the commit", store.commit(&txn("+b=1"))).is_ok());
}

#[test]
fn a_watch_notices_a_frozen_server_and_goes_on() {
    let Some(server) = Server::start(&[]) else { return };
    let options = options(&[server.endpoint()]).with_request_timeout(Duration::from_secs(2));
    let (store, other) = (connect(&options), connect(&options));
    let first = write(&store, "+a=1");
    let mut watch = watch(&store, first);
    assert_eq!(told(&mut watch, first), [first]);
    server.freeze();
    // Long enough for the dead connection to be noticed, which is all the same to what is asserted.
    std::thread::sleep(Duration::from_secs(2));
    server.thaw();
    let mut last = first;
    eventually("the server is back", || {
        wait("the commit", other.commit(&txn("+a=2"))).map(|revision| last = revision).is_ok()
    });
    let told = told(&mut watch, last);
    assert_eq!(told.last(), Some(&last));
    assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
    block_on(store.revision()).unwrap();
}

/// Two proxies before one etcd look like two members of a cluster, of which one dies.
#[test]
fn a_watch_goes_on_at_the_next_endpoint() {
    let Some(server) = Server::start(&[]) else { return };
    let (first, second) = (Proxy::before(server.port), Proxy::before(server.port));
    let endpoints = [first.port, second.port].map(|port| format!("127.0.0.1:{port}"));
    let prefix = fresh_prefix();
    let store = connect(&options(&endpoints).with_prefix(&prefix).unwrap());
    let direct = connect(&options(&[server.endpoint()]).with_prefix(&prefix).unwrap());
    let begin = write(&store, "+a=0");
    let mut watch = watch(&store, begin);
    assert_eq!(told(&mut watch, begin), [begin]);
    // The first falls silent, and stays so.
    first.swallow_replies();
    let mut expected = Vec::new();
    for n in 1..=20 {
        expected.push(write(&direct, &format!("+a={n}")));
    }
    let last = *expected.last().unwrap();
    assert_eq!(told(&mut watch, last), expected);
}

/// A runtime without an I/O driver is of no use, and must not hang anybody.
#[test]
fn a_runtime_without_io_is_an_error() {
    let Some(server) = Server::start(&[]) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let options = options(&[server.endpoint()]).with_runtime(runtime.handle().clone());
    let error = wait("the connection", EtcdStore::connect(options)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

/// A store that runs its own thread may be dropped where blocking is forbidden.
#[test]
fn a_store_is_dropped_anywhere() {
    let Some(server) = Server::start(&[]) else { return };
    let store = store_on(&server);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async move {
        store.revision().await.unwrap();
        drop(store);
    });
}
