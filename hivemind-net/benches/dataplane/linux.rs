//! The figures, on the kernel of this machine.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/kernel/lab.rs"]
mod lab;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use hivemind_core::labels::Labels;
use hivemind_core::{Generation, NodeId, TenantRef, block_on};
use hivemind_net::adapters::linux::{LinuxDataplane, LinuxOptions};
use hivemind_net::dataplane::rules::{
    Data, DataType, Family, FieldType, NamedSet, RuleTable, SetKey, TableChange, TableKey, Value,
};
use hivemind_net::dataplane::state::{
    Address, AddressKey, KernelState, Link, LinkName, Mac, Netns, NetnsState,
};
use hivemind_net::dataplane::{Action, Op, diff};
use hivemind_net::overlay::{
    OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, OverlayWorkload, TenantNetwork,
    UnderlayFamily, Vni,
};
use hivemind_net::policy::rules::NodeRules;
use hivemind_net::policy::{AnyPolicy, Change, Endpoint, Engine, NetworkPolicy, PolicySpec, Profile, World};
use hivemind_net::{Dataplane, DataplaneExt};
use lab::{Lab, ip, is_root, name};
use nix::sched::{CloneFlags, setns};

const WORKLOADS: u32 = 1000;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn time(rounds: usize, mut work: impl FnMut(usize)) -> Duration {
    let one = |round| {
        let begun = Instant::now();
        work(round);
        begun.elapsed()
    };
    median((0..rounds).map(one).collect())
}

/// One element of a map of 10,000 is changed.
fn element() {
    let lab = Lab::new("bnft", 1);
    let (agent, host) = (lab.agent(1), lab.host(1));
    let key = TableKey::new(Family::Inet, "bench".parse().unwrap());
    let mut ids = NamedSet::new([FieldType::V6], DataType::Mark);
    let address = |number: u32| Ipv6Addr::from((0xfd10_u128 << 112) + u128::from(number));
    for number in 0..10_000 {
        ids = ids.with(SetKey::exact([Value::V6(address(number))]), Data::Mark(number));
    }
    let table = |ids: &NamedSet| RuleTable::new().with_set("ids".parse().unwrap(), ids.clone());
    let more = ids.clone().with(SetKey::exact([Value::V6(address(20_000))]), Data::Mark(7));
    let [put, take] = [(&ids, &more), (&more, &ids)].map(|(from, to)| {
        let change = TableChange::between(&table(from), &table(to)).unwrap();
        Op::new(Netns::Host, Action::ChangeTable(key.clone(), Box::new(change)))
    });
    let whole = Op::new(Netns::Host, Action::PutTable(key.clone(), Box::new(table(&ids))));
    block_on(agent.apply(&[whole])).unwrap();
    let ours = time(400, |round| {
        let op = if round % 2 == 0 { put.clone() } else { take.clone() };
        block_on(agent.apply(&[op])).unwrap();
    });
    // Already in the namespace, as an agent on its own machine is.
    let started = inside(&host, move || {
        time(100, |round| {
            let what = if round % 2 == 0 { "add" } else { "delete" };
            let element = if round % 2 == 0 { "{ fd10::4e20 : 7 }" } else { "{ fd10::4e20 }" };
            let status =
                Command::new("nft").args([what, "element", "inet", "bench", "ids", element]).status();
            assert!(status.unwrap().success());
        })
    });
    let started = started.join().unwrap();
    println!(
        "one element of a map of 10,000: {ours:?} through netlink, {started:?} by a started nft: {:.1} times faster",
        started.as_secs_f64() / ours.as_secs_f64()
    );
}

