//! A small cluster, and a way to ask about it in a line.

use hivemind_core::labels::Labels;
use hivemind_core::{Generation, TenantRef};
use hivemind_net::addr::IpFamily;
use hivemind_net::policy::{
    AnyPolicy, Change, ClusterPolicy, Decision, Endpoint, EndpointKey, Flow, Grant, InvalidFlow, NamedPorts,
    NetworkPolicy, Party, PolicySpec, Profile, Protocol, Traffic, World,
};

pub fn tenant(name: &str) -> TenantRef {
    TenantRef::new(name.parse().unwrap(), Generation::from_u64(1))
}

pub fn labels(text: &str) -> Labels {
    text.split(',')
        .filter(|pair| !pair.is_empty())
        .fold(Labels::new(), |all, pair| pair.split_once('=').map(|(k, v)| all.with(k, v).unwrap()).unwrap())
}

/// `x/a` of `acme`, or `other:x/a` of another tenant.
pub fn key(text: &str) -> EndpointKey {
    let (of, name) = text.split_once(':').unwrap_or(("acme", text));
    EndpointKey { tenant: tenant(of), id: name.replace('/', "-").parse().unwrap() }
}

pub fn ports() -> NamedPorts {
    NamedPorts::default()
        .with("serve-80-tcp".parse().unwrap(), Protocol::TCP, 80)
        .with("serve-81-tcp".parse().unwrap(), Protocol::TCP, 81)
        .with("serve-80-udp".parse().unwrap(), Protocol::UDP, 80)
}

/// Namespaces x, y and z with workloads a, b and c each, in two tenants with the same addresses. Workload `a` is on
/// node n1, `b` on n2, `c` on n3. Workload `y/c` numbers its named port 80 differently; `z/c` has IPv6 alone.
pub fn cluster() -> World {
    let mut world = World::new();
    for of in ["acme", "globex"] {
        for (n, namespace) in ["x", "y", "z"].into_iter().enumerate() {
            for (w, name) in ["a", "b", "c"].into_iter().enumerate() {
                let mut all = ports();
                if (namespace, name) == ("y", "c") {
                    all = all.with("serve-80-tcp".parse().unwrap(), Protocol::TCP, 8080);
                }
                let profile =
                    Profile::new(tenant(of), namespace.parse().unwrap(), labels(&format!("pod={name}")))
                        .with_namespace_labels(labels(&format!("ns={namespace}")))
                        .with_tenant_labels(labels(&format!("org={of}")))
                        .with_ports(all);
                let id = format!("{namespace}-{name}").parse().unwrap();
                let node = format!("n{}", w + 1).parse().unwrap();
                let (net, host) = (n + 1, w + 1);
                let mut endpoint =
                    Endpoint::new(id, node, profile).at(format!("fd00::{net}:{host}").parse().unwrap());
                if (namespace, name) != ("z", "c") {
                    endpoint = endpoint.at(format!("10.0.{net}.{host}").parse().unwrap());
                }
                world.apply(Change::Endpoint(endpoint));
            }
        }
    }
    world
}

pub fn network(of: &str, namespace: &str, name: &str, spec: &str) -> Change {
    let spec: PolicySpec = serde_json::from_str(spec).unwrap_or_else(|e| panic!("{spec}: {e}"));
    let policy = NetworkPolicy::new(tenant(of), namespace.parse().unwrap(), name.parse().unwrap(), spec);
    Change::Policy(AnyPolicy::Network(policy))
}

pub fn cluster_policy(text: &str) -> Change {
    let policy: ClusterPolicy = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    Change::Policy(AnyPolicy::Cluster(policy))
}

pub fn grant(text: &str) -> Change {
    let grant: Grant = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    Change::Policy(AnyPolicy::Grant(grant))
}

/// `tcp80`, `udp53`, `sctp9`, `icmp8`, `icmp6-128`, `proto47`.
pub fn traffic(text: &str) -> Traffic {
    let number = |prefix: &str| text.strip_prefix(prefix).map(|rest| rest.parse::<u16>().unwrap());
    let kind = |number: u16| u8::try_from(number).unwrap();
    None.or_else(|| number("tcp").map(Traffic::tcp))
        .or_else(|| number("udp").map(Traffic::udp))
        .or_else(|| number("sctp").map(Traffic::sctp))
        .or_else(|| number("icmp6-").map(|n| Traffic::icmp_v6(kind(n), 0)))
        .or_else(|| number("icmp").map(|n| Traffic::icmp(kind(n), 0)))
        .or_else(|| number("proto").map(|n| Traffic::new(Protocol::from_number(kind(n)), 0)))
        .unwrap_or_else(|| panic!("{text}?"))
}

/// `x/a`, `@n1` for a host, or an address.
fn party(text: &str, family: IpFamily) -> Option<Party> {
    if let Some(node) = text.strip_prefix('@') {
        let address = if family == IpFamily::V4 { "192.168.0.9" } else { "fd99::9" };
        return Some(Party::Host(node.parse().unwrap(), address.parse().unwrap()));
    }
    match text.parse() {
        Ok(address) if IpFamily::of(address) == family => Some(Party::Outside(address)),
        Ok(_) => None,
        Err(_) => Some(Party::Workload(key(text))),
    }
}

pub fn flow(from: &str, to: &str, what: &str, family: IpFamily) -> Option<Flow> {
    let traffic = traffic(what);
    if !traffic.fits(family) {
        return None;
    }
    Some(Flow::new(party(from, family)?, party(to, family)?, family, traffic))
}

/// Asks about one flow.
pub fn ask(world: &World, from: &str, to: &str, what: &str, family: IpFamily) -> Decision {
    world.reach(&flow(from, to, what, family).unwrap()).unwrap()
}

/// `from>to traffic sign` by semicolons; the sign `+` passes and `-` does not. Both families are asked, as far as the
/// flow has them; at least one must be.
pub fn check(name: &str, world: &World, checks: &str) {
    for check in checks.split(';').map(str::trim).filter(|check| !check.is_empty()) {
        let words: Vec<_> = check.split_whitespace().collect();
        let [ends, what, sign] = words[..] else { panic!("{name}: {check}?") };
        let (from, to) = ends.split_once('>').unwrap();
        let mut asked = 0;
        for family in IpFamily::BOTH {
            let Some(flow) = flow(from, to, what, family) else { continue };
            let decision = match world.reach(&flow) {
                Err(InvalidFlow::NoAddress { .. }) => continue,
                found => found.unwrap_or_else(|e| panic!("{name}: {check}: {e}")),
            };
            asked += 1;
            assert_eq!(decision.verdict().passes(), sign == "+", "{name}: {check} {family:?}: {decision:?}");
        }
        assert!(asked > 0, "{name}: {check} was not asked");
    }
}
