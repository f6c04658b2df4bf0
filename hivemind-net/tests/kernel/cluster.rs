//! A cluster on the lab's hosts: two tenants with the same addresses, or with different ones, and what the evaluator says of
//! them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use hivemind_core::labels::Labels;
use hivemind_core::{Generation, NodeId, TenantRef, block_on};
use hivemind_net::adapters::linux::LinuxDataplane;
use hivemind_net::addr::IpFamily;
use hivemind_net::dataplane::services::VirtualServices;
use hivemind_net::dataplane::state::Netns;
use hivemind_net::dataplane::{KernelState, Op};
use hivemind_net::overlay::{
    OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, OverlayWorkload, Peering, TenantNetwork,
    UnderlayFamily, Vni,
};
use hivemind_net::policy::{
    AnyPolicy, Change, Direction, Endpoint, EndpointKey, Flow, Grant, GrantTo, NetworkPolicy, Party,
    PolicyRef, PolicySpec, Profile, Traffic, World,
};
use hivemind_net::{Dataplane, DataplaneExt};

use crate::enforce;
use crate::lab::{Lab, ip};
use crate::probe::{Kind, Probe, Servers, ask};

/// Two with the same addresses.
pub(crate) const TENANTS: [(&str, u32); 2] = [("red", 1001), ("blue", 1002)];
/// Two with addresses of their own.
const NEIGHBOURS: [(&str, u32); 2] = [("red", 1001), ("green", 1003)];
pub(crate) const KINDS: [Kind; 4] = [Kind::Tcp(8080), Kind::Tcp(9090), Kind::Udp(5353), Kind::Echo];

pub(crate) fn tenant(of: &str) -> TenantRef {
    TenantRef::new(of.parse().unwrap(), Generation::from_u64(1))
}

/// What the addresses of a tenant begin with.
fn prefixes(of: &str) -> (&'static str, &'static str) {
    if of == "green" { ("fd20::", "10.20.") } else { ("fd10::", "10.10.") }
}

/// Which inner addresses there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inner {
    Dual,
    V6,
}

