//! Slices of a quota that nodes charge against while they are cut off.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::testkit::{FaultPlan, FaultyStore, until_crash};
use hivemind_core::{ErrorKind, NodeId, QuotaGate};
use proptest::prelude::*;

use super::*;
use crate::quota::{MAX_SLICES, NodeSlice, OverQuota, Returned, TenantQuota, WhenOver};

const GRACE: u64 = 10;

/// A tenant of ten.
fn ten() -> (World, TenantRef) {
    let world = World::default();
    let edge = world.tenant("edge", None);
    let (ctx, spec) = (world.ctx(&edge), cpu(QuotaRule::default().with_max(10)));
    world.commit(|view, txn| TenantQuota.stage_set_quota(view, txn, &ctx, &spec, WhenOver::Refuse)).unwrap();
    (world, edge)
}

fn node(name: impl std::fmt::Display) -> NodeId {
    format!("n{name}").parse().unwrap()
}

fn millis(cpu: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_millis(cpu))
}

fn cpu_of(amount: &Resources) -> u64 {
    amount.amount(&ResourceName::Cpu)
}

fn timed(world: &World, tenant: &TenantRef, now: u64) -> TenantContext {
    world.ctx(tenant).with_time(at(now))
}

fn grant(world: &World, edge: &TenantRef, number: u8, cpu: u64, until: u64, now: u64) -> Result<NodeSlice> {
    let (ctx, lease) = (timed(world, edge, now), (at(until), Duration::from_secs(GRACE)));
    world.commit(|view, txn| {
        TenantQuota.stage_grant_slice(view, txn, &ctx, &node(number), &millis(cpu), lease)
    })
}

fn give_back(world: &World, edge: &TenantRef, slice: (u8, u64), keep: u64) -> Result<Returned> {
    let (ctx, node) = (world.ctx(edge), node(slice.0));
    world.commit(|view, txn| TenantQuota.stage_return_slice(view, txn, &ctx, (&node, slice.1), &millis(keep)))
}

fn expire(world: &World, edge: &TenantRef, now: u64) -> usize {
    let ctx = timed(world, edge, now);
    world.commit(|view, txn| TenantQuota.stage_expire(view, txn, &ctx, at(now))).unwrap()
}

fn charge(world: &World, edge: &TenantRef, number: u8, cpu: u64) -> Result<()> {
    let ctx = world.ctx(edge);
    world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(number), &millis(cpu)))
}

fn used(world: &World, edge: &TenantRef) -> u64 {
    cpu_of(&TenantQuota.usage(&world.view(), &world.ctx(edge)).unwrap().used)
}

fn slices(world: &World, edge: &TenantRef) -> Vec<(String, u64)> {
    let all = TenantQuota.node_slices(&world.view(), &Txn::new(), &world.ctx(edge)).unwrap();
    all.into_iter().map(|one| (one.node.to_string(), cpu_of(&one.amount))).collect()
}

