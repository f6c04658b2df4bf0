//! Soft limits of a tenant and of those above it.

use std::time::Duration;

use hivemind_core::ErrorKind;
use hivemind_core::store::Txn;
use proptest::prelude::*;

use super::*;
use crate::quota::{
    Crossing, OverQuota, QuotaRequest, RequestAttributes, SoftCrossing, SoftLimit, TenantQuota, WhenOver,
};

fn soft(limit: u64, grace: u64) -> QuotaSpec {
    QuotaSpec::new().with_soft_limit(ResourceName::Cpu, SoftLimit::new(limit, Duration::from_secs(grace)))
}

fn set(world: &World, tenant: &TenantRef, spec: QuotaSpec, now: Option<u64>) -> Result<()> {
    let ctx = now.map_or(world.ctx(tenant), |now| world.ctx(tenant).with_time(at(now)));
    let decide = |view: &Snapshot, txn: &mut Txn| {
        TenantQuota.stage_set_quota(view, txn, &ctx, &spec, WhenOver::Refuse).map(|_| ())
    };
    world.commit(decide)
}

/// A team in a company of a soft limit of 10, which becomes hard after 5 s.
fn company() -> (World, TenantRef, TenantRef) {
    let world = World::default();
    let corp = world.tenant("corp", None);
    let team = world.tenant("team", Some(&corp));
    set(&world, &corp, soft(10, 5), None).unwrap();
    (world, corp, team)
}

/// Charges, or gives back, at a time, and tells what it crossed.
fn charge(
    world: &World,
    tenant: &TenantRef,
    number: u8,
    cpu: u64,
    now: Option<u64>,
) -> Result<Vec<SoftCrossing>> {
    let ctx = now.map_or(world.ctx(tenant), |now| world.ctx(tenant).with_time(at(now)));
    world.commit(|view, txn| {
        TenantQuota.stage_request(view, txn, &ctx, &QuotaRequest::new(id(number), amount(cpu, 0)))?;
        TenantQuota.crossings(view, txn, &ctx)
    })
}

fn release(world: &World, tenant: &TenantRef, number: u8) -> Vec<SoftCrossing> {
    let ctx = world.ctx(tenant);
    let back = world.commit(|view, txn| {
        TenantQuota.stage_release(view, txn, &ctx, &id(number))?;
        TenantQuota.crossings(view, txn, &ctx)
    });
    back.unwrap()
}

fn short(error: &hivemind_core::Error) -> Vec<String> {
    error.detail::<OverQuota>().unwrap().in_full().iter().map(ToString::to_string).collect()
}

