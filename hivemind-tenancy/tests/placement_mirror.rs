//! Placing by an index that follows the store: the same answers as a look at every node, whatever happened, and no
//! wrong placement by one that was kept in the dark.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use crate::common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{World, admin, ctx};
use hivemind_core::labels::Labels;
use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::store::{Prefix, Snapshot, Txn, WatchBatch};
use hivemind_core::{
    Error, ErrorKind, Mirror, MirrorChange, MirrorFeed, NodeId, StateStore, TenantContext, Timestamp,
    WorkloadId, block_on,
};
use hivemind_tenancy::placement::{
    AffinityTerm, BlastRadius, DomainShare, NodeState, Packing, Placement, PlacementPolicy, Rejection,
    Removal, StaleNode, Taint, TaintEffect, Tolerated, Toleration, Topology, TopologySpread, Unplaceable,
    WorkloadAffinity, WorkloadRequest,
};
use hivemind_tenancy::{ClusterMirror, IsolationLevel, Node, TenantSpec, TenantUpdate};
use proptest::prelude::*;

const SEED: u64 = 7;

fn cores(n: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_cores(n))
}

fn zone() -> Topology {
    Topology::Label("zone".parse().unwrap())
}

fn labels(zone: usize) -> Labels {
    Labels::new().with("zone", &format!("z{}", zone % 3)).unwrap()
}

fn id(node: usize) -> NodeId {
    format!("n{node}").parse().unwrap()
}

fn node(number: usize, n: u64) -> Node {
    Node::new(id(number), cores(n)).with_labels(labels(number))
}

fn workload(name: &str, n: u64) -> WorkloadRequest {
    let labels = Labels::new().with("app", "a").unwrap();
    WorkloadRequest::new(name.parse().unwrap(), cores(n)).with_labels(labels)
}

/// A store, a mirror of it, and an index that follows that.
struct Host {
    world: World,
    mirror: Mirror,
    feed: MirrorFeed,
    cluster: ClusterMirror,
    requests: usize,
}

impl Host {
    fn new(packing: Packing) -> Self {
        let world = World::new();
        let store: Arc<dyn StateStore> = Arc::new(world.store.clone());
        let (mirror, feed) = block_on(Mirror::open(store, Prefix::ROOT)).unwrap();
        Self { world, mirror, feed, cluster: ClusterMirror::new(packing, SEED), requests: 0 }
    }

    fn request(&mut self) -> TenantContext {
        self.requests += 1;
        admin(&format!("r{}", self.requests))
    }

    fn tenant(&self, name: &str, level: IsolationLevel) -> TenantContext {
        let spec = TenantSpec::new(name.parse().unwrap()).with_isolation(level);
        ctx(&self.world.tenant(spec).tenant, "r").with_time(Timestamp::from_nanos(5))
    }

    fn add(&mut self, node: Node) -> hivemind_core::Result<()> {
        let admin = self.request();
        self.world.commit(|view, txn| self.world.tenants.stage_add_node(view, txn, &admin, &node))
    }

    fn set(&mut self, node: usize, state: NodeState) {
        let admin = self.request();
        let _ = self
            .world
            .commit(|view, txn| self.world.tenants.stage_set_node_state(view, txn, &admin, &id(node), state));
    }

    /// Brings the mirror forward; `told` says whether the index hears of it.
    fn follow(&mut self, told: bool) {
        let newest = block_on(self.world.store.revision()).unwrap();
        while self.mirror.view().revision() < newest {
            let change = block_on(self.feed.advance()).unwrap();
            if told {
                self.cluster.note(&change);
            }
        }
    }

    fn place(
        &mut self,
        view: &Snapshot,
        who: &TenantContext,
        asks: &[WorkloadRequest],
    ) -> hivemind_core::Result<(Txn, Placement)> {
        let (mut txn, policy) = (Txn::new(), PlacementPolicy::default());
        let placed =
            self.world.tenants.stage_place_with(&mut self.cluster, view, &mut txn, who, asks, &policy)?;
        Ok((txn, placed))
    }

