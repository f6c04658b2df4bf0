//! Requests that wait for quota, and get their turn.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::ErrorKind;
use hivemind_core::testkit::{FaultPlan, FaultyStore, until_crash};
use proptest::prelude::*;

use super::*;
use crate::quota::{
    FairQueue, MAX_WAITING, QueuePolicy, QuotaRequest, TenantQuota, Turns, WaitingRequest, WhenOver,
};

const PATIENCE: u64 = 50;

fn turns() -> Turns {
    Turns::new(FairQueue::new(QueuePolicy::BestEffortFifo, Duration::from_secs(PATIENCE)))
}

fn limit(world: &World, tenant: &TenantRef, max: u64) {
    let (ctx, spec) = (world.ctx(tenant), cpu(QuotaRule::default().with_max(max)));
    world.commit(|view, txn| TenantQuota.stage_set_quota(view, txn, &ctx, &spec, WhenOver::Flag)).unwrap();
}

/// A pool of 10 with two teams.
fn pool() -> (World, TenantRef, [TenantRef; 2]) {
    let world = World::default();
    let pool = world.tenant("pool", None);
    let teams = ["red", "blue"].map(|name| world.tenant(name, Some(&pool)));
    limit(&world, &pool, 10);
    (world, pool, teams)
}

fn timed(world: &World, tenant: &TenantRef, now: u64) -> TenantContext {
    world.ctx(tenant).with_time(at(now))
}

fn request(number: u16, cpu: u64) -> QuotaRequest {
    QuotaRequest::new(id(number), amount(cpu, 0))
}

fn enqueue(world: &World, tenant: &TenantRef, request: &QuotaRequest, now: u64) -> Result<()> {
    let ctx = timed(world, tenant, now);
    world.commit(|view, txn| TenantQuota.stage_enqueue(view, txn, &ctx, request))
}

fn charge(world: &World, tenant: &TenantRef, number: u16, cpu: u64) -> Result<()> {
    let ctx = world.ctx(tenant);
    world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, &request(number, cpu)))
}

fn next_by(world: &World, pool: &TenantRef, turns: &Turns, now: u64) -> Option<(String, String)> {
    let ctx = timed(world, pool, now);
    let named = |one: WaitingRequest| (one.tenant.to_string(), one.id.to_string());
    world.commit(|view, txn| TenantQuota.stage_admit_next(view, txn, &ctx, turns)).unwrap().map(named)
}

fn next(world: &World, pool: &TenantRef, now: u64) -> Option<(String, String)> {
    next_by(world, pool, &turns(), now)
}

fn named(tenant: &str, number: u16) -> Option<(String, String)> {
    Some((tenant.to_owned(), format!("r{number}")))
}

fn waits(world: &World, tenant: &TenantRef) -> usize {
    waits_at(world, &world.ctx(tenant))
}

fn waits_at(world: &World, ctx: &TenantContext) -> usize {
    TenantQuota.waiting(&world.view(), &Txn::new(), ctx).unwrap().len()
}

fn used(world: &World, tenant: &TenantRef) -> u64 {
    let usage = TenantQuota.usage(&world.view(), &world.ctx(tenant)).unwrap();
    usage.used.amount(&ResourceName::Cpu) + usage.reserved.amount(&ResourceName::Cpu)
}

#[test]
fn whoever_has_less_comes_first_and_is_charged_as_its_turn_comes() {
    let (world, pool, [red, blue]) = pool();
    charge(&world, &red, 0, 5).unwrap();
    enqueue(&world, &red, &request(1, 2), 1).unwrap();
    enqueue(&world, &blue, &request(1, 2), 2).unwrap();
    let heavy = turns().with_weight("red".parse().unwrap(), NonZeroU32::new(100).unwrap());
    enqueue(&world, &blue, &request(2, 1), 3).unwrap();
    assert_eq!(next(&world, &pool, 3), named("blue", 1));
    assert_eq!((waits(&world, &red), waits(&world, &blue), used(&world, &blue)), (1, 1, 2));
    assert_eq!(next_by(&world, &pool, &heavy, 3), named("red", 1), "its share counts for little");
    assert_eq!(next(&world, &pool, 3), named("blue", 2));
    assert_eq!((next(&world, &pool, 3), used(&world, &pool)), (None, 10));
}

