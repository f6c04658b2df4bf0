//! Rates of a tenant and of those above it.

use std::time::Duration;

use hivemind_core::store::Txn;
use hivemind_core::{ErrorKind, Retry};
use proptest::prelude::*;

use super::*;
use crate::quota::rate::{rates, rates_key};
use crate::quota::{OverRate, RateExceeded, RateLimit, RateStates, TenantQuota, WhenOver};

/// One every `every` seconds, and `burst` at once.
fn rate(every: u64, burst: u32) -> RateLimit {
    RateLimit::new(1, Duration::from_secs(every)).unwrap().with_burst(burst).unwrap()
}

fn set(world: &World, tenant: &TenantRef, spec: QuotaSpec) {
    let ctx = world.ctx(tenant);
    world.commit(|view, txn| TenantQuota.stage_set_quota(view, txn, &ctx, &spec, WhenOver::Refuse)).unwrap();
}

/// A company with two teams, of which `red` has a rate of its own.
fn company(own: RateLimit, above: RateLimit) -> (World, TenantRef, TenantRef, TenantRef) {
    let world = World::default();
    let corp = world.tenant("corp", None);
    let (red, blue) = (world.tenant("red", Some(&corp)), world.tenant("blue", Some(&corp)));
    set(&world, &corp, QuotaSpec::new().with_rate("creates", above));
    set(&world, &red, QuotaSpec::new().with_rate("creates", own));
    (world, corp, red, blue)
}

fn create(world: &World, tenant: &TenantRef, now: u64, n: u64) -> Result<()> {
    let ctx = world.ctx(tenant).with_time(at(now));
    world.commit(|view, txn| TenantQuota.stage_rate(view, txn, &ctx, "creates", n))
}

fn states(world: &World, tenant: &TenantRef) -> Option<RateStates> {
    let found = rates().unwrap().get(&world.view(), &Txn::new(), &rates_key(tenant).unwrap());
    found.unwrap().map(|found| (*found.value).clone())
}

#[test]
fn a_rate_counts_for_all_levels_or_for_none() {
    let (world, corp, red, blue) = company(rate(10, 5), rate(10, 2));
    create(&world, &blue, 100, 2).unwrap();
    assert_eq!(states(&world, &blue), None, "it has no rate of its own");
    let before = states(&world, &corp);
    let error = create(&world, &red, 100, 1).unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::QuotaExceeded, Retry::Later));
    assert_eq!(
        error.message(),
        "rate creates of tenant red: at a tenant above: too many lately: try again in 10s"
    );
    assert_eq!((states(&world, &red), states(&world, &corp)), (None, before));
    create(&world, &red, 110, 1).unwrap();
    assert!(states(&world, &red).is_some());
}

#[test]
fn every_rate_that_refuses_is_listed_and_the_longest_wait_counts() {
    let (world, _, red, _) = company(rate(30, 1), rate(10, 1));
    create(&world, &red, 100, 1).unwrap();
    let error = create(&world, &red, 105, 1).unwrap_err();
    let over = error.detail::<OverRate>().unwrap();
    assert_eq!(over.exceeded.iter().map(|one| one.depth).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(over.retry_after, Some(Duration::from_secs(25)));
    assert!(create(&world, &red, 129, 1).is_err());
    create(&world, &red, 130, 1).unwrap();
}

#[test]
fn more_than_a_burst_is_no_matter_of_waiting() {
    let (world, _, red, _) = company(rate(10, 5), rate(10, 2));
    let error = create(&world, &red, 100, 3).unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::QuotaExceeded, Retry::AfterChange));
    let over = error.detail::<OverRate>().unwrap();
    assert_eq!(over.retry_after, None);
    assert_eq!(over.exceeded[0].reason, RateExceeded::AboveBurst { asked: 3, burst: 2 });
}

