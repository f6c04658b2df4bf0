//! Access to another tenant's things: only with the consent of both, and only as long as both want it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod common;
#[path = "common/tenure.rs"]
mod tenure;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{World, ctx};
use hivemind_core::store::Txn;
use hivemind_core::{
    AccessRequest, AuditOutcome, Clock, ErrorKind, Principal, Result, StateStore, TenantContext, TenantRef,
    Timestamp, Verb, block_on,
};
use hivemind_tenancy::share::{Share, ShareChange, ShareId, ShareOffer, ShareStanding};
use hivemind_tenancy::{Shares, TenantState};
use proptest::prelude::*;
use tenure::{born, dies, gets_into};

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn now(tenant: &TenantRef, secs: u64) -> TenantContext {
    ctx(tenant, "r").with_time(at(secs))
}

fn data(recipient: &TenantRef) -> ShareOffer {
    ShareOffer::new(recipient.clone(), "volumes".parse().unwrap(), [Verb::Get]).named("data")
}

fn get_data() -> AccessRequest {
    AccessRequest::new(Verb::Get, "volumes".parse().unwrap()).named("data")
}

fn offer(world: &World, owner: &TenantContext, offer: &ShareOffer) -> Result<ShareChange> {
    world.commit(|view, txn| Shares.stage_offer(view, txn, owner, offer))
}

fn accept(world: &World, recipient: &TenantContext, share: &Share) -> Result<ShareChange> {
    world.commit(|view, txn| Shares.stage_accept(view, txn, recipient, share))
}

fn end(world: &World, side: &TenantContext, id: &ShareId) -> Result<ShareChange> {
    world.commit(|view, txn| Shares.stage_end(view, txn, side, id))
}

fn may(world: &World, recipient: &TenantContext, owner: &TenantRef, request: &AccessRequest) -> bool {
    let outcome = Shares.lookup(&world.view(), &Txn::new(), recipient, owner, request);
    assert!(outcome.as_ref().err().is_none_or(|e| e.kind() == ErrorKind::NotFound), "{outcome:?}");
    outcome.is_ok()
}

