//! Budgets over time of a tenant and of those above it.

use std::time::Duration;

use hivemind_core::ErrorKind;
use proptest::prelude::*;

use super::*;
use crate::quota::{Budget, OverQuota, QuotaRequest, TenantQuota, WhenOver};

const SECOND: u128 = 1_000_000_000;

/// So many unit-seconds in every 100 s.
fn budget(unit_seconds: u64) -> QuotaSpec {
    let budget = Budget::new(unit_seconds, Duration::from_secs(100), at(0)).unwrap();
    QuotaSpec::new().with_budget(ResourceName::Cpu, budget)
}

fn set(world: &World, tenant: &TenantRef, spec: QuotaSpec, now: u64) {
    let ctx = world.ctx(tenant).with_time(at(now));
    world.commit(|view, txn| TenantQuota.stage_set_quota(view, txn, &ctx, &spec, WhenOver::Refuse)).unwrap();
}

/// A team in a company of 100 unit-seconds.
fn company() -> (World, TenantRef, TenantRef) {
    let world = World::default();
    let corp = world.tenant("corp", None);
    let team = world.tenant("team", Some(&corp));
    set(&world, &corp, budget(100), 0);
    (world, corp, team)
}

fn timed(world: &World, tenant: &TenantRef, now: Option<u64>) -> TenantContext {
    now.map_or(world.ctx(tenant), |now| world.ctx(tenant).with_time(at(now)))
}

fn charge(world: &World, tenant: &TenantRef, number: u8, cpu: u64, now: Option<u64>) -> Result<()> {
    let (ctx, request) = (timed(world, tenant, now), QuotaRequest::new(id(number), amount(cpu, 0)));
    world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, &request))
}

fn release(world: &World, tenant: &TenantRef, number: u8, now: Option<u64>) {
    let ctx = timed(world, tenant, now);
    world.commit(|view, txn| TenantQuota.stage_release(view, txn, &ctx, &id(number))).unwrap();
}

fn spent(world: &World, tenant: &TenantRef) -> u128 {
    let usage = TenantQuota.usage(&world.view(), &world.ctx(tenant)).unwrap();
    usage.budgets[&ResourceName::Cpu].spent / SECOND
}

fn short(error: &hivemind_core::Error) -> Vec<String> {
    error.detail::<OverQuota>().unwrap().in_full().iter().map(ToString::to_string).collect()
}

#[test]
fn a_spent_budget_admits_nothing_more_until_the_next_period() {
    let (world, corp, team) = company();
    charge(&world, &team, 0, 2, Some(10)).unwrap();
    charge(&world, &team, 1, 1, Some(59)).unwrap();
    assert_eq!(spent(&world, &corp), 98);
    let error = charge(&world, &team, 2, 1, Some(60)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert_eq!(
        short(&error),
        ["cpu at tenant corp: asked 1m, but the budget of 100 unit-seconds is spent until 100.000000000"]
    );
    assert_eq!(
        error.detail::<OverQuota>().unwrap().in_full()[0].help(),
        "wait until 100.000000000, or raise the budget of cpu of tenant corp"
    );
    release(&world, &team, 1, Some(60));
    charge(&world, &team, 2, 1, Some(100)).unwrap();
    assert!(TenantQuota.drift(&world.view(), &world.ctx(&corp)).unwrap().is_empty());
}

#[test]
fn without_a_time_nothing_grows_and_what_is_given_back_counts_on() {
    let (world, corp, team) = company();
    let error = charge(&world, &team, 0, 1, None).unwrap_err();
    assert_eq!(
        short(&error),
        ["cpu at tenant corp: asked 1m, but the request carries no time: a budget cannot be checked without"]
    );
    charge(&world, &team, 0, 2, Some(10)).unwrap();
    release(&world, &team, 0, None);
    charge(&world, &team, 1, 1, Some(20)).unwrap();
    assert_eq!(spent(&world, &corp), 20, "nobody said when it was given back");
    let ctx = world.ctx(&team);
    let other = QuotaRequest::new(id(2), amount(0, 1));
    world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, &other)).unwrap();
}

#[test]
fn a_budget_counts_from_when_it_was_set() {
    let (world, _, team) = company();
    charge(&world, &team, 0, 1, Some(10)).unwrap();
    set(&world, &team, budget(50), 40);
    charge(&world, &team, 1, 1, Some(60)).unwrap();
    assert_eq!(spent(&world, &team), 20);
}

