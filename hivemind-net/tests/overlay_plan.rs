//! No two users of one address see each other, and the plan says what will surprise.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::net::{Ipv4Addr, Ipv6Addr};

use hivemind_core::{Generation, TenantRef};
use hivemind_net::addr::precedence;
use hivemind_net::overlay::{AddressPlan, PlanProblem, PlanWarning, Vrf};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

fn tenant(id: &str) -> TenantRef {
    TenantRef::new(id.parse().unwrap(), Generation::from_u64(1))
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn base() -> AddressPlan {
    AddressPlan::new()
        .with_nodes(net("192.168.0.0/20"))
        .with_nodes(net("2001:db8:1::/64"))
        .with_services(net("10.96.0.0/16"))
        .with_services(net("fd00:5::/112"))
        .with_transit(net("100.64.0.0/10"))
        .with_transit(net("fd00:6::/64"))
        .with_nat64(net("64:ff9b::/96"))
        .with_dns64()
        .with_other(net("10.88.0.0/16"), "the office's VPN")
        .with_pool(tenant("red"), net("10.0.0.0/12"))
        .with_pool(tenant("blue"), net("10.0.0.0/12"))
        .with_pool(tenant("red"), net("2001:db8:2::/48"))
        .with_pool(tenant("blue"), net("2001:db8:2::/48"))
}

#[test]
fn pitfall_11_overlap_with_any_other_user_of_addresses() {
    assert_eq!(base().validate().unwrap(), []);
    for (pool, with) in [
        ("192.168.8.0/24", "192.168.0.0/20 (the nodes' links)"),
        ("192.168.0.0/16", "192.168.0.0/20 (the nodes' links)"),
        ("2001:db8:1::/80", "2001:db8:1::/64 (the nodes' links)"),
        ("10.96.128.0/17", "10.96.0.0/16 (services)"),
        ("fd00:5::/64", "fd00:5::/112 (services)"),
        ("100.100.0.0/16", "100.64.0.0/10 (transit)"),
        ("fd00:6::/96", "fd00:6::/64 (transit)"),
        ("64:ff9b::a00:0/104", "64:ff9b::/96 (NAT64)"),
        ("10.88.3.0/24", "10.88.0.0/16 (the office's VPN)"),
        ("10.15.0.0/16", "10.0.0.0/12 (workloads of tenant red)"),
        ("10.0.0.0/12", "10.0.0.0/12 (workloads of tenant red)"),
        ("127.0.0.0/24", "127.0.0.0/8 (loopback)"),
        ("169.254.7.0/24", "169.254.0.0/16 (link-local)"),
        ("224.0.0.0/8", "224.0.0.0/4 (multicast)"),
        ("fe80::/64", "fe80::/10 (link-local)"),
        ("ff05::/16", "ff00::/8 (multicast)"),
        ("::ffff:10.0.0.0/104", "::ffff:0.0.0.0/96 (IPv4-mapped)"),
        ("::/64", "::/96 (loopback)"),
    ] {
        let invalid = base().with_pool(tenant("red"), net(pool)).validate().unwrap_err();
        let text = invalid.to_string();
        assert!(text.contains(with) && text.contains(pool), "{pool}: {text}");
        assert!(!text.contains("blue"), "{text}");
    }
}

#[test]
fn a_prefix_must_be_able_to_be_what_it_is_for() {
    let invalid = base().with_pool(tenant("red"), net("10.16.0.1/16")).validate().unwrap_err();
    assert_eq!(
        invalid.to_string(),
        "10.16.0.1/16 (workloads of tenant red) has host bits set: its network is 10.16.0.0/16"
    );
    for (prefix, valid) in [
        ("2001:db8::/32", true),
        ("2001:db8:9::/56", true),
        ("2001:db8:9::/64", true),
        ("2001:db8:9::/60", false),
        ("2001:db8:9:0:100::/96", false),
        ("198.51.100.0/24", false),
    ] {
        assert_eq!(AddressPlan::new().with_nat64(net(prefix)).validate().is_ok(), valid, "{prefix}");
    }
}

#[test]
fn every_problem_is_named_at_once() {
    let invalid = base()
        .with_pool(tenant("red"), net("10.96.1.0/24"))
        .with_pool(tenant("blue"), net("fe80:1::/64"))
        .with_nat64(net("10.200.0.0/16"))
        .validate()
        .unwrap_err();
    assert_eq!(invalid.problems.len(), 3, "{invalid}");
}

#[test]
fn pitfall_33_ipv6_only_without_a_way_to_ipv4_is_a_warning() {
    let v6_only = AddressPlan::new().with_pool(tenant("red"), net("2001:db8:2::/48"));
    let missing = |plan: &AddressPlan| match plan.validate().unwrap().as_slice() {
        [] => None,
        [PlanWarning::NoWayToIpv4 { tenants, nat64_missing, dns64_missing }] => {
            assert_eq!(tenants.len(), 1);
            Some((*nat64_missing, *dns64_missing))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(&v6_only), Some((true, true)));
    assert_eq!(missing(&v6_only.clone().with_dns64()), Some((true, false)));
    let nat64 = v6_only.clone().with_nat64(net("64:ff9b::/96"));
    assert_eq!(missing(&nat64), Some((false, true)));
    assert_eq!(missing(&nat64.with_dns64()), None);
    assert_eq!(missing(&v6_only.with_pool(tenant("red"), net("10.0.0.0/16"))), None);
    let text = AddressPlan::new().with_pool(tenant("red"), net("2001:db8:2::/48")).validate().unwrap()[0]
        .to_string();
    assert_eq!(
        text,
        "tenants with IPv6 alone (red) reach nothing that has IPv4 alone: add a NAT64 prefix and DNS64"
    );
}

#[test]
fn what_will_surprise_is_said() {
    let plan = AddressPlan::new()
        .with_pool(tenant("red"), net("10.0.0.0/16"))
        .with_pool(tenant("red"), net("fd00:1::/64"))
        .with_pool(tenant("old"), net("10.0.0.0/16"))
        .with_services(net("fd00:5::/112"));
    let warnings = plan.validate().unwrap();
    assert_eq!(
        warnings,
        [
            PlanWarning::ServicesOutOfReach { tenants: [tenant("old")].into() },
            PlanWarning::Ipv4Preferred { tenants: [tenant("red")].into() },
        ]
    );
}

#[test]
fn what_leaves_the_plan_is_masqueraded_unless_the_world_knows_it() {
    let plan = base().with_pool(tenant("red"), net("fd00:1::/64"));
    let red = plan.masquerade(&tenant("red"), true);
    assert_eq!(red.sources, [net("10.0.0.0/12"), net("fd00:1::/64")]);
    let inside = |prefix: &str, encapsulated| {
        plan.masquerade(&tenant("red"), encapsulated).inside.contains(&net(prefix))
    };
    for prefix in ["10.0.0.0/12", "2001:db8:2::/48", "10.96.0.0/16", "fd00:5::/112"] {
        assert!(inside(prefix, true), "{prefix}");
    }
    assert!(!inside("64:ff9b::/96", true), "behind NAT64 is the world");
    assert!(!inside("192.168.0.0/20", true), "nodes have no way back to encapsulated addresses");
    assert!(inside("192.168.0.0/20", false), "with direct routing they have");
    assert!(!inside("10.88.0.0/16", false), "others never have");
    assert_eq!(plan.masquerade(&tenant("blue"), true).sources, [net("10.0.0.0/12")]);
}

fn prefix() -> impl Strategy<Value = IpNet> {
    // Few addresses, so that overlaps are frequent.
    let v4 = (0u8..4, 0u8..4, 14u8..=24)
        .prop_map(|(a, b, len)| IpNet::from(Ipv4Net::new(Ipv4Addr::new(10, a, b, 0), len).unwrap().trunc()));
    let v6 = (0u16..4, 0u16..4, 44u8..=64).prop_map(|(a, b, len)| {
        IpNet::from(Ipv6Net::new(Ipv6Addr::new(0xfd00, 0, a, b, 0, 0, 0, 0), len).unwrap().trunc())
    });
    prop_oneof![v4, v6]
}

proptest! {
    #[test]
    fn an_overlap_is_found_exactly_if_two_that_see_each_other_overlap(
        entries in proptest::collection::vec((0usize..4, prefix()), 0..10),
    ) {
        let mut plan = AddressPlan::new();
        for (who, prefix) in entries {
            plan = match who {
                0 => plan.with_services(prefix),
                who => plan.with_pool(tenant(["red", "blue", "green"][who - 1]), prefix),
            };
        }
        let overlap = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
        let see = |a: &Vrf, b: &Vrf| a == b || *a == Vrf::Shared || *b == Vrf::Shared;
        let entries = plan.entries();
        // Each entry that another contains (an equal one of lower index counts as containing).
        let expected = (0..entries.len()).any(|i| (0..i).any(|j| {
            see(&entries[i].vrf, &entries[j].vrf) && overlap(&entries[i].prefix, &entries[j].prefix)
        }));
        match plan.validate() {
            Ok(_) => prop_assert!(!expected),
            Err(invalid) => {
                prop_assert!(expected);
                for problem in invalid.problems {
                    let PlanProblem::Overlap { inner, outer } = problem else { panic!("{problem:?}") };
                    prop_assert!(outer.prefix.contains(&inner.prefix) && see(&inner.vrf, &outer.vrf));
                }
            }
        }
    }
}

#[test]
fn pitfall_32_whose_ipv6_would_not_be_used_is_warned() {
    let warned = |v6: &str| {
        let plan = AddressPlan::new().with_pool(tenant("red"), net("10.0.0.0/16"));
        let warnings = plan.with_pool(tenant("red"), net(v6)).validate().unwrap();
        warnings == [PlanWarning::Ipv4Preferred { tenants: [tenant("red")].into() }]
    };
    // Exactly where the standard puts IPv4 first.
    for v6 in ["fd00:1::/64", "2001:db8:2::/48", "2002:a00::/32", "2001:0:1::/48", "3ffe:1::/32", "2a00::/32"]
    {
        assert_eq!(
            warned(v6),
            precedence(net(v6).network()) < precedence("10.0.0.1".parse().unwrap()),
            "{v6}"
        );
    }
    assert!(warned("fd00:1::/64") && !warned("2a00::/32"));
}
