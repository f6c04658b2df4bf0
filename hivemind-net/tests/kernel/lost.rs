//! A host that is lost without a word, and comes back with all that it had.

use std::sync::Arc;
use std::time::Duration;

use hivemind_core::{Clock, ErrorKind, ManualClock, MemoryStore, NodeId, Principal, TenantContext, block_on};
use hivemind_net::dataplane::state::Netns;
use hivemind_net::overlay::UnderlayFamily;
use hivemind_net::{IpamManager, NetworkConfig};

use crate::behaviour::netns_of;
use crate::cluster::{Cluster, Inner, tenant};
use crate::lab::{ip, is_root, run};
use crate::probe::{Kind, Probe, Servers, ask};

const PATIENCE: Duration = Duration::from_secs(8);
const NEVER: Duration = Duration::from_millis(700);
const GRACE: Duration = Duration::from_secs(300);
/// The addresses of the workload that moves.
const MOVED: [&str; 2] = ["fd10::2:1", "10.10.2.1"];

/// Who answers at the addresses of the workload that moves.
fn who(from: &Netns, patience: Duration) -> Vec<Option<String>> {
    let probes =
        MOVED.iter().flat_map(|to| [Kind::Tcp(8080), Kind::Udp(5353)].map(|kind| Probe::new(kind, ip(to))));
    ask(from, probes.collect(), patience).join().unwrap().into_iter().map(|probe| probe.answer).collect()
}

fn all(name: &str) -> Vec<Option<String>> {
    vec![Some(name.to_owned()); 4]
}

/// What the control plane does about the lost host: its leases are kept until there is proof.
struct Leases {
    ipam: IpamManager,
    clock: Arc<ManualClock>,
}

impl Leases {
    fn new(workloads: &[(&str, NodeId)]) -> Self {
        let clock = Arc::new(ManualClock::default());
        let leases = Self { ipam: IpamManager::new(Arc::new(MemoryStore::new()), clock.clone()), clock };
        let pool = NetworkConfig::dual_stack("10.10.0.0/16".parse().unwrap(), "fd10::/64".parse().unwrap());
        block_on(leases.ipam.create_pool(&leases.ctx("pool"), pool.unwrap())).unwrap();
        for (id, node) in workloads {
            leases.assign(id, node);
        }
        leases
    }

    fn ctx(&self, request: &str) -> TenantContext {
        // A request that is made later is another one.
        let request = format!("{request}-{}", self.clock.now().as_nanos());
        TenantContext::new(
            tenant("red"),
            Principal::System("test".parse().unwrap()),
            request.parse().unwrap(),
        )
    }

    fn assign(&self, id: &str, node: &NodeId) -> hivemind_net::Lease {
        let ask = [(id.parse().unwrap(), node.clone())];
        block_on(self.ipam.assign(&self.ctx(&format!("assign-{id}")), &ask))
            .unwrap()
            .into_values()
            .next()
            .unwrap()
    }
}

#[test]
fn a_host_that_was_away_answers_for_nothing_that_moved_and_converges() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::new("away", UnderlayFamily::V6, Inner::Dual);
    cluster.sync();
    let fabric = cluster.lab.netns("fab");
    let (near, far) = (netns_of(&cluster, "red", "w11"), netns_of(&cluster, "red", "w31"));
    let (beside, old) = (netns_of(&cluster, "red", "w22"), netns_of(&cluster, "red", "w21"));
    let leases = Leases::new(&[("w21", cluster.node(2)), ("w22", cluster.node(2))]);
    let before = leases.assign("w21", &cluster.node(2));
    let old_server = Servers::start(&old, "old", &[8080], &[5353]);
    assert_eq!(who(&near, PATIENCE), all("old"));

    // It is gone from one moment to the next. All that was on it is still there, and nobody is told.
    run(&fabric, "ip link set p2 down");
    assert_eq!(who(&near, NEVER), vec![None; 4]);
    block_on(leases.ipam.node_lost(&leases.ctx("lost"), &cluster.node(2))).unwrap();
    let early = block_on(leases.ipam.reclaim(&leases.ctx("early"), &cluster.node(2), GRACE)).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Conflict, "no lease is free before there is proof");
    assert_ne!(leases.assign("w99", &cluster.node(3)).v6, before.v6);

    // Its workload goes to another host, with its addresses; those that are left agree on that.
    let moving = (&cluster.node(2), &cluster.node(3));
    block_on(leases.ipam.transfer(&leases.ctx("move"), &"w21".parse().unwrap(), moving)).unwrap();
    block_on(leases.ipam.transferred(&leases.ctx("moved"), &"w21".parse().unwrap(), moving.1)).unwrap();
    cluster.put("red", 2, 1, 3);
    cluster.sync_one(1);
    cluster.sync_one(3);
    let _server = Servers::start(&netns_of(&cluster, "red", "w21"), "new", &[8080], &[5353]);
    assert_eq!(who(&near, PATIENCE), all("new"));
    leases.clock.advance(GRACE);
    let gone = block_on(leases.ipam.reclaim(&leases.ctx("late"), &cluster.node(2), GRACE)).unwrap();
    assert_eq!(gone.workloads, ["w22".parse().unwrap()], "what moved keeps its addresses");

    // It is back, and believes what it believed: nobody hears of it.
    run(&fabric, "ip link set p2 up");
    let machine = ask(&cluster.lab.host(1), vec![Probe::new(Kind::Echo, ip("fd6e::2"))], PATIENCE);
    assert!(machine.join().unwrap()[0].answer.is_some(), "it is back on the wire");
    for _ in 0..3 {
        assert_eq!(who(&near, PATIENCE), all("new"));
        assert_eq!(who(&far, PATIENCE), all("new"));
    }
    assert_eq!(who(&beside, PATIENCE), all("old"), "who is on it is told so until it looks");

    assert!(!cluster.sync_one(2).is_empty());
    assert_eq!(who(&beside, PATIENCE), all("new"));
    drop(old_server);
    assert!(!std::path::Path::new("/run/netns").join(old.to_string()).exists());
    assert!(
        cluster.sync().values().all(Vec::is_empty),
        "one look was enough, and the others had nothing to do"
    );
    drop(_server);
    let (pairs, differ) = cluster.matrix();
    assert!(pairs > 0 && differ.is_empty(), "{differ:#?}");
}

#[test]
fn a_host_that_lost_everything_is_made_anew_while_the_others_go_on() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::new("crash", UnderlayFamily::V6, Inner::Dual);
    cluster.sync();
    // Nobody cleans up: the agent dies first, and everything that it made is gone from one moment to the next.
    let made = cluster.desired(3).namespaces;
    cluster.agents.remove(&3);
    for netns in made.keys().filter(|netns| **netns != Netns::Host) {
        run(&cluster.lab.host(1), &format!("ip netns del {netns}"));
    }
    let (near, beside) = (netns_of(&cluster, "red", "w11"), netns_of(&cluster, "red", "w21"));
    let _server = Servers::start(&beside, "w21", &[8080], &[5353]);
    assert_eq!(who(&near, PATIENCE), all("w21"), "the others go on");
    assert!(cluster.sync().values().all(Vec::is_empty), "and have nothing to do");
    drop(_server);

    cluster.restart_agents();
    assert!(!cluster.sync_one(3).is_empty());
    assert!(cluster.sync().values().all(Vec::is_empty));
    let (pairs, differ) = cluster.matrix();
    assert!(pairs > 0 && differ.is_empty(), "{differ:#?}");
}