#[test]
fn one_sides_word_opens_nothing_and_one_sides_word_ends_it() {
    let world = World::new();
    let (acme, globex) = (born(&world, "acme", 0), born(&world, "globex", 0));
    for ended_by in [&acme, &globex] {
        let offered = offer(&world, &now(&acme, 1), &data(&globex)).unwrap().share;
        assert!(!may(&world, &now(&globex, 1), &acme, &get_data()));
        let own = accept(&world, &now(&acme, 1), &offered).unwrap_err();
        assert_eq!(own.kind(), ErrorKind::NotFound);
        accept(&world, &now(&globex, 2), &offered).unwrap();
        assert!(may(&world, &now(&globex, 3), &acme, &get_data()));
        // Not the other way round, not another thing, not another verb, not all things.
        assert!(!may(&world, &now(&acme, 3), &globex, &get_data()));
        let request = |verb, name: Option<&str>| {
            let request = AccessRequest::new(verb, "volumes".parse().unwrap());
            name.map_or(request.clone(), |name| request.named(name))
        };
        for other in [
            request(Verb::Get, Some("data2")),
            request(Verb::Get, None),
            request(Verb::Delete, Some("data")),
            AccessRequest::new(Verb::Get, "apps".parse().unwrap()).named("data"),
        ] {
            assert!(!may(&world, &now(&globex, 3), &acme, &other), "{other}");
        }
        end(&world, &now(ended_by, 4), &offered.id).unwrap();
        assert!(!may(&world, &now(&globex, 4), &acme, &get_data()));
        assert_eq!(end(&world, &now(ended_by, 4), &offered.id).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_share_that_expires_needs_the_time_to_be_told() {
    let world = World::new();
    let (acme, globex) = (born(&world, "acme", 0), born(&world, "globex", 0));
    let offered = offer(&world, &now(&acme, 1), &data(&globex).until(at(10))).unwrap().share;
    assert_eq!(offered.standing(Some(at(9))), ShareStanding::Offered);
    accept(&world, &now(&globex, 2), &offered).unwrap();
    assert!(may(&world, &now(&globex, 9), &acme, &get_data()));
    assert!(!may(&world, &now(&globex, 10), &acme, &get_data()));
    assert!(!may(&world, &ctx(&globex, "r"), &acme, &get_data()));
    let undated = offer(&world, &ctx(&acme, "r"), &data(&globex)).unwrap_err();
    assert_eq!(undated.message(), "it goes on record: give the context a time with with_time");
    let late = offer(&world, &now(&acme, 1), &data(&globex).until(at(20))).unwrap().share;
    assert_eq!(accept(&world, &now(&globex, 20), &late).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        world.commit(|view, txn| Shares.stage_sweep(view, txn, &now(&TenantRef::system(), 20), 9)).unwrap(),
        1
    );
    let (left, all) = (world.view(), hivemind_tenancy::prefix().unwrap());
    let mut left = left.scan(&all).map(|record| record.key.to_string());
    assert!(left.all(|key| !key.contains("share")), "something of the share is left");
}

#[test]
fn offers_that_make_no_sense_change_nothing() {
    let world = World::new();
    let (acme, globex) = (born(&world, "acme", 0), born(&world, "globex", 0));
    let before = block_on(world.store.revision()).unwrap();
    let volumes = || "volumes".parse().unwrap();
    for (bad, told) in [
        (data(&acme), "tenant acme needs no share: name another tenant"),
        (data(&TenantRef::system()), "tenant system needs no share: name another tenant"),
        (ShareOffer::new(globex.clone(), volumes(), []), "it allows nothing: name at least one verb"),
        (
            ShareOffer::new(globex.clone(), volumes(), [Verb::Get, Verb::Grant]),
            "grant cannot be shared: it would hand out more than things",
        ),
        (data(&globex).named(""), "a name of 0 bytes; allowed are 1 to 256"),
        (data(&globex).until(at(1)), "it is over before it begins: give a later time"),
    ] {
        let error = offer(&world, &now(&acme, 1), &bad).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Invalid, told));
    }
    gets_into(&world, &acme, TenantState::Suspended { drain_by: None });
    let suspended = offer(&world, &now(&acme, 1), &data(&globex)).unwrap_err();
    assert_eq!(suspended.kind(), ErrorKind::Conflict);
    assert_eq!(block_on(world.store.revision()).unwrap().as_u64(), before.as_u64() + 1);
}

#[test]
fn what_was_accepted_is_what_was_seen() {
    let world = World::new();
    let (acme, globex) = (born(&world, "acme", 0), born(&world, "globex", 0));
    let first = offer(&world, &now(&acme, 1), &data(&globex)).unwrap().share;
    let mut more = data(&globex);
    more.verbs.insert(Verb::Delete);
    let second = offer(&world, &now(&acme, 2), &more).unwrap().share;
    let stale = accept(&world, &now(&globex, 3), &first).unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Conflict);
    accept(&world, &now(&globex, 3), &second).unwrap();
    // The same again changes nothing and is no news; other terms need consent anew.
    assert!(offer(&world, &now(&acme, 4), &more).unwrap().audit.is_empty());
    assert!(accept(&world, &now(&globex, 4), &second).unwrap().audit.is_empty());
    assert!(may(&world, &now(&globex, 4), &acme, &get_data()));
    offer(&world, &now(&acme, 5), &data(&globex)).unwrap();
    assert!(!may(&world, &now(&globex, 5), &acme, &get_data()));
}

#[test]
fn both_sides_have_it_on_record_and_neither_learns_who_is_who_there() {
    let world = World::new();
    let (acme, globex) = (born(&world, "acme", 0), born(&world, "globex", 0));
    let owner = now(&acme, 1).with_source("192.0.2.7".parse().unwrap()).with_emergency("a secret reason");
    let offered = offer(&world, &owner, &data(&globex)).unwrap();
    let accepted = accept(&world, &now(&globex, 2), &offered.share).unwrap();
    let ended = end(&world, &now(&acme, 3), &offered.share.id).unwrap();
    for (change, by, other, verb, what) in [
        (&offered, &acme, &globex, Verb::Create, "tenant acme offered it: get until it is ended"),
        (&accepted, &globex, &acme, Verb::Update, "tenant globex accepted it: get until it is ended"),
        (&ended, &acme, &globex, Verb::Delete, "tenant acme ended it: get until it is ended"),
    ] {
        let [own, theirs] = &change.audit[..] else { panic!("{:?}", change.audit) };
        assert_eq!((own.ctx.tenant(), theirs.ctx.tenant()), (by, other));
        assert_eq!((own.outcome, own.request.verb), (AuditOutcome::Done, verb));
        assert_eq!(own.because, [what]);
        assert_eq!((&theirs.request, &theirs.because, theirs.at), (&own.request, &own.because, own.at));
        assert_eq!(own.request.name.as_deref(), Some("volumes data of tenant acme with tenant globex"));
        assert_eq!(own.ctx.principal(), &common::user("ada"));
        assert!(matches!(theirs.ctx.principal(), Principal::System(_)));
        let told = format!("{theirs:?}");
        assert!(!told.contains("ada") && !told.contains("192.0.2.7") && !told.contains("secret"), "{told}");
    }
}

