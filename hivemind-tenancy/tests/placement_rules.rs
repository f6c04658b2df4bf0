//! Labels, taints, affinity, spread and blast radius, by Kubernetes' tables.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use hivemind_core::labels::{Labels, Selector};
use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::{Generation, NodeId, TenantRef, WorkloadId};
use hivemind_tenancy::placement::{
    AffinityTerm, Ask, BlastRadius, Cluster, Engine, Exclusion, Filter, Load, NodeAffinity, NodeAllocations,
    PlacedWorkload, PlacementPolicy, Rejection, Score, Seat, Taint, TaintEffect, Tolerated, Toleration,
    Topology, TopologySpread, WorkloadAffinity, WorkloadRequest,
};
use hivemind_tenancy::placement::{NodeInclusion, NodeState};
use hivemind_tenancy::{Node, PlacementRequest, place};

#[path = "placement_rules/host.rs"]
mod host;
#[path = "placement_rules/terms.rs"]
mod terms;

fn acme() -> TenantRef {
    TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1))
}

fn labels(text: &str) -> Labels {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap();
        (key.parse().unwrap(), value.parse().unwrap())
    };
    text.split(',').filter(|text| !text.is_empty()).map(pair).collect()
}

fn selector(text: &str) -> Selector {
    text.parse().unwrap()
}

fn cores(n: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_cores(n))
}

fn workload(name: &str) -> WorkloadRequest {
    WorkloadRequest::new(name.parse().unwrap(), cores(1))
}

/// Nodes of 8 cores by name and labels, with workloads of acme by name and labels.
struct World(Vec<(Node, NodeAllocations)>);

impl World {
    fn new(nodes: &[(&str, &str)]) -> Self {
        let node = |(name, text): &(&str, &str)| {
            let node = Node::new(name.parse().unwrap(), cores(8)).with_labels(labels(text));
            (node, NodeAllocations::default())
        };
        Self(nodes.iter().map(node).collect())
    }

    fn running(mut self, node: &str, name: &str, change: impl FnOnce(&mut PlacedWorkload)) -> Self {
        let mut placed = PlacedWorkload::new(cores(1));
        change(&mut placed);
        let (_, running) = self.0.iter_mut().find(|(at, _)| at.id.as_str() == node).unwrap();
        running.used = running.used.checked_add(&placed.resources).unwrap();
        running.workloads.entry(acme()).or_default().insert(name.parse().unwrap(), placed);
        self
    }

    fn labelled(self, node: &str, name: &str, text: &str) -> Self {
        self.running(node, name, |placed| placed.labels = labels(text))
    }

    fn pairs(&self) -> Vec<(&Node, &NodeAllocations)> {
        self.0.iter().map(|(node, running)| (node, running)).collect()
    }

    /// The nodes that can take it, by name.
    fn possible(&self, workload: &WorkloadRequest) -> Vec<String> {
        let all = Engine::default().explain(Ask::new(&acme(), workload), &self.pairs());
        all.into_iter().filter(|(_, why)| why.is_empty()).map(|(node, _)| node.to_string()).collect()
    }

    /// Where each goes, or the reasons why the first does not.
    fn place(&self, workloads: &[WorkloadRequest]) -> Result<Vec<String>, BTreeMap<Rejection, usize>> {
        let placed = place(&PlacementRequest::new(&acme(), false, workloads), &self.pairs());
        let at =
            |placed: BTreeMap<_, _>| workloads.iter().map(|one| format!("{}", placed[&one.id])).collect();
        placed.map(at).map_err(|e| e.workloads[0].rejected.clone())
    }
}

#[test]
fn required_node_affinity_is_any_of_terms_and_an_empty_term_matches_nothing() {
    let world = World::new(&[("n1", "zone=a,cpus=4"), ("n2", "zone=b,cpus=16"), ("n3", "")]);
    let terms = |terms: &[&str]| {
        let affinity = terms.iter().fold(NodeAffinity::default(), |all, term| all.require(selector(term)));
        workload("w").with_node_affinity(affinity)
    };
    for (case, terms, expected) in [
        ("one term", terms(&["zone in (a,c)"]), vec!["n1"]),
        ("terms are ORed", terms(&["zone=a", "cpus>8"]), vec!["n1", "n2"]),
        ("expressions are ANDed", terms(&["zone=a,cpus>8"]), vec![]),
        ("an empty term matches nothing", terms(&[""]), vec![]),
        ("beside another it changes nothing", terms(&["", "zone=b"]), vec!["n2"]),
        ("not in, also without the label", terms(&["zone notin (a)"]), vec!["n2", "n3"]),
        ("does not exist", terms(&["!zone"]), vec!["n3"]),
        ("less than", terms(&["cpus<16"]), vec!["n1"]),
    ] {
        assert_eq!(world.possible(&terms), expected, "{case}");
    }
    let mut none = workload("w");
    none.node_affinity.required = Some(Vec::new());
    assert!(world.possible(&none).is_empty());
    let both = terms(&["zone=a"]).on(selector("cpus=16"));
    assert!(world.possible(&both).is_empty(), "selector and affinity must both match");
}

