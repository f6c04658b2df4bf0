//! Encryption between nodes, below the overlay.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use hivemind_core::{NodeId, Result};

use crate::overlay::UnderlayFamily;

/// Encrypts what goes from node to node: WireGuard, IPsec, MACsec, or a fabric that does it.
///
/// The overlay does not know of it, but for the room that it takes. Each node has an inner address on the encrypted link;
/// that is the node's address between nodes for the overlay
/// ([`OverlayNode::with_address`](crate::overlay::OverlayNode::with_address)), and
/// [`OverlayConfig::with_encryption_overhead`](crate::overlay::OverlayConfig::with_encryption_overhead) is given
/// [`overhead`](Self::overhead).
///
/// No adapter for a kernel comes with this crate: the kernels it is tested on have neither WireGuard nor ESP.
///
/// # Contract
///
/// **Whole.** [`set_peers`](Self::set_peers) makes the given peers the only ones; those who are not among them can no
/// longer send or receive. The same peers again change nothing, and interrupt nothing.
///
/// **Refused whole.** If two peers share a key or an inner address, or one has none, nothing changes: the error's kind is
/// [`Invalid`](hivemind_core::ErrorKind::Invalid). An inner address belongs to one peer: packets from it count as that
/// peer's, and nobody else's.
///
/// **Both sides.** Packets pass between two nodes only if each has the other's current public key. Otherwise they are
/// lost: never sent in clear.
///
/// **Secret.** The private key never leaves the adapter: not by a method, not by `Debug`, not by an error.
///
/// **Rotation.** After [`rotate`](Self::rotate) the new public key is in force, and the old one no more, as soon as the
/// others have set it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait UnderlayEncryption: fmt::Debug + Send + Sync + 'static {
    /// How many bytes it adds to each packet, over this IP version; always the same.
    fn overhead(&self, family: UnderlayFamily) -> u32;

    /// The key by which the others know this node.
    async fn public_key(&self) -> Result<PublicKey>;

    /// Makes a new key pair; gives back its public half.
    async fn rotate(&self) -> Result<PublicKey>;

    /// Makes these the peers, and no others.
    async fn set_peers(&self, peers: &BTreeMap<NodeId, EncryptedPeer>) -> Result<()>;

    /// The peers as they are set.
    async fn peers(&self) -> Result<BTreeMap<NodeId, EncryptedPeer>>;
}

/// The public half of a key pair: 32 bytes, as Curve25519's are (RFC 7748).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From its bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Another node, as this one sends to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncryptedPeer {
    /// The key by which it is known.
    pub key: PublicKey,
    /// Where encrypted packets for it go.
    pub endpoint: SocketAddr,
    /// Its inner addresses.
    pub inner: BTreeSet<IpAddr>,
}

impl EncryptedPeer {
    /// A peer without inner addresses yet.
    pub fn new(key: PublicKey, endpoint: SocketAddr) -> Self {
        Self { key, endpoint, inner: BTreeSet::new() }
    }

    /// The same, with an inner address more.
    #[must_use]
    pub fn with_inner(mut self, address: IpAddr) -> Self {
        self.inner.insert(address);
        self
    }
}
