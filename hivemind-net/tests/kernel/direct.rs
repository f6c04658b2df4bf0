//! Direct routing: no tunnel, routes to the nodes, everything in the machines' own namespaces.

use std::net::IpAddr;
use std::time::Duration;

use hivemind_core::labels::Labels;
use hivemind_core::{NodeId, block_on};
use hivemind_net::DataplaneExt;
use hivemind_net::adapters::linux::LinuxDataplane;
use hivemind_net::addr::IpFamily;
use hivemind_net::dataplane::rules::{Family, TableKey};
use hivemind_net::overlay::{
    OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, OverlayWorkload, TenantNetwork,
    UnderlayFamily, Vni,
};
use hivemind_net::policy::{
    AnyPolicy, Change, Direction, Endpoint, EndpointKey, Engine, Flow, Grant, GrantTo, NetworkPolicy, Party,
    PolicyRef, PortMatch, Profile, Protocol, Traffic, World,
};

use crate::cluster::{Inner, KINDS, tenant};
use crate::lab::{Lab, ip, is_root, run};
use crate::probe::{Kind, Probe, Servers, ask};

/// Tenants, their VNIs, and the beginnings of their addresses, which differ: there is one network for all.
const TENANTS: [(&str, u32, &str, &str); 2] =
    [("red", 1001, "10.10.", "fd10::"), ("blue", 1002, "10.20.", "fd20::")];

struct Routed {
    lab: Lab,
    overlay: OverlayNetwork,
    world: World,
    agents: Vec<LinuxDataplane>,
    inner: Inner,
}

impl Routed {
    /// Three hosts, each with a workload `wN` of each tenant.
    fn new(tag: &str, family: UnderlayFamily, inner: Inner) -> Self {
        let lab = Lab::new(tag, 3);
        let agents = (1..=3).map(|host| lab.agent(host)).collect();
        let overlay = OverlayNetwork::new(OverlayConfig::direct(family, 1500)).unwrap();
        let mut routed = Self { lab, overlay, world: World::new(), agents, inner };
        for host in 1..=3_u8 {
            let node = OverlayNode::new(routed.node(host), 1500).with_uplink("eth0".parse().unwrap());
            let node =
                node.with_address(ip(&format!("fd6e::{host}"))).with_address(ip(&format!("10.255.0.{host}")));
            routed.overlay.load([OverlayChange::PutNode(node)]).unwrap();
        }
        for (of, vni, v4, v6) in TENANTS {
            let mut network = TenantNetwork::new(tenant(of), Vni::new(vni).unwrap())
                .with_pool(format!("{v6}/64").parse().unwrap());
            if inner == Inner::Dual {
                network = network.with_pool(format!("{v4}0.0/16").parse().unwrap());
            }
            routed.overlay.load([OverlayChange::PutTenant(network)]).unwrap();
            (1..=3).for_each(|host| routed.put(of, host, host));
        }
        routed.wait();
        routed
    }

    /// Waits until the hosts reach each other. Who asks before is told that nobody is there, and ends a connection with it.
    fn wait(&self) {
        for host in 1..=3_u8 {
            let others = (1..=3).flat_map(|to| [format!("fd6e::{to}"), format!("10.255.0.{to}")]);
            let probes = others.map(|to| Probe::new(Kind::Echo, ip(&to))).collect();
            let asked = ask(&self.lab.host(host), probes, Duration::from_secs(30)).join().unwrap();
            assert!(asked.iter().all(|probe| probe.answer.is_some()), "the hosts are not joined");
        }
    }

    fn node(&self, host: u8) -> NodeId {
        self.lab.host(host).to_string().parse().unwrap()
    }

    /// Puts the workload `w<home>` on a host.
    fn put(&mut self, of: &str, home: u8, on: u8) {
        let (_, _, v4, v6) = TENANTS.into_iter().find(|(name, ..)| *name == of).unwrap();
        let app = if home == 3 { "db" } else { "web" };
        let labels = Labels::new().with("app", app).unwrap();
        let profile = Profile::new(tenant(of), "shop".parse().unwrap(), labels);
        let id = format!("w{home}");
        let mut workload = OverlayWorkload::new(tenant(of), id.parse().unwrap(), self.node(on));
        let mut endpoint = Endpoint::new(id.parse().unwrap(), self.node(on), profile);
        let v4 = (self.inner == Inner::Dual).then(|| ip(&format!("{v4}{home}.1")));
        for address in v4.into_iter().chain([ip(&format!("{v6}{home}:1"))]) {
            workload = workload.with_address(address);
            endpoint = endpoint.at(address);
        }
        self.overlay.load([OverlayChange::PutWorkload(workload)]).unwrap();
        self.world.apply(Change::Endpoint(endpoint));
    }

