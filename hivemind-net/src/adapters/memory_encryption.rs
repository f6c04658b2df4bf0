//! Encryption between nodes, played in memory: who could read whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hivemind_core::{Error, NodeId, Result};

use crate::overlay::UnderlayFamily;
use crate::ports::underlay_encryption::{EncryptedPeer, PublicKey, UnderlayEncryption};

/// What the nodes of one underlay have set.
#[derive(Clone, Default)]
pub struct MemoryUnderlay {
    nodes: Arc<Mutex<BTreeMap<NodeId, Node>>>,
}

#[derive(Default)]
struct Node {
    /// How many key pairs it had before this one.
    rotations: u64,
    peers: BTreeMap<NodeId, EncryptedPeer>,
}

/// One node of a [`MemoryUnderlay`]. It takes as much room as WireGuard does, and encrypts nothing: it answers who would
/// understand whom.
#[derive(Debug, Clone)]
pub struct MemoryEncryption {
    node: NodeId,
    underlay: MemoryUnderlay,
}

impl fmt::Debug for MemoryUnderlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.lock().keys().cloned().collect();
        f.debug_struct("MemoryUnderlay").field("nodes", &nodes).finish()
    }
}

/// The public key of the `rotation`th pair of a node: unlike any other's.
fn key(node: &NodeId, rotation: u64) -> PublicKey {
    let mut bytes = [0; 32];
    for (index, part) in (0u64..).zip(bytes.chunks_mut(8)) {
        let hash = crate::overlay::stable_hash([
            node.as_str().as_bytes(),
            rotation.to_be_bytes().as_slice(),
            index.to_be_bytes().as_slice(),
        ]);
        part.copy_from_slice(&hash.to_be_bytes());
    }
    PublicKey::new(bytes)
}

impl MemoryUnderlay {
    /// An underlay without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The encryption of `node`.
    pub fn node(&self, node: NodeId) -> MemoryEncryption {
        self.lock().entry(node.clone()).or_default();
        MemoryEncryption { node, underlay: self.clone() }
    }

    /// Whether a packet of `from`, with the inner address `source`, is understood by `to`, and taken for `from`'s.
    pub fn passes(&self, from: &NodeId, source: IpAddr, to: &NodeId) -> bool {
        let nodes = self.lock();
        let (Some(sender), Some(receiver)) = (nodes.get(from), nodes.get(to)) else { return false };
        let knows = |node: &Node, other: &NodeId, of: &Node| {
            node.peers.get(other).is_some_and(|peer| peer.key == key(other, of.rotations))
        };
        let is_its = receiver.peers.get(from).is_some_and(|peer| peer.inner.contains(&source));
        is_its && knows(sender, to, receiver) && knows(receiver, from, sender)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Node>> {
        // A panic of another user leaves whole values behind: each change is one assignment.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(peers: &BTreeMap<NodeId, EncryptedPeer>) -> Result<()> {
    let (mut keys, mut inner) = (BTreeSet::new(), BTreeSet::new());
    for (node, peer) in peers {
        let refused = |what: &str| Err(Error::invalid("set peers", format!("peer {node} {what}")));
        if !keys.insert(peer.key) {
            return refused("has the key of another: each node has a key of its own");
        }
        if peer.inner.is_empty() {
            return refused("has no inner address: nothing could be sent to it");
        }
        if !peer.inner.iter().all(|address| inner.insert(*address)) {
            return refused("has an inner address of another");
        }
    }
    Ok(())
}

#[async_trait]
impl UnderlayEncryption for MemoryEncryption {
    fn overhead(&self, family: UnderlayFamily) -> u32 {
        family.wireguard_overhead()
    }

    async fn public_key(&self) -> Result<PublicKey> {
        let rotations = self.underlay.lock().get(&self.node).map_or(0, |node| node.rotations);
        Ok(key(&self.node, rotations))
    }

    async fn rotate(&self) -> Result<PublicKey> {
        let mut nodes = self.underlay.lock();
        let node = nodes.entry(self.node.clone()).or_default();
        node.rotations = node.rotations.saturating_add(1);
        Ok(key(&self.node, node.rotations))
    }

    async fn set_peers(&self, peers: &BTreeMap<NodeId, EncryptedPeer>) -> Result<()> {
        check(peers)?;
        self.underlay.lock().entry(self.node.clone()).or_default().peers.clone_from(peers);
        Ok(())
    }

    async fn peers(&self) -> Result<BTreeMap<NodeId, EncryptedPeer>> {
        Ok(self.underlay.lock().get(&self.node).map(|node| node.peers.clone()).unwrap_or_default())
    }
}