#[test]
fn a_slice_is_taken_from_the_quota_and_given_back_to_it() {
    let (world, edge) = ten();
    let slice = grant(&world, &edge, 1, 6, 100, 0).unwrap();
    assert!(slice.admits(&millis(4), &millis(2), at(99)) && !slice.admits(&millis(4), &millis(3), at(99)));
    assert!(!slice.admits(&millis(0), &millis(1), at(100)));
    let error = charge(&world, &edge, 0, 5).unwrap_err();
    assert_eq!(error.detail::<OverQuota>().unwrap().short[0].short_by, 1);
    assert!(grant(&world, &edge, 2, 5, 100, 0).is_err());
    assert_eq!(give_back(&world, &edge, (1, slice.grant), 2).unwrap(), Returned::Now(millis(4)));
    assert_eq!(slices(&world, &edge), [("n1".to_owned(), 2)]);
    charge(&world, &edge, 0, 8).unwrap();
    assert_eq!(give_back(&world, &edge, (1, slice.grant), 3).unwrap_err().kind(), ErrorKind::Invalid);
    give_back(&world, &edge, (1, slice.grant), 0).unwrap();
    assert_eq!(give_back(&world, &edge, (1, slice.grant), 0).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!((used(&world, &edge), slices(&world, &edge).len()), (8, 0));
    assert!(TenantQuota.drift(&world.view(), &world.ctx(&edge)).unwrap().is_empty());
}

#[test]
fn what_a_lost_node_holds_comes_back_after_the_grace_and_never_twice() {
    let (world, edge) = ten();
    let lost = grant(&world, &edge, 1, 6, 100, 0).unwrap();
    assert_eq!((expire(&world, &edge, 100 + GRACE - 1), used(&world, &edge)), (0, 6));
    assert_eq!((expire(&world, &edge, 100 + GRACE), used(&world, &edge)), (1, 0));
    let found = grant(&world, &edge, 1, 3, 300, 200).unwrap();
    assert!(found.grant > lost.grant);
    assert!(give_back(&world, &edge, (1, lost.grant), 0).is_err());
    assert_eq!(used(&world, &edge), 3);
}

#[test]
fn a_newer_grant_is_no_smaller_and_no_shorter() {
    let (world, edge) = ten();
    let first = grant(&world, &edge, 1, 6, 100, 0).unwrap();
    let second = grant(&world, &edge, 1, 2, 50, 1).unwrap();
    assert_eq!((cpu_of(&second.amount), second.until), (6, at(100)));
    assert!(give_back(&world, &edge, (1, first.grant), 0).is_err(), "it may charge by the second already");
    assert!(grant(&world, &edge, 1, 11, 100, 1).is_err());
    assert_eq!(cpu_of(&grant(&world, &edge, 1, 10, 100, 1).unwrap().amount), 10);
    for bad in [grant(&world, &edge, 1, 1, 5, 5), grant(&world, &edge, 2, 1, 4, 5)] {
        assert_eq!(bad.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn slices_are_no_reservations_and_are_not_drained() {
    let (world, edge) = ten();
    let slice = grant(&world, &edge, 1, 6, 100, 0).unwrap();
    let ctx = timed(&world, &edge, 1);
    let id = "n1".parse().unwrap();
    let released = world.commit(|view, txn| TenantQuota.stage_release(view, txn, &ctx, &id)).unwrap();
    assert_eq!(released, Returned::Already);
    let less = cpu(QuotaRule::default().with_max(1));
    let change = world
        .commit(|view, txn| TenantQuota.stage_set_quota(view, txn, &ctx, &less, WhenOver::Drain))
        .unwrap();
    assert!(change.over.is_some() && change.drain.is_empty());
    assert!(world.commit(|view, txn| TenantQuota.stage_close(view, txn, &ctx)).is_err());
    give_back(&world, &edge, (1, slice.grant), 0).unwrap();
    world.commit(|view, txn| TenantQuota.stage_close(view, txn, &ctx)).unwrap();
}

#[test]
fn what_a_node_charged_becomes_its_reservations_in_one_transaction() {
    let (world, edge) = ten();
    let slice = grant(&world, &edge, 1, 10, 100, 0).unwrap();
    let ctx = world.ctx(&edge);
    world
        .commit(|view, txn| {
            TenantQuota.stage_return_slice(view, txn, &ctx, (&node(1), slice.grant), &millis(0))?;
            TenantQuota.reserve(view, txn, &ctx, &id(1), &millis(4))?;
            TenantQuota.reserve(view, txn, &ctx, &id(2), &millis(6))
        })
        .unwrap();
    assert_eq!(used(&world, &edge), 10);
}

#[test]
fn slices_of_a_tenant_are_bounded() {
    let (world, edge) = ten();
    for number in 0..MAX_SLICES {
        let (ctx, lease) = (timed(&world, &edge, 0), (at(9), Duration::ZERO));
        let none = Resources::new();
        world
            .commit(|view, txn| TenantQuota.stage_grant_slice(view, txn, &ctx, &node(number), &none, lease))
            .unwrap();
    }
    let error = grant(&world, &edge, 255, 1, 9, 0);
    assert!(error.is_ok(), "it has one");
    let (ctx, lease) = (timed(&world, &edge, 0), (at(9), Duration::ZERO));
    let more = world
        .commit(|view, txn| TenantQuota.stage_grant_slice(view, txn, &ctx, &node("x"), &millis(1), lease));
    assert_eq!(more.unwrap_err().kind(), ErrorKind::Exhausted);
}

/// Two managers grant the rest on the same state: one of them conflicts. A crash at any step leaves the books right.
#[test]
fn two_managers_never_grant_the_same_and_a_crash_leaks_nothing() {
    for crash in 0..12 {
        let (world, edge) = ten();
        let lease = (at(100), Duration::from_secs(GRACE));
        let ctx = timed(&world, &edge, 0);
        let staged = [1, 2].map(|number| {
            let mut txn = Txn::new();
            TenantQuota
                .stage_grant_slice(&world.view(), &mut txn, &ctx, &node(number), &millis(7), lease)
                .unwrap();
            txn
        });
        let plan = FaultPlan::new(crash).with_crash_at(crash);
        let store = Arc::new(FaultyStore::new(Arc::new(world.store.clone()), plan));
        let work = async {
            for txn in &staged {
                let _ = store.commit(txn).await;
            }
        };
        let _ = block_on(until_crash(&store, work));
        assert!([0, 7].contains(&used(&world, &edge)));
        assert!(TenantQuota.drift(&world.view(), &world.ctx(&edge)).unwrap().is_empty());
        expire(&world, &edge, 100 + GRACE);
        assert_eq!(used(&world, &edge), 0);
    }
}

/// A node as it is, whatever anybody knows of it. Its clock is behind by less than the grace.
#[derive(Debug, Clone, Default)]
struct Edge {
    slice: Option<NodeSlice>,
    heard: u64,
    charged: u64,
    behind: u64,
}

#[derive(Debug, Clone)]
enum Act {
    Grant {
        cpu: u64,
        lasts: u64,
    },
    Charge {
        cpu: u64,
    },
    GiveBack {
        keep: u64,
    },
    /// A message arrives; or twice; or never.
    Deliver {
        times: usize,
        which: usize,
    },
    Central {
        id: u8,
        cpu: u64,
    },
    Expire,
    Wait {
        secs: u64,
    },
}

#[derive(Debug, Clone)]
enum Message {
    Granted(usize, NodeSlice),
    Back(usize, u64, u64),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (1..7u64, 1..40u64).prop_map(|(cpu, lasts)| Act::Grant { cpu, lasts }),
        3 => (1..5u64).prop_map(|cpu| Act::Charge { cpu }),
        2 => (0..3u64).prop_map(|keep| Act::GiveBack { keep }),
        6 => (0..3usize, 0..4usize).prop_map(|(times, which)| Act::Deliver { times, which }),
        2 => (0..4u8, 1..6u64).prop_map(|(id, cpu)| Act::Central { id, cpu }),
        1 => Just(Act::Expire),
        2 => (1..15u64).prop_map(|secs| Act::Wait { secs }),
    ]
}

proptest! {
    /// Messages are late, doubled, lost and out of order, clocks differ, nodes fall silent: what nodes and the centre
    /// have charged is never above the limit, and nobody's slice is given to another while it may be charged against.
    #[test]
    fn nodes_and_centre_together_never_exceed_the_limit(
        behind in prop::array::uniform2(0..GRACE),
        steps in prop::collection::vec((0..2usize, acts()), 1..80),
    ) {
        let (world, edge) = ten();
        let mut nodes = behind.map(|behind| Edge { behind, ..Edge::default() });
        let (mut wire, mut now) = (VecDeque::new(), GRACE);
        let mut central = std::collections::BTreeMap::<u8, u64>::new();
        for (who, act) in steps {
            let number = u8::try_from(who).unwrap();
            let node = &mut nodes[who];
            match act {
                Act::Grant { cpu, lasts } => {
                    if let Ok(slice) = grant(&world, &edge, number, cpu, now + lasts, now) {
                        wire.push_back(Message::Granted(who, slice));
                    }
                }
                Act::Charge { cpu } => {
                    let admitted = |slice: &NodeSlice| {
                        slice.admits(&millis(node.charged), &millis(cpu), at(now - node.behind))
                    };
                    if node.slice.as_ref().is_some_and(admitted) {
                        node.charged += cpu;
                    }
                }
                Act::GiveBack { keep } => {
                    if let Some(slice) = &mut node.slice && cpu_of(&slice.amount) >= keep {
                        slice.amount = millis(keep);
                        node.charged = node.charged.min(keep);
                        wire.push_back(Message::Back(who, slice.grant, keep));
                    }
                }
                Act::Deliver { times, which } => {
                    let Some(message) = wire.remove(which.min(wire.len().saturating_sub(1))) else { continue };
                    for _ in 0..times {
                        match message.clone() {
                            Message::Granted(to, slice) => {
                                let node = &mut nodes[to];
                                if slice.grant > node.heard {
                                    node.heard = slice.grant;
                                    node.slice = Some(slice);
                                }
                            }
                            Message::Back(from, grant, keep) => {
                                let _ = give_back(&world, &edge, (u8::try_from(from).unwrap(), grant), keep);
                            }
                        }
                    }
                }
                Act::Central { id, cpu } => {
                    if central.remove(&id).is_some() {
                        let (ctx, id) = (world.ctx(&edge), super::id(id));
                        world.commit(|view, txn| TenantQuota.stage_release(view, txn, &ctx, &id)).unwrap();
                    } else if charge(&world, &edge, id, cpu).is_ok() {
                        central.insert(id, cpu);
                    }
                }
                Act::Expire => drop(expire(&world, &edge, now)),
                Act::Wait { secs } => now += secs,
            }
            for node in &mut nodes {
                // What a node runs by a slice that is over by its own clock, it stops.
                if node.slice.as_ref().is_some_and(|slice| at(now - node.behind) >= slice.until) {
                    (node.charged, node.slice) = (0, None);
                }
            }
            let all: u64 = nodes.iter().map(|node| node.charged).chain(central.values().copied()).sum();
            prop_assert!(all <= 10, "{all}: {nodes:?} {central:?}");
            prop_assert!(used(&world, &edge) <= 10);
            let known = slices(&world, &edge);
            for (number, node) in nodes.iter().enumerate().filter(|(_, node)| node.charged > 0) {
                let name = format!("n{number}");
                prop_assert!(known.iter().any(|(of, cpu)| *of == name && *cpu >= node.charged));
            }
        }
        prop_assert!(TenantQuota.drift(&world.view(), &world.ctx(&edge)).unwrap().is_empty());
    }
}