#[test]
fn preferred_terms_outweigh_load_by_their_weight() {
    let world = World::new(&[("n1", "disk=hdd"), ("n2", "disk=ssd"), ("n3", "disk=ssd,zone=a")]);
    let world = (0..4).fold(world, |world, n| world.labelled("n3", &format!("x{n}"), ""));
    let prefer = |wishes: &[(u8, &str)]| {
        let affinity =
            wishes.iter().fold(NodeAffinity::default(), |all, (by, term)| all.prefer(*by, selector(term)));
        world.place(&[workload("w").with_node_affinity(affinity)]).unwrap()
    };
    assert_eq!(prefer(&[]), ["n1"]);
    assert_eq!(prefer(&[(100, "disk=ssd")]), ["n2"]);
    assert_eq!(prefer(&[(100, "disk=ssd"), (100, "zone=a")]), ["n3"]);
    assert_eq!(prefer(&[(1, "zone=a")]), ["n1"], "a small wish does not outweigh a node that is half full");
    assert_eq!(prefer(&[(100, "")]), ["n1"], "an empty term is no wish");
}

#[test]
fn taints_keep_workloads_away_unless_tolerated() {
    let taint = |effect| Taint::new("gpu".parse().unwrap(), "yes".parse().unwrap(), effect);
    let mut world = World::new(&[("n1", ""), ("n2", ""), ("n3", ""), ("n4", "")]);
    for (at, effect) in
        [(0, TaintEffect::NoSchedule), (1, TaintEffect::NoExecute), (2, TaintEffect::PreferNoSchedule)]
    {
        world.0[at].0.taints.push(taint(effect));
    }
    assert_eq!(world.possible(&workload("w")), ["n3", "n4"]);
    assert_eq!(world.place(&[workload("w")]).unwrap(), ["n4"], "the mild taint is avoided");
    let tolerates = workload("w").tolerating(Toleration::new(Tolerated::Everything));
    assert_eq!(world.possible(&tolerates), ["n1", "n2", "n3", "n4"]);

    let world = world.labelled("n2", "stays", "").labelled("n2", "goes", "");
    let mut running = world.0[1].1.clone();
    let theirs = running.workloads.get_mut(&acme()).unwrap();
    let placed = theirs.get_mut(&WorkloadId::new("stays").unwrap()).unwrap();
    placed.tolerations.push(Toleration::new(Tolerated::Exists("gpu".parse().unwrap())));
    assert_eq!(running.evicted_by(&world.0[1].0.taints), [(acme(), "goes".parse().unwrap())]);
    assert!(running.evicted_by(&world.0[0].0.taints).is_empty(), "NoSchedule lets run what runs");
}

fn zone() -> Topology {
    Topology::Label("zone".parse().unwrap())
}

fn term(text: &str, topology: Topology) -> AffinityTerm {
    AffinityTerm::new(selector(text), topology)
}

fn beside(terms: Vec<AffinityTerm>) -> WorkloadRequest {
    let mut affinity = WorkloadAffinity::default();
    affinity.required = terms;
    workload("w").with_affinity(affinity)
}

fn apart(terms: Vec<AffinityTerm>) -> WorkloadRequest {
    let mut affinity = WorkloadAffinity::default();
    affinity.anti_required = terms;
    workload("w").with_affinity(affinity)
}

const ZONES: [(&str, &str); 4] = [("a1", "zone=a"), ("a2", "zone=a"), ("b1", "zone=b"), ("x", "")];

