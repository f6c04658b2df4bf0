//! Hosts to test on.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hivemind_core::block_on;
use hivemind_net::adapters::linux::{LinuxDataplane, LinuxOptions};
use hivemind_net::dataplane::state::{
    Address, AddressKey, KernelState, Link, LinkKind, LinkName, Mac, Netns, NetnsState, PortSettings,
};
use hivemind_net::{Dataplane, DataplaneExt};

pub(crate) fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Whether this may touch the kernel.
pub(crate) fn is_root() -> bool {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    if status.lines().any(|line| line.starts_with("Uid:\t0\t")) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "not root, and CI must not go without");
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    eprintln!("SKIPPED: not root ({count} so far): run the tests as root");
    false
}

/// Some hosts, joined by a bridge in a namespace of its own, each with the uplink `eth0`: `fd6e::N/64`, `10.255.0.N/24`.
pub(crate) struct Lab {
    ground: LinuxDataplane,
    tag: String,
    hosts: u8,
}

impl Lab {
    /// `tag` names the test, and no other: at most six letters.
    pub(crate) fn new(tag: &str, hosts: u8) -> Self {
        Self::with_mtu(tag, hosts, 1500)
    }

    pub(crate) fn with_mtu(tag: &str, hosts: u8, mtu: u32) -> Self {
        static TAGS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        assert!(TAGS.lock().unwrap().insert(tag.to_owned()), "two tests are called {tag}");
        let ground =
            LinuxDataplane::open(LinuxOptions::new().with_owner(format!("lab-{tag}")).with_protocol(110))
                .unwrap();
        let lab = Self { ground, tag: tag.to_owned(), hosts };
        // A run before may have been killed.
        block_on(lab.ground.uninstall(&BTreeSet::new())).unwrap();
        let mut state = KernelState::new();
        let fabric = lab.netns("fab");
        state.namespaces.insert(fabric.clone(), NetnsState::owned());
        let bridge = Link::new(LinkKind::Bridge, Mac::new([2, 0, 0, 0, 0, 1]), mtu).with_up();
        state.namespace_mut(&fabric).links.insert(name("fab0"), bridge);
        for host in 1..=hosts {
            let at = lab.host(host);
            state.namespaces.insert(at.clone(), NetnsState::owned());
            let uplink = Link::veth_end(Mac::new([2, 0, 0, 0, 1, host]), mtu).with_up();
            let port = Link::veth_end(Mac::new([2, 0, 0, 0, 2, host]), mtu);
            let port = port.with_master(name("fab0"), PortSettings::default()).with_up();
            state.add_veth((&at, &name("eth0"), uplink), (&fabric, &name(&format!("p{host}")), port));
            let netns = state.namespace_mut(&at);
            let v6 = AddressKey::new(name("eth0"), ip(&format!("fd6e::{host}")), 64);
            let v4 = AddressKey::new(name("eth0"), ip(&format!("10.255.0.{host}")), 24);
            netns.addresses.insert(v6, Address::new());
            netns.addresses.insert(v4, Address::new());
        }
        block_on(lab.ground.sync(&state)).unwrap();
        lab
    }

    pub(crate) fn netns(&self, what: &str) -> Netns {
        format!("hm-{}-{what}", self.tag).parse().unwrap()
    }

    pub(crate) fn host(&self, number: u8) -> Netns {
        self.netns(&format!("h{number}"))
    }

    /// The agent of a host.
    pub(crate) fn agent(&self, number: u8) -> LinuxDataplane {
        let options = LinuxOptions::new().with_owner(format!("hm-{}-{number}", self.tag));
        LinuxDataplane::open(options.with_host(self.host(number))).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in 1..=self.hosts {
            let options = LinuxOptions::new().with_owner(format!("hm-{}-{host}", self.tag));
            let gone = LinuxDataplane::open(options.with_host(self.host(host)))
                .and_then(|agent| block_on(agent.uninstall(&BTreeSet::new())));
            if let Err(error) = gone {
                eprintln!("host {host} is not clean: {error}");
            }
        }
        if let Err(error) = block_on(self.ground.uninstall(&BTreeSet::new())) {
            eprintln!("the hosts are still there: {error}");
        }
    }
}

/// Runs a program in a namespace, and gives what it prints.
pub(crate) fn run(at: &Netns, command: &str) -> String {
    let output = Command::new("ip")
        .args(["netns", "exec", &at.to_string()])
        .args(command.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "{at}: {command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What is there now.
pub(crate) fn read(dataplane: &LinuxDataplane) -> KernelState {
    block_on(dataplane.read(&BTreeSet::new())).unwrap()
}
