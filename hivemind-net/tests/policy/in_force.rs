//! Nothing is used before the rules about it are in force.

use std::net::IpAddr;
use std::time::Duration;

use hivemind_core::Timestamp;
use hivemind_core::labels::Labels;
use hivemind_net::addr::IpFamily;
use hivemind_net::dataplane::rules::{Family, RuleTable, TableKey};
use hivemind_net::dataplane::state::{Link, LinkKind, LinkName, Mac, Netns};
use hivemind_net::dataplane::{Action, KernelState};
use hivemind_net::overlay::{
    NotEnforced, OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, OverlayState, OverlayWorkload,
    TenantNetwork, UnderlayFamily, Vni,
};
use hivemind_net::policy::rules::NodeRules;
use hivemind_net::policy::{
    Attachment, Change, Endpoint, Engine, NameCache, NameLimits, NotInForce, Prepared, Profile,
};

use crate::support::{cluster, flow, key, network, tenant};

fn link() -> Link {
    let mac: Mac = "02:00:00:00:00:01".parse().unwrap();
    Link::new(LinkKind::Dummy, mac, 1400).with_up()
}

#[test]
fn pitfall_21_no_interface_comes_up_before_its_rules_are_in_force() {
    let mut engine = Engine::new(cluster());
    let endpoint = engine.world().endpoint(&key("x/a")).unwrap().clone();
    let attachment = Attachment::new(endpoint.clone(), link());
    assert!(!attachment.down().up, "down, whatever the link said");
    let made = |engine: &Engine, node: &str, with_link: bool| {
        let rules = NodeRules::new(engine, tenant("acme"), node.parse().unwrap());
        let link = "veth-a".parse().unwrap();
        let rules = if with_link { rules.with_link(key("x/a").id, link) } else { rules };
        rules.prepare().unwrap()
    };
    let prepared = |engine: &Engine, node: &str| made(engine, node, true);

    // The kernel has nothing, or something else.
    let missing = prepared(&engine, "n1").confirm(None).unwrap_err();
    assert!(matches!(missing, NotInForce::OtherRules { .. }), "{missing}");
    let mut old = prepared(&engine, "n1").table().clone();
    old.sets.pop_last();
    assert!(prepared(&engine, "n1").confirm(Some(&old)).is_err());
    assert!(prepared(&engine, "n1").confirm(Some(&RuleTable::new())).is_err());

    let in_force = |engine: &Engine, node: &str| {
        let prepared = prepared(engine, node);
        let kernel = prepared.table().clone();
        prepared.confirm(Some(&kernel)).unwrap()
    };
    let rules = in_force(&engine, "n1");
    assert!(attachment.up(&rules).unwrap().up);
    // Rules that do not say by which link its packets come: anybody's could pass for them.
    let without = made(&engine, "n1", false);
    let kernel = without.table().clone();
    let without = without.confirm(Some(&kernel)).unwrap();
    assert_eq!(attachment.up(&without), Err(NotInForce::NotCovered(key("x/a"))));
    // Rules of another node, and those from before the workload was what it is.
    assert_eq!(attachment.up(&in_force(&engine, "n2")), Err(NotInForce::NotCovered(key("x/a"))));
    let moved = endpoint.at("10.0.1.99".parse().unwrap());
    engine.apply(Change::Endpoint(moved.clone()));
    let again = Attachment::new(moved, link());
    assert_eq!(again.up(&rules), Err(NotInForce::NotCovered(key("x/a"))));
    assert!(again.up(&in_force(&engine, "n1")).is_ok());
}

