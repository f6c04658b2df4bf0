//! The kernel in memory keeps the port's Contract, and the suite tells a broken one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeSet;

use async_trait::async_trait;
use hivemind_core::{Error, ErrorKind, Result, block_on};
use hivemind_net::conformance::dataplane::{CASES, run_all};
use hivemind_net::dataplane::state::{Address, AddressKey, Link, LinkKind, Mac, Netns, NetnsState};
use hivemind_net::dataplane::{Action, Connection, KernelState, Op};
use hivemind_net::ports::dataplane::Stopped;
use hivemind_net::{Dataplane, DataplaneExt, MemoryDataplane};

#[test]
fn the_kernel_in_memory_keeps_the_contract() {
    let (passed, failed) = block_on(run_all(MemoryDataplane::new));
    assert_eq!(failed, []);
    assert_eq!(passed.len(), CASES.len());
}

/// A kernel that refuses whatever is to be done in one namespace.
#[derive(Debug)]
struct Stubborn(MemoryDataplane, Netns);

#[async_trait]
impl Dataplane for Stubborn {
    async fn read(&self, also: &BTreeSet<Netns>) -> Result<KernelState> {
        self.0.read(also).await
    }
    async fn apply(&self, ops: &[Op]) -> Result<()> {
        let into = |op: &Op| match &op.action {
            Action::CreateLink { link, .. } => {
                matches!(&link.kind, LinkKind::Veth { peer_netns, .. } if *peer_netns == self.1)
            }
            _ => false,
        };
        match ops.iter().position(|op| op.netns == self.1 || into(op)) {
            None => self.0.apply(ops).await,
            Some(at) => {
                self.0.apply(&ops[..at]).await?;
                let stopped = Stopped::new(at, ops.len(), &ops[at], "there is no such namespace");
                Err(Error::of(ErrorKind::NotFound, "apply", stopped))
            }
        }
    }
    async fn connections(&self, netns: &Netns) -> Result<Vec<Connection>> {
        self.0.connections(netns).await
    }
    async fn forget(&self, netns: &Netns, connections: &[Connection]) -> Result<usize> {
        self.0.forget(netns, connections).await
    }
}

#[test]
fn a_workload_whose_namespace_is_gone_holds_up_nobody_else() {
    let (gone, there): (Netns, Netns) = ("gone".parse().unwrap(), "there".parse().unwrap());
    let mut desired = KernelState::new();
    for (number, at) in [(1, &gone), (2, &there)] {
        desired.namespaces.insert(at.clone(), NetnsState::owned());
        let outer = format!("v-{at}").parse().unwrap();
        let end = |last| Link::veth_end(Mac::new([2, 0, 0, 0, number, last]), 1500).with_up();
        desired.add_veth((&Netns::Host, &outer, end(1)), (at, &"eth0".parse().unwrap(), end(2)));
        let key = AddressKey::new(outer, format!("fd00::{number}").parse().unwrap(), 64);
        desired.namespace_mut(&Netns::Host).addresses.insert(key, Address::new());
    }
    let kernel = Stubborn(MemoryDataplane::new(), gone.clone());
    let refused = block_on(kernel.sync(&desired)).unwrap_err();
    assert!(
        refused.detail::<Stopped>().is_some_and(|stopped| stopped.problem.contains("no such")),
        "{refused}"
    );
    let held = block_on(kernel.read(&BTreeSet::new())).unwrap();
    assert_eq!(held.namespaces[&there], desired.namespaces[&there]);
    let links: Vec<_> = held.namespaces[&Netns::Host].links.keys().map(ToString::to_string).collect();
    assert_eq!(links, ["v-there"]);
    assert_eq!(held.namespaces[&Netns::Host].addresses.len(), 1);
}

/// A fault that an adapter may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    ForgetsRoutes,
    GoesOnAfterARefusal,
    NeverDeletes,
    ReplacesTables,
}

#[derive(Debug)]
struct Broken(MemoryDataplane, Fault);

#[async_trait]
impl Dataplane for Broken {
    async fn read(&self, also: &BTreeSet<Netns>) -> Result<KernelState> {
        let mut state = self.0.read(also).await?;
        if self.1 == Fault::ForgetsRoutes {
            state.namespaces.values_mut().for_each(|netns| netns.routes.clear());
        }
        Ok(state)
    }

    async fn apply(&self, ops: &[Op]) -> Result<()> {
        match self.1 {
            Fault::GoesOnAfterARefusal => {
                let mut refused = Ok(());
                for op in ops {
                    refused = refused.and(self.0.apply(std::slice::from_ref(op)).await);
                }
                refused
            }
            Fault::NeverDeletes => {
                let kept: Vec<_> =
                    ops.iter().filter(|op| !matches!(op.action, Action::DeleteNetns)).cloned().collect();
                self.0.apply(&kept).await
            }
            Fault::ReplacesTables => {
                let tolerant: Vec<_> =
                    ops.iter().filter(|op| !matches!(op.action, Action::AddRoute(..))).cloned().collect();
                self.0.apply(&tolerant).await
            }
            Fault::ForgetsRoutes => self.0.apply(ops).await,
        }
    }

    async fn connections(&self, netns: &Netns) -> Result<Vec<Connection>> {
        self.0.connections(netns).await
    }

    async fn forget(&self, netns: &Netns, connections: &[Connection]) -> Result<usize> {
        self.0.forget(netns, connections).await
    }
}

#[test]
fn the_suite_tells_broken_ones() {
    for fault in
        [Fault::ForgetsRoutes, Fault::GoesOnAfterARefusal, Fault::NeverDeletes, Fault::ReplacesTables]
    {
        let (_, failed) = block_on(run_all(|| Broken(MemoryDataplane::new(), fault)));
        assert!(!failed.is_empty(), "{fault:?} is not found out");
    }
}

#[test]
fn what_somebody_else_changed_is_put_right_again() {
    let dataplane = MemoryDataplane::new();
    let mut desired = KernelState::new();
    let bridge = Link::new(LinkKind::Bridge, Mac::new([2, 0, 0, 0, 0, 1]), 1500).with_up();
    desired.namespace_mut(&Netns::Host).links.insert("br0".parse().unwrap(), bridge);
    assert_eq!(block_on(dataplane.sync(&desired)).unwrap().len(), 2);
    dataplane.tamper(|state| state.namespace_mut(&Netns::Host).links.get_mut("br0").unwrap().up = false);
    let made = block_on(dataplane.sync(&desired)).unwrap();
    assert_eq!(made.iter().map(ToString::to_string).collect::<Vec<_>>(), ["@host: set link br0 up"]);
    assert_eq!(dataplane.log().len(), 3);
}