#[test]
fn affinity_needs_a_workload_that_matches_every_term_in_the_same_place() {
    let world = World::new(&ZONES).labelled("a1", "db", "app=db").labelled("b1", "cache", "app=cache,tier=x");
    for (case, asks, expected) in [
        ("same zone", beside(vec![term("app=db", zone())]), vec!["a1", "a2"]),
        ("same node", beside(vec![term("app=db", Topology::Node)]), vec!["a1"]),
        ("every term, one workload", beside(vec![term("app", zone()), term("tier", zone())]), vec!["b1"]),
        ("nobody matches both", beside(vec![term("app=db", zone()), term("tier", zone())]), vec![]),
        ("nobody there", beside(vec![term("app=none", zone())]), vec![]),
    ] {
        assert_eq!(world.possible(&asks), expected, "{case}");
    }
    let first = beside(vec![term("app=new", zone())]).with_labels(labels("app=new"));
    assert_eq!(world.possible(&first), ["a1", "a2", "b1"], "the first of its kind, where there is a zone");
}

#[test]
fn anti_affinity_holds_in_both_directions() {
    let world = World::new(&ZONES).labelled("a1", "db", "app=db");
    assert_eq!(world.possible(&apart(vec![term("app=db", zone())])), ["b1", "x"]);
    assert_eq!(world.possible(&apart(vec![term("app=db", Topology::Node)])), ["a2", "b1", "x"]);
    // Who runs there already wants nobody like us beside it.
    let shy = World::new(&ZONES).running("a1", "shy", |placed| {
        placed.anti_affinity = vec![term("app=web", zone())];
    });
    assert_eq!(shy.possible(&workload("w").with_labels(labels("app=web"))), ["b1", "x"]);
    assert_eq!(shy.possible(&workload("w").with_labels(labels("app=db"))), ["a1", "a2", "b1", "x"]);
}

#[test]
fn another_tenants_workloads_are_neither_company_nor_in_the_way() {
    let mut world = World::new(&ZONES).labelled("a1", "db", "app=db");
    let theirs = world.0[0].1.workloads.remove(&acme()).unwrap();
    let other = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(2));
    world.0[0].1.workloads.insert(other, theirs);
    assert!(world.possible(&beside(vec![term("app=db", zone())])).is_empty());
    assert_eq!(world.possible(&apart(vec![term("app=db", zone())])), ["a1", "a2", "b1", "x"]);
}

#[test]
fn preferred_affinity_draws_and_repels() {
    let world = World::new(&ZONES).labelled("b1", "db", "app=db");
    let wish = |wanted: bool| {
        let wish = vec![hivemind_tenancy::placement::Weighted::new(50, term("app=db", zone()))];
        let mut affinity = WorkloadAffinity::default();
        *(if wanted { &mut affinity.preferred } else { &mut affinity.anti_preferred }) = wish;
        world.place(&[workload("w").with_affinity(affinity)]).unwrap()
    };
    assert_eq!((wish(true), wish(false)), (vec!["b1".to_owned()], vec!["a1".to_owned()]));
}

fn spread(text: &str) -> TopologySpread {
    TopologySpread::new(zone(), selector(text))
}

#[test]
fn spread_keeps_the_skew() {
    let world = World::new(&ZONES).labelled("a1", "w1", "app=w").labelled("a2", "w2", "app=w");
    let one = |spread| workload("w").with_labels(labels("app=w")).with_spread(spread);
    assert_eq!(world.possible(&one(spread("app=w"))), ["b1"]);
    let skew = |n| NonZeroU32::new(n).unwrap();
    assert_eq!(world.possible(&one(spread("app=w").with_max_skew(skew(3)))), ["a1", "a2", "b1"]);
    // Two zones are there; if there must be three, the missing one counts as empty.
    assert!(world.possible(&one(spread("app=w").with_min_domains(skew(3)).with_max_skew(skew(1)))) == ["b1"]);
    let both = World::new(&ZONES).labelled("a1", "w1", "app=w").labelled("b1", "w2", "app=w");
    assert_eq!(both.possible(&one(spread("app=w"))), ["a1", "a2", "b1"]);
    assert!(both.possible(&one(spread("app=w").with_min_domains(skew(3)))).is_empty());
    assert_eq!(world.possible(&one(spread("app=w").schedule_anyway())), ["a1", "a2", "b1", "x"]);
    assert_eq!(world.place(&[one(spread("app=w").schedule_anyway())]).unwrap(), ["b1"]);
    // A selector that does not match the workload itself only looks at the others.
    assert_eq!(both.possible(&workload("w").with_spread(spread("app=w"))), ["a1", "a2", "b1"]);
}

