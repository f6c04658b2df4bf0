//! Every kind of thing: made, read back, repaired, left alone if it is somebody else's, and taken away.

use std::collections::BTreeSet;

use hivemind_core::{ErrorKind, block_on};
use hivemind_net::adapters::linux::{LinuxDataplane, LinuxOptions};
use hivemind_net::dataplane::rules::{Family, TableKey};
use hivemind_net::dataplane::state::{
    Address, AddressKey, BridgeMac, KernelState, Link, LinkKind, Mac, Neighbour, NeighbourKey, Netns,
    NetnsState, PortSettings, RemoteMac, Route, RouteKey, Vxlan,
};
use hivemind_net::dataplane::{Action, Op, diff};
use hivemind_net::ports::dataplane::Stopped;
use hivemind_net::{Dataplane, DataplaneExt};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::lab::{Lab, ip, is_root, name, read, run};

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 9, last])
}

/// One of everything, on a host and in a workload.
fn everything(workload: &Netns) -> KernelState {
    let mut state = KernelState::new();
    state.namespaces.insert(workload.clone(), NetnsState::owned());
    let host = state.namespace_mut(&Netns::Host);
    let bridge = Link::new(LinkKind::Bridge, mac(1), 1430).with_up();
    host.links.insert(name("br-red"), bridge);
    let over6 = Vxlan::new(1001, ip("fd6e::1")).with_dev(name("eth0")).with_zero_checksum6();
    let tunnel = Link::new(LinkKind::Vxlan(over6), mac(2), 1430);
    host.links
        .insert(name("vx-red"), tunnel.with_master(name("br-red"), PortSettings::static_tunnel()).with_up());
    let over4 = Vxlan::new(1002, ip("10.255.0.1")).with_port(4790).with_proxy();
    host.links.insert(name("vx-blue"), Link::new(LinkKind::Vxlan(over4), mac(3), 1450).with_up());
    host.addresses.insert(AddressKey::new(name("vx-blue"), ip("100.64.0.1"), 32), Address::new());
    host.addresses.insert(AddressKey::new(name("vx-blue"), ip("fdff::1"), 128), Address::new());
    let quiet = Address::new().without_prefix_route();
    host.addresses.insert(AddressKey::new(name("eth0"), ip("fd77::1"), 64), quiet);
    let route = |net: &str| RouteKey::new(net.parse().unwrap());
    let via = |gateway| Route::via(name("vx-blue"), ip(gateway), true);
    host.routes.insert(route("10.20.2.0/24"), via("100.64.0.2").with_mtu(1400));
    host.routes.insert(route("fd20:2::/64"), via("fdff::2").with_source(ip("fdff::1")));
    host.routes.insert(route("10.20.9.0/24"), Route::blackhole());
    host.routes.insert(route("fd20:9::/64"), Route::unreachable());
    host.routes.insert(route("10.30.0.0/16").with_table(1001), Route::on_link(name("eth0")));
    host.routes.insert(route("0.0.0.0/0").with_table(1002), Route::via(name("eth0"), ip("fd6e::2"), false));
    host.neighbours.insert(NeighbourKey::new(name("vx-blue"), ip("fdff::2")), Neighbour::Permanent(mac(12)));
    host.neighbours.insert(NeighbourKey::new(name("br-red"), ip("10.10.2.1")), Neighbour::Permanent(mac(13)));
    host.neighbours.insert(NeighbourKey::new(name("br-red"), ip("fd20::1")), Neighbour::Proxy);
    host.remotes.insert(RemoteMac::new(name("vx-red"), mac(13)), BTreeSet::from([ip("fd6e::2")]));
    host.remotes
        .insert(RemoteMac::new(name("vx-red"), Mac::ZERO), BTreeSet::from([ip("fd6e::2"), ip("fd6e::3")]));
    host.bridge_macs.insert(BridgeMac::new(name("br-red"), mac(13)), name("vx-red"));
    host.sysctls.insert("net/ipv4/ip_forward".parse().unwrap(), "1".to_owned());
    host.sysctls.insert("net/ipv6/conf/br-red/accept_ra".parse().unwrap(), "0".to_owned());

    let outer = Link::veth_end(mac(4), 1430).with_master(name("br-red"), PortSettings::default()).with_up();
    let inner = Link::veth_end(mac(5), 1430).with_up();
    state.add_veth((&Netns::Host, &name("v-web"), outer), (workload, &name("eth0"), inner));
    let inside = state.namespace_mut(workload);
    inside.addresses.insert(AddressKey::new(name("eth0"), ip("10.10.1.1"), 16), Address::new());
    inside.addresses.insert(AddressKey::new(name("eth0"), ip("fd10::1:1"), 64), Address::new());
    inside.routes.insert(route("::/0"), Route::via(name("eth0"), ip("fd10::ff"), false));
    inside.routes.insert(route("0.0.0.0/0"), Route::via(name("eth0"), ip("10.10.0.1"), false));
    inside.tables.extend(crate::rules::every_statement());
    state
}