#[test]
fn pitfall_21_a_workload_of_an_overlay_is_down_until_rules_cover_it() {
    let acme = tenant("acme");
    let mut engine = Engine::new(cluster());
    let mut overlay = OverlayNetwork::new(OverlayConfig::vxlan(UnderlayFamily::V6, 1500)).unwrap();
    let node = OverlayNode::new("n1".parse().unwrap(), 1500).with_address("fd6e::1".parse().unwrap());
    overlay.apply(OverlayChange::PutNode(node)).unwrap();
    let pools =
        TenantNetwork::new(acme.clone(), Vni::new(7).unwrap()).with_pool("10.0.0.0/8".parse().unwrap());
    overlay.apply(OverlayChange::PutTenant(pools)).unwrap();
    let put = |overlay: &mut OverlayNetwork, address: IpAddr| {
        let workload =
            OverlayWorkload::new(acme.clone(), key("x/a").id, "n1".parse().unwrap()).with_address(address);
        let changes = overlay.apply(OverlayChange::PutWorkload(workload.clone())).unwrap();
        (workload.effective_link().unwrap(), changes["n1"].clone())
    };
    let address: IpAddr = "10.9.0.1".parse().unwrap();
    let (link, change) = put(&mut overlay, address);
    let up = |kernel: &KernelState| {
        let router = kernel.namespaces.values().find(|netns| netns.links.contains_key(&link)).unwrap();
        let routed = router.routes.values().any(|route| route.dev() == Some(&link));
        assert_eq!((router.links[&link].up, routed), (routed, router.links[&link].up));
        routed
    };
    let rules = |engine: &Engine, link: &LinkName| {
        let rules = NodeRules::new(engine, acme.clone(), "n1".parse().unwrap());
        rules.with_link(key("x/a").id, link.clone()).prepare().unwrap()
    };
    let table = || TableKey::new(Family::Inet, "hivemind".parse().unwrap());
    let state = || overlay.node_state(&"n1".parse().unwrap()).unwrap();
    let with = |mut state: OverlayState, rules: &Prepared| {
        state.enforce(rules, table()).unwrap();
        let uncovered = state.uncovered().count();
        (uncovered, state.into_kernel())
    };
    assert_eq!(state().uncovered().count(), 1);
    assert!(!up(&state().into_kernel()), "nobody said what may pass");
    assert!(!change.ops().iter().any(|op| op.action == Action::SetUp(link.clone(), true)));

    // Policies know it with other addresses, or by another link: what they say is not about it.
    let (uncovered, kernel) = with(state(), &rules(&engine, &link));
    assert_eq!((uncovered, up(&kernel)), (1, false));
    let own = engine.world().endpoint(&key("x/a")).unwrap().clone();
    let at_n1 = Endpoint::new(key("x/a").id, "n1".parse().unwrap(), own.profile().clone()).at(address);
    engine.apply(Change::Endpoint(at_n1));
    let (uncovered, kernel) = with(state(), &rules(&engine, &"other".parse().unwrap()));
    assert_eq!((uncovered, up(&kernel)), (1, false));

    let covering = rules(&engine, &link);
    let (uncovered, kernel) = with(state(), &covering);
    assert_eq!((uncovered, up(&kernel)), (0, true));
    // A table in its place that does not cover it any more takes that back.
    let mut replaced = state();
    replaced.enforce(&covering, table()).unwrap();
    replaced.enforce(&rules(&engine, &"other".parse().unwrap()), table()).unwrap();
    assert_eq!(replaced.uncovered().count(), 1);
    // Rules of another node, and a table that sees nothing of what is routed, are put nowhere.
    let elsewhere = NodeRules::new(&engine, acme.clone(), "n2".parse().unwrap()).prepare().unwrap();
    let refused = replaced.enforce(&elsewhere, table()).unwrap_err();
    assert!(matches!(refused, NotEnforced::OtherNode { .. }), "{refused}");
    let bridge = TableKey::new(Family::Bridge, "hivemind".parse().unwrap());
    assert_eq!(replaced.enforce(&covering, bridge), Err(NotEnforced::Family(Family::Bridge)));
    for own in ["hivemind-egress", "hivemind-egress-7", "hivemind-services"] {
        let own = TableKey::new(Family::Inet, own.parse().unwrap());
        let refused = replaced.enforce(&covering, own).unwrap_err();
        assert!(matches!(refused, NotEnforced::Reserved { .. }), "{refused}");
    }
    assert_eq!(replaced.uncovered().count(), 1);
    let mut change = change;
    change.enforce(None, &covering, table()).unwrap();
    let ops = change.ops();
    let at = |wanted: &dyn Fn(&Action) -> bool| ops.iter().position(|op| wanted(&op.action)).unwrap();
    let (put_at, up_at) = (
        at(&|action| matches!(action, Action::PutTable(..))),
        at(&|action| *action == Action::SetUp(link.clone(), true)),
    );
    assert!(put_at < up_at, "rules first: {ops:?}");

    // What changes beside it is no reason to judge it anew; that it is routed somewhere else is.
    let other = OverlayNode::new("n1".parse().unwrap(), 1500).with_address("fd6e::2".parse().unwrap());
    let beside = overlay.apply(OverlayChange::PutNode(other)).unwrap();
    assert_eq!(beside["n1"].after.uncovered().count(), 0);
    let mut narrower = beside["n1"].clone();
    narrower
        .enforce(Some(covering.table().clone()), &rules(&engine, &"other".parse().unwrap()), table())
        .unwrap();
    assert!(
        narrower.ops().iter().all(|op| !matches!(op.action, Action::PutTable(..))),
        "a change, not the whole"
    );
    let elsewhere =
        TenantNetwork::new(acme.clone(), Vni::new(8).unwrap()).with_pool("10.0.0.0/8".parse().unwrap());
    let elsewhere = overlay.apply(OverlayChange::PutTenant(elsewhere)).unwrap();
    assert_eq!(elsewhere["n1"].after.uncovered().count(), 1);
    // It gets another address: the rules from before are not about it any more.
    let (_, mut moved) = put(&mut overlay, "10.9.0.2".parse().unwrap());
    moved.enforce(None, &covering, table()).unwrap();
    assert_eq!(moved.after.uncovered().count(), 1);
    assert!(
        moved.ops().iter().any(|op| op.action == Action::SetUp(link.clone(), false)),
        "{:?}",
        moved.ops()
    );
}

