//! What lies between tenants, above them and below them.

use hivemind_net::addr::IpFamily;
use hivemind_net::policy::{Because, Direction, PolicyRef};

use crate::support::{ask, check, cluster, cluster_policy, grant, network, tenant};

const OUT: &str = r#"{"by":"acme.0000000000000001","name":"out","direction":"Egress","to":{"tenant":"globex.0000000000000001"}}"#;
const IN: &str = r#"{"by":"globex.0000000000000001","name":"in","direction":"Ingress","to":{"tenant":"acme.0000000000000001"}}"#;

#[test]
fn tenants_do_not_reach_each_other() {
    let world = cluster();
    check("no grant", &world, "x/a>globex:x/a tcp80 -; globex:x/a>x/a tcp80 -; x/a>globex:y/b icmp6-128 -");
    let said = ask(&world, "x/a", "globex:x/a", "tcp80", IpFamily::V6);
    assert_eq!(said.side(Direction::Egress).unwrap().because, Because::Border);
}

#[test]
fn only_a_grant_of_both_opens_the_border() {
    for (grants, sign) in [(&[OUT][..], "-"), (&[IN], "-"), (&[OUT, IN], "+")] {
        let mut world = cluster();
        grants.iter().for_each(|text| world.apply(grant(text)));
        check(
            "grants",
            &world,
            &format!("x/a>globex:x/a tcp80 {sign}; globex:x/a>x/a tcp80 -; x/a>x/b tcp80 +"),
        );
    }
}

#[test]
fn a_grant_is_to_one_tenant_for_all_time() {
    let mut world = cluster();
    world.apply(grant(OUT));
    world.apply(grant(&IN.replace("acme.0000000000000001", "acme.0000000000000002")));
    check("another of that name", &world, "x/a>globex:x/a tcp80 -");
}

