//! What is refused, and how it is told.

use hivemind_net::addr::IpFamily;
use hivemind_net::policy::{
    ClusterPolicy, DnsName, Grant, InvalidFlow, IpBlock, NamePattern, NetworkPolicy, Party, PolicySpec,
    PortMatch, PortName, Protocol, Traffic,
};
use proptest::prelude::*;

use crate::support::{cluster, flow, key};

#[test]
fn errors_say_where_and_what() {
    let table = [
        (
            r#"{"ingress":[{},{"from":[{"ipBlock":{"cidr":"10.0.0.1/8"}}]}]}"#,
            "ingress[1].from[0]: 10.0.0.1/8 has host bits set: its network is 10.0.0.0/8",
        ),
        (
            r#"{"egress":[{"to":[{"ipBlock":{"cidr":"::ffff:10.0.0.0/104"}}]}]}"#,
            "egress[0].to[0]: ::ffff:10.0.0.0/104 is IPv4 written as IPv6",
        ),
        (
            r#"{"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["11.0.0.0/16"]}}]}]}"#,
            "egress[0].to[0]: except 11.0.0.0/16 is not strictly within 10.0.0.0/8",
        ),
        (
            r#"{"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.0.0.0/8"]}}]}]}"#,
            "is not strictly within",
        ),
        (
            r#"{"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["fd00::/8"]}}]}]}"#,
            "is not strictly within",
        ),
        (r#"{"egress":[{"to":[{"ipBlock":{"cidr":"fe80::1%eth0/64"}}]}]}"#, "is no CIDR"),
        (r#"{"egress":[{"to":[{"ipBlock":{"cidr":"010.0.0.0/8"}}]}]}"#, "is no CIDR"),
        (r#"{"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0"}}]}]}"#, "is no CIDR"),
        (
            r#"{"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8"},"podSelector":{}}]}]}"#,
            "ingress[0].from[0]: a peer is either",
        ),
        (r#"{"ingress":[{"from":[{}]}]}"#, "ingress[0].from[0]: a peer needs a selector"),
        (
            r#"{"ingress":[{"from":[{"dnsName":"example.com"}]}]}"#,
            "ingress[0].from[0]: a dnsName says where traffic goes",
        ),
        (r#"{"ingress":[{"ports":[{"port":0}]}]}"#, "ingress[0].ports[0]: port 0 is none"),
        (r#"{"ingress":[{"ports":[{"port":"HTTP"}]}]}"#, "ingress[0].ports[0]: port name \"HTTP\""),
        (r#"{"ingress":[{"ports":[{"port":"80"}]}]}"#, "with a letter at least"),
        (r#"{"ingress":[{"ports":[{"port":80,"endPort":79}]}]}"#, "port range 80 to 79"),
        (r#"{"ingress":[{"ports":[{"port":"web","endPort":90}]}]}"#, "endPort 90 needs a numeric port"),
        (r#"{"ingress":[{"ports":[{"endPort":90}]}]}"#, "endPort 90 needs a numeric port"),
        (r#"{"ingress":[{"ports":[{"protocol":"tcp"}]}]}"#, "protocol \"tcp\": give TCP"),
        (r#"{"ingress":[{"ports":[{"protocol":"ICMP","port":8}]}]}"#, "ICMP has no ports"),
        (r#"{"ingress":[{"ports":[{"protocol":"TCP","type":8}]}]}"#, "TCP has no types"),
        (r#"{"ingress":[{"ports":[{"protocol":"ICMP","code":8}]}]}"#, "ICMP code 8 needs a type"),
        (r#"{"ingress":[{"ports":[{"protocol":"any","port":8}]}]}"#, "protocol any takes neither"),
        (r#"{"ingress":[{"to":[]}]}"#, "unknown field `to`"),
        (r#"{"ingres":[]}"#, "unknown field `ingres`"),
        (r#"{"policyTypes":["Both"]}"#, "unknown variant `Both`"),
        (r#"{"podSelector":"a in b"}"#, "selector, at byte 5"),
        (
            r#"{"podSelector":{"matchExpressions":[{"key":"a","operator":"In"}]}}"#,
            "In on a takes one value or more, not 0",
        ),
        (r#"{"podSelector":{"matchLabels":{"a":"b","c/d/e":"f"}}}"#, "label"),
        (r#"{"podSelector":3}"#, "a selector as text, or an object"),
    ];
    for (text, expected) in table {
        let error = serde_json::from_str::<PolicySpec>(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn cluster_policies_name_their_peers() {
    let table = [
        (r#"{"name":"p","tier":"Admin","priority":1001,"subject":{"tenantSelector":{}}}"#, "priority 1001"),
        (r#"{"name":"p","tier":"Admin","priority":0,"subject":{}}"#, "subject: a peer needs"),
        (
            r#"{"name":"p","tier":"Admin","priority":0,"subject":{"tenantSelector":{}},"ingress":[{"action":"Deny"}]}"#,
            "ingress[0]: a rule of a cluster policy names its peers",
        ),
        (
            r#"{"name":"p","tier":"Admin","priority":0,"subject":{"tenantSelector":{}},"ingress":[{"action":"Deny","from":[]}]}"#,
            "names its peers",
        ),
        (
            r#"{"name":"p","tier":"Admin","priority":0,"subject":{"tenantSelector":{}},"egress":[{"action":"Deny","from":[{"tenantSelector":{}}]}]}"#,
            "names its peers",
        ),
        (r#"{"name":"P","tier":"Admin","priority":0,"subject":{"tenantSelector":{}}}"#, "policy name \"P\""),
    ];
    for (text, expected) in table {
        let error = serde_json::from_str::<ClusterPolicy>(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let text = r#"{"name":"p","tier":"Baseline","priority":7,"subject":{"tenantSelector":"org=acme"},"egress":[{"name":"dns","action":"Allow","to":[{"dnsName":"*.example.com"}],"ports":[{"protocol":"UDP","port":53}]}]}"#;
    let policy: ClusterPolicy = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&policy).unwrap(), text);
}

#[test]
fn domain_names_have_one_form() {
    let name: DnsName = "WWW.Example.com.".parse().unwrap();
    assert_eq!(name.as_str(), "www.example.com");
    for bad in ["", ".", "a..b", "-a.b", "a b", "*.a", "ä.de", &"a.".repeat(200)] {
        assert!(bad.parse::<DnsName>().is_err(), "{bad:?}");
    }
    let below: NamePattern = "*.Example.com".parse().unwrap();
    for (name, expected) in [
        ("example.com", false),
        ("a.example.com", true),
        ("b.a.example.com", true),
        ("badexample.com", false),
        ("example.com.evil.org", false),
    ] {
        assert_eq!(below.matches(&name.parse().unwrap()), expected, "{name}");
    }
    for bad in ["*", "*.", "a.*.b", "**.a", "*a.b"] {
        assert!(bad.parse::<NamePattern>().is_err(), "{bad:?}");
    }
}

#[test]
fn protocols_have_one_form() {
    assert_eq!("6".parse::<Protocol>().unwrap(), Protocol::TCP);
    assert_eq!(Protocol::from_number(47).to_string(), "47");
    for bad in ["", "256", "-1", "+6", "06", " 6", "tcp"] {
        assert!(bad.parse::<Protocol>().is_err(), "{bad:?}");
    }
    assert_eq!(Traffic::new(Protocol::from_number(47), 9), Traffic::new(Protocol::from_number(47), 0));
}

#[test]
fn what_ip_needs_is_essential_and_echo_is_not() {
    for kind in [1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 137, 143] {
        assert!(Traffic::icmp_v6(kind, 0).is_essential(), "ICMPv6 {kind}");
    }
    assert!(Traffic::icmp(3, 4).is_essential());
    for other in [
        Traffic::icmp_v6(128, 0),
        Traffic::icmp_v6(129, 0),
        Traffic::icmp(8, 0),
        Traffic::icmp(5, 0),
        Traffic::tcp(2),
    ] {
        assert!(!other.is_essential(), "{other}");
    }
}

#[test]
fn a_flow_that_cannot_be_is_refused() {
    let world = cluster();
    let no_such = world.reach(&flow("x/q", "x/a", "tcp80", IpFamily::V4).unwrap());
    assert_eq!(no_such, Err(InvalidFlow::NoWorkload(key("x/q"))));
    let v6_only = world.reach(&flow("x/a", "z/c", "tcp80", IpFamily::V4).unwrap());
    assert_eq!(v6_only, Err(InvalidFlow::NoAddress { key: key("z/c"), family: IpFamily::V4 }));
    let neither = world.reach(&flow("8.8.8.8", "9.9.9.9", "tcp80", IpFamily::V4).unwrap());
    assert_eq!(neither, Err(InvalidFlow::NotOurs));
    let known = world.reach(&flow("10.0.1.1", "x/b", "tcp80", IpFamily::V4).unwrap()).unwrap_err();
    assert_eq!(known.to_string(), "10.0.1.1 is that of workload x-a: ask about the workload");
    let mut mixed = flow("x/a", "x/b", "icmp8", IpFamily::V4).unwrap();
    mixed.family = IpFamily::V6;
    assert_eq!(world.reach(&mixed).unwrap_err().to_string(), "V6 has no ICMP type 8 code 0");
}

#[test]
fn pitfall_29_an_ipv4_mapped_address_is_the_ipv4_address() {
    let world = cluster();
    let plain = flow("8.8.8.8", "x/a", "tcp80", IpFamily::V4).unwrap();
    let mut mapped = plain.clone();
    mapped.from = Party::Outside("::ffff:8.8.8.8".parse().unwrap());
    assert_eq!(world.reach(&mapped), world.reach(&plain));
    let block: IpBlock = serde_json::from_str(r#"{"cidr":"8.0.0.0/8"}"#).unwrap();
    assert!(block.contains("::ffff:8.8.8.8".parse().unwrap()));
    assert!(serde_json::from_str::<IpBlock>(r#"{"cidr":"::ffff:8.0.0.0/104"}"#).is_err());
}

/// JSON of the shape of policies, mostly wrong somewhere.
fn json() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("\"podSelector\":"),
        Just("\"ingress\":"),
        Just("\"egress\":"),
        Just("\"from\":"),
        Just("\"to\":"),
        Just("\"ports\":"),
        Just("\"port\":"),
        Just("\"endPort\":"),
        Just("\"protocol\":"),
        Just("\"ipBlock\":"),
        Just("\"cidr\":"),
        Just("\"except\":"),
        Just("\"policyTypes\":"),
        Just("\"matchLabels\":"),
        Just("\"type\":"),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just("null"),
        Just("\"TCP\""),
        Just("\"ICMPv6\""),
        Just("65535"),
        Just("0"),
        Just("-1"),
        Just("\"10.0.0.0/8\""),
        Just("\"::/0\""),
        Just("\"a in (b)\""),
        Just("\"*.a\""),
        Just("\"Egress\""),
        Just("{}"),
        Just("[]"),
        Just("\"dnsName\":"),
        Just("\"\u{0}\""),
    ];
    proptest::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn reading_never_panics(text in prop_oneof![json(), ".{0,200}"]) {
        let _ = serde_json::from_str::<PolicySpec>(&text);
        let _ = serde_json::from_str::<PolicySpec>(&format!("{{{text}}}"));
        let _ = serde_json::from_str::<PolicySpec>(&format!(r#"{{"ingress":[{{{text}}}]}}"#));
        let _ = serde_json::from_str::<PolicySpec>(&format!(r#"{{"egress":[{{"to":[{{{text}}}]}}]}}"#));
        let _ = serde_json::from_str::<NetworkPolicy>(&text);
        let _ = serde_json::from_str::<ClusterPolicy>(&text);
        let _ = serde_json::from_str::<Grant>(&text);
        let _ = serde_json::from_str::<PortMatch>(&format!("{{{text}}}"));
        let _ = serde_json::from_str::<IpBlock>(&format!("{{{text}}}"));
        let _ = text.parse::<DnsName>();
        let _ = text.parse::<NamePattern>();
        let _ = text.parse::<PortName>();
        let _ = text.parse::<Protocol>();
    }

    #[test]
    fn what_is_read_is_written_and_read_alike(cidr in any::<u32>(), length in 0u8..=32, cut in 0u8..=32) {
        let net = ipnet::Ipv4Net::new(cidr.into(), length).unwrap().trunc();
        let inner = ipnet::Ipv4Net::new(cidr.into(), length.max(cut)).unwrap().trunc();
        let block = IpBlock::new(net.into()).unwrap();
        let block = if inner == net { block } else { block.except(inner.into()).unwrap() };
        let text = serde_json::to_string(&block).unwrap();
        prop_assert_eq!(serde_json::from_str::<IpBlock>(&text).unwrap(), block);
    }
}