#[test]
fn spread_looks_only_at_places_the_workload_may_go_to() {
    let world = World::new(&[("a1", "zone=a,pool=p"), ("b1", "zone=b,pool=p"), ("c1", "zone=c")])
        .labelled("a1", "w1", "app=w")
        .labelled("b1", "w2", "app=w");
    let asks = workload("w").with_labels(labels("app=w")).with_spread(spread("app=w"));
    assert_eq!(world.possible(&asks), ["c1"]);
    assert_eq!(world.possible(&asks.on(selector("pool=p"))), ["a1", "b1"], "zone c is out of reach");
}

#[test]
fn names_of_nodes_are_allowed_and_forbidden_beside_labels() {
    let world = World::new(&[("n1", "zone=a"), ("n2", "zone=a"), ("n3", "zone=b")]);
    let (on, off) = (NodeAffinity::on_node, NodeAffinity::not_on_node);
    let named = |change: fn(NodeAffinity, NodeId) -> NodeAffinity, names: &[&str]| {
        names.iter().fold(NodeAffinity::default(), |all, name| change(all, name.parse().unwrap()))
    };
    let mut none = NodeAffinity::default();
    none.names = Some(std::collections::BTreeSet::new());
    for (case, affinity, expected) in [
        ("one", named(on, &["n2"]), vec!["n2"]),
        ("one of two", named(on, &["n1", "n3"]), vec!["n1", "n3"]),
        ("with labels", named(on, &["n1", "n3"]).require(selector("zone=a")), vec!["n1"]),
        ("not one", named(off, &["n1"]), vec!["n2", "n3"]),
        ("one that is forbidden", named(on, &["n1"]).not_on_node("n1".parse().unwrap()), vec![]),
        ("one that is not there", named(on, &["n9"]), vec![]),
        ("no name at all", none, vec![]),
    ] {
        assert_eq!(world.possible(&workload("w").with_node_affinity(affinity)), expected, "{case}");
    }
}

/// By Kubernetes' tables for `nodeAffinityPolicy` and `nodeTaintsPolicy`: a node that does not count is no place, and what
/// runs there does not count either.
#[test]
fn spread_counts_nodes_by_the_policies_about_affinity_and_taints() {
    use NodeInclusion::{Honor, Ignore};
    let world = || {
        let both = World::new(&[("a", "zone=a,pool=x"), ("b", "zone=b,pool=x"), ("c", "zone=c,pool=y")]);
        let runs = |placed: &mut PlacedWorkload| placed.labels = labels("app=w");
        both.running("a", "w1", runs).running("b", "w2", runs)
    };
    let tainted = |mut world: World, cordon: bool| {
        let (node, _) = &mut world.0[2];
        match cordon {
            true => node.state = NodeState::Cordoned,
            false => node.taints.push(Taint::new(
                "t".parse().unwrap(),
                "".parse().unwrap(),
                TaintEffect::NoSchedule,
            )),
        }
        world
    };
    let asks = |affinity, taints| {
        let spread = spread("app=w").with_node_affinity(affinity).with_node_taints(taints);
        workload("w").with_labels(labels("app=w")).with_spread(spread)
    };
    let on_x =
        |asks: WorkloadRequest| asks.with_node_affinity(NodeAffinity::default().require(selector("pool=x")));
    let nowhere: [&str; 0] = [];
    for (case, world, asks, possible) in [
        ("affinity honored, by default", world(), on_x(asks(Honor, Ignore)), &["a", "b"][..]),
        ("affinity ignored", world(), on_x(asks(Ignore, Ignore)), &nowhere[..]),
        ("taints ignored, by default", tainted(world(), false), asks(Honor, Ignore), &nowhere[..]),
        ("taints honored", tainted(world(), false), asks(Honor, Honor), &["a", "b"][..]),
        ("a cordon counts as a taint", tainted(world(), true), asks(Honor, Honor), &["a", "b"][..]),
        ("a cordon, taints ignored", tainted(world(), true), asks(Honor, Ignore), &nowhere[..]),
        ("labels apart from taints", tainted(world(), false), on_x(asks(Ignore, Honor)), &["a", "b"][..]),
    ] {
        assert_eq!(world.possible(&asks), possible, "{case}");
    }
    // What runs on a node that does not count does not count in a place that does.
    let mixed = World::new(&[("a1", "zone=a,pool=x"), ("a2", "zone=a,pool=y"), ("b", "zone=b,pool=x")])
        .running("a2", "w1", |placed| placed.labels = labels("app=w"));
    assert_eq!(mixed.possible(&on_x(asks(Honor, Ignore))), ["a1", "b"]);
    assert_eq!(mixed.possible(&on_x(asks(Ignore, Ignore))), ["b"]);
    let spread: TopologySpread =
        serde_json::from_value(serde_json::json!({"topology": "node", "workloads": "app=w", "max_skew": 1,
            "min_domains": null, "when": "DoNotSchedule"}))
        .unwrap();
    assert_eq!((spread.node_affinity, spread.node_taints), (Honor, Ignore));
}