#[test]
fn strangers_are_told_the_same_whether_there_is_something_or_not() {
    let world = World::new();
    let [acme, globex, initech] = ["acme", "globex", "initech"].map(|id| born(&world, id, 0));
    let offered = offer(&world, &now(&acme, 1), &data(&globex)).unwrap().share;
    accept(&world, &now(&globex, 1), &offered).unwrap();
    let before = block_on(world.store.revision()).unwrap();
    let stranger = now(&initech, 2);
    let mut never = offered.clone();
    never.id = ShareId::new(acme.clone(), globex.clone(), "volumes".parse().unwrap()).named("other");
    let told = |e: hivemind_core::Error| (e.kind(), e.to_string().replace("other", "data"));
    assert_eq!(
        told(accept(&world, &stranger, &offered).unwrap_err()),
        told(accept(&world, &stranger, &never).unwrap_err())
    );
    assert_eq!(
        told(end(&world, &stranger, &offered.id).unwrap_err()),
        told(end(&world, &stranger, &never.id).unwrap_err())
    );
    // Through a share that others have, and from an owner that does not exist, alike.
    let nobody = TenantRef::new("acme".parse().unwrap(), hivemind_core::Generation::from_u64(u64::MAX));
    let view = world.view();
    let lookup = |owner| Shares.lookup(&view, &Txn::new(), &stranger, owner, &get_data()).unwrap_err();
    assert_eq!(lookup(&acme).to_string(), lookup(&nobody).to_string());
    assert!(Shares.offered(&view, &Txn::new(), &stranger).unwrap().is_empty());
    assert!(Shares.received(&view, &Txn::new(), &stranger).unwrap().is_empty());
    let sweep = world.commit(|view, txn| Shares.stage_sweep(view, txn, &stranger, 9)).unwrap_err();
    assert_eq!(sweep.kind(), ErrorKind::Denied);
    assert_eq!(block_on(world.store.revision()).unwrap(), before);
    // An offer to nobody goes the way of one that nobody answers, also when things are swept.
    let to_nobody = offer(&world, &now(&initech, 2), &data(&nobody)).unwrap().share;
    let swept = world.commit(|view, txn| Shares.stage_sweep(view, txn, &now(&TenantRef::system(), 3), 9));
    assert_eq!(swept.unwrap(), 0);
    assert_eq!(Shares.offered(&world.view(), &Txn::new(), &stranger).unwrap(), [to_nobody]);
}

#[test]
fn names_in_keys_do_not_run_together() {
    let world = World::new();
    let (acme, globex) = (born(&world, "acme", 0), born(&world, "globex", 0));
    for name in ["*", "a/b", "a%2fb", "=", "%"] {
        let named = data(&globex).named(name);
        let offered = offer(&world, &now(&acme, 1), &named).unwrap().share;
        accept(&world, &now(&globex, 1), &offered).unwrap();
    }
    assert_eq!(Shares.received(&world.view(), &Txn::new(), &now(&globex, 1)).unwrap().len(), 5);
    assert!(!may(&world, &now(&globex, 1), &acme, &get_data()));
}