    fn policy(&mut self, of: &str, spec: &str) {
        let spec = serde_json::from_str(spec).unwrap();
        let policy = NetworkPolicy::new(tenant(of), "shop".parse().unwrap(), "one".parse().unwrap(), spec);
        self.world.apply(Change::Policy(AnyPolicy::Network(policy)));
    }

    /// Lets workloads of `of` reach `to`, or be reached, at one port.
    fn grant(&mut self, of: &str, direction: Direction, to: &str) -> PolicyRef {
        let them = GrantTo::Tenant(tenant(to));
        let grant = Grant::new(tenant(of), format!("{direction}-{to}").parse().unwrap(), direction, them);
        let grant = AnyPolicy::Grant(grant.with_port(PortMatch::port(Protocol::TCP, 8080).unwrap()));
        let key = grant.key();
        self.world.apply(Change::Policy(grant));
        key
    }

    /// Brings every host in line; says how many steps that took.
    fn sync(&self) -> usize {
        let engine = Engine::new(self.world.clone());
        let mut steps = 0;
        for (agent, host) in self.agents.iter().zip(1..) {
            let node = self.node(host);
            let mut state = self.overlay.node_state(&node).unwrap();
            for rules in self.overlay.node_rules(&engine, &node).unwrap() {
                let rules = rules.prepare().unwrap();
                // One namespace routes for all of them: each has a table of its own there.
                let name = format!("tenant-{}", rules.tenant().id);
                state.enforce(&rules, TableKey::new(Family::Inet, name.parse().unwrap())).unwrap();
            }
            steps += block_on(agent.sync(&state.into_kernel())).unwrap().len();
        }
        steps
    }

    fn workloads(&self) -> Vec<OverlayWorkload> {
        let mut found = Vec::new();
        for (of, ..) in TENANTS {
            found.extend(self.overlay.workloads(&tenant(of)).cloned());
        }
        found
    }

    fn allowed(&self, from: &OverlayWorkload, to: &OverlayWorkload, address: IpAddr, kind: Kind) -> bool {
        let party = |one: &OverlayWorkload| {
            Party::Workload(EndpointKey { tenant: one.tenant.clone(), id: one.id.clone() })
        };
        let family = IpFamily::of(address);
        let traffic = match (kind, family) {
            (Kind::Tcp(port), _) => Traffic::tcp(port),
            (Kind::Udp(port), _) => Traffic::udp(port),
            (Kind::Echo, IpFamily::V4) => Traffic::icmp(8, 0),
            (Kind::Echo, IpFamily::V6) => Traffic::icmp_v6(128, 0),
        };
        let flow = Flow::new(party(from), party(to), family, traffic);
        self.world.reach(&flow).is_ok_and(|verdict| verdict.verdict().passes())
    }

    /// Every workload to every one, of any tenant: how many pairs, and which are not as the evaluator says.
    fn matrix(&self) -> (usize, Vec<String>) {
        let workloads = self.workloads();
        let name = |one: &OverlayWorkload| format!("{} {}", one.tenant.id, one.id);
        let _servers: Vec<_> = workloads
            .iter()
            .map(|one| Servers::start(&one.effective_netns().unwrap(), &name(one), &[8080, 9090], &[5353]))
            .collect();
        let (mut pairs, mut differ) = (0, Vec::new());
        for passes in [true, false] {
            let mut running = Vec::new();
            for from in &workloads {
                let mut targets = Vec::new();
                for to in &workloads {
                    for (address, kind) in to.addresses().flat_map(|a| KINDS.map(|kind| (a, kind))) {
                        if self.allowed(from, to, address, kind) == passes {
                            targets.push((name(to), Probe::new(kind, address)));
                        }
                    }
                }
                let (whom, probes): (Vec<_>, Vec<_>) = targets.into_iter().unzip();
                // Who is answered is done at once: patience is for those whose answer may be late.
                let patience = if passes { Duration::from_secs(8) } else { Duration::from_millis(1500) };
                running.push((name(from), whom, ask(&from.effective_netns().unwrap(), probes, patience)));
            }
            for (from, whom, thread) in running {
                for (to, probe) in whom.into_iter().zip(thread.join().unwrap()) {
                    pairs += 1;
                    let named = if probe.kind == Kind::Echo { String::new() } else { to };
                    if probe.answer != passes.then_some(named) {
                        differ.push(format!("{from} -> {} {:?}: {:?}", probe.to, probe.kind, probe.answer));
                    }
                }
            }
        }
        (pairs, differ)
    }

