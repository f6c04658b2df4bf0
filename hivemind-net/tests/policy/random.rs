//! Random clusters: small enough that everything meets everything.

use std::net::IpAddr;

use hivemind_core::TenantRef;
use hivemind_core::labels::{Labels, Selector};
use hivemind_net::addr::IpFamily;
use hivemind_net::policy::{
    Action, AnyPolicy, Change, ClusterPolicy, ClusterRule, Direction, Endpoint, EndpointKey, Flow, Grant,
    GrantTo, IpBlock, NamedPorts, NetworkPolicy, Party, Peer, PolicyRef, PolicyRule, PolicySpec, PortMatch,
    Profile, Protocol, Tier, Traffic, WorkloadPeer,
};

use crate::support::tenant;

/// Numbers from a seed (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn coin(&mut self, one_in: u64) -> bool {
        self.roll(one_in) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }

    fn some<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.roll(most + 1)).map(|_| make(self)).collect()
    }
}

fn a_tenant(dice: &mut Dice) -> TenantRef {
    tenant(dice.pick(&["acme", "acme", "globex", "initech"]))
}

const NAMESPACES: [&str; 2] = ["x", "y"];
const NODES: [&str; 2] = ["n1", "n2"];

fn labels(dice: &mut Dice) -> Labels {
    let mut labels = Labels::new().with("app", dice.pick(&["a", "b", "c"])).unwrap();
    if dice.coin(2) {
        labels = labels.with("env", dice.pick(&["p", "q"])).unwrap();
    }
    labels
}

fn selector(dice: &mut Dice) -> Selector {
    let text = dice.pick(&[
        "",
        "app=a",
        "app=b",
        "env=p",
        "app in (a,b)",
        "app notin (a)",
        "!env",
        "env",
        "app=a,env=q",
        "app=zz",
    ]);
    text.parse().unwrap()
}

fn address(dice: &mut Dice) -> IpAddr {
    let host = dice.roll(12);
    if dice.coin(2) { format!("10.0.0.{host}") } else { format!("fd00::{host:x}") }.parse().unwrap()
}

fn id(dice: &mut Dice) -> EndpointKey {
    EndpointKey { tenant: a_tenant(dice), id: format!("w{}", dice.roll(4)).parse().unwrap() }
}

fn endpoint(dice: &mut Dice) -> Endpoint {
    let EndpointKey { tenant, id } = id(dice);
    let mut ports = NamedPorts::default();
    for name in ["web", "dns"] {
        if dice.coin(2) {
            let protocol = dice.pick(&[Protocol::TCP, Protocol::UDP]);
            ports = ports.with(name.parse().unwrap(), protocol, dice.pick(&[53, 80, 81]));
        }
    }
    let namespace = dice.pick(&NAMESPACES);
    let side = |dice: &mut Dice| Labels::new().with("env", dice.pick(&["p", "q"])).unwrap();
    let profile = Profile::new(tenant, namespace.parse().unwrap(), labels(dice))
        .with_namespace_labels(side(dice))
        .with_tenant_labels(side(dice))
        .with_ports(ports);
    let mut endpoint = Endpoint::new(id, dice.pick(&NODES).parse().unwrap(), profile);
    for _ in 0..4 {
        endpoint = endpoint.at(address(dice));
    }
    endpoint
}

fn block(dice: &mut Dice) -> IpBlock {
    let address = address(dice);
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let length = whole - u8::try_from(dice.roll(4)).unwrap();
    let length = if dice.coin(5) { 0 } else { length };
    let net = ipnet::IpNet::new(address, length).unwrap().trunc();
    let mut block = IpBlock::new(net).unwrap();
    for _ in 0..dice.roll(3) {
        let inner = whole - u8::try_from(dice.roll(3)).unwrap();
        let inner = ipnet::IpNet::new(address, inner).unwrap().trunc();
        block = block.clone().except(inner).unwrap_or(block);
    }
    block
}

fn workloads(dice: &mut Dice) -> WorkloadPeer {
    let mut peer = match dice.roll(3) {
        0 => WorkloadPeer::workloads(selector(dice)),
        1 => WorkloadPeer::namespaces(selector(dice)),
        _ => WorkloadPeer::tenants(selector(dice)),
    };
    if dice.coin(3) {
        peer = peer.labelled(selector(dice));
    }
    if dice.coin(4) {
        peer = peer.of_tenants("env=p".parse().unwrap());
    }
    peer
}

fn peer(dice: &mut Dice, direction: Direction) -> Peer {
    match dice.roll(4) {
        0 => block(dice).into(),
        1 if direction == Direction::Egress => {
            Peer::Names(dice.pick(&["a.example.com", "*.example.com"]).parse().unwrap())
        }
        _ => workloads(dice).into(),
    }
}

fn port(dice: &mut Dice) -> PortMatch {
    let protocol = dice.pick(&[Protocol::TCP, Protocol::UDP]);
    match dice.roll(7) {
        0 => PortMatch::any(),
        1 => PortMatch::protocol(dice.pick(&[Protocol::TCP, Protocol::ICMPV6, Protocol::from_number(47)])),
        2 => PortMatch::range(protocol, 53, 80).unwrap(),
        3 => PortMatch::named(protocol, dice.pick(&["web", "dns"]).parse().unwrap()).unwrap(),
        4 => {
            let (protocol, kind) = dice.pick(&[(Protocol::ICMPV6, 128), (Protocol::ICMP, 8)]);
            PortMatch::icmp(protocol, kind, dice.pick(&[None, Some(0), Some(1)])).unwrap()
        }
        _ => PortMatch::port(protocol, dice.pick(&[53, 80, 81])).unwrap(),
    }
}