    /// Where everything of the tenant runs.
    fn runs(&self, who: &TenantContext) -> Vec<(WorkloadId, NodeId)> {
        let all = self.world.tenants.nodes(&self.world.view(), &Txn::new()).unwrap();
        let theirs = |(node, running): &(hivemind_core::Stamped<Node>, _)| {
            let running: &hivemind_core::Stamped<hivemind_tenancy::placement::NodeAllocations> = running;
            let here = running.workloads.get(who.tenant()).into_iter().flat_map(BTreeMap::keys);
            here.map(|one| (one.clone(), node.id.clone())).collect::<Vec<_>>()
        };
        all.iter().flat_map(theirs).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(usize, u64),
    Remove(usize, bool),
    State(usize, u8),
    Zone(usize, usize),
    Taint(usize, u8),
    Level(usize, bool),
    /// Whose, what, by which policy; whether it commits.
    Place(usize, Vec<(u8, u64, u8)>, u8, bool),
    /// The one of this number, to wherever there is room.
    Move(usize, usize, bool),
    Leave(usize, usize),
    Terminate(usize, usize),
    /// The mirror is read anew.
    Anew,
}

fn step() -> impl Strategy<Value = Step> {
    let asks = prop::collection::vec((0u8..16, 1u64..4, 0u8..9), 1..4);
    prop_oneof![
        2 => (0usize..6, 2u64..7).prop_map(|(node, n)| Step::Add(node, n)),
        1 => (0usize..6, any::<bool>()).prop_map(|(node, force)| Step::Remove(node, force)),
        2 => (0usize..6, 0u8..4).prop_map(|(node, state)| Step::State(node, state)),
        1 => (0usize..6, 0usize..3).prop_map(|(node, zone)| Step::Zone(node, zone)),
        1 => (0usize..6, 0u8..3).prop_map(|(node, taint)| Step::Taint(node, taint)),
        1 => (0usize..3, any::<bool>()).prop_map(|(who, hard)| Step::Level(who, hard)),
        9 => (0usize..3, asks, 0u8..4, any::<bool>()).prop_map(|(who, asks, policy, commits)| {
            Step::Place(who, asks, policy, commits)
        }),
        3 => (0usize..3, 0usize..16, any::<bool>()).prop_map(|(who, nth, commits)| Step::Move(who, nth, commits)),
        2 => (0usize..3, 0usize..16).prop_map(|(who, nth)| Step::Leave(who, nth)),
        1 => (0usize..3, 0usize..16).prop_map(|(who, nth)| Step::Terminate(who, nth)),
        1 => Just(Step::Anew),
    ]
}

/// What is asked for, with one of several rules or none.
fn asked(&(name, n, rule): &(u8, u64, u8)) -> WorkloadRequest {
    let asks = workload(&format!("w{name}"), n);
    let term = |topology| AffinityTerm::new("app=a".parse().unwrap(), topology);
    let mut affinity = WorkloadAffinity::default();
    match rule {
        0 => affinity.required.push(term(zone())),
        1 => affinity.anti_required.push(term(Topology::Node)),
        2 => return asks.with_spread(TopologySpread::new(zone(), "app=a".parse().unwrap())),
        3 => return asks.tolerating(Toleration::new(Tolerated::Everything)),
        4 | 5 => return asks.spread_by("key"),
        _ => {}
    }
    asks.with_affinity(affinity)
}

fn policy(number: u8, packing: Packing) -> PlacementPolicy {
    let policy = PlacementPolicy::default().with_packing(packing).with_seed(SEED);
    match number {
        0 => policy.with_blast_radius(BlastRadius::new(zone(), 60)),
        1 => policy.with_domain_share(DomainShare::new(zone(), 50)),
        _ => policy,
    }
}

/// What a decision came to, to be compared.
type Told = Result<(Placement, Txn), (ErrorKind, String, Option<Unplaceable>)>;

fn told(placed: hivemind_core::Result<Placement>, txn: Txn) -> Told {
    let of = |e: Error| (e.kind(), e.message().to_owned(), e.detail::<Unplaceable>().cloned());
    placed.map(|placed| (placed, txn)).map_err(of)
}

/// Both ways to place, on what is staged in `txn` already; the transaction, if there is one.
fn both(
    host: &mut Host,
    view: &Snapshot,
    txn: &Txn,
    who: &TenantContext,
    asks: &[WorkloadRequest],
    policy: &PlacementPolicy,
) -> Result<Option<Txn>, TestCaseError> {
    let (tenants, mut slow, mut fast) = (&host.world.tenants, txn.clone(), txn.clone());
    let expected = tenants.stage_place_by(view, &mut slow, who, asks, policy);
    let found = tenants.stage_place_with(&mut host.cluster, view, &mut fast, who, asks, policy);
    let (expected, found) = (told(expected, slow), told(found, fast));
    prop_assert_eq!(&found, &expected);
    Ok(found.ok().map(|(_, txn)| txn))
}

fn change(host: &mut Host, tenants: &[TenantContext], packing: Packing, step: &Step) {
    let admin = host.request();
    let nth = |who: usize, nth: usize| {
        let runs = host.runs(&tenants[who]);
        (!runs.is_empty()).then(|| runs[nth % runs.len()].clone())
    };
    let manager = &host.world.tenants;
    // What cannot be done now is not done.
    let _ = match step {
        Step::Add(number, n) => host.add(node(*number, *n)),
        Step::Remove(node, force) => {
            let how = if *force { Removal::Force } else { Removal::IfEmpty };
            let gone = |view: &Snapshot, txn: &mut Txn| {
                manager.stage_remove_node(view, txn, &admin, &id(*node), how)
            };
            host.world.commit(gone).map(drop)
        }
        Step::State(node, state) => {
            let state = [NodeState::Ready, NodeState::Ready, NodeState::Cordoned, NodeState::Failed]
                [usize::from(*state)];
            host.set(*node, state);
            Ok(())
        }
        Step::Zone(node, zone) => host
            .world
            .commit(|view, txn| manager.stage_relabel_node(view, txn, &admin, &id(*node), &labels(*zone))),
        Step::Taint(node, taint) => {
            let effects = [TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule];
            let effect = effects.get(usize::from(*taint));
            let taint = |effect| Taint::new("t".parse().unwrap(), "".parse().unwrap(), effect);
            let taints: Vec<_> = effect.map(|effect| taint(*effect)).into_iter().collect();
            host.world.commit(|view, txn| manager.stage_set_taints(view, txn, &admin, &id(*node), &taints))
        }
        Step::Level(who, hard) => {
            let level = if *hard { IsolationLevel::Hard } else { IsolationLevel::Soft };
            let update = TenantUpdate::isolation(level);
            block_on(manager.update(&admin, &tenants[*who].tenant().id, update)).map(drop)
        }
        Step::Leave(who, which) => nth(*who, *which).map_or(Ok(()), |(one, node)| {
            host.world.commit(|view, txn| manager.stage_unplace(view, txn, &tenants[*who], [(&one, &node)]))
        }),
        Step::Terminate(who, which) => nth(*who, *which).map_or(Ok(()), |(one, node)| {
            host.world.commit(|view, txn| manager.stage_terminate(view, txn, &tenants[*who], &one, &node))
        }),
        Step::Anew => {
            *host = Host { world: std::mem::replace(&mut host.world, World::new()), ..Host::new(packing) };
            let store: Arc<dyn StateStore> = Arc::new(host.world.store.clone());
            (host.mirror, host.feed) = block_on(Mirror::open(store, Prefix::ROOT)).unwrap();
            host.cluster.note(&MirrorChange::ReadAnew(host.mirror.view().revision()));
            Ok(())
        }
        Step::Place(..) | Step::Move(..) => Ok(()),
    };
}

/// A placement by both ways; what it staged, if it commits.
fn decide(
    host: &mut Host,
    view: &Snapshot,
    tenants: &[TenantContext],
    packing: Packing,
    step: &Step,
) -> Result<Option<Txn>, TestCaseError> {
    let (who, asks, number, commits) = match step {
        Step::Place(who, asks, number, commits) => {
            (&tenants[*who], asks.iter().map(asked).collect::<Vec<_>>(), *number, *commits)
        }
        Step::Move(who, nth, commits) => {
            let runs = host.runs(&tenants[*who]);
            if runs.is_empty() {
                return Ok(None);
            }
            let (one, from) = &runs[nth % runs.len()];
            let mut txn = Txn::new();
            let who = &tenants[*who];
            host.world.tenants.stage_unplace(view, &mut txn, who, [(one, from)]).unwrap();
            let asks = [workload(one.as_str(), 2)];
            let staged = both(host, view, &txn, who, &asks, &policy(9, packing))?;
            return Ok(staged.filter(|_| *commits));
        }
        _ => return Ok(None),
    };
    let staged = both(host, view, &Txn::new(), who, &asks, &policy(number, packing))?;
    Ok(staged.filter(|_| commits))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    /// After anything at all, committed or not, told or not, the answer and all that is staged are those of the engine
    /// that looks at every node.
    #[test]
    fn the_index_that_follows_answers_as_a_look_at_every_node(
        packed in any::<bool>(),
        steps in prop::collection::vec((step(), 0u8..7), 1..40),
    ) {
        let packing = if packed { Packing::BinPack } else { Packing::Spread };
        let mut host = Host::new(packing);
        let tenants = ["acme", "bank", "shop"].map(|name| host.tenant(name, IsolationLevel::Soft));
        for number in 0..3 {
            host.add(node(number, 4)).unwrap();
        }
        let mut lagging = host.world.view();
        for (step, how) in &steps {
            change(&mut host, &tenants, packing, step);
            // Most often the view is the mirror's; else a newer one of which the index has not heard, or an older one.
            host.follow(true);
            let view = host.world.view();
            let decided_on = if *how == 0 { &lagging } else { &view };
            let runs_as_seen = *how != 0 || !matches!(step, Step::Move(..));
            let staged = if runs_as_seen { decide(&mut host, decided_on, &tenants, packing, step)? } else { None };
            if let Some(txn) = staged {
                // On an older view, what it rested on may be gone: then nothing happens.
                let committed = block_on(host.world.store.commit(&txn));
                prop_assert!(committed.is_ok() || *how == 0);
            }
            if *how == 1 {
                // Another who places, of whom the index hears only with the next change.
                let (view, mut txn) = (host.world.view(), Txn::new());
                let other = [workload("other", 1)];
                let policy = policy(9, packing);
                if host.world.tenants.stage_place_by(&view, &mut txn, &tenants[0], &other, &policy).is_ok() {
                    block_on(host.world.store.commit(&txn)).unwrap();
                }
                let view = host.world.view();
                both(&mut host, &view, &Txn::new(), &tenants[1], &[workload("more", 1)], &policy)?;
            }
            if *how == 2 {
                lagging = host.world.view();
            }
        }
    }

    /// Several hosts, each with an index of its own that hears of things late, decide and commit in any order: no node
    /// is overfull, and nothing runs twice.
    #[test]
    fn hosts_that_race_never_overfill(steps in prop::collection::vec((0usize..3, 0u8..3, 0u64..6), 1..40)) {
        let mut host = Host::new(Packing::Spread);
        host.add(node(0, 3)).unwrap();
        host.add(node(1, 2)).unwrap();
        let acme = host.tenant("acme", IsolationLevel::Soft);
        let store = || Arc::new(host.world.store.clone()) as Arc<dyn StateStore>;
        let mut hosts: Vec<_> = (0..3)
            .map(|_| (block_on(Mirror::open(store(), Prefix::ROOT)).unwrap(), ClusterMirror::new(Packing::Spread, SEED)))
            .collect();
        let mut open: Vec<Option<(Txn, Placement)>> = vec![None; 3];
        let mut runs = Placement::new();
        for (who, what, name) in steps {
            let ((mirror, feed), cluster) = &mut hosts[who];
            match what {
                0 => {
                    let newest = block_on(host.world.store.revision()).unwrap();
                    while mirror.view().revision() < newest {
                        cluster.note(&block_on(feed.advance()).unwrap());
                    }
                }
                1 => {
                    let (asks, mut txn) = ([workload(&format!("w{name}"), 1 + name % 2)], Txn::new());
                    let (view, policy) = (mirror.view(), PlacementPolicy::default());
                    let placed = host.world.tenants.stage_place_with(cluster, &view, &mut txn, &acme, &asks, &policy);
                    open[who] = placed.ok().map(|placed| (txn, placed));
                }
                _ => {
                    if let Some((txn, placed)) = open[who].take() && block_on(host.world.store.commit(&txn)).is_ok() {
                        for (id, node) in placed {
                            prop_assert!(runs.insert(id, node).is_none(), "it runs twice");
                        }
                    }
                }
            }
            for (node, running) in host.world.tenants.nodes(&host.world.view(), &Txn::new()).unwrap() {
                prop_assert!(running.used.fits_in(&node.capacity));
            }
            prop_assert_eq!(host.runs(&acme).into_iter().collect::<Placement>(), runs.clone());
        }
    }
}

#[test]
fn an_index_that_was_kept_in_the_dark_begins_anew_and_places_nothing_wrongly() {
    let mut host = Host::new(Packing::Spread);
    host.add(node(0, 4)).unwrap();
    host.add(node(1, 4)).unwrap();
    let acme = host.tenant("acme", IsolationLevel::Soft);
    let view = host.world.view();
    host.place(&view, &acme, &[]).unwrap();
    // It knows two nodes that have room. Both are cordoned, and it hears that something happened, and not what.
    host.set(0, NodeState::Cordoned);
    host.set(1, NodeState::Cordoned);
    let view = host.world.view();
    host.cluster.note(&MirrorChange::Applied(WatchBatch::new(view.revision(), Vec::new())));
    let stale = host.place(&view, &acme, &[workload("c", 1)]).unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Conflict);
    assert_eq!(stale.detail::<StaleNode>().unwrap().reason, Rejection::NotReady);
    // To decide again is enough.
    assert_eq!(host.place(&view, &acme, &[workload("c", 1)]).unwrap_err().kind(), ErrorKind::Exhausted);
}

