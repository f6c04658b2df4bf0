//! The index against the engine that looks at everything.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use hivemind_core::Generation;
use hivemind_core::labels::Labels;
use hivemind_core::resources::{ByteSize, MilliCpu};
use proptest::prelude::*;

use super::*;
use crate::placement::scores::STEP;
use crate::placement::{
    AffinityTerm, BlastRadius, DomainShare, NodeAllocations, NodeInclusion, NodeSelectorTerm, NodeState,
    Opinion, Taint, TaintEffect, Tolerated, Toleration, Topology, TopologySpread, WorkloadAffinity,
    WorkloadRequest, place,
};

fn tenant(number: usize) -> TenantRef {
    let generation = Generation::from_u64(u64::try_from(number).unwrap() + 1);
    TenantRef::new(format!("t{number}").parse().unwrap(), generation)
}

fn labels(app: u8, more: u8) -> Labels {
    let labels = Labels::new().with("app", &format!("a{}", app % 3)).unwrap();
    if more.is_multiple_of(2) { labels.with("tier", "web").unwrap() } else { labels }
}

fn zone() -> Topology {
    Topology::Label("zone".parse().unwrap())
}

fn size(cpu: u64, mib: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_millis(cpu)).with_memory(ByteSize::from_mib(mib))
}

/// A node: of two capacities, in one of three zones or none, with a GPU or none, tainted or not.
fn node() -> impl Strategy<Value = Node> {
    (0usize..8, any::<bool>(), 0u8..4, 0u8..3, 0u8..6, (0u8..6, 0usize..12, 0usize..24)).prop_map(
        |(id, large, zone, gpus, taint, (state, owner, marked))| {
            let capacity = if large { size(4000, 4096) } else { size(2000, 4096) };
            let capacity = capacity.with("gpu".parse().unwrap(), u64::from(gpus));
            let mut labels = Labels::new().with("size", if large { "8" } else { "4" }).unwrap();
            if zone < 3 {
                labels = labels.with("zone", &format!("z{zone}")).unwrap();
            }
            if owner < 3 {
                labels = labels.with(crate::isolation::DEDICATED_KEY, &mark(&tenant(owner))).unwrap();
            }
            let mut node = Node::new(format!("n{id}").parse().unwrap(), capacity).with_labels(labels);
            let effects = [TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule, TaintEffect::NoExecute];
            if let Some(effect) = effects.get(usize::from(taint)) {
                node.taints.push(Taint::new("t".parse().unwrap(), "".parse().unwrap(), *effect));
            }
            if marked < 9 {
                let value = mark(&tenant(marked % 3)).parse().unwrap();
                let key = crate::isolation::DEDICATED_KEY.parse().unwrap();
                node.taints.push(Taint::new(key, value, effects[marked / 3]));
            }
            node.state = match state {
                0 => NodeState::Failed,
                1 => NodeState::Cordoned,
                _ => NodeState::Ready,
            };
            node
        },
    )
}

fn affinity(kind: u8, app: u8, node: bool) -> WorkloadAffinity {
    let topology = if node { Topology::Node } else { zone() };
    let term = || AffinityTerm::new(format!("app=a{}", app % 3).parse().unwrap(), topology.clone());
    let wish = || vec![crate::placement::Weighted::new(if node { 30 } else { 80 }, term())];
    let mut affinity = WorkloadAffinity::default();
    match kind {
        0 => affinity.required.push(term()),
        1 | 2 => affinity.anti_required.push(term()),
        3 => affinity.preferred = wish(),
        4 => affinity.anti_preferred = wish(),
        5 => affinity.required = vec![term(), AffinityTerm::new("tier".parse().unwrap(), zone())],
        6 => {
            affinity.preferred = wish();
            affinity.anti_preferred = vec![crate::placement::Weighted::new(
                200,
                AffinityTerm::new("tier".parse().unwrap(), zone()),
            )];
        }
        _ => {}
    }
    affinity
}

fn policy(honor: bool) -> NodeInclusion {
    if honor { NodeInclusion::Honor } else { NodeInclusion::Ignore }
}