fn rule(dice: &mut Dice, direction: Direction) -> PolicyRule {
    let rule =
        dice.some(2, |dice| peer(dice, direction)).into_iter().fold(PolicyRule::new(), PolicyRule::with_peer);
    dice.some(2, port).into_iter().fold(rule, PolicyRule::with_port)
}

/// One of a tenant's policies, `number` of many.
pub fn one_of_many(dice: &mut Dice, number: usize) -> Change {
    let name = format!("m{number}").parse().unwrap();
    let spec = spec(dice);
    let policy = NetworkPolicy::new(tenant("acme"), "x".parse().unwrap(), name, spec);
    Change::Policy(AnyPolicy::Network(policy))
}

fn spec(dice: &mut Dice) -> PolicySpec {
    let directions: Vec<_> = Direction::ALL.into_iter().filter(|_| dice.coin(2)).collect();
    let mut spec = PolicySpec::isolating(selector(dice), directions);
    for direction in Direction::ALL {
        if spec.rules(direction).is_some() {
            for one in dice.some(3, |dice| rule(dice, direction)) {
                spec = spec.allowing(direction, one).unwrap();
            }
        }
    }
    spec
}

fn network(dice: &mut Dice) -> AnyPolicy {
    let spec = spec(dice);
    let name = format!("p{}", dice.roll(3)).parse().unwrap();
    AnyPolicy::Network(NetworkPolicy::new(
        a_tenant(dice),
        dice.pick(&NAMESPACES).parse().unwrap(),
        name,
        spec,
    ))
}

fn cluster(dice: &mut Dice) -> AnyPolicy {
    let name = format!("c{}", dice.roll(3)).parse().unwrap();
    let tier = dice.pick(&[Tier::Admin, Tier::Baseline]);
    let mut policy =
        ClusterPolicy::new(name, tier, u16::try_from(dice.roll(3)).unwrap(), workloads(dice)).unwrap();
    for direction in Direction::ALL {
        for _ in 0..dice.roll(3) {
            let action = dice.pick(&[Action::Allow, Action::Deny, Action::Pass]);
            let mut rule = ClusterRule::new(action, [peer(dice, direction)]).unwrap();
            for one in dice.some(2, port) {
                rule = rule.with_port(one);
            }
            policy = policy.with_rule(direction, rule).unwrap();
        }
    }
    AnyPolicy::Cluster(policy)
}

fn grant(dice: &mut Dice) -> AnyPolicy {
    let to = if dice.coin(2) { GrantTo::Tenant(a_tenant(dice)) } else { GrantTo::Matching(selector(dice)) };
    let name = format!("g{}", dice.roll(3)).parse().unwrap();
    let mut grant = Grant::new(a_tenant(dice), name, dice.pick(&Direction::ALL), to);
    if dice.coin(3) {
        grant = grant.for_own(selector(dice));
    }
    if dice.coin(3) {
        grant = grant.with_peers(selector(dice));
    }
    if dice.coin(3) {
        grant = grant.with_port(port(dice));
    }
    AnyPolicy::Grant(grant)
}

pub fn policy(dice: &mut Dice) -> AnyPolicy {
    match dice.roll(6) {
        0 => cluster(dice),
        1 | 2 => grant(dice),
        _ => network(dice),
    }
}

pub fn change(dice: &mut Dice) -> Change {
    match dice.roll(14) {
        10..=13 | 0..=3 => Change::Endpoint(endpoint(dice)),
        4 => Change::NoEndpoint(id(dice)),
        5..=8 => Change::Policy(policy(dice)),
        9 => Change::NoPolicy(no_policy(dice)),
        _ => {
            let names =
                dice.some(2, |dice| dice.pick(&["a.example.com", "b.example.com", "c.org"]).parse().unwrap());
            Change::Names(a_tenant(dice), address(dice), names.into_iter().collect())
        }
    }
}

fn no_policy(dice: &mut Dice) -> PolicyRef {
    policy(dice).key()
}

fn party(dice: &mut Dice, family: IpFamily) -> Party {
    let mut address = || loop {
        let address = address(dice);
        if IpFamily::of(address) == family {
            return address;
        }
    };
    let outside = address();
    match dice.roll(6) {
        0 => Party::Outside(outside),
        1 => Party::Host(dice.pick(&NODES).parse().unwrap(), outside),
        _ => Party::Workload(id(dice)),
    }
}

pub fn flow(dice: &mut Dice) -> Flow {
    loop {
        let family = dice.pick(&IpFamily::BOTH);
        let traffic = dice.pick(&[
            Traffic::tcp(53),
            Traffic::tcp(80),
            Traffic::tcp(81),
            Traffic::tcp(9),
            Traffic::udp(53),
            Traffic::udp(60),
            Traffic::icmp_v6(128, 0),
            Traffic::icmp_v6(134, 0),
            Traffic::icmp_v6(2, 0),
            Traffic::icmp_v6(128, 1),
            Traffic::icmp_v6(129, 0),
            Traffic::icmp(8, 0),
            Traffic::icmp(8, 1),
            Traffic::new(Protocol::from_number(47), 0),
        ]);
        if traffic.fits(family) {
            return Flow::new(party(dice, family), party(dice, family), family, traffic);
        }
    }
}