fn inside<T: Send + 'static>(
    at: &Netns,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let file = File::open(format!("/run/netns/{at}")).unwrap();
    std::thread::spawn(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// Bytes a second of one TCP connection, in the median of several seconds.
fn flow(from: &Netns, to: &Netns, address: &str) -> f64 {
    let whom = SocketAddr::new(ip(address), 9000);
    let (ready, is_ready) = std::sync::mpsc::channel();
    let receiver = inside(to, move || {
        let listener = TcpListener::bind("[::]:9000").unwrap();
        ready.send(()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let (mut buffer, mut seconds) = (vec![0; 1 << 18], Vec::new());
        let (mut begun, mut bytes) = (Instant::now(), 0_usize);
        while seconds.len() < 5 {
            bytes += stream.read(&mut buffer).unwrap();
            let took = begun.elapsed();
            if took > Duration::from_secs(1) {
                seconds.push(bytes as f64 / took.as_secs_f64());
                (begun, bytes) = (Instant::now(), 0);
            }
        }
        seconds.sort_by(f64::total_cmp);
        seconds[2]
    });
    is_ready.recv().unwrap();
    let sender = inside(from, move || {
        let mut stream = TcpStream::connect(whom).unwrap();
        let buffer = vec![7; 1 << 18];
        while stream.write_all(&buffer).is_ok() {}
    });
    let rate = receiver.join().unwrap();
    sender.join().unwrap();
    rate
}

/// Two namespaces, and nothing but a pair of links between them.
fn plain() -> f64 {
    let agent = LinuxDataplane::open(LinuxOptions::new().with_owner("bplain").with_protocol(111)).unwrap();
    let mut state = KernelState::new();
    let [a, b]: [Netns; 2] = ["hm-bplain-a", "hm-bplain-b"].map(|at| at.parse().unwrap());
    for at in [&a, &b] {
        state.namespaces.insert(at.clone(), NetnsState::owned());
    }
    let end = |last| Link::veth_end(Mac::new([2, 0, 0, 0, 5, last]), 1430).with_up();
    let link: LinkName = name("eth0");
    state.add_veth((&a, &link, end(1)), (&b, &link, end(2)));
    for (at, own) in [(&a, "fd55::1"), (&b, "fd55::2")] {
        let key = AddressKey::new(link.clone(), ip(own), 64);
        state.namespace_mut(at).addresses.insert(key, Address::new());
    }
    block_on(agent.sync(&state)).unwrap();
    let rate = flow(&a, &b, "fd55::2");
    block_on(agent.uninstall(&Default::default())).unwrap();
    rate
}

fn tenant() -> TenantRef {
    TenantRef::new("red".parse().unwrap(), Generation::from_u64(1))
}

/// A tenant with workloads on hosts, and a policy that lets all of them in by TCP.
struct Tenant {
    lab: Lab,
    overlay: OverlayNetwork,
    world: World,
}

impl Tenant {
    fn new(tag: &str, hosts: u8) -> Self {
        let lab = Lab::new(tag, hosts);
        let overlay = OverlayNetwork::new(OverlayConfig::vxlan(UnderlayFamily::V6, 1500)).unwrap();
        let mut tenant = Self { lab, overlay, world: World::new() };
        for host in 1..=hosts {
            let node = OverlayNode::new(tenant.node(host), 1500).with_address(ip(&format!("fd6e::{host}")));
            tenant.overlay.load([OverlayChange::PutNode(node)]).unwrap();
        }
        let network = TenantNetwork::new(self::tenant(), Vni::new(1001).unwrap())
            .with_pool("fd10::/64".parse().unwrap())
            .with_pool("10.10.0.0/16".parse().unwrap());
        tenant.overlay.load([OverlayChange::PutTenant(network)]).unwrap();
        let spec: PolicySpec = serde_json::from_str(
            r#"{"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 9000}]}]}"#,
        )
        .unwrap();
        let (shop, all) = ("shop".parse().unwrap(), "all".parse().unwrap());
        let policy = NetworkPolicy::new(self::tenant(), shop, all, spec);
        tenant.world.apply(Change::Policy(AnyPolicy::Network(policy)));
        tenant
    }

    fn node(&self, host: u8) -> NodeId {
        self.lab.host(host).to_string().parse().unwrap()
    }

    fn put(&mut self, number: u32, on: u8) {
        let id = || format!("w{number}").parse().unwrap();
        let addresses: [IpAddr; 2] = [
            ip(&format!("fd10::{:x}", number + 2)),
            ip(&format!("10.10.{}.{}", (number + 2) / 256, (number + 2) % 256)),
        ];
        let profile = Profile::new(tenant(), "shop".parse().unwrap(), Labels::new());
        let mut workload = OverlayWorkload::new(tenant(), id(), self.node(on));
        let mut endpoint = Endpoint::new(id(), self.node(on), profile);
        for address in addresses {
            workload = workload.with_address(address);
            endpoint = endpoint.at(address);
        }
        self.overlay.load([OverlayChange::PutWorkload(workload)]).unwrap();
        self.world.apply(Change::Endpoint(endpoint));
    }

    fn desired(&self, host: u8) -> KernelState {
        let mut state = self.overlay.node_state(&self.node(host)).unwrap();
        let engine = Engine::new(self.world.clone());
        let mut rules = NodeRules::new(&engine, tenant(), self.node(host));
        let all = tenant();
        for workload in self.overlay.workloads(&all).filter(|workload| workload.node == self.node(host)) {
            rules = rules.with_link(workload.id.clone(), workload.effective_link().unwrap());
        }
        let key = TableKey::new(Family::Inet, "hivemind".parse().unwrap());
        state.enforce(&rules.prepare().unwrap(), key).unwrap();
        state.into_kernel()
    }

    fn netns(&self, number: u32) -> Netns {
        let (all, id) = (tenant(), format!("w{number}"));
        let mut found = self.overlay.workloads(&all);
        found.find(|workload| workload.id.as_str() == id).unwrap().effective_netns().unwrap()
    }
}

fn throughput() {
    let plain = plain();
    let mut tenant = Tenant::new("bflow", 2);
    for (number, host) in [(1, 1), (2, 1), (3, 2)] {
        tenant.put(number, host);
    }
    for host in 1..=2 {
        block_on(tenant.lab.agent(host).sync(&tenant.desired(host))).unwrap();
    }
    let same = flow(&tenant.netns(1), &tenant.netns(2), "fd10::4");
    let across = flow(&tenant.netns(1), &tenant.netns(3), "fd10::5");
    let gbits = |rate: f64| rate * 8.0 / 1e9;
    println!(
        "one TCP connection: {:.2} Gbit/s by a plain veth pair; {:.2} with policies on one node, a ratio of {:.2}; {:.2} \
         with overlay and policies from node to node, a ratio of {:.2}",
        gbits(plain),
        gbits(same),
        same / plain,
        gbits(across),
        across / plain
    );
}

fn nothing_differs() {
    let mut tenant = Tenant::new("bnoop", 1);
    for number in 0..WORKLOADS {
        tenant.put(number, 1);
    }
    let (agent, desired) = (tenant.lab.agent(1), tenant.desired(1));
    let begun = Instant::now();
    let made = block_on(agent.sync(&desired)).unwrap().len();
    println!("a node with {WORKLOADS} workloads: {made} changes made in {:?}", begun.elapsed());
    let again = time(3, |_| assert!(block_on(agent.sync(&desired)).unwrap().is_empty()));
    let also = desired.namespaces.keys().cloned().collect();
    let read = block_on(agent.read(&also)).unwrap();
    let compared = time(9, |_| assert!(diff(&read, &desired).is_empty()));
    println!("the same when nothing differs: {again:?}, of which {compared:?} to compare");
}

pub(crate) fn run() {
    if is_root() {
        element();
        throughput();
        nothing_differs();
    }
}