/// Waits until another process has got so far.
fn until(is_so: impl Fn() -> bool) {
    let so = (0..2000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        is_so()
    });
    assert!(so, "the other process never got so far");
}

/// Runs a program where mounts are seen by everybody.
fn here(program: &str, arguments: &[&str]) {
    assert!(
        std::process::Command::new(program).args(arguments).status().unwrap().success(),
        "{program} {arguments:?}"
    );
}

#[test]
fn every_kind_is_made_and_read_back_and_taken_away() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("kinds", 1);
    let agent = lab.agent(1);
    let workload = lab.netns("web");
    // The kernel looks for duplicates of the addresses that it made itself.
    until(|| !run(&lab.host(1), "ip address show").contains("tentative"));
    let before = run(&lab.host(1), "ip -d address show");
    let desired = everything(&workload);

    let made = block_on(agent.sync(&desired)).unwrap();
    assert!(made.len() > 30, "{}", made.len());
    assert_eq!(made, diff(&KernelState::new(), &desired), "one round is enough");
    assert_eq!(read(&agent), desired);

    // An agent that restarts knows everything again, and has nothing to do.
    drop(agent);
    let agent = lab.agent(1);
    assert_eq!(block_on(agent.sync(&desired)).unwrap(), []);

    block_on(agent.uninstall(&BTreeSet::new())).unwrap();
    assert_eq!(read(&agent), KernelState::new());
    assert_eq!(run(&lab.host(1), "ip -d address show"), before);
    assert_eq!(run(&lab.host(1), "cat /proc/sys/net/ipv4/ip_forward"), "0\n");
    assert!(!std::path::Path::new("/run/netns").join(workload.to_string()).exists());
}

#[test]
fn values_from_before_go_with_what_they_were_of() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("saved", 1);
    let agent = lab.agent(1);
    let workload = lab.netns("sweb");
    let file = format!("/run/hivemind/hm-saved-1.{}.sysctls", lab.host(1));
    let written = || std::fs::read_to_string(&file).unwrap_or_default();
    let mut desired = everything(&workload);
    let parameter = "net/ipv6/conf/eth0/accept_ra".parse().unwrap();
    desired.namespace_mut(&workload).sysctls.insert(parameter, "0".to_owned());
    block_on(agent.sync(&desired)).unwrap();
    assert!(written().contains("conf/eth0/"));
    run(&lab.host(1), "ip link del v-web");
    read(&agent);
    assert!(!written().contains("conf/eth0/"), "{}", written());
    assert!(written().contains("ip_forward"));

    desired
        .namespace_mut(&workload)
        .sysctls
        .insert("net/ipv6/conf/all/forwarding".parse().unwrap(), "1".to_owned());
    block_on(agent.sync(&desired)).unwrap();
    assert!(written().contains("all/forwarding"));
    run(&lab.host(1), &format!("ip netns del {workload}"));
    read(&agent);
    assert!(!written().contains(&workload.to_string()), "{}", written());
    assert!(written().contains("ip_forward"));
}

