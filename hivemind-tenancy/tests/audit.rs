//! The audit log shows what was done to it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use crate::common;

use std::sync::Arc;

use common::{World, ctx};
use hivemind_core::store::{Prefix, Txn};
use hivemind_core::testkit::{FaultPlan, FaultyStore};
use hivemind_core::{
    AccessRequest, AuditEvent, AuditOutcome, AuditSink, Collection, StateStore, TenantRef, Timestamp, Verb,
    block_on,
};
use hivemind_tenancy::audit::{BrokenChain, ChainHead, ChainedAudit, SealedEvent, verify_chain};
use proptest::prelude::*;

fn event(number: u64) -> AuditEvent {
    let request = AccessRequest::new(Verb::Delete, "apps".parse().unwrap()).named(format!("app-{number}"));
    let at = Timestamp::from_secs(number);
    AuditEvent::new(at, ctx(&TenantRef::system(), "r").with_emergency("fire"), request, AuditOutcome::Done)
}

fn records(world: &World) -> Vec<SealedEvent> {
    let all = Collection::<SealedEvent>::new(Prefix::new(["tenancy", "audit"]).unwrap());
    let found = all.list(&world.view(), &Txn::new(), all.prefix()).unwrap();
    found.iter().map(|record| (*record.value).clone()).collect()
}

fn chain(events: u64) -> (World, ChainedAudit) {
    let world = World::new();
    let audit = ChainedAudit::new(Arc::new(world.store.clone())).unwrap();
    (0..events).for_each(|number| block_on(audit.append(&event(number))).unwrap());
    (world, audit)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_first_record_that_was_tampered_with_is_found(events in 2u64..8, at in any::<prop::sample::Index>(), how in 0..4) {
        let (world, _) = chain(events);
        let mut all = records(&world);
        let head = verify_chain(&ChainHead::default(), &all).unwrap();
        prop_assert_eq!(head.records, events);
        let at = at.index(all.len() - 1);
        match how {
            0 => drop(all.remove(at)),
            1 => all.swap(at, at + 1),
            2 => all[at].event.outcome = AuditOutcome::Failed,
            _ => {
                let copy = all[at].clone();
                all.insert(at, copy);
            }
        }
        let error = verify_chain(&ChainHead::default(), &all).unwrap_err();
        let first = at as u64 + if how == 3 { 2 } else { 1 };
        prop_assert_eq!(error.detail::<BrokenChain>().unwrap().number, first);
    }
}

#[test]
fn an_end_that_was_cut_off_is_missed() {
    let (world, audit) = chain(3);
    assert_eq!(block_on(audit.verify()).unwrap().records, 3);
    let mut cut = Txn::new();
    cut.delete(hivemind_core::store::Key::new(["tenancy", "audit", "00000000000000000003"]).unwrap());
    block_on(world.store.commit(&cut)).unwrap();
    assert_eq!(block_on(audit.verify()).unwrap_err().detail::<BrokenChain>().unwrap().number, 3);
}

#[test]
fn no_secret_and_no_label_is_kept() {
    let (world, audit) = chain(0);
    let mut event = event(1).because(vec!["called with token=s3cr3t-value".to_owned()]);
    event.request.labels = hivemind_core::labels::Labels::new().with("note", "s3cr3t-label").unwrap();
    event.ctx = event.ctx.with_emergency("the password: s3cr3t-word is lost");
    block_on(audit.append(&event)).unwrap();
    let kept = format!("{:?}", records(&world));
    assert!(!kept.contains("s3cr3t") && kept.contains("***"), "{kept}");
}

#[test]
fn a_lost_reply_neither_loses_an_event_nor_keeps_it_twice() {
    for seed in 0..40 {
        let world = World::new();
        let faulty =
            FaultyStore::new(Arc::new(world.store.clone()), FaultPlan::new(seed).with_lost_replies(300_000));
        let audit = ChainedAudit::new(Arc::new(faulty)).unwrap();
        let mut kept = 0;
        for number in 0..6 {
            kept += u64::from(block_on(audit.append(&event(number))).is_ok());
        }
        let all = records(&world);
        let head = verify_chain(&ChainHead::default(), &all).unwrap();
        assert!(head.records >= kept);
        let names: std::collections::BTreeSet<_> =
            all.iter().map(|record| record.event.request.name.clone()).collect();
        assert_eq!(names.len(), all.len(), "seed {seed}: an event is kept twice");
    }
}
