//! The encryption that is played in memory keeps the contract; a broken one is found out.
#![cfg(feature = "testkit")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use hivemind_core::{NodeId, Result, async_trait, block_on};
use hivemind_net::adapters::memory_encryption::{MemoryEncryption, MemoryUnderlay};
use hivemind_net::conformance::underlay_encryption::{TwoNodes, run_all};
use hivemind_net::overlay::{OverlayConfig, OverlayNetwork, UnderlayFamily};
use hivemind_net::ports::underlay_encryption::{EncryptedPeer, PublicKey, UnderlayEncryption};

struct Two<E> {
    underlay: MemoryUnderlay,
    ids: [NodeId; 2],
    nodes: [E; 2],
}

#[async_trait]
impl<E: UnderlayEncryption> TwoNodes for Two<E> {
    fn nodes(&self) -> [(NodeId, &dyn UnderlayEncryption); 2] {
        [(self.ids[0].clone(), &self.nodes[0]), (self.ids[1].clone(), &self.nodes[1])]
    }

    fn endpoint(&self, index: usize) -> SocketAddr {
        format!("[2001:db8::{}]:51820", index + 1).parse().unwrap()
    }

    async fn passes(&self, from: usize, source: IpAddr) -> bool {
        self.underlay.passes(&self.ids[from], source, &self.ids[1 - from])
    }
}

fn two<E>(wrap: impl Fn(MemoryEncryption) -> E) -> Two<E> {
    let underlay = MemoryUnderlay::new();
    let ids: [NodeId; 2] = ["n1".parse().unwrap(), "n2".parse().unwrap()];
    let nodes = ids.clone().map(|id| wrap(underlay.node(id)));
    Two { underlay, ids, nodes }
}

#[test]
fn the_memory_adapter_keeps_the_contract() {
    assert_eq!(block_on(run_all(|| two(|node| node))), []);
}

/// An adapter that adds peers, and never takes one away.
#[derive(Debug)]
struct Hoarder(MemoryEncryption);

#[async_trait]
impl UnderlayEncryption for Hoarder {
    fn overhead(&self, family: UnderlayFamily) -> u32 {
        self.0.overhead(family)
    }
    async fn public_key(&self) -> Result<PublicKey> {
        self.0.public_key().await
    }
    async fn rotate(&self) -> Result<PublicKey> {
        self.0.public_key().await
    }
    async fn set_peers(&self, peers: &BTreeMap<NodeId, EncryptedPeer>) -> Result<()> {
        let mut all = self.0.peers().await?;
        all.extend(peers.clone());
        self.0.set_peers(&all).await
    }
    async fn peers(&self) -> Result<BTreeMap<NodeId, EncryptedPeer>> {
        self.0.peers().await
    }
}

#[test]
fn a_broken_adapter_is_found_out() {
    let failed: Vec<_> = block_on(run_all(|| two(Hoarder))).into_iter().map(|(case, _)| case).collect();
    assert_eq!(
        failed,
        ["who is no peer any longer is cut off", "a new key is in force once the other has it"]
    );
}

#[test]
fn the_overlay_leaves_room_for_it() {
    let two = two(|node| node);
    let overhead = two.nodes[0].overhead(UnderlayFamily::V6);
    let config = OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_encryption_overhead(overhead);
    assert_eq!(OverlayNetwork::new(config).unwrap().mtu(), 1500 - 80 - 70);
}
