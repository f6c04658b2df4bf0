//! Why, what if, and what is probably not meant.

use hivemind_net::addr::IpFamily;
use hivemind_net::policy::{AnyPolicy, Change, Engine, PolicyRef, Verdict, World};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::random::{Dice, change, flow, policy};
use crate::support::{cluster, cluster_policy, flow as question, grant, network, tenant};

fn with(changes: impl IntoIterator<Item = Change>) -> Engine {
    let mut world = cluster();
    changes.into_iter().for_each(|change| world.apply(change));
    Engine::new(world)
}

fn the_policy(change: Change) -> AnyPolicy {
    let Change::Policy(policy) = change else { panic!("{change:?}") };
    policy
}

const DB: &str = r#"{"podSelector":{"matchLabels":{"pod":"a"}},"ingress":[{"from":[{"podSelector":{"matchLabels":{"pod":"b"}}}],"ports":[{"port":80}]},{"ports":[{"protocol":"UDP","port":53}]}]}"#;

#[test]
fn an_explanation_tells_what_decided_and_what_became_of_each_rule() {
    let engine = with([network("acme", "x", "db", DB)]);
    let ask =
        |from, what| engine.explain(&question(from, "x/a", what, IpFamily::V6).unwrap()).unwrap().to_string();
    assert_eq!(
        ask("x/b", "tcp80"),
        "x-b of acme to x-a of acme, TCP 80 over V6: allowed
  egress allowed: no policy is about it
  ingress allowed: rule 0 of policy x/db of acme
    rule 0 of policy x/db of acme: allows it
    rule 1 of policy x/db of acme: its ports are others"
    );
    assert_eq!(
        ask("x/c", "tcp80"),
        "x-c of acme to x-a of acme, TCP 80 over V6: denied
  egress allowed: no policy is about it
  ingress denied: no rule allows it, of policy x/db of acme
    rule 0 of policy x/db of acme: its peers are others
    rule 1 of policy x/db of acme: its ports are others"
    );
}

#[test]
fn a_tenant_is_told_nothing_of_the_other_side_or_of_the_clusters_rules() {
    let engine = with([
        grant(
            r#"{"by":"acme.0000000000000001","name":"out","direction":"Egress","to":{"tenant":"globex.0000000000000001"}}"#,
        ),
        network("globex", "x", "secret", r#"{"podSelector":{}}"#),
        cluster_policy(
            r#"{"name":"guard","tier":"Admin","priority":0,"subject":{"tenantSelector":{}},"egress":[{"action":"Deny","to":[{"namespaceSelector":"ns=q"}]}]}"#,
        ),
    ]);
    let flow = question("x/a", "globex:x/a", "tcp80", IpFamily::V4).unwrap();
    let whole = engine.explain(&flow).unwrap();
    assert_eq!(whole.verdict, Verdict::Deny);
    let seen = whole.clone().seen_by(&tenant("acme"));
    assert_eq!((seen.verdict, seen.ingress), (Verdict::Allow, None), "the own side lets it pass");
    assert!(!seen.egress.unwrap().asked.iter().any(|asked| matches!(asked.policy, PolicyRef::Cluster(_))));
    let none = whole.seen_by(&tenant("initech"));
    assert_eq!((none.verdict, none.egress, none.ingress), (Verdict::Deny, None, None));
}

#[test]
fn what_if_tells_pairs_and_ports() {
    let engine = with([]);
    let policy = the_policy(network(
        "acme",
        "x",
        "p",
        r#"{"podSelector":{"matchLabels":{"pod":"a"}},"ingress":[{"from":[{"namespaceSelector":{}}],"ports":[{"port":80,"endPort":81}]},{"from":[{"ipBlock":{"cidr":"203.0.113.0/24"}}]}]}"#,
    ));
    let what = engine.what_if(std::slice::from_ref(&policy), &[]);
    let told: Vec<_> = what.changes().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "x {pod=a} of acme to x {pod=a} of acme, 0 0 to TCP 79, TCP 82 to 255 65535: denied",
            "x {pod=b} of acme to x {pod=a} of acme, 0 0 to TCP 79, TCP 82 to 255 65535: denied",
            "x {pod=c} of acme to x {pod=a} of acme, 0 0 to TCP 79, TCP 82 to 255 65535: denied",
            "y {pod=a} of acme to x {pod=a} of acme, 0 0 to TCP 79, TCP 82 to 255 65535: denied",
            "y {pod=b} of acme to x {pod=a} of acme, 0 0 to TCP 79, TCP 82 to 255 65535: denied",
            "y {pod=c} of acme to x {pod=a} of acme, 0 0 to TCP 79, TCP 82 to 255 65535: denied",
            "z {pod=a} of acme to x {pod=a} of acme, 0 0 to TCP 79, TCP 82 to 255 65535: denied",
            "z {pod=b} of acme to x {pod=a} of acme, 0 0 to TCP 79, TCP 82 to 255 65535: denied",
            "z {pod=c} of acme to x {pod=a} of acme, 0 0 to TCP 79, TCP 82 to 255 65535: denied",
            "outside to x {pod=a} of acme, any traffic: denied",
        ]
    );
    let mut world = engine.world().clone();
    world.apply(Change::Policy(policy.clone()));
    let back = Engine::new(world).what_if(&[], &[policy.key()]);
    assert_eq!(back.changes().count(), told.len());
    assert!(back.changes().all(|change| change.after == Verdict::Allow));
}