#[test]
fn within_a_guarantee_comes_before_borrowing() {
    let (world, pool, [red, blue]) = pool();
    let (ctx, own) = (world.ctx(&red), cpu(QuotaRule::default().with_guaranteed(4)));
    world.commit(|view, txn| TenantQuota.stage_set_quota(view, txn, &ctx, &own, WhenOver::Refuse)).unwrap();
    charge(&world, &red, 0, 2).unwrap();
    enqueue(&world, &blue, &request(0, 1), 1).unwrap();
    enqueue(&world, &red, &request(1, 2), 2).unwrap();
    enqueue(&world, &red, &request(2, 1), 1).unwrap();
    assert_eq!(next(&world, &pool, 2), named("red", 2));
    assert_eq!(next(&world, &pool, 2), named("blue", 0), "two more would be above the guarantee");
}

#[test]
fn what_waits_long_for_others_holds_them_up_and_what_is_over_its_own_limit_does_not() {
    let (world, pool, [red, blue]) = pool();
    charge(&world, &red, 0, 6).unwrap();
    enqueue(&world, &red, &request(1, 5), 0).unwrap();
    enqueue(&world, &blue, &request(1, 1), 1).unwrap();
    enqueue(&world, &blue, &request(2, 1), 2).unwrap();
    assert_eq!(next(&world, &pool, 10), named("blue", 1), "it passes");
    assert_eq!(next(&world, &pool, PATIENCE), None);
    limit(&world, &red, 8);
    assert_eq!(next(&world, &pool, PATIENCE), named("blue", 2));
}

#[test]
fn its_own_hold_that_is_over_is_not_in_the_way_of_a_request() {
    let (world, pool, [red, _]) = pool();
    let held = request(1, 8).held_until(at(5));
    let ctx = timed(&world, &red, 1);
    world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, &held)).unwrap();
    enqueue(&world, &red, &request(1, 8), 4).unwrap();
    assert_eq!(waits(&world, &red), 0, "it is held");
    enqueue(&world, &red, &request(1, 9), 5).unwrap();
    assert_eq!(waits_at(&world, &timed(&world, &red, 5)), 1, "it is held no more");
    assert_eq!(next(&world, &pool, 6), named("red", 1), "what it held is given back first");
    assert_eq!(used(&world, &red), 9);
}

/// Each decides by what was there before the others came.
#[test]
fn no_more_wait_than_may_however_many_come_at_once() {
    let (world, _, [red, _]) = pool();
    for number in 0..u16::try_from(MAX_WAITING).unwrap() - 1 {
        enqueue(&world, &red, &request(number, 1), 1).unwrap();
    }
    let (view, ctx) = (world.view(), timed(&world, &red, 2));
    let committed = (0..3).filter(|number| {
        let mut txn = Txn::new();
        TenantQuota.stage_enqueue(&view, &mut txn, &ctx, &request(1_000 + number, 1)).unwrap();
        block_on(world.store.commit(&txn)).is_ok()
    });
    assert_eq!(committed.count(), 1);
    assert_eq!(waits(&world, &red), MAX_WAITING);
    assert_eq!(enqueue(&world, &red, &request(2_000, 1), 3).unwrap_err().kind(), ErrorKind::Exhausted);
}

#[test]
fn what_is_charged_otherwise_waits_no_more() {
    let (world, _, [red, _]) = pool();
    enqueue(&world, &red, &request(1, 1), 1).unwrap();
    enqueue(&world, &red, &request(2, 1), 1).unwrap();
    charge(&world, &red, 1, 1).unwrap();
    assert_eq!(waits(&world, &red), 1, "before any turn");
    let ctx = timed(&world, &red, 2);
    let leave = |number| world.commit(|view, txn| TenantQuota.stage_leave(view, txn, &ctx, &id(number)));
    assert_eq!((leave(1).unwrap(), leave(2).unwrap()), (false, true));
    assert_eq!((waits(&world, &red), used(&world, &red)), (0, 1));
}