fn workload() -> impl Strategy<Value = WorkloadRequest> {
    let rules = (0u8..10, 0u8..3, any::<bool>(), 0u8..8, 1u32..3, 0u8..8);
    let shape = (0u8..10, any::<bool>(), 0u8..4, 0u8..16);
    ((1u64..16, 1u64..16, 0u8..6), (0u8..3, 0u8..2, 0u64..2, 0u8..4), rules, shape).prop_map(
        |(size_of, kind, rules, shape)| {
            let (cpu, memory, gpu) = size_of;
            let mut resources = size(cpu * 100, memory * 128);
            if gpu == 0 {
                resources = resources.with("gpu".parse().unwrap(), 1);
            }
            let mut asks = WorkloadRequest::new("w".parse().unwrap(), resources)
                .with_labels(labels(kind.0, kind.1))
                .with_generation(kind.2);
            asks.affinity = affinity(rules.0, rules.1, rules.2);
            let spread =
                TopologySpread::new(if rules.2 { zone() } else { Topology::Node }, "tier".parse().unwrap())
                    .with_max_skew(NonZeroU32::new(rules.4).unwrap())
                    .with_node_affinity(policy(kind.3 & 1 == 0))
                    .with_node_taints(policy(kind.3 & 2 == 0));
            match rules.3 {
                0 => asks.spread.push(spread),
                1 => asks.spread.push(spread.schedule_anyway()),
                2 => asks.spread.push(spread.with_min_domains(NonZeroU32::new(3).unwrap())),
                _ => {}
            }
            if rules.5 < 2 {
                asks.spread_key = Some(format!("k{}", rules.5));
            }
            asks.selector = ["size=8", "zone in (z0,z1)", "size>4,zone"]
                .get(usize::from(shape.0))
                .map_or_else(Default::default, |text| text.parse().unwrap());
            if shape.1 {
                asks.tolerations.push(Toleration::new(Tolerated::Exists("t".parse().unwrap())));
            }
            match shape.3 {
                0 => asks.node_affinity = asks.node_affinity.on_node("n1".parse().unwrap()),
                1 => {
                    asks.node_affinity =
                        asks.node_affinity.on_node("n0".parse().unwrap()).on_node("n3".parse().unwrap())
                }
                2 => asks.node_affinity = asks.node_affinity.not_on_node("n2".parse().unwrap()),
                _ => {}
            }
            match shape.2 {
                0 if shape.3 > 7 => {
                    let named = |text: &str| NodeSelectorTerm::new(text.parse().unwrap());
                    let term = named("zone").on_node("n1".parse().unwrap()).on_node("n4".parse().unwrap());
                    let other = named("size=8").not_on_node("n5".parse().unwrap());
                    asks.node_affinity = asks.node_affinity.require_term(term).require_term(other);
                    let wish = NodeSelectorTerm::default().not_on_node("n6".parse().unwrap());
                    asks.node_affinity = asks.node_affinity.prefer_term(20, wish);
                }
                0 => asks.node_affinity = asks.node_affinity.prefer(70, "zone=z0".parse().unwrap()),
                1 => {
                    asks.node_affinity = asks
                        .node_affinity
                        .require("zone=z1".parse().unwrap())
                        .require("size=8".parse().unwrap())
                }
                _ => {}
            }
            asks
        },
    )
}

#[derive(Debug, Clone)]
enum Step {
    Node(Node),
    Remove(usize),
    Place {
        tenant: usize,
        isolated: bool,
        radius: Option<u8>,
        share: Option<u8>,
        workload: Box<WorkloadRequest>,
    },
    Leave(usize),
    Terminate(usize),
    /// A tenant becomes isolated, or no longer.
    Isolate(usize, bool),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    let percent = || prop::option::weighted(0.2, 20u8..80);
    let place = (0usize..3, 0u8..4, percent(), percent(), workload());
    prop_oneof![
        3 => node().prop_map(Step::Node),
        1 => (0usize..8).prop_map(Step::Remove),
        10 => place.prop_map(|(tenant, isolated, radius, share, workload)| Step::Place {
            tenant, isolated: isolated == 0, radius, share, workload: Box::new(workload),
        }),
        3 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::Terminate),
        1 => (0usize..3, any::<bool>()).prop_map(|(tenant, isolated)| Step::Isolate(tenant, isolated)),
        1 => Just(Step::Forget),
    ]
}