#[test]
fn what_changes_nothing_tells_nothing() {
    let policy = network("acme", "x", "p", DB);
    let again = the_policy(network("acme", "x", "q", DB));
    assert!(with([policy]).what_if(&[again], &[]).is_empty());
}

proptest! {
    #[test]
    fn what_if_is_what_the_evaluator_says_before_and_after(
        seeds in vec(any::<u64>(), 1..50), put in vec(any::<u64>(), 0..3), removed in vec(any::<u64>(), 0..3), ask in any::<u64>(),
    ) {
        let world: World = seeds.into_iter().map(|seed| change(&mut Dice(seed))).collect();
        let put: Vec<_> = put.into_iter().map(|seed| policy(&mut Dice(seed))).collect();
        let present: Vec<_> = world.policies().map(AnyPolicy::key).collect();
        let removed: Vec<_> = removed
            .into_iter()
            .filter_map(|seed| present.get(usize::try_from(seed).unwrap() % present.len().max(1)).cloned())
            .collect();
        let what = Engine::new(world.clone()).what_if(&put, &removed);
        let mut then = world.clone();
        removed.iter().for_each(|key| then.apply(Change::NoPolicy(key.clone())));
        put.iter().for_each(|policy| then.apply(Change::Policy(policy.clone())));
        let mut dice = Dice(ask);
        for _ in 0..200 {
            let flow = flow(&mut dice);
            let (Ok(was), Ok(is)) = (world.reach(&flow), then.reach(&flow)) else { continue };
            let expected = Some(is.verdict()).filter(|is| *is != was.verdict());
            prop_assert_eq!(what.of(&flow).unwrap(), expected, "{:?}", flow);
            prop_assert_eq!(what.after().reach(&flow).unwrap(), is.verdict());
        }
    }
}

fn lint(changes: impl IntoIterator<Item = Change>) -> Vec<String> {
    with(changes).lint().iter().map(ToString::to_string).collect()
}

#[test]
fn lint_finds_what_matches_nothing() {
    assert_eq!(
        lint([network("acme", "x", "p", r#"{"podSelector":{"matchLabels":{"pod":"nope"}},"ingress":[{}]}"#)]),
        ["policy x/p of acme: it selects no workload that there is"]
    );
    assert_eq!(
        lint([network(
            "acme",
            "x",
            "p",
            r#"{"podSelector":{},"ingress":[{"from":[{"podSelector":{"matchLabels":{"pod":"b"}}},{"namespaceSelector":{"matchLabels":{"ns":"q"}}}]},{"ports":[{"port":"nope"}]}]}"#
        )]),
        [
            "ingress rule 0 of policy x/p of acme: peer 1 matches no workload that there is",
            "ingress rule 1 of policy x/p of acme: it is about nobody, or about ports that nobody has",
        ]
    );
    assert_eq!(lint([network("acme", "x", "p", DB)]), [""; 0], "nothing is wrong with it");
}

#[test]
fn lint_finds_rules_that_never_decide() {
    let all = r#""subject":{"tenantSelector":{}}"#;
    let guard = format!(
        r#"{{"name":"guard","tier":"Admin","priority":1,{all},"ingress":[
            {{"action":"Deny","from":[{{"namespaceSelector":"ns=z"}}]}},
            {{"action":"Allow","from":[{{"namespaceSelector":"ns=z","workloadSelector":"pod=a"}}],"ports":[{{"port":80}}]}}]}}"#
    );
    let tenants = r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"ns":"z"}}}]},{"from":[{"podSelector":{}}]},{"from":[{"podSelector":{"matchLabels":{"pod":"b"}}}],"ports":[{"port":80}]}]}"#;
    assert_eq!(
        lint([cluster_policy(&guard), network("acme", "x", "p", tenants)]),
        [
            "ingress rule 1 of cluster policy guard: all it is about is decided before it is asked",
            "ingress rule 0 of policy x/p of acme: all it is about is decided before it is asked",
            "ingress rule 2 of policy x/p of acme: other rules allow all that it allows",
        ]
    );
}

#[test]
fn lint_finds_orders_that_nobody_wrote() {
    let policy = |name: &str, priority: u16, action: &str| {
        cluster_policy(&format!(
            r#"{{"name":"{name}","tier":"Admin","priority":{priority},"subject":{{"tenantSelector":{{}}}},"egress":[{{"action":"{action}","to":[{{"namespaceSelector":"ns=y"}}],"ports":[{{"port":80,"endPort":90}}]}}]}}"#
        ))
    };
    let tie = "egress rule 0 of cluster policy b: rule 0 of cluster policy a has the same priority and says otherwise; their names decide";
    assert!(lint([policy("a", 3, "Allow"), policy("b", 3, "Deny")]).contains(&tie.to_owned()));
    assert!(!lint([policy("a", 3, "Allow"), policy("b", 4, "Deny")]).contains(&tie.to_owned()));
    assert!(!lint([policy("a", 3, "Allow"), policy("b", 3, "Allow")]).contains(&tie.to_owned()));
}