#[test]
fn whatever_breaks_is_repaired_and_nothing_else_is_touched() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("repair", 1);
    let agent = lab.agent(1);
    let (host, workload) = (lab.host(1), lab.netns("rweb"));
    let desired = everything(&workload);
    block_on(agent.sync(&desired)).unwrap();
    let damage = [
        (&host, "ip link set br-red down", 1),
        (&host, "ip link set vx-red mtu 1300", 1),
        (&host, "ip link set vx-red address 02:00:00:00:09:99", 1),
        (&host, "ip link set v-web nomaster", 1),
        (&host, "bridge link set dev vx-red learning on", 1),
        (&host, "ip link del vx-blue", 7),
        (&host, "ip link del v-web", 8),
        (&workload, "ip addr del fd10::1:1/64 dev eth0", 1),
        (&host, "ip route del 10.20.2.0/24", 1),
        (&host, "ip -6 route del unreachable fd20:9::/64", 1),
        (&host, "ip neigh del 10.10.2.1 dev br-red", 1),
        (&host, "ip neigh del proxy fd20::1 dev br-red", 1),
        (&host, "bridge fdb del 02:00:00:00:09:0d dev vx-red dst fd6e::2 self", 1),
        (&host, "bridge fdb del 00:00:00:00:00:00 dev vx-red dst fd6e::3 self", 1),
        (&host, "bridge fdb del 02:00:00:00:09:0d dev vx-red master", 1),
        (&host, "sysctl -qw net.ipv4.ip_forward=0", 1),
        (&workload, "nft delete table inet tenant", 1),
        (&workload, "nft flush chain inet tenant deny", 1),
        (&workload, "nft add rule inet tenant deny accept", 1),
        (&workload, "nft add element inet tenant hosts { 10.10.9.9 }", 1),
    ];
    for (at, command, at_least) in damage {
        run(at, command);
        assert_ne!(read(&agent), desired, "{command} changes nothing");
        let made = block_on(agent.sync(&desired)).unwrap_or_else(|e| panic!("{command}: {e}"));
        assert!((at_least..at_least + 12).contains(&made.len()), "{command}: {made:?}");
        assert_eq!(read(&agent), desired, "{command}");
    }
}

