//! What Kubernetes' NetworkPolicy means, case by case: after its API documentation, its end-to-end tests and the
//! well-known recipes.

use hivemind_net::policy::{PolicySpec, World};

use crate::support::{check, cluster, network};

/// A name; policies as namespace and spec; and what passes then.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const DENY_X: (&str, &str) = ("x", r#"{"podSelector":{}}"#);

const CASES: &[Case] = &[
    (
        "no policy allows everything",
        &[],
        "y/b>x/a tcp80 +; x/a>y/b udp53 +; 8.8.8.8>x/a tcp80 +; x/a>2001:db8::1 tcp443 +",
    ),
    (
        "an empty selector selects every workload of the namespace",
        &[DENY_X],
        "y/b>x/a tcp80 -; x/b>x/a tcp80 -; x/a>x/c tcp80 -",
    ),
    ("and none of another namespace", &[DENY_X], "x/a>y/b tcp80 +; z/b>y/b tcp80 +"),
    (
        "an absent selector is an empty one",
        &[("x", r#"{"policyTypes":["Ingress"]}"#)],
        "y/b>x/a tcp80 -; y/b>z/b tcp80 +",
    ),
    ("a null selector is an empty one", &[("x", r#"{"podSelector":null}"#)], "y/b>x/a tcp80 -"),
    ("default deny ingress leaves egress alone", &[DENY_X], "x/a>y/b tcp80 +; x/a>8.8.8.8 udp53 +"),
    (
        "default deny egress leaves ingress alone",
        &[("x", r#"{"podSelector":{},"policyTypes":["Egress"]}"#)],
        "x/a>y/b tcp80 -; y/b>x/a tcp80 +; x/a>8.8.8.8 udp53 -",
    ),
    (
        "default deny both",
        &[("x", r#"{"podSelector":{},"policyTypes":["Ingress","Egress"]}"#)],
        "x/a>y/b tcp80 -; y/b>x/a tcp80 -; x/a>x/b tcp80 -",
    ),
    (
        "a denied sender cannot reach an open receiver",
        &[
            ("x", r#"{"podSelector":{},"policyTypes":["Egress"]}"#),
            ("y", r#"{"podSelector":{},"ingress":[{}]}"#),
        ],
        "x/a>y/b tcp80 -; z/b>y/b tcp80 +",
    ),
    (
        "an allowed sender cannot reach a denying receiver",
        &[
            ("x", r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{}]}"#),
            ("y", r#"{"podSelector":{}}"#),
        ],
        "x/a>y/b tcp80 -; x/a>z/b tcp80 +",
    ),
    (
        "types absent: egress is isolated if there are egress rules",
        &[("x", r#"{"podSelector":{},"egress":[{"to":[{"podSelector":{}}]}]}"#)],
        "x/a>y/b tcp80 -; x/a>x/b tcp80 -; y/b>x/a tcp80 -",
    ),
    (
        "types absent: an empty egress list isolates nothing",
        &[("x", r#"{"podSelector":{},"egress":[]}"#)],
        "x/a>y/b tcp80 +; y/b>x/a tcp80 -",
    ),
    (
        "types absent: a null egress list isolates nothing",
        &[("x", r#"{"podSelector":{},"egress":null}"#)],
        "x/a>y/b tcp80 +; y/b>x/a tcp80 -",
    ),
    (
        "empty types are absent types",
        &[("x", r#"{"podSelector":{},"policyTypes":[],"egress":[{}]}"#)],
        "x/a>y/b tcp80 +; y/b>x/a tcp80 -",
    ),
    (
        "types egress: ingress rules count for nothing",
        &[(
            "x",
            r#"{"podSelector":{},"policyTypes":["Egress"],"ingress":[{"from":[{"podSelector":{}}]}],"egress":[{}]}"#,
        )],
        "y/b>x/a tcp80 +; x/a>y/b tcp80 +",
    ),
    (
        "an ingress list with an empty rule allows all",
        &[("x", r#"{"podSelector":{},"ingress":[{}]}"#)],
        "y/b>x/a tcp80 +; 8.8.8.8>x/a udp9 +; x/b>x/a sctp5 +",
    ),
    (
        "an empty ingress list allows nothing",
        &[("x", r#"{"podSelector":{},"ingress":[]}"#)],
        "y/b>x/a tcp80 -",
    ),
    (
        "a null ingress list allows nothing",
        &[("x", r#"{"podSelector":{},"ingress":null}"#)],
        "y/b>x/a tcp80 -",
    ),
    (
        "an empty from is everybody",
        &[("x", r#"{"podSelector":{},"ingress":[{"from":[]}]}"#)],
        "y/b>x/a tcp80 +; 8.8.8.8>x/a tcp80 +",
    ),
    (
        "a null from is everybody",
        &[("x", r#"{"podSelector":{},"ingress":[{"from":null,"ports":[{"port":80}]}]}"#)],
        "y/b>x/a tcp80 +; y/b>x/a tcp81 -",
    ),
    (
        "an empty to is everybody",
        &[("x", r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"to":[]}]}"#)],
        "x/a>y/b tcp80 +; x/a>8.8.8.8 tcp80 +",
    ),
    (
        "empty ports are all traffic",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":[]}]}"#)],
        "y/b>x/a tcp9999 +; y/b>x/a udp1 +; y/b>x/a icmp8 +; y/b>x/a icmp6-128 +; y/b>x/a proto47 +",
    ),
    (
        "null ports are all traffic",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":null}]}"#)],
        "y/b>x/a tcp9999 +",
    ),
    (
        "allow all beats default deny",
        &[DENY_X, ("x", r#"{"podSelector":{},"ingress":[{}]}"#)],
        "y/b>x/a tcp80 +",
    ),
    (
        "a workload selector in from is of the own namespace",
        &[(
            "x",
            r#"{"podSelector":{"matchLabels":{"pod":"a"}},"ingress":[{"from":[{"podSelector":{"matchLabels":{"pod":"b"}}}]}]}"#,
        )],
        "x/b>x/a tcp80 +; y/b>x/a tcp80 -; x/c>x/a tcp80 -; 8.8.8.8>x/a tcp80 -",
    ),
    (
        "an empty workload selector in from is the whole own namespace",
        &[("x", r#"{"podSelector":{},"ingress":[{"from":[{"podSelector":{}}]}]}"#)],
        "x/b>x/a tcp80 +; y/a>x/a tcp80 -; 8.8.8.8>x/a tcp80 -",
    ),
    (
        "an empty namespace selector is every namespace, and not the outside",
        &[("x", r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{}}]}]}"#)],
        "x/b>x/a tcp80 +; z/b>x/a tcp80 +; 8.8.8.8>x/a tcp80 -",
    ),
    (
        "a namespace selector selects by labels",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}}}]}]}"#,
        )],
        "y/a>x/a tcp80 +; z/a>x/a tcp80 -; x/b>x/a tcp80 -",
    ),
    (
        "a namespace by its name",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"z"}}}]}]}"#,
        )],
        "z/a>x/a tcp80 +; y/a>x/a tcp80 -",
    ),
    (
        "both selectors of one peer must match",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}},"podSelector":{"matchLabels":{"pod":"b"}}}]}]}"#,
        )],
        "y/b>x/a tcp80 +; y/a>x/a tcp80 -; z/b>x/a tcp80 -; x/b>x/a tcp80 -",
    ),
    (
        "selectors of two peers are alternatives",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}}},{"podSelector":{"matchLabels":{"pod":"b"}}}]}]}"#,
        )],
        "y/a>x/a tcp80 +; x/b>x/a tcp80 +; z/b>x/a tcp80 -; x/c>x/a tcp80 -",
    ),
    (
        "a namespace selector with an empty workload selector",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}},"podSelector":{}}]}]}"#,
        )],
        "y/a>x/a tcp80 +; z/a>x/a tcp80 -",
    ),
    (
        "an empty namespace selector with a workload selector",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{},"podSelector":{"matchLabels":{"pod":"b"}}}]}]}"#,
        )],
        "y/b>x/a tcp80 +; x/b>x/a tcp80 +; y/a>x/a tcp80 -",
    ),
    (
        "match expression In",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"ns","operator":"In","values":["x","y"]}]}}]}]}"#,
        )],
        "y/a>x/a tcp80 +; x/b>x/a tcp80 +; z/a>x/a tcp80 -",
    ),
    (
        "match expression NotIn",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"ns","operator":"NotIn","values":["x"]}]}}]}]}"#,
        )],
        "y/a>x/a tcp80 +; z/a>x/a tcp80 +; x/b>x/a tcp80 -",
    ),
    (
        "match expression NotIn also matches who has no such label",
        &[(
            "x",
            r#"{"podSelector":{"matchExpressions":[{"key":"tier","operator":"NotIn","values":["db"]}]}}"#,
        )],
        "y/a>x/a tcp80 -",
    ),
    (
        "match expression Exists",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{},"podSelector":{"matchExpressions":[{"key":"pod","operator":"Exists"}]}}]}]}"#,
        )],
        "y/a>x/a tcp80 +",
    ),
    (
        "match expression DoesNotExist",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"podSelector":{"matchExpressions":[{"key":"pod","operator":"DoesNotExist"}]}}]}]}"#,
        )],
        "x/b>x/a tcp80 -",
    ),
    (
        "all of labels and expressions must match",
        &[(
            "x",
            r#"{"podSelector":{"matchLabels":{"pod":"a"},"matchExpressions":[{"key":"pod","operator":"In","values":["b"]}]}}"#,
        )],
        "y/a>x/a tcp80 +; y/a>x/b tcp80 +",
    ),
    (
        "a port is TCP unless told otherwise",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":[{"port":80}]}]}"#)],
        "y/a>x/a tcp80 +; y/a>x/a udp80 -; y/a>x/a sctp80 -; y/a>x/a tcp81 -",
    ),
    (
        "a port of UDP",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":[{"protocol":"UDP","port":80}]}]}"#)],
        "y/a>x/a udp80 +; y/a>x/a tcp80 -",
    ),
    (
        "a port of SCTP",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":[{"protocol":"SCTP","port":80}]}]}"#)],
        "y/a>x/a sctp80 +; y/a>x/a tcp80 -",
    ),
    (
        "a protocol without port is all its ports",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":[{"protocol":"UDP"}]}]}"#)],
        "y/a>x/a udp1 +; y/a>x/a udp65535 +; y/a>x/a tcp80 -",
    ),
    (
        "an empty port is all of TCP",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":[{}]}]}"#)],
        "y/a>x/a tcp7 +; y/a>x/a udp7 -",
    ),
    (
        "several ports are alternatives",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":[{"port":80},{"protocol":"UDP","port":53}]}]}"#)],
        "y/a>x/a tcp80 +; y/a>x/a udp53 +; y/a>x/a tcp53 -",
    ),
    (
        "peers and ports of one rule must both match",
        &[("x", r#"{"podSelector":{},"ingress":[{"from":[{"podSelector":{}}],"ports":[{"port":80}]}]}"#)],
        "x/b>x/a tcp80 +; x/b>x/a tcp81 -; y/a>x/a tcp80 -",
    ),
    (
        "rules are alternatives",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"podSelector":{}}],"ports":[{"port":80}]},{"from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}}}],"ports":[{"port":81}]}]}"#,
        )],
        "x/b>x/a tcp80 +; x/b>x/a tcp81 -; y/a>x/a tcp81 +; y/a>x/a tcp80 -",
    ),
    (
        "policies add up",
        &[
            ("x", r#"{"podSelector":{},"ingress":[{"ports":[{"port":80}]}]}"#),
            ("x", r#"{"podSelector":{"matchLabels":{"pod":"a"}},"ingress":[{"ports":[{"port":81}]}]}"#),
        ],
        "y/a>x/a tcp80 +; y/a>x/a tcp81 +; y/a>x/b tcp81 -; y/a>x/a tcp82 -",
    ),
    (
        "a range of ports includes both ends",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":[{"port":80,"endPort":82}]}]}"#)],
        "y/a>x/a tcp79 -; y/a>x/a tcp80 +; y/a>x/a tcp82 +; y/a>x/a tcp83 -",
    ),
    (
        "a range of one",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":[{"port":80,"endPort":80}]}]}"#)],
        "y/a>x/a tcp80 +; y/a>x/a tcp81 -",
    ),
    (
        "a named port in ingress is the selected workload's",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":[{"port":"serve-80-tcp"}]}]}"#)],
        "y/a>x/a tcp80 +; y/a>x/a tcp81 -; y/a>x/a udp80 -",
    ),
    (
        "a named port that nobody has allows nothing",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":[{"port":"nope"}]}]}"#)],
        "y/a>x/a tcp80 -",
    ),
    (
        "a named port of the other protocol allows nothing",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":[{"protocol":"UDP","port":"serve-80-tcp"}]}]}"#)],
        "y/a>x/a tcp80 -; y/a>x/a udp80 -",
    ),
    (
        "a named port in egress is the receiver's",
        &[(
            "x",
            r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"ports":[{"port":"serve-80-tcp"}]}]}"#,
        )],
        "x/a>y/a tcp80 +; x/a>y/c tcp8080 +; x/a>y/c tcp80 -; x/a>y/a tcp8080 -; x/a>8.8.8.8 tcp80 -",
    ),
    (
        "egress to a workload and to DNS",
        &[(
            "x",
            r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"to":[{"namespaceSelector":{"matchLabels":{"ns":"y"}}}]},{"ports":[{"protocol":"UDP","port":53}]}]}"#,
        )],
        "x/a>y/a tcp80 +; x/a>z/a tcp80 -; x/a>z/a udp53 +; x/a>8.8.8.8 udp53 +",
    ),
    (
        "ports alone, and the peers do not matter",
        &[("x", r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"ports":[{"port":443}]}]}"#)],
        "x/a>8.8.8.8 tcp443 +; x/a>2001:db8::1 tcp443 +; x/a>y/a tcp443 +; x/a>8.8.8.8 tcp80 -",
    ),
    (
        "a block in ingress",
        &[("x", r#"{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"203.0.113.0/24"}}]}]}"#)],
        "203.0.113.7>x/a tcp80 +; 203.0.114.7>x/a tcp80 -; 2001:db8::1>x/a tcp80 -; x/b>x/a tcp80 -",
    ),
    (
        "a block with an exception",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"203.0.113.0/24","except":["203.0.113.8/29"]}}]}]}"#,
        )],
        "203.0.113.7>x/a tcp80 +; 203.0.113.8>x/a tcp80 -; 203.0.113.15>x/a tcp80 -; 203.0.113.16>x/a tcp80 +",
    ),
    (
        "a null exception list",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"203.0.113.0/24","except":null}}]}]}"#,
        )],
        "203.0.113.7>x/a tcp80 +",
    ),
    (
        "what one block excepts another may allow",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"203.0.113.0/24","except":["203.0.113.8/29"]}}]},{"from":[{"ipBlock":{"cidr":"203.0.113.9/32"}}]}]}"#,
        )],
        "203.0.113.9>x/a tcp80 +; 203.0.113.10>x/a tcp80 -",
    ),
    (
        "an IPv6 block",
        &[(
            "x",
            r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"to":[{"ipBlock":{"cidr":"2001:db8::/32","except":["2001:db8:1::/48"]}}]}]}"#,
        )],
        "x/a>2001:db8::1 tcp80 +; x/a>2001:db8:1::1 tcp80 -; x/a>8.8.8.8 tcp80 -; x/a>y/a tcp80 -",
    ),
    (
        "all addresses of one family are not those of the other",
        &[(
            "x",
            r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"to":[{"ipBlock":{"cidr":"0.0.0.0/0"}}]}]}"#,
        )],
        "x/a>8.8.8.8 tcp80 +; x/a>2001:db8::1 tcp80 -; x/a>z/c tcp80 -",
    ),
    (
        "a block also holds workloads of the tenant, by their addresses",
        &[(
            "x",
            r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"to":[{"ipBlock":{"cidr":"10.0.2.0/24"}},{"ipBlock":{"cidr":"fd00::2:0/112"}}]}]}"#,
        )],
        "x/a>y/a tcp80 +; x/a>y/c tcp80 +; x/a>z/a tcp80 -",
    ),
    (
        "and excepts them",
        &[(
            "x",
            r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"to":[{"ipBlock":{"cidr":"10.0.2.0/24","except":["10.0.2.1/32"]}},{"ipBlock":{"cidr":"fd00::2:0/112","except":["fd00::2:1/128"]}}]}]}"#,
        )],
        "x/a>y/a tcp80 -; x/a>y/b tcp80 +",
    ),
    (
        "a selector allows what a block excepts",
        &[(
            "x",
            r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"to":[{"ipBlock":{"cidr":"10.0.2.0/24","except":["10.0.2.1/32"]}},{"namespaceSelector":{"matchLabels":{"ns":"y"}},"podSelector":{"matchLabels":{"pod":"a"}}}]}]}"#,
        )],
        "x/a>y/a tcp80 +",
    ),
    (
        "a workload always reaches itself",
        &[("x", r#"{"podSelector":{},"policyTypes":["Ingress","Egress"]}"#)],
        "x/a>x/a tcp80 +; x/a>x/a udp80 +",
    ),
    (
        "the own host always reaches a workload",
        &[DENY_X],
        "@n1>x/a tcp80 +; @n2>x/a tcp80 -; @n2>x/b tcp80 +",
    ),
    (
        "only one workload is selected",
        &[("x", r#"{"podSelector":{"matchLabels":{"pod":"a"}}}"#)],
        "y/a>x/a tcp80 -; y/a>x/b tcp80 +; x/a>x/b tcp80 +",
    ),
    (
        "deny to one namespace from all others",
        &[("x", r#"{"podSelector":{},"ingress":[{"from":[{"podSelector":{}}]}]}"#)],
        "x/a>x/b tcp80 +; y/a>x/b tcp80 -; z/a>x/b tcp80 -",
    ),
    (
        "from the outside alone",
        &[(
            "x",
            r#"{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"0.0.0.0/0","except":["10.0.0.0/8"]}},{"ipBlock":{"cidr":"::/0","except":["fd00::/8"]}}]}]}"#,
        )],
        "8.8.8.8>x/a tcp80 +; 2001:db8::1>x/a tcp80 +; y/a>x/a tcp80 -; x/b>x/a tcp80 -",
    ),
    (
        "a policy of another namespace changes nothing",
        &[("y", r#"{"podSelector":{},"policyTypes":["Ingress","Egress"]}"#)],
        "x/a>z/a tcp80 +; x/a>y/a tcp80 -; y/a>x/a tcp80 -",
    ),
    (
        "an IPv6-only workload is treated alike",
        &[(
            "z",
            r#"{"podSelector":{"matchLabels":{"pod":"c"}},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"ns":"x"}}}],"ports":[{"port":80}]}]}"#,
        )],
        "x/a>z/c tcp80 +; x/a>z/c tcp81 -; y/a>z/c tcp80 -",
    ),
    (
        "ports do not open ICMP",
        &[("x", r#"{"podSelector":{},"ingress":[{"ports":[{"port":80}]}]}"#)],
        "y/a>x/a icmp8 -; y/a>x/a icmp6-128 -",
    ),
];

fn with(policies: &[(&str, &str)]) -> World {
    let mut world = cluster();
    for (index, (namespace, spec)) in policies.iter().enumerate() {
        world.apply(network("acme", namespace, &format!("p{index}"), spec));
    }
    world
}

#[test]
fn kubernetes_semantics_case_by_case() {
    assert!(CASES.len() >= 60, "{}", CASES.len());
    for (name, policies, checks) in CASES {
        check(name, &with(policies), checks);
    }
}

/// Each policy is written and read again, and means the same.
#[test]
fn specs_survive_being_written() {
    for (name, policies, checks) in CASES {
        let again: Vec<_> = policies
            .iter()
            .map(|(namespace, spec)| {
                let spec: PolicySpec = serde_json::from_str(spec).unwrap();
                let text = serde_json::to_string(&spec).unwrap();
                assert_eq!(serde_json::from_str::<PolicySpec>(&text).unwrap(), spec, "{text}");
                (*namespace, text)
            })
            .collect();
        let again: Vec<_> = again.iter().map(|(namespace, text)| (*namespace, text.as_str())).collect();
        check(name, &with(&again), checks);
    }
}

#[test]
fn pitfall_22_absent_empty_and_null_peers_differ_in_each_direction() {
    // (what the spec says of the direction, whether a peer may then pass)
    let said = [
        (r#""LIST":[{"PEERS":null}]"#, true),
        (r#""LIST":[{"PEERS":[]}]"#, true),
        (r#""LIST":[{}]"#, true),
        (r#""LIST":[]"#, false),
        (r#""LIST":null"#, false),
        (r#""LIST":[{"PEERS":[{"podSelector":{}}]}]"#, false), // of the policy's namespace alone
        (r#""LIST":[{"PEERS":[{"namespaceSelector":{}}]}]"#, true),
    ];
    for (text, passes) in said {
        let sign = if passes { "+" } else { "-" };
        for (types, list, peers, ends) in
            [("Ingress", "ingress", "from", "y/b>x/a"), ("Egress", "egress", "to", "x/a>y/b")]
        {
            let body = text.replace("LIST", list).replace("PEERS", peers);
            let spec = format!(r#"{{"podSelector":{{}},"policyTypes":["{types}"],{body}}}"#);
            check(&spec, &with(&[("x", &spec)]), &format!("{ends} tcp80 {sign}"));
        }
    }
    for nothing in [r#"[{}]"#, "[null]", r#"[{"podSelector":null}]"#] {
        let spec = format!(r#"{{"podSelector":{{}},"ingress":[{{"from":{nothing}}}]}}"#);
        assert!(serde_json::from_str::<PolicySpec>(&spec).is_err(), "a peer without a condition: {spec}");
    }
}