#[test]
fn nodes_of_other_tenants_are_no_places_to_spread_over() {
    let other = TenantRef::new("other".parse().unwrap(), Generation::from_u64(2));
    let mut world = World::new(&[("a", "zone=a"), ("b", "zone=b"), ("c", "zone=c")])
        .running("a", "w1", |placed| placed.labels = labels("app=w"))
        .running("b", "w2", |placed| placed.labels = labels("app=w"));
    let theirs = BTreeMap::from([("x".parse().unwrap(), PlacedWorkload::new(cores(1)))]);
    let (_, running) = &mut world.0[2];
    running.workloads.insert(other.clone(), theirs);
    running.dedicated_to = Some(other);
    let asks = workload("w").with_labels(labels("app=w")).with_spread(spread("app=w"));
    assert_eq!(world.possible(&asks), ["a", "b"]);
    // A tenant with nodes of its own does not spread over those that others use.
    world.0[2].1.dedicated_to = None;
    let pairs: Vec<_> = world.0.iter().map(|(node, running)| (node, running)).collect();
    let acme = acme();
    let found = |ask| {
        let why = Engine::default().explain(ask, &pairs);
        why.into_iter()
            .filter(|(_, why)| why.is_empty())
            .map(|(node, _)| node.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(Ask::new(&acme, &asks).isolated()), ["a", "b"]);
    assert_eq!(found(Ask::new(&acme, &asks)), ["c"]);
}

#[test]
fn spread_counts_live_workloads_of_the_same_rollout_only() {
    let asks = || workload("w").with_labels(labels("app=w")).with_spread(spread("app=w")).with_generation(2);
    let with = |change: fn(&mut PlacedWorkload)| {
        World::new(&ZONES).running("a1", "old", move |placed| {
            placed.labels = labels("app=w");
            placed.generation = 2;
            change(placed);
        })
    };
    assert_eq!(with(|_| ()).possible(&asks()), ["b1"]);
    assert_eq!(with(|placed| placed.generation = 1).possible(&asks()), ["a1", "a2", "b1"]);
    assert_eq!(with(|placed| placed.terminating = true).possible(&asks()), ["a1", "a2", "b1"]);
    let mut lost = with(|_| ());
    lost.0[0].0.state = hivemind_tenancy::placement::NodeState::Failed;
    assert_eq!(lost.possible(&asks()), ["a2", "b1"]);
}

#[test]
fn a_batch_sees_itself() {
    let world = World::new(&ZONES);
    let asks: Vec<_> = ["w1", "w2"]
        .into_iter()
        .map(|name| workload(name).with_labels(labels("app=w")).with_spread(spread("app=w")))
        .collect();
    let placed = world.place(&asks).unwrap();
    assert_ne!(placed[0].starts_with('a'), placed[1].starts_with('a'), "{placed:?}");
    let mut apart = WorkloadAffinity::default();
    apart.anti_required = vec![term("app=w", zone())];
    let asks: Vec<_> = ["w1", "w2", "w3"]
        .into_iter()
        .map(|name| workload(name).with_labels(labels("app=w")).with_affinity(apart.clone()))
        .collect();
    assert_eq!(world.place(&asks).unwrap(), ["a1", "b1", "x"]);
}

#[test]
fn a_blast_radius_bounds_what_is_lost_with_one_place() {
    let acme = acme();
    let world = World::new(&ZONES[..3]);
    let request = |workloads| {
        PlacementRequest::new(&acme, false, workloads)
            .with_policy(PlacementPolicy::default().with_blast_radius(BlastRadius::new(zone(), 60)))
    };
    let batch: Vec<_> = (0..10).map(|n| workload(&format!("w{n}"))).collect();
    let placed = place(&request(&batch), &world.pairs()).unwrap();
    let in_a = placed.values().filter(|node| node.as_str().starts_with('a')).count();
    assert!((4..=6).contains(&in_a), "{placed:?}");
    let only_a = |name| workload(name).on(selector("zone=a"));
    let one = [only_a("w1")];
    assert!(place(&request(&one), &world.pairs()).is_ok(), "one may always be somewhere");
    let more = [only_a("w1"), only_a("w2")];
    let both = place(&request(&more), &world.pairs());
    assert!(both.is_ok(), "of two, sixty in a hundred is two, rounded up");
    let tight = PlacementRequest::new(&acme, false, &more)
        .with_policy(PlacementPolicy::default().with_blast_radius(BlastRadius::new(zone(), 50)));
    let error = place(&tight, &world.pairs()).unwrap_err();
    assert_eq!(
        error.workloads[0].rejected,
        BTreeMap::from([(Rejection::Selector, 1), (Rejection::BlastRadius, 2)])
    );
}

#[test]
fn reasons_are_counted_with_the_first_node_of_each() {
    let mut world = World::new(&ZONES);
    world.0[0].0.taints.push(Taint::new("t".parse().unwrap(), "".parse().unwrap(), TaintEffect::NoSchedule));
    let mut asks = workload("w").on(selector("zone"));
    asks.resources = cores(9);
    let acme = acme();
    let batch = [asks];
    let error = place(&PlacementRequest::new(&acme, false, &batch), &world.pairs()).unwrap_err();
    let found = &error.workloads[0];
    let expected = [(Rejection::Selector, 1, "x"), (Rejection::Taint, 1, "a1"), (Rejection::Full, 2, "a2")];
    let counted: Vec<_> =
        found.rejected.iter().map(|(why, n)| (*why, *n, found.first[why].as_str())).collect();
    assert_eq!(counted, expected);
    let all = Engine::default().explain(Ask::new(&acme, &batch[0]), &world.pairs());
    assert_eq!(all[&NodeId::new("a1").unwrap()], [Rejection::Taint, Rejection::Full]);
}

/// A filter of the host: no node whose name ends like this.
#[derive(Debug)]
struct NotEndingIn(char);

impl Filter for NotEndingIn {
    fn prepare<'a>(&self, _: Ask<'a>, _: &Cluster<'_>) -> hivemind_tenancy::placement::Check<'a> {
        let end = self.0;
        Box::new(move |seat: &Seat<'_>| seat.node.id.as_str().ends_with(end).then_some(Rejection::Custom))
    }
}

/// A score of the host: later names are better.
#[derive(Debug)]
struct LaterNames;

impl Score for LaterNames {
    fn prepare<'a>(&self, _: Ask<'a>, cluster: &Cluster<'_>) -> hivemind_tenancy::placement::Rate<'a> {
        let all = cluster.seats().iter().map(|seat| seat.node.id.clone()).collect::<Vec<_>>();
        Box::new(move |seat| all.iter().filter(|id| **id > seat.node.id).count() as u64 * 1_000_000_000)
    }
}

#[test]
fn a_host_adds_filters_and_scores_or_uses_one_alone() {
    let world = World::new(&ZONES);
    let (acme, batch) = (acme(), [workload("w")]);
    let request = PlacementRequest::new(&acme, false, &batch);
    let engine = Engine::default().with_filter(NotEndingIn('x')).with_score(LaterNames);
    assert_eq!(engine.place(&request, &world.pairs()).unwrap()[&batch[0].id].as_str(), "b1");
    // Isolation alone: a node that is full is no matter.
    let alone = Engine::new(vec![Box::new(Exclusion)], vec![Box::new(Load)]);
    let mut big = batch.clone();
    big[0].resources = cores(99);
    assert!(alone.place(&PlacementRequest::new(&acme, true, &big), &world.pairs()).is_ok());
}

#[test]
fn the_seed_decides_between_equals_and_nothing_else() {
    let world = World::new(&[("n1", ""), ("n2", ""), ("n3", ""), ("n4", "")]).labelled("n2", "x", "");
    let (acme, batch) = (acme(), [workload("w")]);
    let at = |seed| {
        let request = PlacementRequest::new(&acme, false, &batch).with_seed(seed);
        place(&request, &world.pairs()).unwrap()[&batch[0].id].to_string()
    };
    let seen: std::collections::BTreeSet<_> = (0..64).map(at).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["n1", "n3", "n4"]);
    assert_eq!(at(7), at(7));
}
