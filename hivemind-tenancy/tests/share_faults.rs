//! Shares under conflicts, lost replies, failures and crashes: nobody is bound to terms it was never shown.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use crate::common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::{admin, ctx};
use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim, until_crash};
use hivemind_core::{
    AccessRequest, Effect, ErrorKind, MemoryStore, Once, Result, StateStore, StateStoreExt, TenantContext,
    TenantRef, Timestamp, Verb, transact,
};
use hivemind_tenancy::share::{Share, ShareChange, ShareOffer};
use hivemind_tenancy::{Shares, TenantManager, TenantSpec};

/// Even, so that the last offer is not taken back.
const ROUNDS: u64 = 6;

/// Repeats a request, under its own id, until it is done or refused.
async fn insist(
    store: &dyn StateStore,
    ctx: &TenantContext,
    mut decide: impl FnMut(&Snapshot, &mut Txn) -> Result<Option<ShareChange>> + Send,
) -> Option<ShareChange> {
    let once = Once::new(ctx, "share", ctx.at().unwrap()).unwrap();
    let scope = [hivemind_tenancy::prefix().unwrap()];
    loop {
        match transact(store, &once, &scope, &mut decide).await {
            Ok(answer) => return answer.value,
            Err(e) if e.kind() == ErrorKind::NotFound => return None,
            Err(e) => assert!(
                e.effect() == Effect::Unknown
                    || matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Conflict),
                "{e}"
            ),
        }
    }
}

/// Offers something else in each round, and takes some of it back; returns what it offered.
async fn own(store: &dyn StateStore, owner: &TenantRef, recipient: &TenantRef, now: Timestamp) -> Vec<Share> {
    let mut told = Vec::new();
    for round in 0..ROUNDS {
        let offer = ShareOffer::new(recipient.clone(), "volumes".parse().unwrap(), [Verb::Get])
            .until(now.after(Duration::from_secs(1000 + round)));
        let me = ctx(owner, &format!("offer-{round}")).with_time(now);
        let offered =
            insist(store, &me, |view, txn| Shares.stage_offer(view, txn, &me, &offer).map(Some)).await;
        let share = offered.unwrap().share;
        if round % 2 == 0 {
            let me = ctx(owner, &format!("end-{round}")).with_time(now);
            insist(store, &me, |view, txn| Shares.stage_end(view, txn, &me, &share.id).map(Some)).await;
        }
        told.push(share);
    }
    told
}

/// Accepts what it finds offered, round by round; returns what it accepted.
async fn receive(store: &dyn StateStore, recipient: &TenantRef, now: Timestamp) -> Vec<Share> {
    let mut told = Vec::new();
    for round in 0..2 * ROUNDS {
        let me = ctx(recipient, &format!("accept-{round}")).with_time(now);
        let accepted = insist(store, &me, |view, txn| {
            let Some(found) = Shares.received(view, txn, &me)?.pop() else { return Ok(None) };
            Shares.stage_accept(view, txn, &me, &found).map(Some)
        });
        told.extend(accepted.await.map(|change| change.share));
    }
    told
}

/// What a writer was told in the life that did not crash, and how much went wrong in it.
async fn lives<T, F: Future<Output = T>>(
    sim_store: Arc<MemoryStore>,
    seed: u64,
    plan: impl Fn(u64) -> FaultPlan,
    write: impl Fn(FaultyStore) -> F,
) -> (T, u64) {
    for life in 0..3 {
        let plan = plan(seed * 10 + life);
        let plan = if life < 2 { plan.with_crash_at(2 + seed % 23 * (life + 1)) } else { plan };
        let store = FaultyStore::new(sim_store.clone(), plan);
        if let Ok(told) = until_crash(&store, write(store.clone())).await {
            let counts = store.counts();
            return (told, counts.lost_replies + counts.conflicts);
        }
    }
    panic!("the last life does not crash");
}

#[test]
fn a_share_in_force_is_one_that_both_were_told_of_whatever_fails() {
    let (mut injected, mut in_force) = (0, 0);
    for seed in 0..200 {
        let sim = Sim::new(seed);
        let disk = Arc::new(MemoryStore::new());
        let manager = TenantManager::new(disk.clone(), sim.clock(), sim.ids());
        let [acme, globex] = ["acme", "globex"].map(|id| {
            let spec = TenantSpec::new(id.parse().unwrap());
            sim.run(manager.create(&admin(&format!("create-{id}")), spec)).unwrap().unwrap().tenant
        });
        let now = sim.clock().now();
        let (runtime, other_runtime) = (sim.runtime(), sim.runtime());
        let rough = move |runtime, seed| {
            FaultPlan::rough(seed).with_latency(runtime, Duration::ZERO..=Duration::from_millis(3))
        };
        let (owner, recipient) = (acme.clone(), globex.clone());
        let owns = lives(
            disk.clone(),
            2 * seed,
            move |seed| rough(runtime.clone(), seed),
            move |store| {
                let (owner, recipient) = (owner.clone(), recipient.clone());
                async move { own(&store, &owner, &recipient, now).await }
            },
        );
        let me = globex.clone();
        let receives = lives(
            disk.clone(),
            2 * seed + 1,
            move |seed| rough(other_runtime.clone(), seed),
            move |store| {
                let me = me.clone();
                async move { receive(&store, &me, now).await }
            },
        );
        let ((offered, some), (accepted, more)) = sim.run(futures::future::join(owns, receives)).unwrap();
        injected += some + more;

        let view = sim.run(disk.snapshot(&[Prefix::ROOT])).unwrap().unwrap();
        let terms = |shares: &[Share]| shares.iter().map(|share| share.expires).collect::<BTreeSet<_>>();
        assert!(terms(&accepted).is_subset(&terms(&offered)), "seed {seed}");
        let me = ctx(&globex, "check").with_time(now);
        let request = AccessRequest::new(Verb::Get, "volumes".parse().unwrap());
        match Shares.lookup(&view, &Txn::new(), &me, &acme, &request) {
            Ok(share) => {
                in_force += 1;
                assert!(accepted.contains(&share), "seed {seed}: {share:?} was never accepted");
                assert!(terms(&offered).contains(&share.expires), "seed {seed}");
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::NotFound),
        }
        assert_eq!(Shares.offered(&view, &Txn::new(), &ctx(&acme, "check")).unwrap().len(), 1, "seed {seed}");
    }
    assert!(injected > 100, "{injected}");
    assert!(in_force > 20, "{in_force}");
}
