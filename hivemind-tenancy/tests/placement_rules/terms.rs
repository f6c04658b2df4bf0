//! Terms in both directions: names beside labels, wishes of what runs, and the marks of tenants.

use std::collections::BTreeSet;

use hivemind_core::labels::Selector;
use hivemind_core::{Generation, NodeId, TenantRef};
use hivemind_tenancy::isolation::DEDICATED_KEY;
use hivemind_tenancy::placement::{
    AffinityTerm, Ask, Engine, NodeAffinity, NodeSelectorTerm, NodeState, PlacedWorkload, PlacementPolicy,
    Rejection, Taint, TaintEffect, Tolerated, Toleration, Weighted, WorkloadAffinity, WorkloadRequest,
    evictions,
};
use hivemind_tenancy::{PlacementRequest, place};

use super::{World, ZONES, acme, cores, labels, selector, term, workload, zone};
/// By Kubernetes' `InterPodAffinity`: terms of what runs count for what comes, if they select it.
#[test]
fn preferences_of_what_runs_draw_and_repel_what_comes() {
    let wish = |by| vec![Weighted::new(by, term("app=web", zone()))];
    let web = || workload("w").with_labels(labels("app=web"));
    // Without wishes, by load, then by name.
    let world = |change: fn(&mut PlacedWorkload, Vec<Weighted<AffinityTerm>>), by| {
        World::new(&ZONES).running("b1", "shy", move |placed| change(placed, wish(by)))
    };
    let preferred = |by| world(|placed, wish| placed.preferred = wish, by);
    // Others are fuller than where it is.
    let avoided = |by| {
        let world = world(|placed, wish| placed.anti_preferred = wish, by);
        ["a1", "a2", "x"].iter().fold(world, |world, node| {
            world.labelled(node, &format!("{node}-1"), "").labelled(node, &format!("{node}-2"), "")
        })
    };
    let beside =
        |by| world(|placed, wish| placed.affinity = wish.into_iter().map(|one| one.term).collect(), by);
    assert_eq!(preferred(0).place(&[web()]).unwrap(), ["a1"]);
    assert_eq!(preferred(50).place(&[web()]).unwrap(), ["b1"], "it is drawn, though other nodes are empty");
    assert_eq!(preferred(50).place(&[workload("w")]).unwrap(), ["a1"], "the term does not select it");
    assert_eq!(avoided(0).place(&[web()]).unwrap(), ["b1"]);
    assert_eq!(avoided(50).place(&[web()]).unwrap(), ["a1"], "it is repelled, though other nodes are fuller");
    // A required term draws by the weight of the policy.
    let at = |world: &World, weight| {
        let (acme, batch) = (acme(), [web()]);
        let policy = PlacementPolicy::default().with_hard_affinity_weight(weight);
        let request = PlacementRequest::new(&acme, false, &batch).with_policy(policy);
        place(&request, &world.pairs()).unwrap()[&batch[0].id].to_string()
    };
    assert_eq!(["a1", "a1", "b1"], [0, 1, 50].map(|weight| at(&beside(0), weight)));
    let even = ["a1", "a2", "x"]
        .iter()
        .fold(beside(0), |world, node| world.labelled(node, &format!("y-{node}"), ""));
    assert_eq!(["a1", "b1"], [0, 1].map(|weight| at(&even, weight)), "among equals a weight of 1 is enough");
    // What runs on a failed node wishes nothing, and what is placed wishes what it asked for.
    let mut lost = preferred(50);
    lost.0[2].0.state = NodeState::Failed;
    assert_eq!(lost.place(&[web()]).unwrap(), ["a1"]);
    let mut affinity = WorkloadAffinity::default();
    affinity.preferred = wish(50);
    let first = workload("first").on(selector("zone=b")).with_affinity(affinity);
    let mut first = vec![first];
    first[0].resources = cores(2);
    first.push(web());
    assert_eq!(World::new(&ZONES).place(&first).unwrap(), ["b1", "b1"]);
}