#[test]
fn a_share_that_ends_while_it_is_used_makes_the_use_conflict() {
    type Meanwhile = fn(&World, &TenantRef, &TenantRef, &ShareId);
    let meanwhile: [Meanwhile; 3] = [
        |world, acme, _, id| drop(end(world, &now(acme, 3), id).unwrap()),
        |world, acme, _, _| dies(world, acme),
        |world, _, globex, _| dies(world, globex),
    ];
    for ends in meanwhile {
        let world = World::new();
        let (acme, globex) = (born(&world, "acme", 0), born(&world, "globex", 0));
        let offered = offer(&world, &now(&acme, 1), &data(&globex)).unwrap().share;
        accept(&world, &now(&globex, 1), &offered).unwrap();
        let (view, mut txn) = (world.view(), Txn::new());
        Shares.stage_use(&view, &mut txn, &now(&globex, 2), &acme, &get_data()).unwrap();
        ends(&world, &acme, &globex, &offered.id);
        assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
        assert!(!may(&world, &now(&globex, 4), &acme, &get_data()));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Offer { owner: usize, recipient: usize, name: Option<u8>, verbs: u8, lasts: Option<u64> },
    Accept { recipient: usize, seen: usize },
    End { side: usize, seen: usize },
    Reborn(usize),
    Wait,
    Sweep(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let some_name = prop::option::weighted(0.7, 0u8..2);
    prop_oneof![
        4 => (0usize..3, 0usize..3, some_name, 1u8..4, prop::option::of(1u64..6))
            .prop_map(|(owner, recipient, name, verbs, lasts)| Step::Offer { owner, recipient, name, verbs, lasts }),
        5 => (0usize..3, 0usize..4).prop_map(|(recipient, seen)| Step::Accept { recipient, seen }),
        2 => (0usize..3, 0usize..4).prop_map(|(side, seen)| Step::End { side, seen }),
        1 => (0usize..3).prop_map(Step::Reborn),
        1 => Just(Step::Wait),
        1 => (0usize..3).prop_map(Step::Sweep),
    ]
}

const VERBS: [Verb; 2] = [Verb::Get, Verb::Update];

/// The reference: both consents, side by side.
#[derive(Debug, Clone, PartialEq)]
struct Agreed {
    id: ShareId,
    verbs: BTreeSet<Verb>,
    expires: Option<u64>,
    accepted: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn access_is_what_both_agreed_on(steps in prop::collection::vec(step(), 0..50)) {
        let world = World::new();
        let ids = ["acme", "globex", "initech"];
        let mut tenants: Vec<_> = ids.iter().map(|id| born(&world, id, 0)).collect();
        let mut model: Vec<Agreed> = Vec::new();
        let mut seen: Vec<Share> = Vec::new();
        for (life, step) in steps.into_iter().enumerate() {
            let secs = world.clock.now().as_secs();
            match step {
                Step::Offer { owner, recipient, name, verbs, lasts } => {
                    let verbs: BTreeSet<_> =
                        (0..2).filter(|bit| verbs & (1 << bit) != 0).map(|bit| VERBS[bit]).collect();
                    let expires = lasts.map(|lasts| secs + lasts);
                    let mut wanted =
                        ShareOffer::new(tenants[recipient].clone(), "volumes".parse().unwrap(), verbs.clone());
                    wanted.name = name.map(|name| format!("v{name}"));
                    wanted.expires = expires.map(at);
                    let got = offer(&world, &now(&tenants[owner], secs), &wanted);
                    prop_assert_eq!(got.is_ok(), owner != recipient);
                    let Ok(change) = got else { continue };
                    let (share, id) = (change.share.clone(), change.share.id.clone());
                    let same = |old: &&Agreed| old.id == id && old.verbs == verbs && old.expires == expires;
                    let accepted = model.iter().find(same).is_some_and(|old| old.accepted);
                    model.retain(|old| old.id != id);
                    model.push(Agreed { id, verbs, expires, accepted });
                    seen.push(share);
                }
                Step::Accept { recipient, seen: back } => {
                    let Some(share) = seen.iter().rev().nth(back) else { continue };
                    let got = accept(&world, &now(&tenants[recipient], secs), share);
                    let held = model.iter_mut().find(|held| {
                        held.id == share.id
                            && held.verbs == share.verbs
                            && held.expires.map(at) == share.expires
                            && held.expires.is_none_or(|expires| secs < expires)
                            && held.id.recipient == tenants[recipient]
                            && tenants.contains(&held.id.owner)
                    });
                    prop_assert_eq!(got.is_ok(), held.is_some(), "{:?}", got);
                    if let Some(held) = held {
                        held.accepted = true;
                    }
                }
                Step::End { side, seen: back } => {
                    let Some(share) = seen.iter().rev().nth(back) else { continue };
                    let side = &tenants[side];
                    let got = end(&world, &now(side, secs), &share.id);
                    let concerned = share.id.owner == *side || share.id.recipient == *side;
                    let there = model.iter().any(|held| held.id == share.id);
                    // What is void may have been swept.
                    prop_assert!(got.is_err() || (concerned && there));
                    if got.is_ok() {
                        model.retain(|held| held.id != share.id);
                    }
                }
                Step::Reborn(tenant) => {
                    dies(&world, &tenants[tenant]);
                    tenants[tenant] = born(&world, ids[tenant], life as u64 + 1);
                }
                Step::Wait => world.clock.advance(Duration::from_secs(1)),
                Step::Sweep(limit) => {
                    let system = now(&TenantRef::system(), secs);
                    world.commit(|view, txn| Shares.stage_sweep(view, txn, &system, limit)).unwrap();
                }
            }
            let secs = world.clock.now().as_secs();
            for (owner, recipient) in (0..9).map(|pair| (&tenants[pair / 3], &tenants[pair % 3])) {
                for (name, verb) in (0..6).map(|one| ([None, Some("v0"), Some("v1")][one / 2], VERBS[one % 2])) {
                    let mut request = AccessRequest::new(verb, "volumes".parse().unwrap());
                    request.name = name.map(str::to_owned);
                    let agreed = model.iter().any(|held| {
                        held.accepted
                            && (&held.id.owner, &held.id.recipient) == (owner, recipient)
                            && held.expires.is_none_or(|expires| secs < expires)
                            && held.verbs.contains(&verb)
                            && (held.id.name.is_none() || held.id.name.as_deref() == name)
                    });
                    prop_assert_eq!(may(&world, &now(recipient, secs), owner, &request), agreed);
                }
            }
        }
    }
}
