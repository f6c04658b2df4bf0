//! Names are stable, valid, and apart from each other.

use std::collections::BTreeSet;

use hivemind_core::Generation;

use super::*;

fn tenant(id: &str, generation: u64) -> TenantRef {
    TenantRef::new(id.parse().unwrap(), Generation::from_u64(generation))
}

fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

#[test]
fn names_are_the_same_for_ever() {
    let (node, acme, web) = ("node-1".parse().unwrap(), tenant("acme", 1), "web".parse().unwrap());
    let names = [
        vtep_mac(&node, &acme, vni(5000)).to_string(),
        gateway_mac(vni(5000)).to_string(),
        workload_mac(&acme, &web).to_string(),
        link_local("02:00:5e:00:53:01".parse().unwrap()).to_string(),
        workload_link(&acme, &web).unwrap().to_string(),
        tunnel_link(Vni::MAX).unwrap().to_string(),
        egress_link(Vni::MAX).unwrap().to_string(),
        uplink_macs(&node, vni(5000)).0.to_string(),
        uplink_macs(&node, vni(5000)).1.to_string(),
        router_netns(&node, &acme, Vni::MAX).unwrap().to_string(),
        workload_netns(&node, &acme, &web).unwrap().to_string(),
    ];
    let expected = [
        "ba:b9:58:da:1c:97",
        "7e:54:3d:4d:88:3a",
        "aa:62:0f:a2:7b:ff",
        "fe80::5eff:fe00:5301",
        "wo5fumqvtecgvn",
        "vx16777215",
        "hm16777215",
        "66:d4:af:f9:86:d1",
        "32:04:ec:bd:82:c8",
        "hm-r16777215-npbjrfmspyopp-eltfmy5kt6yel",
        "hm-wfwyhghmfuntun",
    ];
    assert_eq!(names, expected);
}

#[test]
fn macs_are_local_unicast_and_differ_by_every_input() {
    let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
    let (red, again, blue) = (tenant("red", 1), tenant("red", 2), tenant("blue", 1));
    let mut macs = BTreeSet::new();
    for number in 1..2000 {
        macs.extend([vtep_mac(&a, &red, vni(number)), vtep_mac(&b, &red, vni(number))]);
        macs.extend([vtep_mac(&a, &again, vni(number)), vtep_mac(&a, &blue, vni(number))]);
        macs.insert(gateway_mac(vni(number)));
        let workload = format!("w{number}").parse().unwrap();
        macs.extend([workload_mac(&tenant("a", 1), &workload), workload_mac(&tenant("a", 2), &workload)]);
    }
    assert_eq!(macs.len(), 1999 * 7);
    for mac in macs {
        assert!(mac.is_unicast() && mac.octets()[0] & 0x02 != 0, "{mac}");
    }
}

#[test]
fn the_longest_ids_have_valid_names() {
    let longest = "x".repeat(63);
    let tenant = tenant(&longest, u64::MAX);
    let (node, workload) = (longest.parse().unwrap(), longest.parse().unwrap());
    assert!(workload_link(&tenant, &workload).unwrap().as_str().len() <= 15);
    assert!(router_netns(&node, &tenant, Vni::MAX).is_ok());
    assert!(workload_netns(&node, &tenant, &workload).is_ok());
}

#[test]
fn a_router_is_known_by_its_name_whoever_its_tenant_is() {
    let (node, other) = ("node-1".parse().unwrap(), "node-2".parse().unwrap());
    let (red, blue) = (tenant("red", 1), tenant("blue", 7));
    let of = |tenant| router_netns(&node, tenant, vni(5000)).unwrap();
    assert_ne!(of(&red), of(&blue), "what one tenant leaves is not in the namespace of the next one");
    assert!(is_router(&node, &of(&red)) && is_router(&node, &of(&blue)) && !is_router(&other, &of(&red)));
    assert!(is_router(&node, &format!("/proc/1/root/run/netns/{}", of(&red)).parse().unwrap()));
    for text in ["hm-r5000", "hm-r0-x", "hm-r5000-npbjrfmspyopp", "web"] {
        assert!(!is_router(&node, &text.parse().unwrap()), "{text}");
    }
}