fn over(world: &World, tenant: &TenantRef, now: Option<u64>) -> Vec<String> {
    let over = TenantQuota.over_quota(&world.view(), &timed(world, tenant, now)).unwrap();
    over.map(|over| over.short.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

#[test]
fn a_spent_budget_is_over_quota_even_when_nothing_is_in_use() {
    let (world, corp, team) = company();
    assert!(over(&world, &corp, Some(5)).is_empty());
    charge(&world, &team, 0, 2, Some(10)).unwrap();
    assert!(over(&world, &corp, Some(59)).is_empty());
    let spent = "the budget of 100 unit-seconds is spent until 100.000000000";
    assert_eq!(over(&world, &corp, Some(60)), [format!("cpu: asked 2m, but {spent}")]);
    assert!(over(&world, &corp, None).is_empty(), "it was last counted when nothing was spent");
    release(&world, &team, 0, Some(60));
    assert_eq!(over(&world, &corp, Some(70)), [format!("cpu: {spent}")]);
    assert_eq!(over(&world, &corp, None), [format!("cpu: {spent}")]);
    assert!(over(&world, &corp, Some(100)).is_empty());
    assert!(over(&world, &team, Some(70)).is_empty(), "it has no budget of its own");
}

#[test]
fn a_budget_of_nothing_is_exceeded_only_by_use() {
    let (world, _, team) = company();
    set(&world, &team, budget(0), 0);
    assert!(over(&world, &team, Some(1)).is_empty());
    assert!(charge(&world, &team, 0, 1, Some(1)).is_err());
}

#[test]
fn a_budget_set_again_knows_what_was_spent() {
    let (world, corp, team) = company();
    charge(&world, &team, 0, 2, Some(10)).unwrap();
    set(&world, &corp, QuotaSpec::new(), 30);
    assert_eq!(spent(&world, &corp), 40);
    charge(&world, &team, 1, 1, Some(35)).unwrap();
    set(&world, &corp, budget(100), 50);
    assert_eq!(spent(&world, &corp), 40, "what was used without a budget costs nothing");
    charge(&world, &team, 2, 1, Some(60)).unwrap();
    assert_eq!(spent(&world, &corp), 70);
    assert!(charge(&world, &team, 3, 1, Some(68)).is_err());
    charge(&world, &team, 3, 1, Some(100)).unwrap();
    assert!(TenantQuota.drift(&world.view(), &world.ctx(&corp)).unwrap().is_empty());
}

#[test]
fn a_budget_removed_without_a_time_counts_on_when_it_is_set_again() {
    let (world, corp, team) = company();
    charge(&world, &team, 0, 1, Some(10)).unwrap();
    let ctx = world.ctx(&corp);
    let none = QuotaSpec::new();
    world.commit(|view, txn| TenantQuota.stage_set_quota(view, txn, &ctx, &none, WhenOver::Refuse)).unwrap();
    set(&world, &corp, budget(100), 50);
    charge(&world, &team, 1, 1, Some(60)).unwrap();
    assert_eq!(spent(&world, &corp), 50, "more may be counted than was used, never less");
}

#[test]
fn what_is_spent_of_a_budget_is_not_drained_and_does_not_hold_a_move_up() {
    let (world, _, team) = company();
    let other = world.tenant("other", None);
    set(&world, &team, budget(20), 0);
    charge(&world, &team, 0, 2, Some(10)).unwrap();
    let ctx = timed(&world, &team, Some(30));
    let change = |when| {
        let lower = budget(10);
        world.commit(|view, txn| TenantQuota.stage_set_quota(view, txn, &ctx, &lower, when))
    };
    assert_eq!(change(WhenOver::Refuse).unwrap_err().kind(), ErrorKind::QuotaExceeded);
    let changed = change(WhenOver::Drain).unwrap();
    assert!(changed.over.is_some() && changed.drain.is_empty());
    world.reparent(&team, None).unwrap();
    world.reparent(&team, Some(&other)).unwrap();
}

#[test]
fn a_ledger_stored_before_there_were_budgets_has_spent_nothing() {
    let old: crate::quota::Usage = serde_json::from_str(r#"{"used":{},"reserved":{}}"#).unwrap();
    assert!(old.budgets.is_empty() && !serde_json::to_string(&old).unwrap().contains("budgets"));
}

proptest! {
    /// The model goes on second by second, on both levels.
    #[test]
    fn any_order_is_as_the_sum_of_seconds_on_two_levels_says(
        steps in prop::collection::vec((any::<bool>(), 0u8..4, 1u64..4, 0u64..30), 1..30),
    ) {
        let (world, corp, team) = company();
        set(&world, &team, budget(60), 0);
        let mut live = std::collections::BTreeMap::<(bool, u8), u64>::new();
        let (mut spent, mut now) = ([0u64; 2], 0u64);
        for (of_team, number, cpu, wait) in steps {
            let team_use: u64 = live.iter().filter(|((of_team, _), _)| *of_team).map(|(_, cpu)| cpu).sum();
            let in_use = [team_use, live.values().sum()];
            for _ in 0..wait {
                now += 1;
                let anew = now.is_multiple_of(100);
                spent = [0, 1].map(|level| if anew { 0 } else { spent[level] + in_use[level] });
            }
            let tenant = if of_team { &team } else { &corp };
            if live.remove(&(of_team, number)).is_some() {
                release(&world, tenant, number, Some(now));
                continue;
            }
            let fits = (!of_team || spent[0] < 60) && spent[1] < 100;
            prop_assert_eq!(charge(&world, tenant, number, cpu, Some(now)).is_ok(), fits);
            if fits {
                live.insert((of_team, number), cpu);
            }
        }
    }
}