#[test]
fn what_is_not_ours_stays() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("foreig", 1);
    let agent = lab.agent(1);
    let host = lab.host(1);
    for command in [
        "ip link add br-other type bridge",
        "ip link set br-other up",
        "ip addr add 10.99.0.1/24 dev br-other",
        "ip route add 10.98.0.0/16 via 10.99.0.2 dev br-other",
        "ip neigh add 10.99.0.2 lladdr 02:00:00:00:00:77 dev br-other nud permanent",
        "ip neigh add proxy 10.99.0.7 dev br-other",
        "nft add table inet tenant",
        "nft add chain inet tenant theirs",
    ] {
        run(&host, command);
    }
    let theirs = || {
        let commands = [
            "ip addr show br-other scope global",
            "ip route show dev br-other",
            "ip neigh show dev br-other",
            "ip neigh show proxy dev br-other",
        ];
        let mut shown: Vec<_> = commands.iter().map(|command| run(&host, command)).collect();
        shown.push(run(&host, "nft list ruleset"));
        shown
    };
    let before = theirs();
    assert_eq!(read(&agent), KernelState::new());

    // What has the same name is refused, one by one.
    let refused = |action: Action| {
        let error = block_on(agent.apply(&[Op::new(Netns::Host, action)])).unwrap_err();
        let stopped = error.detail::<Stopped>().unwrap().clone();
        assert_eq!((error.kind(), stopped.done), (ErrorKind::AlreadyExists, 0), "{error}");
    };
    let bridge = Link::new(LinkKind::Bridge, mac(1), 1500);
    refused(Action::CreateLink { name: name("br-other"), link: Box::new(bridge), peer: None });
    // A tunnel is made where its packets go, under its name, before it is handed over.
    let tunnel = Vxlan::new(1003, ip("10.255.0.1")).with_underlay(Netns::Host);
    let link = Box::new(Link::new(LinkKind::Vxlan(tunnel), mac(2), 1450));
    let create = Action::CreateLink { name: name("br-other"), link, peer: None };
    let error = block_on(agent.apply(&[Op::new(lab.netns("fab"), create)])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert_eq!(theirs(), before, "neither marked nor moved");
    refused(Action::SetUp(name("br-other"), false));
    refused(Action::DeleteLink(name("br-other")));
    let key = RouteKey::new("10.98.0.0/16".parse().unwrap());
    refused(Action::AddRoute(key, Route::on_link(name("eth0"))));
    let neighbour = NeighbourKey::new(name("br-other"), ip("10.99.0.2"));
    refused(Action::SetNeighbour(neighbour, Neighbour::Permanent(mac(1))));
    refused(Action::SetNeighbour(NeighbourKey::new(name("br-other"), ip("10.99.0.7")), Neighbour::Proxy));
    for (key, table) in
        crate::rules::every_statement().into_iter().filter(|(key, _)| key.name.as_str() == "tenant")
    {
        refused(Action::PutTable(key.clone(), Box::new(table)));
        refused(Action::DeleteTable(key));
    }
    let error = block_on(agent.apply(&[Op::new(lab.netns("fab"), Action::DeleteNetns)])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert_eq!(theirs(), before);

    let mut desired = everything(&lab.netns("fweb"));
    let netns = desired.namespace_mut(&Netns::Host);
    netns.addresses.insert(AddressKey::new(name("br-other"), ip("10.97.0.1"), 24), Address::new());
    block_on(agent.sync(&desired)).unwrap();
    block_on(agent.uninstall(&BTreeSet::new())).unwrap();
    assert_eq!(theirs(), before);
}

#[test]
fn a_namespace_whose_maker_was_interrupted_is_taken_up() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("half", 1);
    let agent = lab.agent(1);
    let workload = lab.netns("hweb");
    let desired = everything(&workload);
    let path = std::path::Path::new("/run/netns").join(workload.to_string());
    // The name is there, and says whose it is; the namespace is not.
    std::fs::write(&path, "hm-half-1").unwrap();
    assert_eq!(read(&agent), KernelState::new());
    block_on(agent.sync(&desired)).unwrap();
    assert_eq!(block_on(agent.sync(&desired)).unwrap(), []);
    // What making it writes is what is found after it was interrupted at its end, too.
    here("umount", &[&path.display().to_string()]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "hm-half-1");
    block_on(agent.sync(&desired)).unwrap();
    assert_eq!(read(&agent), desired);
    block_on(agent.uninstall(&BTreeSet::new())).unwrap();
    assert!(!path.exists());

    // A name of somebody else's, who may be about to give it a namespace, is left alone.
    std::fs::write(&path, "").unwrap();
    let error = block_on(agent.sync(&desired)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_namespace_that_somebody_made_anew_is_not_taken_for_the_one_before() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("again", 1);
    let agent = lab.agent(1);
    let workload = lab.netns("aweb");
    let desired = everything(&workload);
    block_on(agent.sync(&desired)).unwrap();
    // By hand, while the agent has sockets in it: nobody holds it, so its links end, and their other ends with them.
    here("ip", &["netns", "del", &workload.to_string()]);
    until(|| read(&agent).link(&Netns::Host, &name("v-web")).is_none());
    // And another one of the same name, which is not ours.
    here("ip", &["netns", "add", &workload.to_string()]);
    let seen = read(&agent);
    assert!(!seen.namespaces.contains_key(&workload), "{:?}", seen.namespaces.keys());
    let table = TableKey::new(Family::Inet, "t".parse().unwrap());
    let op = Op::new(workload.clone(), Action::DeleteTable(table));
    let error = block_on(agent.apply(&[op])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(!run(&workload, "ip -o link").contains("eth0"));
    here("ip", &["netns", "del", &workload.to_string()]);
    block_on(agent.sync(&desired)).unwrap();
    assert_eq!(read(&agent), desired);
    block_on(agent.uninstall(&BTreeSet::new())).unwrap();
}

#[test]
fn namespaces_go_whoever_names_some_later() {
    if !is_root() {
        return;
    }
    // Where nobody ever named a namespace, for this thread and its children alone.
    let alone = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let agent = LinuxDataplane::open(LinuxOptions::new().with_owner("hm-later")).unwrap();
        let ours: Netns = "hm-later-ours".parse().unwrap();
        let mut desired = KernelState::new();
        desired.namespaces.insert(ours.clone(), NetnsState::owned());
        block_on(agent.sync(&desired)).unwrap();
        here("ip", &["netns", "add", "hm-later-theirs"]);
        block_on(agent.uninstall(&BTreeSet::new())).unwrap();
        assert!(!std::path::Path::new("/run/netns").join(ours.to_string()).exists());
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!mounts.contains(&ours.to_string()), "it lives on: {mounts}");
        here("ip", &["netns", "del", "hm-later-theirs"]);
    });
    alone.join().unwrap();
}