#[test]
fn one_waits_once_and_leaves_once() {
    let (world, pool, [red, _]) = pool();
    let leave = || {
        let ctx = world.ctx(&red);
        world.commit(|view, txn| TenantQuota.stage_leave(view, txn, &ctx, &id(1))).unwrap()
    };
    enqueue(&world, &red, &request(1, 5), 1).unwrap();
    enqueue(&world, &red, &request(1, 5), 9).unwrap();
    let waiting = TenantQuota.waiting(&world.view(), &Txn::new(), &world.ctx(&red)).unwrap();
    assert_eq!((waiting.len(), waiting[0].arrived), (1, at(1)), "it keeps its place");
    assert_eq!(enqueue(&world, &red, &request(1, 6), 9).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!((leave(), leave(), next(&world, &pool, 9)), (true, false, None));
    enqueue(&world, &red, &request(1, 5), 9).unwrap();
    assert_eq!(next(&world, &pool, 9), named("red", 1));
    assert!(!leave(), "it is charged");
    enqueue(&world, &red, &request(1, 5), 9).unwrap();
    assert_eq!(waits(&world, &red), 0, "there is nothing to wait for");
    assert_eq!(enqueue(&world, &red, &request(1, 6), 9).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn what_has_waited_too_long_or_was_charged_otherwise_is_cleared_away() {
    let (world, pool, [red, _]) = pool();
    enqueue(&world, &red, &request(1, 5).held_until(at(20)), 1).unwrap();
    enqueue(&world, &red, &request(2, 5), 1).unwrap();
    charge(&world, &red, 2, 5).unwrap();
    assert_eq!((waits(&world, &red), next(&world, &pool, 20), waits(&world, &red)), (1, None, 0));
    assert_eq!(used(&world, &red), 5);
    let late = request(3, 1).held_until(at(20));
    assert_eq!(enqueue(&world, &red, &late, 20).unwrap_err().kind(), ErrorKind::Invalid);
    let timeless = world.ctx(&red);
    let untimed = world.commit(|view, txn| TenantQuota.stage_enqueue(view, txn, &timeless, &request(4, 1)));
    assert_eq!(untimed.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn what_waits_does_not_hold_a_deletion_up_for_long_and_a_suspension_only_pauses_it() {
    let (world, pool, [red, blue]) = pool();
    let set = |of: &TenantRef, state: TenantState| {
        world
            .commit(|view, txn| {
                let old = tenants()?.require(view, txn, &key(&of.id)?)?;
                tenants()?.update(txn, &old, &Tenant { state, ..(*old.value).clone() })
            })
            .unwrap();
    };
    enqueue(&world, &red, &request(1, 5), 1).unwrap();
    enqueue(&world, &blue, &request(1, 5), 1).unwrap();
    set(&red, TenantState::Terminating { since: at(1) });
    set(&blue, TenantState::Suspended { drain_by: None });
    assert_eq!(enqueue(&world, &blue, &request(2, 5), 1).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!((next(&world, &pool, PATIENCE * 2), waits(&world, &red), waits(&world, &blue)), (None, 0, 1));
    set(&blue, TenantState::Active);
    assert_eq!(next(&world, &pool, 2), named("blue", 1));
}

#[test]
fn what_is_admitted_may_be_held_only() {
    let (world, pool, [red, _]) = pool();
    enqueue(&world, &red, &request(1, 5), 1).unwrap();
    assert!(next_by(&world, &pool, &turns().with_hold(Duration::from_secs(10)), 2).is_some());
    let ctx = timed(&world, &red, 12);
    let expired = world.commit(|view, txn| TenantQuota.stage_expire(view, txn, &ctx, at(12))).unwrap();
    assert_eq!((expired, used(&world, &pool)), (1, 0));
}

#[test]
fn the_queue_of_a_tenant_is_bounded_and_closes_with_it() {
    let (world, _, [red, _]) = pool();
    for number in 0..u16::try_from(MAX_WAITING).unwrap() {
        enqueue(&world, &red, &request(number, 1), 1).unwrap();
    }
    assert_eq!(enqueue(&world, &red, &request(9_999, 1), 1).unwrap_err().kind(), ErrorKind::Exhausted);
    let ctx = world.ctx(&red);
    let closed = world.commit(|view, txn| TenantQuota.stage_close(view, txn, &ctx));
    assert_eq!(closed.unwrap_err().message(), "256 requests of tenant red wait: let them leave first");
}

#[test]
fn a_turn_is_given_once_though_two_decide_on_the_same_state() {
    let (world, pool, [red, blue]) = pool();
    enqueue(&world, &red, &request(1, 5), 1).unwrap();
    enqueue(&world, &blue, &request(1, 5), 2).unwrap();
    let ctx = timed(&world, &pool, 3);
    let staged = [0, 1].map(|_| {
        let mut txn = Txn::new();
        TenantQuota.stage_admit_next(&world.view(), &mut txn, &ctx, &turns()).unwrap().unwrap();
        txn
    });
    let told = staged.each_ref().map(|txn| block_on(world.store.commit(txn)).map_err(|e| e.kind()));
    assert!(told[0].is_ok());
    assert_eq!(told[1], Err(ErrorKind::Conflict));
    assert_eq!((used(&world, &pool), waits(&world, &red), waits(&world, &blue)), (5, 0, 1));
}

#[test]
fn two_turns_fit_into_one_transaction() {
    let (world, pool, [red, blue]) = pool();
    enqueue(&world, &red, &request(1, 6), 1).unwrap();
    enqueue(&world, &blue, &request(1, 5), 2).unwrap();
    enqueue(&world, &blue, &request(2, 4), 3).unwrap();
    let ctx = timed(&world, &pool, 3);
    let all = world.commit(|view, txn| {
        let mut all = Vec::new();
        while let Some(one) = TenantQuota.stage_admit_next(view, txn, &ctx, &turns())? {
            all.push((one.tenant.to_string(), one.id.to_string()));
        }
        Ok(all)
    });
    assert_eq!(all.unwrap(), [("red".to_owned(), "r1".to_owned()), ("blue".to_owned(), "r2".to_owned())]);
}

/// A late enqueue of a request that waited and had its turn meanwhile conflicts: it would wait beside its own charge.
#[test]
fn what_had_its_turn_meanwhile_does_not_wait_again() {
    let (world, pool, teams) = pool();
    let (view, mut late) = (world.view(), Txn::new());
    TenantQuota.stage_enqueue(&view, &mut late, &timed(&world, &teams[0], 0), &request(3, 1)).unwrap();
    enqueue(&world, &teams[0], &request(3, 1), 0).unwrap();
    assert!(next(&world, &pool, 0).is_some());
    assert_eq!(block_on(world.store.commit(&late)).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!((waits(&world, &teams[0]), used(&world, &pool)), (0, 1));
}

/// Whoever gives turns crashes at any step: each request waits, or is charged, and none does both.
#[test]
fn a_crash_loses_no_request_and_charges_none_twice() {
    for crash in 0..24 {
        let (world, pool, teams) = pool();
        for (number, team) in [0u16, 1, 2, 3].iter().flat_map(|n| teams.iter().map(move |team| (*n, team))) {
            enqueue(&world, team, &request(number, 2), u64::from(number)).unwrap();
        }
        let plan = FaultPlan::new(crash).with_crash_at(crash);
        let store = Arc::new(FaultyStore::new(Arc::new(world.store.clone()), plan));
        let ctx = timed(&world, &pool, 9);
        let work = async {
            for _ in 0..9 {
                let view = store.snapshot(&[Prefix::ROOT]).await.unwrap();
                let mut txn = Txn::new();
                TenantQuota.stage_admit_next(&view, &mut txn, &ctx, &turns()).unwrap();
                let _ = store.commit(&txn).await;
            }
        };
        let _ = block_on(until_crash(&store, work));
        let charged = used(&world, &pool);
        assert!(charged <= 10);
        let waiting: usize = teams.iter().map(|team| waits(&world, team)).sum();
        assert_eq!(u64::try_from(waiting).unwrap() * 2 + charged, 16);
        while next(&world, &pool, 9).is_some() {}
        assert_eq!(used(&world, &pool), 10);
        assert!(TenantQuota.drift(&world.view(), &world.ctx(&pool)).unwrap().is_empty());
    }
}

#[derive(Debug, Clone)]
enum Act {
    Enqueue { team: usize, number: u16, cpu: u64 },
    Leave { team: usize, number: u16 },
    Release { team: usize, number: u16 },
    Turn,
}

#[derive(Debug, Clone, Default)]
struct Model {
    /// Amount and arrival.
    waiting: BTreeMap<(usize, u16), (u64, u64)>,
    charged: BTreeMap<(usize, u16), u64>,
}

impl Model {
    fn used(&self, team: usize) -> u64 {
        self.charged.iter().filter(|((of, _), _)| *of == team).map(|(_, cpu)| cpu).sum()
    }

    /// Whose turn it is: a walk over all that wait, longest patience first, then the least used.
    fn next(&self, now: u64, own: [u64; 2]) -> Option<(usize, u16)> {
        let mut order: Vec<_> = self.waiting.iter().collect();
        let overdue = |arrived: u64| now >= arrived + PATIENCE;
        // Red comes after blue by name.
        order.sort_by_key(|((team, number), (_, arrived))| {
            let used = if overdue(*arrived) { 0 } else { self.used(*team) };
            (!overdue(*arrived), used, *arrived, 1 - *team, *number)
        });
        for ((team, number), (cpu, arrived)) in order {
            if self.used(*team) + cpu > own[*team] {
                continue;
            }
            if self.used(0) + self.used(1) + cpu <= 10 {
                return Some((*team, *number));
            }
            if overdue(*arrived) {
                return None;
            }
        }
        None
    }
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..2usize, 0..6u16, 1..6u64).prop_map(|(team, number, cpu)| Act::Enqueue { team, number, cpu }),
        1 => (0..2usize, 0..6u16).prop_map(|(team, number)| Act::Leave { team, number }),
        2 => (0..2usize, 0..6u16).prop_map(|(team, number)| Act::Release { team, number }),
        3 => Just(Act::Turn),
    ]
}

proptest! {
    /// Two managers decide on states of their own and commit later. What commits is what a naive queue says.
    #[test]
    fn turns_are_given_as_a_naive_queue_says(
        own in prop::array::uniform2(4..11u64),
        steps in prop::collection::vec((0..2usize, acts(), 0..25u64, any::<bool>()), 1..50),
    ) {
        let (world, pool, teams) = pool();
        for (team, max) in teams.iter().zip(own) {
            limit(&world, team, max);
        }
        let mut model = Model::default();
        let mut now = 0;
        type Staged = (Act, Txn, Model, u64, Option<(usize, u16)>);
        let mut staged: [Option<Staged>; 2] = [None, None];
        for (manager, act, wait, commit) in steps {
            now += wait;
            if let Some((act, txn, then, at_time, answer)) = staged[manager].take()
                && block_on(world.store.commit(&txn)).is_ok()
            {
                    match act {
                        Act::Enqueue { team, number, cpu } => {
                            if !model.charged.contains_key(&(team, number)) {
                                model.waiting.entry((team, number)).or_insert((cpu, at_time));
                            }
                        }
                        // What was not there when this was decided is not touched.
                        Act::Leave { team, number } if then.waiting.contains_key(&(team, number)) => {
                            model.waiting.remove(&(team, number));
                        }
                        Act::Release { team, number } if then.charged.contains_key(&(team, number)) => {
                            model.charged.remove(&(team, number));
                        }
                        Act::Leave { .. } | Act::Release { .. } => {}
                        Act::Turn => {
                            prop_assert_eq!(answer, then.next(at_time, own));
                            if let Some(turn) = answer {
                                // Nothing that the choice rests on has changed since.
                                prop_assert_eq!(&then.charged, &model.charged);
                                let (cpu, _) = model.waiting.remove(&turn).unwrap();
                                prop_assert_eq!(model.charged.insert(turn, cpu), None);
                            }
                        }
                    }
                }
            let (view, mut txn) = (world.view(), Txn::new());
            let decided = match &act {
                Act::Enqueue { team, number, cpu } => {
                    let ctx = timed(&world, &teams[*team], now);
                    TenantQuota.stage_enqueue(&view, &mut txn, &ctx, &request(*number, *cpu)).map(|()| None)
                }
                Act::Leave { team, number } => {
                    let ctx = timed(&world, &teams[*team], now);
                    TenantQuota.stage_leave(&view, &mut txn, &ctx, &id(*number)).map(|_| None)
                }
                Act::Release { team, number } => {
                    let ctx = timed(&world, &teams[*team], now);
                    TenantQuota.stage_release(&view, &mut txn, &ctx, &id(*number)).map(|_| None)
                }
                Act::Turn => {
                    let ctx = timed(&world, &pool, now);
                    let one = TenantQuota.stage_admit_next(&view, &mut txn, &ctx, &turns());
                    one.map(|one| one.map(|one| {
                        let team = usize::from(one.tenant.as_str() == "blue");
                        (team, one.id.as_str()[1..].parse().unwrap())
                    }))
                }
            };
            if let Ok(answer) = decided && commit {
                staged[manager] = Some((act, txn, model.clone(), now, answer));
            }
        }
        let total: u64 = model.charged.values().sum();
        prop_assert_eq!(used(&world, &pool), total);
        prop_assert!(total <= 10);
        prop_assert_eq!(waits(&world, &teams[0]) + waits(&world, &teams[1]), model.waiting.len());
    }
}
