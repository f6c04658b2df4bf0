//! An integrator tests their own code against mocks of the ports (feature `mock`).
#![cfg(feature = "mock")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use hivemind_core::mock::{
    MockAuditSink, MockAuthorizer, MockClock, MockCounterCell, MockGaugeCell, MockHistogramCell,
    MockIdSource, MockKeyProvider, MockQuotaGate, MockRecorder, MockRuntime, MockStateSource, MockStateStore,
};
use hivemind_core::store::{Key, Revision, Txn};
use hivemind_core::testkit::context;
use hivemind_core::{
    AuditSink, Authorizer, Clock, CounterCell, Effect, Error, ErrorKind, GaugeCell, HistogramCell, IdSource,
    KeyProvider, Once, QuotaGate, Recorder, Runtime, StateSource, StateStore, Timestamp, block_on,
};

#[test]
fn every_port_has_a_mock_that_is_the_port() {
    let _: [Arc<dyn std::any::Any>; 13] = [
        Arc::new(Arc::new(MockStateStore::new()) as Arc<dyn StateStore>),
        Arc::new(Arc::new(MockStateSource::new()) as Arc<dyn StateSource>),
        Arc::new(Arc::new(MockClock::new()) as Arc<dyn Clock>),
        Arc::new(Arc::new(MockRuntime::new()) as Arc<dyn Runtime>),
        Arc::new(Arc::new(MockIdSource::new()) as Arc<dyn IdSource>),
        Arc::new(Arc::new(MockAuthorizer::new()) as Arc<dyn Authorizer>),
        Arc::new(Arc::new(MockQuotaGate::new()) as Arc<dyn QuotaGate>),
        Arc::new(Arc::new(MockKeyProvider::new()) as Arc<dyn KeyProvider>),
        Arc::new(Arc::new(MockAuditSink::new()) as Arc<dyn AuditSink>),
        Arc::new(Arc::new(MockRecorder::new()) as Arc<dyn Recorder>),
        Arc::new(Arc::new(MockCounterCell::new()) as Arc<dyn CounterCell>),
        Arc::new(Arc::new(MockGaugeCell::new()) as Arc<dyn GaugeCell>),
        Arc::new(Arc::new(MockHistogramCell::new()) as Arc<dyn HistogramCell>),
    ];
}

#[test]
fn a_store_that_loses_one_reply_is_asked_again() {
    let mut store = MockStateStore::new();
    let mut replies = vec![
        Ok(Revision::new(7)),
        Err(Error::new(ErrorKind::Unavailable, "commit", "no reply").with_effect(Effect::Unknown)),
    ];
    store.expect_commit().times(2).returning(move |_| replies.pop().unwrap());
    let once = Once::new(&context("acme", "r1"), "op", Timestamp::EPOCH).unwrap();
    let mut txn = Txn::new();
    txn.put(Key::new(["a"]).unwrap(), "1");
    let answered = block_on(once.commit(&store, txn, "done".to_owned())).unwrap();
    assert_eq!(
        (answered.value.as_str(), answered.revision, answered.replayed),
        ("done", Revision::new(7), false)
    );
}

#[test]
fn a_mocked_clock_tells_what_it_is_told() {
    let mut clock = MockClock::new();
    clock.expect_now().times(1).return_const(Timestamp::EPOCH.after(Duration::from_secs(5)));
    assert_eq!(clock.now().as_secs(), 5);
}