    fn check(&self, what: &str) {
        let (pairs, differ) = self.matrix();
        println!("kernel matrix: {pairs} pairs, {} differ (direct routing, {what})", differ.len());
        let families = if self.inner == Inner::Dual { 2 } else { 1 };
        assert!(pairs == 6 * 6 * families * KINDS.len() && differ.is_empty(), "{what}: {differ:#?}");
    }

    /// Has the overlay join whom grants of both sides join, and nobody else; says how many peerings that changed.
    fn follow_grants(&mut self) -> usize {
        let changes = self.overlay.follow_grants(&self.world);
        changes.into_iter().map(|change| drop(self.overlay.apply(change).unwrap())).count()
    }
}

fn whole_life(tag: &str, family: UnderlayFamily, inner: Inner) {
    if !is_root() {
        return;
    }
    let mut routed = Routed::new(tag, family, inner);
    let name = format!("{family:?} below, {inner:?} inside");
    routed.sync();
    let links = run(&routed.lab.host(1), "ip -d link show");
    assert!(!links.contains("vxlan"), "{links}");
    routed.check(&format!("{name}: no policy"));

    routed.policy(
        "red",
        r#"{"podSelector": {"matchLabels": {"app": "db"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}]}]}"#,
    );
    routed.sync();
    routed.check(&format!("{name}: a policy"));

    routed.put("red", 1, 2);
    routed.sync();
    routed.check(&format!("{name}: one moved"));
    assert_eq!(routed.sync(), 0, "and nothing is left to do");
    let way = run(&routed.lab.host(3), "ip -6 route show fd10::1:1");
    assert!(way.contains("via fd6e::2 dev eth0"), "{way}");

    let out = routed.grant("red", Direction::Egress, "blue");
    assert_eq!(routed.follow_grants(), 0);
    routed.sync();
    routed.check(&format!("{name}: one grants"));
    routed.grant("blue", Direction::Ingress, "red");
    // Red has nothing on host 1, and blue has.
    let way = run(&routed.lab.host(1), "ip -6 route show fd10::1:1");
    assert!(way.is_empty(), "{way}");
    assert_eq!(routed.follow_grants(), 1);
    routed.sync();
    let way = run(&routed.lab.host(1), "ip -6 route show fd10::1:1");
    assert!(way.contains("via fd6e::2 dev eth0"), "{way}");
    routed.check(&format!("{name}: both grant"));
    let web = routed.workloads().into_iter().find(|one| one.tenant == tenant("red")).unwrap();
    let there = routed.workloads().into_iter().find(|one| one.tenant == tenant("blue")).unwrap();
    let first = there.addresses().next().unwrap();
    assert!(routed.allowed(&web, &there, first, Kind::Tcp(8080)), "the grants are about something");
    routed.world.apply(Change::NoPolicy(out));
    routed.sync();
    routed.check(&format!("{name}: one has taken its grant back"));
    assert_eq!(routed.follow_grants(), 1);
    routed.sync();
    routed.check(&format!("{name}: apart again"));
}

#[test]
fn every_pair_with_direct_routing_over_ipv6_hosts() {
    whole_life("d6", UnderlayFamily::V6, Inner::Dual);
}

#[test]
fn every_pair_with_direct_routing_over_ipv4_hosts() {
    whole_life("d4", UnderlayFamily::V4, Inner::Dual);
}

#[test]
fn every_pair_with_direct_routing_and_ipv6_alone_inside() {
    whole_life("di6", UnderlayFamily::V6, Inner::V6);
}