/// What went from one node and came to another is still on the first for whoever heard of the second alone.
#[test]
fn an_index_that_contradicts_the_store_begins_anew() {
    let mut host = Host::new(Packing::Spread);
    host.add(node(0, 2)).unwrap();
    host.add(node(1, 2)).unwrap();
    let acme = host.tenant("acme", IsolationLevel::Soft);
    let put = |host: &Host, at: usize| {
        let to = [(workload("a", 2), id(at))];
        host.world.commit(|view, txn| host.world.tenants.stage_assign(view, txn, &acme, &to)).unwrap();
    };
    let gone = |host: &Host, from: usize| {
        let (one, from) = ("a".parse().unwrap(), id(from));
        let leave = |view: &Snapshot, txn: &mut Txn| {
            host.world.tenants.stage_unplace(view, txn, &acme, [(&one, &from)])
        };
        host.world.commit(leave).unwrap();
    };
    put(&host, 0);
    let view = host.world.view();
    host.place(&view, &acme, &[]).unwrap();
    gone(&host, 0);
    host.follow(false);
    // It thinks that the workload runs, and the store does not.
    let view = host.world.view();
    host.cluster.note(&MirrorChange::Applied(WatchBatch::new(view.revision(), Vec::new())));
    assert_eq!(host.place(&view, &acme, &[workload("a", 2)]).unwrap_err().kind(), ErrorKind::Conflict);
    host.place(&view, &acme, &[workload("a", 2)]).unwrap();
    // It thinks that the workload is on one node, and hears that it is on another.
    put(&host, 0);
    host.follow(true);
    let view = host.world.view();
    host.place(&view, &acme, &[]).unwrap();
    gone(&host, 0);
    host.follow(false);
    put(&host, 1);
    host.follow(true);
    let view = host.world.view();
    let (_, placed) = host.place(&view, &acme, &[workload("b", 2)]).unwrap();
    assert_eq!(placed.values().next(), Some(&id(0)));
}