#[test]
fn a_pair_whose_other_end_was_carried_off_is_made_anew() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("carry", 1);
    let agent = lab.agent(1);
    let workload = lab.netns("cweb");
    let desired = everything(&workload);
    block_on(agent.sync(&desired)).unwrap();
    // Into a namespace that no name leads to.
    let mut elsewhere = std::process::Command::new("unshare").args(["-n", "sleep", "60"]).spawn().unwrap();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let theirs = || std::fs::read_link(format!("/proc/{}/ns/net", elsewhere.id()));
    until(|| theirs().is_ok_and(|there| there != own));
    run(&workload, &format!("ip link set eth0 netns {}", elsewhere.id()));
    let seen = read(&agent);
    let kind = &seen.link(&Netns::Host, &name("v-web")).unwrap().kind;
    assert!(matches!(kind, LinkKind::Unknown(why) if why.contains("unknown namespace")), "{kind:?}");
    block_on(agent.sync(&desired)).unwrap();
    assert_eq!(read(&agent), desired);
    elsewhere.kill().unwrap();
    elsewhere.wait().unwrap();
}

#[test]
fn a_namespace_with_two_names_is_read_once() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("names", 1);
    let agent = lab.agent(1);
    let workload = lab.netns("nweb");
    let path = format!("/run/netns/{workload}");
    here("ip", &["netns", "add", &workload.to_string()]);
    assert_eq!(path.parse::<Netns>().unwrap(), workload);
    assert_eq!(format!("/var{path}").parse::<Netns>().unwrap(), workload);
    // A container runtime knows it by its process.
    let mut process = std::process::Command::new("ip")
        .args(["netns", "exec", &workload.to_string(), "sleep", "60"])
        .spawn()
        .unwrap();
    let by_process: Netns = format!("/proc/{}/ns/net", process.id()).parse().unwrap();
    let inode =
        |at: &str| std::fs::metadata(at).map(|found| std::os::unix::fs::MetadataExt::ino(&found)).ok();
    until(|| inode(&by_process.to_string()) == inode(&path));
    let mut desired = everything(&by_process);
    desired.namespace_mut(&by_process).owned = false;
    block_on(agent.sync(&desired)).unwrap();
    assert_eq!(block_on(agent.sync(&desired)).unwrap(), []);
    let mut twice = desired.clone();
    twice.namespace_mut(&workload).sysctls.insert("net/ipv4/ip_forward".parse().unwrap(), "1".to_owned());
    let error = block_on(agent.sync(&twice)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    block_on(agent.uninstall(&BTreeSet::from([by_process]))).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    here("ip", &["netns", "del", &workload.to_string()]);
}

#[test]
fn values_from_before_another_boot_are_forgotten() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("boot", 1);
    let file = format!("/run/hivemind/hm-boot-1.{}.sysctls", lab.host(1));
    let parameter = || "net/ipv4/ip_forward".parse().unwrap();
    let mut desired = KernelState::new();
    desired.namespace_mut(&Netns::Host).sysctls.insert(parameter(), "1".to_owned());
    block_on(lab.agent(1).sync(&desired)).unwrap();
    assert_eq!(read(&lab.agent(1)), desired, "a new agent knows what it was");
    // The same file, of another boot: what it says is about parameters that are others now.
    let text = std::fs::read_to_string(&file).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.starts_with(&boot), "{text}");
    let other = "00000000-0000-0000-0000-000000000000\n";
    std::fs::write(&file, text.replace(&boot, other).replace("ip_forward\t0", "ip_forward\t7")).unwrap();
    let agent = lab.agent(1);
    assert_eq!(read(&agent), KernelState::new());
    run(&lab.host(1), "sysctl -qw net.ipv4.ip_forward=0");
    block_on(agent.sync(&desired)).unwrap();
    block_on(agent.uninstall(&BTreeSet::new())).unwrap();
    assert_eq!(run(&lab.host(1), "cat /proc/sys/net/ipv4/ip_forward"), "0\n");
}

#[test]
fn pitfall_23_an_address_is_usable_at_once() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("dad", 1);
    let agent = lab.agent(1);
    let workload = lab.netns("dweb");
    block_on(agent.sync(&everything(&workload))).unwrap();
    // Bound before the kernel could have asked around for a duplicate, which takes more than a second.
    let shown = run(&workload, "ip -6 addr show dev eth0 scope global");
    assert!(
        shown.contains("fd10::1:1/64") && shown.contains("nodad") && !shown.contains("tentative"),
        "{shown}"
    );
}
