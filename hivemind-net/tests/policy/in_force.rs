//! Nothing is used before the rules about it are in force.

use std::net::IpAddr;
use std::time::Duration;

use hivemind_core::Timestamp;
use hivemind_net::addr::IpFamily;
use hivemind_net::dataplane::rules::RuleTable;
use hivemind_net::dataplane::state::{Link, LinkKind, Mac};
use hivemind_net::policy::rules::NodeRules;
use hivemind_net::policy::{Attachment, Change, Engine, NameCache, NameLimits, NotInForce};

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
    let prepared = |engine: &Engine, node: &str| {
        NodeRules::new(engine, tenant("acme"), node.parse().unwrap()).prepare().unwrap()
    };

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
    // Rules of another node, and those from before the workload was what it is.
    assert_eq!(attachment.up(&in_force(&engine, "n2")), Err(NotInForce::NotCovered(key("x/a"))));
    let moved = endpoint.at("10.0.1.99".parse().unwrap());
    engine.apply(Change::Endpoint(moved.clone()));
    let again = Attachment::new(moved, link());
    assert_eq!(again.up(&rules), Err(NotInForce::NotCovered(key("x/a"))));
    assert!(again.up(&in_force(&engine, "n1")).is_ok());
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
    assert_eq!(again.latest(), cache.latest());
    assert_eq!(again.expire(Timestamp::MAX).len(), 3);
}