#[test]
fn a_decision_that_somebody_was_faster_than_conflicts_and_is_decided_again() {
    let mut host = Host::new(Packing::Spread);
    host.add(node(0, 1)).unwrap();
    host.add(node(1, 1)).unwrap();
    let acme = host.tenant("acme", IsolationLevel::Soft);
    host.follow(true);
    let view = host.world.view();
    let (txn, placed) = host.place(&view, &acme, &[workload("a", 1)]).unwrap();
    // Somebody else takes the very node.
    let taken = [(workload("b", 1), placed.values().next().unwrap().clone())];
    host.world.commit(|view, txn| host.world.tenants.stage_assign(view, txn, &acme, &taken)).unwrap();
    assert_eq!(block_on(host.world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
    host.follow(true);
    let view = host.world.view();
    let (txn, again) = host.place(&view, &acme, &[workload("a", 1)]).unwrap();
    assert_ne!(again, placed);
    block_on(host.world.store.commit(&txn)).unwrap();
}

#[test]
fn a_level_that_is_raised_beside_it_is_a_conflict() {
    let mut host = Host::new(Packing::BinPack);
    host.add(node(0, 4)).unwrap();
    let (acme, other) =
        (host.tenant("acme", IsolationLevel::Soft), host.tenant("other", IsolationLevel::Soft));
    let view = host.world.view();
    let (txn, _) = host.place(&view, &acme, &[workload("a", 1)]).unwrap();
    block_on(host.world.store.commit(&txn)).unwrap();
    host.follow(true);
    let view = host.world.view();
    let (txn, _) = host.place(&view, &other, &[workload("b", 1)]).unwrap();
    let up = TenantUpdate::isolation(IsolationLevel::Hard);
    block_on(host.world.tenants.update(&admin("up"), &acme.tenant().id, up)).unwrap();
    assert_eq!(block_on(host.world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
    host.follow(true);
    let view = host.world.view();
    let refused = host.place(&view, &other, &[workload("b", 1)]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
}