#[test]
fn tenants_that_are_routed_in_one_namespace_have_a_table_each() {
    let mut overlay = OverlayNetwork::new(OverlayConfig::direct(UnderlayFamily::V6, 1500)).unwrap();
    let node = OverlayNode::new("n1".parse().unwrap(), 1500)
        .with_address("fd6e::1".parse().unwrap())
        .with_uplink("up0".parse().unwrap());
    overlay.apply(OverlayChange::PutNode(node)).unwrap();
    let mut engine = Engine::default();
    let tenants = [("acme", 7, "10.1.0.0/16", "10.1.0.1"), ("zeta", 8, "10.2.0.0/16", "10.2.0.1")];
    let prepared = tenants.map(|(of, vni, pool, address)| {
        let (of, address): (_, IpAddr) = (tenant(of), address.parse().unwrap());
        let pool = TenantNetwork::new(of.clone(), Vni::new(vni).unwrap()).with_pool(pool.parse().unwrap());
        overlay.apply(OverlayChange::PutTenant(pool)).unwrap();
        let web = OverlayWorkload::new(of.clone(), "web".parse().unwrap(), "n1".parse().unwrap())
            .with_address(address);
        let link = web.effective_link().unwrap();
        overlay.apply(OverlayChange::PutWorkload(web)).unwrap();
        let profile = Profile::new(of.clone(), "shop".parse().unwrap(), Labels::new());
        let endpoint = Endpoint::new("web".parse().unwrap(), "n1".parse().unwrap(), profile).at(address);
        engine.apply(Change::Endpoint(endpoint));
        let rules = NodeRules::new(&engine, of, "n1".parse().unwrap()).in_shared_namespace();
        rules.with_link("web".parse().unwrap(), link).prepare().unwrap()
    });
    let table = |name: &str| TableKey::new(Family::Inet, name.parse().unwrap());
    let mut state = overlay.node_state(&"n1".parse().unwrap()).unwrap();
    state.enforce(&prepared[0], table("hivemind")).unwrap();
    let taken = state.enforce(&prepared[1], table("hivemind")).unwrap_err();
    assert!(matches!(taken, NotEnforced::TableTaken { .. }), "{taken}");
    let left: Vec<_> = state.uncovered().map(|(tenant, _)| tenant.id.to_string()).collect();
    assert_eq!(left, ["zeta"], "the first tenant's rules are as they were");
    state.enforce(&prepared[1], table("tenant-8")).unwrap();
    assert_eq!(state.uncovered().count(), 0);
    assert_eq!(state.into_kernel().namespaces[&Netns::Host].tables.len(), 2);
}

const NAMES: &str =
    r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"to":[{"dnsName":"*.example.com"}]}]}"#;