#[test]
fn a_soft_limit_above_is_crossed_and_becomes_hard_until_usage_is_within_again() {
    let (world, corp, team) = company();
    assert_eq!(charge(&world, &team, 0, 8, Some(100)).unwrap(), []);
    let crossed = charge(&world, &team, 1, 4, Some(100)).unwrap();
    let over = Crossing::Over { hard_at: at(105) };
    assert_eq!((crossed.len(), crossed[0].depth, crossed[0].crossing), (1, 1, over));
    assert_eq!(charge(&world, &team, 2, 1, Some(104)).unwrap(), [], "it is crossed once");
    let error = charge(&world, &team, 3, 1, Some(105)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert_eq!(
        short(&error),
        [
            "cpu at tenant corp: soft limit 10m, used 13m, reserved 0, asked 1m, short by 4m, grace over since 105.000000000"
        ]
    );
    assert_eq!(
        error.detail::<OverQuota>().unwrap().in_full()[0].help(),
        "release 4m below tenant corp, or raise its soft limit to 14m"
    );
    assert_eq!(release(&world, &team, 2), []);
    assert_eq!(release(&world, &team, 1)[0].crossing, Crossing::Within);
    assert_eq!(
        charge(&world, &team, 3, 4, Some(200)).unwrap()[0].crossing,
        Crossing::Over { hard_at: at(205) }
    );
    assert!(TenantQuota.drift(&world.view(), &world.ctx(&corp)).unwrap().is_empty());
}

#[test]
fn a_hard_limit_stands_beside_it_and_both_are_listed() {
    let (world, _, team) = company();
    let both = cpu(QuotaRule::default().with_max(11))
        .with_soft_limit(ResourceName::Cpu, SoftLimit::new(5, Duration::ZERO));
    set(&world, &team, both, Some(1)).unwrap();
    let error = charge(&world, &team, 0, 12, Some(100)).unwrap_err();
    assert_eq!(
        short(&error),
        [
            "cpu: limit 11m, used 0, reserved 0, asked 12m, short by 1m",
            "cpu: soft limit 5m, used 0, reserved 0, asked 12m, short by 7m, grace over since 100.000000000",
        ]
    );
}

#[test]
fn without_a_time_there_is_no_grace_and_what_is_given_back_needs_none() {
    let (world, _, team) = company();
    charge(&world, &team, 0, 10, None).unwrap();
    let error = charge(&world, &team, 1, 1, None).unwrap_err();
    assert_eq!(
        short(&error),
        [
            "cpu at tenant corp: soft limit 10m, used 10m, reserved 0, asked 1m, short by 1m, no grace without a time of the request"
        ]
    );
    let asked = TenantQuota.what_if(
        &world.view(),
        &Txn::new(),
        &world.ctx(&team),
        &amount(1, 0),
        &RequestAttributes::default(),
    );
    assert_eq!(asked.unwrap().as_ref(), error.detail::<OverQuota>());
    charge(&world, &team, 1, 1, Some(7)).unwrap();
    assert_eq!(release(&world, &team, 0).len(), 1);
}

#[test]
fn a_soft_limit_set_below_what_is_taken_gives_its_grace_from_then() {
    let (world, corp, team) = company();
    charge(&world, &team, 0, 9, Some(50)).unwrap();
    set(&world, &corp, soft(5, 10), Some(100)).unwrap();
    let over = |now| TenantQuota.over_quota(&world.view(), &world.ctx(&corp).with_time(at(now))).unwrap();
    assert_eq!(over(109), None);
    assert_eq!(over(110).unwrap().short[0].short_by, 4);
    assert!(charge(&world, &team, 1, 1, Some(110)).is_err());
    charge(&world, &team, 1, 1, Some(109)).unwrap();
}

#[test]
fn a_move_is_decided_at_its_time() {
    let (world, corp, _) = company();
    let other = world.tenant("other", None);
    charge(&world, &other, 0, 11, None).unwrap();
    let move_at = |now: Option<Timestamp>| {
        let ctx = now.map_or(world.ctx(&other), |now| world.ctx(&other).with_time(now));
        world.commit(|view, txn| {
            let old = tenants()?.require(view, txn, &key(&other.id)?)?;
            crate::quota::stage_reparent(view, txn, &ctx, &old, Some(&corp))?;
            tenants()?.update(txn, &old, &Tenant { parent: Some(corp.clone()), ..(*old.value).clone() })
        })
    };
    assert_eq!(move_at(None).unwrap_err().kind(), ErrorKind::QuotaExceeded);
    move_at(Some(at(100))).unwrap();
    let usage = TenantQuota.usage(&world.view(), &world.ctx(&corp)).unwrap();
    assert_eq!(usage.soft[&ResourceName::Cpu].over_since, Some(at(100)));
}

#[test]
fn a_ledger_stored_before_there_were_soft_limits_is_within_them() {
    let old: crate::quota::Usage = serde_json::from_str(r#"{"used":{},"reserved":{}}"#).unwrap();
    assert_eq!(old, crate::quota::Usage::default());
    assert!(!serde_json::to_string(&old).unwrap().contains("soft"));
}

proptest! {
    /// The model keeps every charge, and since when each level is above its limit.
    #[test]
    fn any_order_is_as_a_naive_model_of_two_levels_says(
        steps in prop::collection::vec((any::<bool>(), 0u8..4, 1u64..8, 0u64..4), 1..40),
    ) {
        let (world, corp, team) = company();
        set(&world, &team, soft(6, 3), None).unwrap();
        let (mut live, mut now) = (std::collections::BTreeMap::<(bool, u8), u64>::new(), 100);
        let mut since: [Option<u64>; 2] = [None; 2];
        let limits = [(6, 3), (10, 5)];
        for (of_team, number, cpu, wait) in steps {
            now += wait;
            let tenant = if of_team { &team } else { &corp };
            let sums = |live: &std::collections::BTreeMap<(bool, u8), u64>| {
                let team: u64 = live.iter().filter(|((of_team, _), _)| *of_team).map(|(_, cpu)| cpu).sum();
                [team, live.values().sum::<u64>()]
            };
            let before = sums(&live);
            if live.remove(&(of_team, number)).is_some() {
                release(&world, tenant, number);
            } else {
                let mut next = live.clone();
                next.insert((of_team, number), cpu);
                let after = sums(&next);
                let fits = (0..2).all(|level| {
                    let (limit, grace) = limits[level];
                    after[level] <= limit
                        || after[level] == before[level]
                        || now < since[level].unwrap_or(now) + grace
                });
                let decided = charge(&world, tenant, number, cpu, Some(now));
                prop_assert_eq!(decided.is_ok(), fits);
                if fits {
                    live = next;
                }
            }
            let after = sums(&live);
            for level in 0..2 {
                since[level] = (after[level] > limits[level].0).then(|| since[level].unwrap_or(now));
            }
            let view = world.view();
            for (tenant, since) in [&team, &corp].into_iter().zip(since) {
                let usage = TenantQuota.usage(&view, &world.ctx(tenant)).unwrap();
                let stored = usage.soft.get(&ResourceName::Cpu).and_then(|state| state.over_since);
                prop_assert_eq!(stored, since.map(at));
            }
        }
    }
}
