//! Whether an encryption between nodes keeps its contract.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hivemind_core::conformance::Failure;
use hivemind_core::{ErrorKind, NodeId};

use crate::overlay::UnderlayFamily;
use crate::ports::underlay_encryption::{EncryptedPeer, UnderlayEncryption};

/// Two nodes of one underlay, and a way to send a packet between them. Implement it for an adapter, and run
/// [`run_all`].
#[hivemind_core::async_trait]
pub trait TwoNodes: Sync {
    /// The encryption of the first and of the second node.
    fn nodes(&self) -> [(NodeId, &dyn UnderlayEncryption); 2];

    /// Where the node of this index, 0 or 1, takes encrypted packets.
    fn endpoint(&self, index: usize) -> SocketAddr;

    /// Whether a packet from the inner address `source` of the node of this index arrives at the other one.
    async fn passes(&self, from: usize, source: IpAddr) -> bool;
}

fn inner(index: u16) -> IpAddr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, index.saturating_add(1)).into()
}

fn ensure(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::new(what)) }
}

/// Runs every case on fresh nodes; the names of those that failed, and why.
///
/// # Errors
/// None itself: a failed call fails its case.
pub async fn run_all<N: TwoNodes>(fresh: impl Fn() -> N) -> Vec<(&'static str, Failure)> {
    let mut failed = Vec::new();
    let mut note = |case, outcome: Result<(), Failure>| failed.extend(outcome.err().map(|why| (case, why)));
    note("packets pass once both know each other", both_sides(&fresh()).await);
    note("the same peers again change nothing", repeated(&fresh()).await);
    note("who is no peer any longer is cut off", removed(&fresh()).await);
    note("an inner address is its peer's alone", spoofed(&fresh()).await);
    note("bad peers are refused, and nothing changes", refused(&fresh()).await);
    note("a new key is in force once the other has it", rotated(&fresh()).await);
    note("the room that it takes is always the same", overhead(&fresh()));
    failed
}

/// What the node of the other index is to the one of this.
async fn peer_of(two: &impl TwoNodes, index: usize) -> Result<BTreeMap<NodeId, EncryptedPeer>, Failure> {
    let other = 1 - index.min(1);
    let [first, second] = two.nodes();
    let (id, encryption) = if other == 0 { first } else { second };
    let address = inner(u16::try_from(other).unwrap_or(0));
    let peer = EncryptedPeer::new(encryption.public_key().await?, two.endpoint(other)).with_inner(address);
    Ok(BTreeMap::from([(id, peer)]))
}

async fn join(two: &impl TwoNodes) -> Result<(), Failure> {
    let [(_, first), (_, second)] = two.nodes();
    first.set_peers(&peer_of(two, 0).await?).await?;
    second.set_peers(&peer_of(two, 1).await?).await?;
    Ok(())
}

async fn both_sides(two: &impl TwoNodes) -> Result<(), Failure> {
    let [(_, first), (_, second)] = two.nodes();
    ensure(!two.passes(0, inner(0)).await, "a packet passed between strangers")?;
    first.set_peers(&peer_of(two, 0).await?).await?;
    ensure(!two.passes(0, inner(0)).await, "a packet was understood by one who has no key for it")?;
    second.set_peers(&peer_of(two, 1).await?).await?;
    ensure(two.passes(0, inner(0)).await, "no packet passed from the first to the second")?;
    ensure(two.passes(1, inner(1)).await, "no packet passed from the second to the first")
}

async fn repeated(two: &impl TwoNodes) -> Result<(), Failure> {
    join(two).await?;
    join(two).await?;
    let [(_, first), _] = two.nodes();
    ensure(first.peers().await? == peer_of(two, 0).await?, "the peers read are not those set")?;
    ensure(two.passes(0, inner(0)).await, "setting the same peers again cut them off")
}

async fn removed(two: &impl TwoNodes) -> Result<(), Failure> {
    join(two).await?;
    let [_, (_, second)] = two.nodes();
    second.set_peers(&BTreeMap::new()).await?;
    ensure(second.peers().await?.is_empty(), "a removed peer is still read")?;
    ensure(!two.passes(0, inner(0)).await, "a removed peer still sends")?;
    ensure(!two.passes(1, inner(1)).await, "packets still go to a removed peer")
}

async fn spoofed(two: &impl TwoNodes) -> Result<(), Failure> {
    join(two).await?;
    ensure(!two.passes(0, inner(7)).await, "a packet from an address that is not its sender's was taken")
}

async fn refused(two: &impl TwoNodes) -> Result<(), Failure> {
    join(two).await?;
    let [(_, first), _] = two.nodes();
    let good = first.peers().await?;
    let Some(peer) = good.values().next().cloned() else { return Err(Failure::new("no peer is read")) };
    let other: NodeId = "a-third".parse().map_err(|_| Failure::new("the case itself is wrong"))?;
    let mut bare = peer.clone();
    bare.inner.clear();
    let mut same_address = peer.clone();
    same_address.key = crate::ports::underlay_encryption::PublicKey::new([7; 32]);
    let mut same_key = peer.clone();
    same_key.inner = [inner(7)].into();
    for (bad, what) in
        [(bare, "no inner address"), (same_address, "a taken address"), (same_key, "a taken key")]
    {
        let mut peers = good.clone();
        peers.insert(other.clone(), bad);
        let outcome = first.set_peers(&peers).await;
        let invalid = outcome.is_err_and(|error| error.kind() == ErrorKind::Invalid);
        ensure(invalid, &format!("a peer with {what} was not refused as invalid"))?;
        ensure(first.peers().await? == good, &format!("a refusal ({what}) changed the peers"))?;
    }
    ensure(two.passes(0, inner(0)).await, "a refusal cut off the peers that were there")
}

async fn rotated(two: &impl TwoNodes) -> Result<(), Failure> {
    join(two).await?;
    let [(_, first), (_, second)] = two.nodes();
    let old = first.public_key().await?;
    let new = first.rotate().await?;
    ensure(new != old && new == first.public_key().await?, "the key is not a new one")?;
    second.set_peers(&peer_of(two, 1).await?).await?;
    ensure(two.passes(0, inner(0)).await && two.passes(1, inner(1)).await, "the new key is not in force")
}

fn overhead(two: &impl TwoNodes) -> Result<(), Failure> {
    let [(_, first), (_, second)] = two.nodes();
    let same = [UnderlayFamily::V4, UnderlayFamily::V6].map(|v| first.overhead(v) == second.overhead(v));
    ensure(same == [true, true], "two nodes disagree")
}