#[test]
fn a_term_says_labels_and_names_and_terms_are_alternatives() {
    let world = World::new(&[("n1", "zone=a"), ("n2", "zone=a"), ("n3", "zone=b"), ("n4", "")]);
    let term = |text: &str, on: &[&str], off: &[&str]| {
        let term = NodeSelectorTerm::new(selector(text));
        let term = on.iter().fold(term, |term, name| term.on_node(name.parse().unwrap()));
        off.iter().fold(term, |term, name| term.not_on_node(name.parse().unwrap()))
    };
    let mut nobody = term("zone=a", &[], &[]);
    nobody.names = Some(BTreeSet::new());
    for (case, terms, expected) in [
        ("by name", vec![term("", &["n4"], &[])], vec!["n4"]),
        ("labels and names are both needed", vec![term("zone=a", &["n2", "n3"], &[])], vec!["n2"]),
        ("not by name", vec![term("zone=a", &[], &["n2"])], vec!["n1"]),
        ("terms are alternatives", vec![term("zone=b", &[], &[]), term("", &["n1"], &[])], vec!["n1", "n3"]),
        ("each with its own names", vec![term("zone=b", &["n1"], &[]), term("zone=a", &["n3"], &[])], vec![]),
        ("everything but one", vec![term("", &[], &["n1"])], vec!["n2", "n3", "n4"]),
        ("an empty term matches nothing", vec![term("", &[], &[])], vec![]),
        ("nor does one that allows no name", vec![nobody], vec![]),
    ] {
        let affinity = terms.iter().cloned().fold(NodeAffinity::default(), NodeAffinity::require_term);
        assert_eq!(world.possible(&workload("w").with_node_affinity(affinity)), expected, "{case}");
        let matched = world.0.iter().filter(|(node, _)| terms.iter().any(|term| term.matches(node)));
        assert_eq!(matched.map(|(node, _)| node.id.as_str()).collect::<Vec<_>>(), expected, "{case}");
    }
    let prefer = NodeAffinity::default().prefer_term(10, term("zone", &["n3"], &[]));
    assert_eq!(world.place(&[workload("w").with_node_affinity(prefer)]).unwrap(), ["n3"]);
}

#[test]
fn a_term_about_labels_alone_is_written_as_its_selector() {
    let read = |json: serde_json::Value| serde_json::from_value::<NodeSelectorTerm>(json).unwrap();
    let labels = NodeSelectorTerm::new(selector("zone=a"));
    assert_eq!(serde_json::to_value(&labels).unwrap(), "zone=a");
    assert_eq!(read("zone=a".into()), labels);
    let named = labels.on_node("n1".parse().unwrap()).not_on_node("n2".parse().unwrap());
    let json = serde_json::json!({"labels": "zone=a", "names": ["n1"], "notNames": ["n2"]});
    assert_eq!(serde_json::to_value(&named).unwrap(), json);
    assert_eq!(read(json), named);
    assert_eq!(read(serde_json::json!({"names": ["n1"]})).labels, Selector::everything());
}

/// The taint that marks a node as a tenant's own.
fn own_mark(tenant: &TenantRef, effect: TaintEffect) -> Taint {
    let value = format!("t-{}", tenant.generation).parse().unwrap();
    Taint::new(DEDICATED_KEY.parse().unwrap(), value, effect)
}

#[test]
fn the_mark_of_a_tenant_is_tolerated_by_its_workloads_and_opens_its_node_to_nobody_else() {
    use TaintEffect::{NoExecute, NoSchedule};
    let other = TenantRef::new("other".parse().unwrap(), Generation::from_u64(2));
    let anything = workload("w").tolerating(Toleration::new(Tolerated::Everything));
    for effect in [NoSchedule, NoExecute] {
        let mut world =
            World::new(&[("mine", ""), ("theirs", "")]).labelled("mine", "x", "").labelled("theirs", "x", "");
        world.0[0].0.taints.push(own_mark(&acme(), effect));
        world.0[1].0.taints.push(own_mark(&other, effect));
        for asks in [workload("w"), anything.clone()] {
            assert_eq!(world.possible(&asks), ["mine"], "{effect:?}");
        }
        let refused = |asks: &WorkloadRequest, at: &str| {
            let all = Engine::default().explain(Ask::new(&acme(), asks), &world.pairs());
            all[&NodeId::new(at).unwrap()].clone()
        };
        assert_eq!(refused(&workload("w"), "theirs"), [Rejection::Dedicated, Rejection::Taint]);
        assert_eq!(refused(&anything, "theirs"), [Rejection::Dedicated]);
        // Nor does it put out what is the tenant's own.
        let put_out = evictions(&world.pairs());
        let expected = if effect == NoExecute { vec!["theirs"] } else { vec![] };
        assert_eq!(put_out.iter().map(|one| one.node.as_str()).collect::<Vec<_>>(), expected);
        for (number, left) in [(0, 0), (1, usize::from(effect == NoExecute))] {
            let (node, running) = &world.0[number];
            assert_eq!(running.evicted_by(&node.taints).len(), left);
        }
        // Another taint beside it is not tolerated with it.
        world.0[0].0.taints.push(Taint::new("gpu".parse().unwrap(), "".parse().unwrap(), NoSchedule));
        assert!(world.possible(&workload("w")).is_empty());
        // Marked as of two, it is of nobody.
        world.0[0].0.taints = vec![own_mark(&acme(), effect)];
        world.0[0].0.labels = labels(&format!("{DEDICATED_KEY}=t-{}", other.generation));
        assert!(world.possible(&anything).is_empty());
    }
}