#[test]
fn without_a_time_what_has_a_rate_is_refused() {
    let (world, corp, red, _) = company(rate(10, 5), rate(10, 2));
    let ctx = world.ctx(&red);
    let call = |name| world.commit(|view, txn| TenantQuota.stage_rate(view, txn, &ctx, name, 1));
    let error = call("creates").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.detail::<OverRate>().unwrap().exceeded[1].reason, RateExceeded::NoTime);
    assert_eq!((states(&world, &red), states(&world, &corp)), (None, None));
    call("api-calls").unwrap();
}

#[test]
fn two_in_one_transaction_count_twice() {
    let (world, _, red, _) = company(rate(10, 5), rate(10, 2));
    let ctx = world.ctx(&red).with_time(at(100));
    let (view, mut txn) = (world.view(), Txn::new());
    TenantQuota.stage_rate(&view, &mut txn, &ctx, "creates", 1).unwrap();
    TenantQuota.stage_rate(&view, &mut txn, &ctx, "creates", 1).unwrap();
    assert!(TenantQuota.stage_rate(&view, &mut txn, &ctx, "creates", 1).is_err());
    block_on(world.store.commit(&txn)).unwrap();
    assert!(create(&world, &red, 100, 1).is_err());
}

#[test]
fn a_decision_on_an_old_view_conflicts_with_one_in_between_and_with_another_limit() {
    let (world, corp, red, blue) = company(rate(10, 5), rate(10, 2));
    let stale = |between: &dyn Fn()| {
        let (view, mut txn) = (world.view(), Txn::new());
        let ctx = world.ctx(&red).with_time(at(100));
        TenantQuota.stage_rate(&view, &mut txn, &ctx, "creates", 1).unwrap();
        between();
        block_on(world.store.commit(&txn)).unwrap_err().kind()
    };
    assert_eq!(stale(&|| create(&world, &blue, 100, 1).unwrap()), ErrorKind::Conflict);
    let slower = || set(&world, &corp, QuotaSpec::new().with_rate("creates", rate(60, 2)));
    assert_eq!(stale(&slower), ErrorKind::Conflict);
}

#[test]
fn what_has_no_rate_any_more_is_forgotten_and_a_tenant_that_closes_leaves_nothing() {
    let (world, _, red, _) = company(rate(10, 5), rate(10, 5));
    create(&world, &red, 100, 1).unwrap();
    set(&world, &red, QuotaSpec::new().with_rate("api-calls", rate(1, 1)));
    let ctx = world.ctx(&red).with_time(at(100));
    world.commit(|view, txn| TenantQuota.stage_rate(view, txn, &ctx, "api-calls", 1)).unwrap();
    assert_eq!(states(&world, &red).unwrap().states.into_keys().collect::<Vec<_>>(), ["api-calls"]);
    world.commit(|view, txn| TenantQuota.stage_close(view, txn, &ctx)).unwrap();
    assert_eq!(states(&world, &red), None);
}

proptest! {
    /// The model keeps when each was done and counts: with one every 10 s and bursts of `b`, the bucket leaks.
    #[test]
    fn any_order_is_as_a_leaking_bucket_on_every_level_says(
        own in 1u32..4, above in 1u32..5, steps in prop::collection::vec((any::<bool>(), 0u64..15, 0u64..4), 1..30),
    ) {
        let (world, _, red, blue) = company(rate(10, own), rate(10, above));
        // Seconds of work in the buckets of red and of the company.
        let (mut levels, mut now) = ([0u64; 2], 1_000);
        for (of_red, wait, n) in steps {
            now += wait;
            levels = levels.map(|level| level.saturating_sub(wait));
            let next = [levels[0] + if of_red { n * 10 } else { 0 }, levels[1] + n * 10];
            let fits = next[0] <= u64::from(own) * 10 && next[1] <= u64::from(above) * 10;
            let tenant = if of_red { &red } else { &blue };
            prop_assert_eq!(create(&world, tenant, now, n).is_ok(), fits || n == 0);
            if fits {
                levels = next;
            }
        }
    }
}