#[test]
fn pitfall_28_an_answer_waits_for_its_rules_and_an_address_outlives_its_time_to_live() {
    let mut engine = Engine::new(cluster());
    engine.apply(network("acme", "x", "names", NAMES));
    let mut cache = NameCache::new(NameLimits::default());
    let at = |secs| Timestamp::from_secs(secs);
    let address: IpAddr = "203.0.113.7".parse().unwrap();
    let answer = [(address, Duration::from_secs(30))];
    let name = "www.example.com".parse().unwrap();
    let out = flow("x/a", "203.0.113.7", "tcp443", IpFamily::V4).unwrap();

    let (changes, held) = cache.learn(&tenant("acme"), &name, &answer, at(0));
    let held = held.release(cache.in_force()).expect_err("its address is in no rule yet");
    assert!(!engine.reach(&out).unwrap().passes());
    changes.into_iter().for_each(|change| engine.apply(change));
    assert!(engine.reach(&out).unwrap().passes());
    cache.confirm(held.needs());
    assert_eq!(held.release(cache.in_force()), Ok(vec![address]));

    // Asked again, nothing changes and nothing waits.
    let (changes, held) = cache.learn(&tenant("acme"), &name, &answer, at(20));
    assert_eq!((changes.len(), held.release(cache.in_force()).is_ok()), (0, true));
    // A second asker of a name that is learnt and not in force waits too.
    let other = [("2001:db8::7".parse().unwrap(), Duration::from_secs(30))];
    let (first, _) = cache.learn(&tenant("acme"), &name, &other, at(20));
    let (second, held) = cache.learn(&tenant("acme"), &name, &other, at(20));
    assert_eq!((first.len(), second.len(), held.release(cache.in_force()).is_err()), (1, 0, true));

    // 20 + 30 s are over at 50, but the grace is not; a connection that is open keeps it.
    assert!(cache.expire(at(51)).is_empty());
    cache.in_use(&tenant("acme"), address, at(600));
    assert_eq!(cache.next_expiry(), Some(at(650)));
    let gone: Vec<_> = cache.expire(at(650));
    assert_eq!(gone.len(), 1, "the other address: {gone:?}");
    assert!(engine.reach(&out).unwrap().passes());
    cache.expire(at(1200)).into_iter().for_each(|change| engine.apply(change));
    assert!(!engine.reach(&out).unwrap().passes());
    assert_eq!(cache.next_expiry(), None);
}

#[test]
fn names_of_one_address_are_bounded() {
    let mut limits = NameLimits::default();
    limits.most_names = 3;
    let mut cache = NameCache::new(limits);
    for n in 0..10_u64 {
        let answer = [("203.0.113.7".parse().unwrap(), Duration::from_secs(10 + n))];
        let name = format!("n{n}.example.com").parse().unwrap();
        let (changes, _) = cache.learn(&tenant("acme"), &name, &answer, Timestamp::EPOCH);
        let [Change::Names(_, _, names)] = &*changes else { panic!("{changes:?}") };
        assert!(names.contains(&name), "the one that was just told stays");
        assert_eq!(names.len(), usize::try_from(n + 1).unwrap().min(3), "{names:?}");
    }
}

#[test]
fn names_are_bounded_and_survive_a_restart() {
    let mut limits = NameLimits::default();
    limits.most = 3;
    let mut cache = NameCache::new(limits);
    let address = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(0xcb00_7100 | n));
    for n in 0..5 {
        let answer = [(address(n), Duration::from_secs(u64::from(10 + n)))];
        let (changes, _) = cache.learn(&tenant("acme"), &"a.org".parse().unwrap(), &answer, Timestamp::EPOCH);
        assert_eq!(
            changes.len(),
            if n < 3 { 1 } else { 2 },
            "one comes; beyond the limit the first to expire goes"
        );
    }
    let text = serde_json::to_string(&cache).unwrap();
    let mut again: NameCache = serde_json::from_str(&text).unwrap();
    assert_eq!(again.next_expiry(), cache.next_expiry());
    let none = again.in_force();
    again.confirm(again.latest());
    // The agent's restart leaves the kernel's rules as they are, the machine's does not.
    again.booted("boot-1");
    assert_eq!(again.in_force(), none, "of which boot it was is not known");
    again.confirm(again.latest());
    let text = serde_json::to_string(&again).unwrap();
    for (boot, stays) in [("boot-1", true), ("boot-2", false)] {
        let mut restarted: NameCache = serde_json::from_str(&text).unwrap();
        restarted.booted(boot);
        assert_eq!(restarted.in_force() == restarted.latest(), stays, "{boot}");
    }
    assert_eq!(again.latest(), cache.latest());
    assert_eq!(again.expire(Timestamp::MAX).len(), 3);
}