/// The same cluster twice.
struct Both {
    index: ClusterIndex,
    model: BTreeMap<NodeId, (Node, NodeAllocations)>,
    running: Vec<(TenantRef, WorkloadId, NodeId)>,
    number: usize,
    isolated: BTreeSet<TenantRef>,
}

impl Both {
    /// Whose a node is that is not `owner`'s any more.
    fn disowned(&self, running: &NodeAllocations, owner: &TenantRef) -> Option<TenantRef> {
        let others = running.workloads.keys().filter(|one| *one != owner && self.isolated.contains(*one));
        others.min_by_key(|one| self.index.tenant_index.get(*one)).cloned()
    }

    fn node(&mut self, node: Node) {
        match self.model.get_mut(&node.id) {
            Some((old, _)) => {
                *old = node.clone();
                self.index.update_node(node).unwrap();
            }
            None => {
                self.model.insert(node.id.clone(), (node.clone(), NodeAllocations::default()));
                self.index.add_node(node).unwrap();
            }
        }
    }

    fn place(
        &mut self,
        tenant: &TenantRef,
        isolated: bool,
        (radius, share): (Option<u8>, Option<u8>),
        mut asks: WorkloadRequest,
    ) -> Result<(), TestCaseError> {
        self.number += 1;
        asks.id = format!("w{}", self.number).parse().unwrap();
        let radius = radius.map(|percent| BlastRadius::new(zone(), percent));
        let batch = [asks];
        let mut request = PlacementRequest::new(tenant, isolated, &batch)
            .with_seed(self.index.seed)
            .packing(self.index.packing);
        request.policy.blast_radius = radius;
        request.policy.domain_share = share.map(|percent| DomainShare::new(zone(), percent));
        // What the host thinks, now and then: nothing of one node, and little of some.
        let opinion = |node: &Node| match node.id.as_str() {
            "n3" => None,
            "n1" | "n4" => Some(STEP / 2),
            _ => Some(0),
        };
        request.opinion = self.number.is_multiple_of(4).then(|| Opinion::new(&opinion));
        request.policy.hard_affinity_weight = [1, 60, 0][self.number % 3];
        let nodes: Vec<_> = self.model.values().map(|(node, running)| (node, running)).collect();
        let expected = place(&request, &nodes);
        let workload = &batch[0];
        let found = self.index.place(request.ask(workload));
        match (expected, found) {
            (Ok(expected), Ok(found)) => {
                prop_assert_eq!(&expected[&workload.id], &found);
                let (_, running) = self.model.get_mut(&found).unwrap();
                running.add(tenant, &workload.id, workload.placed(), isolated).unwrap();
                self.running.push((tenant.clone(), workload.id.clone(), found));
            }
            (Err(expected), Err(found)) => {
                prop_assert_eq!(found.detail::<Unplaceable>(), Some(&expected));
            }
            (expected, found) => prop_assert!(false, "{expected:?}, but the index says {found:?}"),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever comes, goes and changes: the index finds the very node that a look at everything finds, and gives the
    /// very reasons.
    #[test]
    fn finds_what_a_look_at_everything_finds(
        nodes in prop::collection::vec(node(), 1..8),
        steps in prop::collection::vec(step(), 1..60),
        pack in any::<bool>(),
        seed in 0u64..4,
    ) {
        let packing = if pack { Packing::BinPack } else { Packing::Spread };
        let index = ClusterIndex::new(packing, seed);
        let mut both = Both { index, model: BTreeMap::new(), running: Vec::new(), number: 0, isolated: BTreeSet::new() };
        nodes.into_iter().for_each(|node| both.node(node));
        for step in steps {
            match step {
                Step::Node(node) => both.node(node),
                Step::Remove(number) => {
                    let id: NodeId = format!("n{number}").parse().unwrap();
                    if both.model.remove(&id).is_some() {
                        let gone = both.index.remove_node(&id).unwrap();
                        let expected = both.running.iter().filter(|one| one.2 == id).count();
                        prop_assert_eq!(gone.len(), expected);
                        both.running.retain(|one| one.2 != id);
                    }
                }
                Step::Place { tenant: number, isolated, radius, share, workload } => {
                    // A level belongs to the tenant; now and then it changes.
                    both.place(&tenant(number), isolated && number == 0, (radius, share), *workload)?;
                }
                Step::Leave(which) if !both.running.is_empty() => {
                    let (tenant, id, node) = both.running.swap_remove(which % both.running.len());
                    prop_assert_eq!(&both.index.unassign(&tenant, &id).unwrap(), &node);
                    let (_, mut here) = both.model[&node].clone();
                    let owned = here.dedicated_to.as_ref() == Some(&tenant);
                    here.remove(&tenant, &id).unwrap();
                    if owned && here.dedicated_to.is_none() {
                        here.dedicated_to = both.disowned(&here, &tenant);
                    }
                    both.model.get_mut(&node).unwrap().1 = here;
                }
                Step::Terminate(which) if !both.running.is_empty() => {
                    let (tenant, id, node) = &both.running[which % both.running.len()];
                    both.index.terminate(tenant, id).unwrap();
                    let (_, running) = both.model.get_mut(node).unwrap();
                    running.workloads.get_mut(tenant).unwrap().get_mut(id).unwrap().terminating = true;
                }
                Step::Isolate(number, isolated) => {
                    let tenant = tenant(number);
                    both.index.set_isolated(&tenant, isolated);
                    match isolated {
                        true => both.isolated.insert(tenant.clone()),
                        false => both.isolated.remove(&tenant),
                    };
                    let mut model = both.model.clone();
                    for (_, running) in model.values_mut() {
                        if running.workloads.contains_key(&tenant) {
                            if isolated {
                                running.dedicated_to = Some(tenant.clone());
                            } else if running.dedicated_to.as_ref() == Some(&tenant) {
                                running.dedicated_to = both.disowned(running, &tenant);
                            }
                        }
                    }
                    both.model = model;
                }
                Step::Forget => both.index.forget(),
                Step::Leave(_) | Step::Terminate(_) => {}
            }
        }
    }

    /// An index made from what is there answers as one that saw it come.
    #[test]
    fn made_anew_it_answers_the_same(
        nodes in prop::collection::vec(node(), 1..8),
        workloads in prop::collection::vec((0usize..3, workload()), 1..30),
        last in workload(),
    ) {
        let index = ClusterIndex::new(Packing::Spread, 1);
        let mut both = Both { index, model: BTreeMap::new(), running: Vec::new(), number: 0, isolated: BTreeSet::new() };
        nodes.into_iter().for_each(|node| both.node(node));
        for (number, workload) in workloads {
            both.place(&tenant(number), number == 0, (None, Some(60)), workload)?;
        }
        let pairs: Vec<_> = both.model.values().map(|(node, running)| (node, running)).collect();
        let mut anew = ClusterIndex::of(Packing::Spread, 1, &pairs).unwrap();
        for number in 0..3 {
            let tenant = tenant(number);
            let (old, new) = (both.index.find(Ask::new(&tenant, &last)), anew.find(Ask::new(&tenant, &last)));
            prop_assert_eq!(old.ok(), new.ok());
        }
    }
}

/// A cluster that runs for years sees any number of rollouts, selectors and sizes of nodes.
#[test]
fn it_keeps_what_runs_and_not_what_ever_ran() {
    let mut index = ClusterIndex::new(Packing::Spread, 1);
    index.add_node(Node::new("n1".parse().unwrap(), size(2000, 4096))).unwrap();
    let acme = tenant(0);
    for rollout in 0..6000 {
        let spread = TopologySpread::new(Topology::Node, "app".parse().unwrap());
        let asks = WorkloadRequest::new("w".parse().unwrap(), size(1000, 64))
            .with_labels(labels(0, 0))
            .with_spread(spread)
            .with_generation(rollout)
            .on(format!("zone!=z{}", rollout % 1500).parse().unwrap());
        index.place(Ask::new(&acme, &asks)).unwrap();
        index.update_node(Node::new("n1".parse().unwrap(), size(2000, 4096 + rollout))).unwrap();
        index.unassign(&acme, &asks.id).unwrap();
    }
    assert!(index.counters.len() < 6000, "{} groups and rules", index.counters.len());
    assert!(index.shapes.len() < 1500, "{} shapes", index.shapes.len());
    assert!(index.classes.len() < 100, "{} classes", index.classes.len());
}

#[test]
fn a_batch_is_placed_whole_or_not_at_all() {
    let mut index = ClusterIndex::new(Packing::Spread, 1);
    index.add_node(Node::new("n1".parse().unwrap(), size(2000, 4096))).unwrap();
    let asks = |count: usize| -> Vec<_> {
        (0..count).map(|n| WorkloadRequest::new(format!("w{n}").parse().unwrap(), size(1000, 64))).collect()
    };
    let (acme, three, two) = (tenant(0), asks(3), asks(2));
    let error = index.place_all(&PlacementRequest::new(&acme, false, &three)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(index.running(&"n1".parse().unwrap()).unwrap().is_empty());
    assert_eq!(index.place_all(&PlacementRequest::new(&acme, false, &two)).unwrap().len(), 2);
    assert_eq!(index.place(Ask::new(&acme, &two[0])).unwrap_err().kind(), ErrorKind::Exhausted);
}

/// Two that were beside each other became isolated: when one is no longer, the node is still the other's.
#[test]
fn a_node_of_two_isolated_tenants_is_not_open_when_one_of_them_is_no_longer() {
    let mut index = ClusterIndex::new(Packing::Spread, 1);
    index.add_node(Node::new("n1".parse().unwrap(), size(4000, 4096))).unwrap();
    let ask = |name: &str| WorkloadRequest::new(name.parse().unwrap(), size(100, 64));
    let all = [tenant(0), tenant(1), tenant(2)];
    for one in &all[..2] {
        index.place(Ask::new(one, &ask("w"))).unwrap();
    }
    all[..2].iter().for_each(|one| index.set_isolated(one, true));
    index.set_isolated(&all[1], false);
    assert!(index.find(Ask::new(&all[2], &ask("x"))).is_err());
    index.set_isolated(&all[1], true);
    index.unassign(&all[1], &"w".parse().unwrap()).unwrap();
    assert!(index.find(Ask::new(&all[2], &ask("x"))).is_err());
    index.set_isolated(&all[0], false);
    assert!(index.find(Ask::new(&all[2], &ask("x"))).is_ok());
}

/// What runs, by node and whose it is; with who has the node to himself, by the records.
fn records(all: &[(&str, &[usize], Option<usize>)]) -> Vec<(Node, NodeAllocations)> {
    let of = |(name, tenants, owner): &(&str, &[usize], Option<usize>)| {
        let node = Node::new(name.parse().unwrap(), size(4000, 4096));
        let mut running = NodeAllocations::default();
        for number in *tenants {
            let id = format!("{name}-{number}").parse().unwrap();
            running.add(&tenant(*number), &id, PlacedWorkload::new(size(100, 64)), false).unwrap();
        }
        running.dedicated_to = owner.map(tenant);
        (node, running)
    };
    all.iter().map(of).collect()
}

/// Of two that have nodes to themselves and share one, records name one only: what they say of other nodes tells the rest.
#[test]
fn made_from_records_it_knows_everybody_who_has_a_node_to_himself() {
    let all = records(&[
        ("n1", &[0], Some(0)),
        ("n2", &[0, 1], Some(1)),
        ("n3", &[0, 2], None),
        ("n4", &[], Some(2)),
    ]);
    let pairs: Vec<_> = all.iter().map(|(node, running)| (node, running)).collect();
    let mut index = ClusterIndex::of(Packing::Spread, 1, &pairs).unwrap();
    let ask = |node: &str| {
        WorkloadRequest::new("x".parse().unwrap(), size(100, 64))
            .with_node_affinity(crate::placement::NodeAffinity::default().on_node(node.parse().unwrap()))
    };
    let may =
        |index: &mut ClusterIndex, number, node| index.find(Ask::new(&tenant(number), &ask(node))).is_ok();
    // By node, who may come there.
    let open = |index: &mut ClusterIndex| {
        ["n1", "n2", "n3", "n4"].map(|node| [0, 1, 2, 3].map(|number| may(index, number, node)))
    };
    let first = [true, false, false, false];
    let (second, third) = ([false, true, false, false], [false, false, true, false]);
    assert_eq!(open(&mut index), [first, second, first, third]);
    index.unassign(&tenant(1), &"n2-1".parse().unwrap()).unwrap();
    assert_eq!(open(&mut index), [first, first, first, third]);
    index.set_isolated(&tenant(2), false);
    assert_eq!(open(&mut index), [first, first, first, [true; 4]]);
    index.set_isolated(&tenant(0), false);
    assert_eq!(open(&mut index), [[true; 4]; 4]);
}