#[test]
fn grants_are_as_narrow_as_they_say() {
    let mut world = cluster();
    world.apply(grant(r#"{"by":"acme.0000000000000001","name":"out","direction":"Egress","to":{"matching":"org=globex"},"own":"pod=a","ports":[{"port":80},{"port":81}]}"#));
    world.apply(grant(r#"{"by":"globex.0000000000000001","name":"in","direction":"Ingress","to":{"matching":""},"own":"pod=b","peers":"pod in (a,c)","ports":[{"port":"serve-80-tcp"}]}"#));
    check(
        "narrow",
        &world,
        "x/a>globex:x/b tcp80 +; x/a>globex:x/b tcp81 -; x/a>globex:x/a tcp80 -; x/c>globex:x/b tcp80 -; x/b>globex:x/b tcp80 -",
    );
}

#[test]
fn a_grant_opens_the_border_and_policies_still_decide() {
    let mut world = cluster();
    world.apply(grant(OUT));
    world.apply(grant(IN));
    world.apply(network(
        "globex",
        "x",
        "own",
        r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{}}]}]}"#,
    ));
    check(
        "own namespaces are not all tenants'",
        &world,
        "x/a>globex:x/a tcp80 -; globex:y/a>globex:x/a tcp80 +; x/a>globex:y/a tcp80 +",
    );
    world.apply(network("globex", "x", "other", r#"{"podSelector":{},"ingress":[{"from":[{"tenantSelector":{"matchLabels":{"org":"acme"}},"podSelector":{"matchLabels":{"pod":"a"}}}]}]}"#));
    check(
        "a tenant selector",
        &world,
        "x/a>globex:x/a tcp80 +; y/a>globex:x/a tcp80 +; x/b>globex:x/a tcp80 -",
    );
}

#[test]
fn nobody_passes_for_another_tenant_or_namespace() {
    let mut world = cluster();
    world.apply(grant(OUT));
    world.apply(grant(IN));
    // Labels are the host's to give, but the name of a tenant or a namespace is not for anybody to give.
    world.apply(network("globex", "x", "named", r#"{"podSelector":{},"ingress":[{"from":[{"tenantSelector":{"matchLabels":{"hivemind.dev/tenant":"globex"}}}]}]}"#));
    check("named", &world, "x/a>globex:x/a tcp80 -; globex:y/a>globex:x/a tcp80 +");
}

#[test]
fn pitfall_35_equal_addresses_of_two_tenants_are_never_confused() {
    let mut world = cluster();
    world.apply(grant(OUT));
    world.apply(grant(IN));
    // Both tenants have 10.0.1.1: a block of one is not about the workloads of the other.
    world.apply(network("globex", "y", "block", r#"{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.1.0/24"}},{"ipBlock":{"cidr":"fd00::1:0/112"}}]}]}"#));
    check("blocks", &world, "globex:x/a>globex:y/a tcp80 +; x/a>globex:y/a tcp80 -");
    check("the same policy elsewhere", &world, "x/a>y/a tcp80 +; z/a>y/a tcp80 +");
    assert_eq!(
        *world.at(&tenant("acme"), "10.0.1.1".parse().unwrap()).unwrap().profile().tenant(),
        tenant("acme")
    );
    assert_eq!(
        *world.at(&tenant("globex"), "10.0.1.1".parse().unwrap()).unwrap().profile().tenant(),
        tenant("globex")
    );
}

const ALL: &str = r#""subject":{"tenantSelector":{}}"#;

#[test]
fn admin_comes_first_then_tenants_then_baseline() {
    let mut world = cluster();
    world.apply(cluster_policy(&format!(
        r#"{{"name":"guard","tier":"Admin","priority":10,{ALL},"ingress":[
            {{"action":"Allow","from":[{{"namespaceSelector":"ns=z"}}],"ports":[{{"port":80}}]}},
            {{"action":"Pass","from":[{{"namespaceSelector":"ns=z"}}],"ports":[{{"port":81}}]}},
            {{"action":"Deny","from":[{{"namespaceSelector":"ns=z"}}]}}]}}"#
    )));
    world.apply(cluster_policy(&format!(
        r#"{{"name":"floor","tier":"Baseline","priority":10,{ALL},"ingress":[
            {{"action":"Deny","from":[{{"namespaceSelector":"ns=z"}},{{"namespaceSelector":"ns=y"}}]}}]}}"#
    )));
    check(
        "no policy of the tenant",
        &world,
        "z/a>x/a tcp80 +; z/a>x/a tcp81 -; z/a>x/a tcp82 -; y/a>x/a tcp80 -; x/b>x/a tcp80 +; 8.8.8.8>x/a tcp80 +",
    );
    world.apply(network("acme", "x", "open", r#"{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{}}],"ports":[{"port":81},{"port":82}]}]}"#));
    check(
        "the tenant's policy takes over from the baseline",
        &world,
        "z/a>x/a tcp80 +; z/a>x/a tcp81 +; z/a>x/a tcp82 -; y/a>x/a tcp81 +; y/a>x/a tcp80 -",
    );
}

#[test]
fn priority_then_name_then_order_decide() {
    let rule = |action: &str| format!(r#"[{{"action":"{action}","from":[{{"tenantSelector":{{}}}}]}}]"#);
    let policy = |name: &str, priority: u16, action: &str| {
        cluster_policy(&format!(
            r#"{{"name":"{name}","tier":"Admin","priority":{priority},{ALL},"ingress":{}}}"#,
            rule(action)
        ))
    };
    let mut world = cluster();
    world.apply(policy("z", 5, "Deny"));
    world.apply(policy("a", 6, "Allow"));
    check("the lower number", &world, "y/a>x/a tcp80 -");
    world.apply(policy("b", 5, "Allow"));
    check("the first name", &world, "y/a>x/a tcp80 +");
    let said = ask(&world, "y/a", "x/a", "tcp80", IpFamily::V4);
    let expected = Because::Rule { policy: PolicyRef::Cluster("b".parse().unwrap()), rule: 0 };
    assert_eq!(said.side(Direction::Ingress).unwrap().because, expected);
}

#[test]
fn a_peer_of_a_cluster_policy_is_of_the_own_tenant_unless_it_says_which() {
    let mut world = cluster();
    world.apply(grant(OUT));
    world.apply(grant(IN));
    world.apply(cluster_policy(&format!(r#"{{"name":"own","tier":"Admin","priority":0,{ALL},"ingress":[{{"action":"Deny","from":[{{"workloadSelector":{{}}}}]}}]}}"#)));
    check("own", &world, "y/a>x/a tcp80 -; globex:y/a>globex:x/a tcp80 -; x/a>globex:x/a tcp80 +");
    world.apply(cluster_policy(&format!(r#"{{"name":"all","tier":"Admin","priority":0,{ALL},"ingress":[{{"action":"Deny","from":[{{"tenantSelector":{{}}}}]}}]}}"#)));
    check("all", &world, "x/a>globex:x/a tcp80 -; 8.8.8.8>x/a tcp80 +");
}

#[test]
fn no_allow_of_the_cluster_opens_the_border() {
    let mut world = cluster();
    world.apply(cluster_policy(&format!(r#"{{"name":"open","tier":"Admin","priority":0,{ALL},"ingress":[{{"action":"Allow","from":[{{"tenantSelector":{{}}}}]}}],"egress":[{{"action":"Allow","to":[{{"tenantSelector":{{}}}}]}}]}}"#)));
    check("still closed", &world, "x/a>globex:x/a tcp80 -; y/a>x/a tcp80 +");
}

#[test]
fn pitfall_13_default_deny_never_stops_what_ip_needs() {
    let mut world = cluster();
    world.apply(network("acme", "x", "deny", r#"{"podSelector":{},"policyTypes":["Ingress","Egress"]}"#));
    world.apply(cluster_policy(&format!(r#"{{"name":"deny","tier":"Admin","priority":0,{ALL},"ingress":[{{"action":"Deny","from":[{{"tenantSelector":{{}}}},{{"ipBlock":{{"cidr":"::/0"}}}},{{"ipBlock":{{"cidr":"0.0.0.0/0"}}}}]}}]}}"#)));
    check(
        "discovery",
        &world,
        "y/a>x/a icmp6-135 +; y/a>x/a icmp6-136 +; x/a>y/a icmp6-135 +; x/a>fe80::1 icmp6-133 +; fe80::1>x/a icmp6-134 +",
    );
    check("path MTU", &world, "2001:db8::1>x/a icmp6-2 +; 8.8.8.8>x/a icmp3 +; x/a>8.8.8.8 icmp3 +");
    check("echo is for policies", &world, "y/a>x/a icmp6-128 -; y/a>x/a icmp8 -");
}

#[test]
fn a_workload_never_speaks_as_a_router() {
    let world = cluster();
    check(
        "advertisement, redirect",
        &world,
        "x/a>x/b icmp6-134 -; x/a>fe80::1 icmp6-137 -; fe80::1>x/a icmp6-134 +; x/a>fe80::1 icmp6-133 +",
    );
}

#[test]
fn domain_names_open_the_addresses_they_have() {
    use hivemind_net::policy::Change;
    let mut world = cluster();
    world.apply(network("acme", "x", "names", r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"to":[{"dnsName":"*.example.com"}],"ports":[{"port":443}]}]}"#));
    check("unknown", &world, "x/a>203.0.113.7 tcp443 -");
    let names = |of: &str, at: &str, name: &str| {
        Change::Names(
            tenant(of),
            at.parse().unwrap(),
            name.split(',').filter(|n| !n.is_empty()).map(|n| n.parse().unwrap()).collect(),
        )
    };
    world.apply(names("globex", "203.0.113.7", "www.example.com"));
    check("what another tenant resolved counts for nothing", &world, "x/a>203.0.113.7 tcp443 -");
    world.apply(names("acme", "203.0.113.7", "other.org,www.example.com"));
    world.apply(names("acme", "2001:db8::7", "www.example.com"));
    check(
        "known",
        &world,
        "x/a>203.0.113.7 tcp443 +; x/a>2001:db8::7 tcp443 +; x/a>203.0.113.7 tcp80 -; x/a>203.0.113.8 tcp443 -",
    );
    world.apply(names("acme", "203.0.113.7", ""));
    check("forgotten", &world, "x/a>203.0.113.7 tcp443 -; x/a>2001:db8::7 tcp443 +");
}