pub(crate) struct Cluster {
    pub(crate) lab: Lab,
    pub(crate) overlay: OverlayNetwork,
    pub(crate) world: World,
    /// The services of tenants, by tenant.
    pub(crate) services: BTreeMap<String, VirtualServices>,
    pub(crate) agents: BTreeMap<u8, LinuxDataplane>,
    /// The tenants that there are, with their VNIs.
    pub(crate) tenants: [(&'static str, u32); 2],
    inner: Inner,
    lost: Option<u8>,
    /// What policies deny is refused, not dropped.
    pub(crate) refusing: bool,
}

impl Cluster {
    /// Three hosts and twelve workloads: `w11` and `w12` of each tenant on host 1, and so on.
    pub(crate) fn new(tag: &str, underlay: UnderlayFamily, inner: Inner) -> Self {
        let mut cluster = Self::empty(tag, underlay, inner, TENANTS);
        for (of, host) in TENANTS.into_iter().flat_map(|(of, _)| (1..=3).map(move |host| (of, host))) {
            cluster.put(of, host, 1, host);
            cluster.put(of, host, 2, host);
        }
        cluster
    }

    /// Three hosts and eight workloads of tenants who might be joined: red's on hosts 1 and 2, green's on hosts 2 and 3.
    pub(crate) fn neighbours(tag: &str, underlay: UnderlayFamily, inner: Inner) -> Self {
        let mut cluster = Self::empty(tag, underlay, inner, NEIGHBOURS);
        for (of, host) in [("red", 1), ("red", 2), ("green", 2), ("green", 3)] {
            cluster.put(of, host, 1, host);
            cluster.put(of, host, 2, host);
        }
        cluster
    }

    fn empty(tag: &str, underlay: UnderlayFamily, inner: Inner, tenants: [(&'static str, u32); 2]) -> Self {
        let lab = Lab::new(tag, 3);
        let overlay = OverlayNetwork::new(OverlayConfig::vxlan(underlay, 1500)).unwrap();
        let agents = (1..=3).map(|host| (host, lab.agent(host))).collect();
        let mut cluster = Self {
            lab,
            overlay,
            world: World::new(),
            services: BTreeMap::new(),
            agents,
            tenants,
            inner,
            lost: None,
            refusing: false,
        };
        for host in 1..=3_u8 {
            let node = OverlayNode::new(cluster.node(host), 1500).with_uplink("eth0".parse().unwrap());
            let node =
                node.with_address(ip(&format!("fd6e::{host}"))).with_address(ip(&format!("10.255.0.{host}")));
            cluster.overlay.load([OverlayChange::PutNode(node)]).unwrap();
        }
        for (of, vni) in tenants {
            let (v6, v4) = prefixes(of);
            let mut network = TenantNetwork::new(tenant(of), Vni::new(vni).unwrap())
                .with_pool(format!("{v6}/64").parse().unwrap());
            if inner == Inner::Dual {
                network = network.with_pool(format!("{v4}0.0/16").parse().unwrap());
            }
            cluster.overlay.load([OverlayChange::PutTenant(network)]).unwrap();
        }
        cluster
    }

    pub(crate) fn node(&self, host: u8) -> NodeId {
        self.lab.host(host).to_string().parse().unwrap()
    }

    fn addresses(&self, of: &str, home: u8, number: u8) -> Vec<IpAddr> {
        let (v6, v4) = prefixes(of);
        let v6 = ip(&format!("{v6}{home}:{number}"));
        match self.inner {
            Inner::Dual => vec![v6, ip(&format!("{v4}{home}.{number}"))],
            Inner::V6 => vec![v6],
        }
    }

    /// Puts the workload `w<home><number>` on a host; its addresses are those of its home.
    pub(crate) fn put(&mut self, of: &str, home: u8, number: u8, on: u8) {
        let app = if number == 1 { "web" } else { "db" };
        self.put_with(of, &format!("w{home}{number}"), app, self.addresses(of, home, number), on);
    }

    /// One more workload, of one address.
    pub(crate) fn put_at(&mut self, of: &str, id: &str, app: &str, address: &str, on: u8) {
        self.put_with(of, id, app, vec![ip(address)], on);
    }

    fn put_with(&mut self, of: &str, id: &str, app: &str, addresses: Vec<IpAddr>, on: u8) {
        let profile =
            Profile::new(tenant(of), "shop".parse().unwrap(), Labels::new().with("app", app).unwrap());
        let mut workload = OverlayWorkload::new(tenant(of), id.parse().unwrap(), self.node(on));
        let mut endpoint = Endpoint::new(id.parse().unwrap(), self.node(on), profile);
        for address in addresses {
            workload = workload.with_address(address);
            endpoint = endpoint.at(address);
        }
        self.overlay.load([OverlayChange::PutWorkload(workload)]).unwrap();
        self.world.apply(Change::Endpoint(endpoint));
    }

    pub(crate) fn policy(&mut self, of: &str, name: &str, spec: &str) {
        let spec: PolicySpec = serde_json::from_str(spec).unwrap();
        let policy = NetworkPolicy::new(tenant(of), "shop".parse().unwrap(), name.parse().unwrap(), spec);
        self.world.apply(Change::Policy(AnyPolicy::Network(policy)));
    }

    /// A tenant grants another to reach it (`Ingress`), or to be reached (`Egress`).
    pub(crate) fn grant(&mut self, of: &str, direction: Direction, to: &str) {
        let name = format!("{direction}").parse().unwrap();
        let grant = Grant::new(tenant(of), name, direction, GrantTo::Tenant(tenant(to)));
        self.world.apply(Change::Policy(AnyPolicy::Grant(grant)));
    }

    pub(crate) fn withdraw(&mut self, of: &str, direction: Direction) {
        let name = format!("{direction}").parse().unwrap();
        self.world.apply(Change::NoPolicy(PolicyRef::Grant(tenant(of), name)));
    }

    /// Both tenants, joined.
    pub(crate) fn peering(&self) -> Peering {
        let [(one, _), (other, _)] = self.tenants;
        Peering::new(tenant(one), tenant(other))
    }

    /// Has the overlay join whom grants of both sides join, and nobody else; says how many peerings that changed.
    pub(crate) fn follow_grants(&mut self) -> usize {
        let changes = self.overlay.follow_grants(&self.world);
        changes.into_iter().map(|change| drop(self.overlay.apply(change).unwrap())).count()
    }

    /// What a host's kernel shall hold.
    pub(crate) fn desired(&self, host: u8) -> KernelState {
        let mut state = self.overlay.node_state(&self.node(host)).unwrap();
        enforce::add_tables(&mut state, self, &self.node(host));
        for (of, services) in &self.services {
            services.add_to(state.router(&tenant(of)).unwrap()).unwrap();
        }
        state.into_kernel()
    }

    /// Brings every host in line; gives what was changed, by host.
    pub(crate) fn sync(&self) -> BTreeMap<u8, Vec<Op>> {
        let here = self.agents.iter().filter(|(host, _)| Some(**host) != self.lost);
        here.map(|(host, agent)| (*host, block_on(agent.sync(&self.desired(*host))).unwrap())).collect()
    }

    /// Brings one host in line, as if the others had not heard of it.
    pub(crate) fn sync_one(&self, host: u8) -> Vec<Op> {
        block_on(self.agents[&host].sync(&self.desired(host))).unwrap()
    }

    /// The namespace that routes for a tenant on a host.
    pub(crate) fn router(&self, of: &str, host: u8) -> Netns {
        let state = self.overlay.node_state(&self.node(host)).unwrap().into_kernel();
        let link = self.overlay.workloads(&tenant(of)).find(|workload| workload.node == self.node(host));
        let link = link.unwrap().effective_link().unwrap();
        let mut routers = state.namespaces.into_iter().filter(|(_, netns)| netns.links.contains_key(&link));
        routers.next().unwrap().0
    }

    /// Has the kernel of a host forget the connections to these addresses; says how many there were.
    pub(crate) fn forget(&self, host: u8, v6: IpAddr, v4: IpAddr) -> usize {
        let agent = &self.agents[&host];
        let routers = self.desired(host).namespaces;
        let routers = routers.iter().filter(|(_, netns)| !netns.tables.is_empty());
        let cut = routers.map(|(router, _)| {
            let all = block_on(agent.connections(router)).unwrap();
            let to: Vec<_> =
                all.into_iter().filter(|one| one.destination == v6 || one.destination == v4).collect();
            block_on(agent.forget(router, &to)).unwrap()
        });
        cut.sum()
    }

    /// Has the kernel of a host forget the connections of a tenant to backends that are none any more.
    pub(crate) fn forget_stale(&self, of: &str, host: u8) -> usize {
        let (agent, router) = (&self.agents[&host], self.router(of, host));
        let all = block_on(agent.connections(&router)).unwrap();
        block_on(agent.forget(&router, &self.services[of].stale(&all))).unwrap()
    }

    /// The agent of every host is another one now.
    pub(crate) fn restart_agents(&mut self) {
        self.agents = (1..=3).map(|host| (host, self.lab.agent(host))).collect();
    }

    /// A host goes down with everything on it.
    pub(crate) fn lose(&mut self, host: u8) {
        block_on(self.agents[&host].uninstall(&std::collections::BTreeSet::new())).unwrap();
        self.lost = Some(host);
    }

    pub(crate) fn regain(&mut self) {
        self.lost = None;
    }

    fn workloads(&self) -> Vec<(&'static str, OverlayWorkload)> {
        let mut found = Vec::new();
        for (of, _) in self.tenants {
            found.extend(self.overlay.workloads(&tenant(of)).map(|workload| (of, workload.clone())));
        }
        found
    }

    /// Whether the workload went down with its host.
    fn is_lost(&self, workload: &OverlayWorkload) -> bool {
        self.lost.is_some_and(|lost| workload.node == self.node(lost))
    }

    /// What the evaluator says: whether the workload reaches its tenant's workload with that address.
    pub(crate) fn allowed(&self, of: &str, from: &str, to: &str, family: IpFamily, kind: Kind) -> bool {
        self.allowed_between((of, from), (of, to), family, kind)
    }

    /// The same of workloads of whichever tenants.
    fn allowed_between(&self, from: (&str, &str), to: (&str, &str), family: IpFamily, kind: Kind) -> bool {
        let party = |(of, id): (&str, &str)| {
            Party::Workload(EndpointKey { tenant: tenant(of), id: id.parse().unwrap() })
        };
        let traffic = match (kind, family) {
            (Kind::Tcp(port), _) => Traffic::tcp(port),
            (Kind::Udp(port), _) => Traffic::udp(port),
            (Kind::Echo, IpFamily::V4) => Traffic::icmp(8, 0),
            (Kind::Echo, IpFamily::V6) => Traffic::icmp_v6(128, 0),
        };
        self.world.reach(&Flow::new(party(from), party(to), family, traffic)).unwrap().verdict().passes()
    }

    /// Every workload to every address, with every kind of packet: how many pairs, and which differ from what the
    /// evaluator says. Nobody asks from a lost host, and nobody answers there.
    pub(crate) fn matrix(&self) -> (usize, Vec<String>) {
        let workloads = self.workloads();
        let servers: Vec<_> = workloads
            .iter()
            .filter(|(_, workload)| !self.is_lost(workload))
            .map(|(of, workload)| {
                let name = format!("{of} {}", workload.id);
                Servers::start(&workload.effective_netns().unwrap(), &name, &[8080, 9090], &[5353])
            })
            .collect();
        let first = self.ask_all(&workloads, Duration::from_millis(1500), |_| true);
        // On a machine with much else to do an answer may be late: whoever should have answered is asked again.
        let late = first.iter().any(|(_, _, missing)| *missing);
        let (mut pairs, mut differ) = (0, Vec::new());
        let second =
            if late { self.ask_all(&workloads, Duration::from_secs(6), |n| first[n].2) } else { Vec::new() };
        let mut again = second.into_iter();
        for (text, same, missing) in first {
            pairs += 1;
            let fine = if missing { again.next().is_some_and(|(_, same, _)| same) } else { same };
            if !fine {
                differ.push(text);
            }
        }
        drop(servers);
        (pairs, differ)
    }

    /// For each pair: what it is, whether it is as it should be, and whether an answer is missing.
    fn ask_all(
        &self,
        workloads: &[(&'static str, OverlayWorkload)],
        patience: Duration,
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<(String, bool, bool)> {
        let mut number = 0;
        let mut running = Vec::new();
        for (of, from) in workloads.iter().filter(|(_, from)| !self.is_lost(from)) {
            let mut probes = Vec::new();
            for (other, to) in workloads {
                // If the addresses of both tenants are the same, those of one are all that there are.
                if other != of && prefixes(other) == prefixes(of) {
                    continue;
                }
                for address in to.addresses() {
                    for kind in KINDS {
                        if wanted(number) {
                            probes.push(((other, to), Probe::new(kind, address)));
                        }
                        number += 1;
                    }
                }
            }
            let (targets, probes): (Vec<_>, Vec<_>) = probes.into_iter().unzip();
            running.push((of, from, targets, ask(&from.effective_netns().unwrap(), probes, patience)));
        }
        let mut results = Vec::new();
        for (of, from, targets, thread) in running {
            for ((other, to), probe) in targets.into_iter().zip(thread.join().unwrap()) {
                let family = if probe.to.is_ipv6() { IpFamily::V6 } else { IpFamily::V4 };
                let (own, far) = ((*of, from.id.as_str()), (*other, to.id.as_str()));
                let allowed = self.allowed_between(own, far, family, probe.kind);
                let from_whom =
                    if probe.kind == Kind::Echo { String::new() } else { format!("{other} {}", to.id) };
                let expected = (allowed && !self.is_lost(to)).then_some(from_whom);
                let text = format!(
                    "{of} {} -> {} {:?}: {:?}, expected is {:?}",
                    from.id, probe.to, probe.kind, probe.answer, expected
                );
                let same = probe.answer == expected;
                results.push((text, same, !same && probe.answer.is_none()));
            }
        }
        results
    }
}
