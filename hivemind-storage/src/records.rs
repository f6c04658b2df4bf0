//! Where each record is. No I/O, no clock, no async.

use hivemind_core::store::{Key, Prefix};
use hivemind_core::{
    AuditEvent, ClaimId, Collection, Error, ErrorKind, NodeId, ProviderName, ReservationId, Result,
    StorageClassName, Stored, TenantContext, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use crate::{
    AccessMode, Claim, FenceEpoch, GroupKey, GroupRecord, NodeInfo, SnapshotHandle, SnapshotKey,
    SnapshotRecord, StorageClass, Topology, Volume, VolumeHandle, VolumeKey, VolumeReport,
};
use hivemind_core::labels::Labels;
use hivemind_core::resources::ByteSize;

/// A volume without a claim that claims may be bound to. Its key sorts by size, so the smallest fit comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) volume: VolumeKey,
    pub(crate) size: ByteSize,
    pub(crate) access_modes: BTreeSet<AccessMode>,
    pub(crate) encryption: bool,
    pub(crate) provider: ProviderName,
    pub(crate) replicas: std::num::NonZeroU8,
    pub(crate) labels: Labels,
    pub(crate) topology: Vec<Topology>,
}

impl Stored for Offer {
    const KIND: &'static str = "offered volume";
}

/// Which volume has a provider's handle: no two of them have one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HandleOwner {
    pub(crate) volume: VolumeKey,
}

impl Stored for HandleOwner {
    const KIND: &'static str = "volume of a provider";
}

/// Which record has a snapshot that was adopted: no two of them have one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AdoptedSnapshot {
    pub(crate) snapshot: SnapshotKey,
}

impl Stored for AdoptedSnapshot {
    const KIND: &'static str = "adopted snapshot";
}

/// Something that is not yet as intended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Todo {
    /// How often it failed, one time after the other.
    #[serde(default)]
    pub(crate) failures: u32,
    /// Not before then.
    #[serde(default)]
    pub(crate) not_before: Timestamp,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) because: Option<String>,
    /// Whether it goes on at its provider.
    #[serde(default)]
    pub(crate) pending: bool,
}

impl Stored for Todo {
    const KIND: &'static str = "storage task";
}

/// An operator's word by which a volume is taken from a node, until it is in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Word {
    pub(crate) event: AuditEvent,
}

impl Stored for Word {
    const KIND: &'static str = "word of an operator";
}

/// What a provider's node has room for, and what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub(crate) info: NodeInfo,
    /// The volumes that it has, may have, or is to have.
    pub(crate) volumes: BTreeSet<VolumeKey>,
    /// How many slots are taken by volumes that are not ours.
    pub(crate) foreign: u64,
    /// The provider is to keep it out, by a decision of this epoch.
    pub(crate) fence: Option<FenceEpoch>,
    /// The provider keeps it out.
    pub(crate) fenced: bool,
    /// Why the provider cannot keep it out, if that was asked for last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
}

impl Stored for NodeRecord {
    const KIND: &'static str = "storage node";
}

fn collection<T: Stored>(name: &str) -> Result<Collection<T>> {
    let prefix = Prefix::new(["storage", name]).map_err(|e| Error::of(ErrorKind::Internal, "storage", e))?;
    Ok(Collection::new(prefix))
}

pub(crate) fn volumes() -> Result<Collection<Volume>> {
    collection("volumes")
}

pub(crate) fn claims() -> Result<Collection<Claim>> {
    collection("claims")
}

pub(crate) fn classes() -> Result<Collection<StorageClass>> {
    collection("classes")
}

pub(crate) fn offers() -> Result<Collection<Offer>> {
    collection("offers")
}

pub(crate) fn snapshots() -> Result<Collection<SnapshotRecord>> {
    collection("snapshots")
}

pub(crate) fn groups() -> Result<Collection<GroupRecord>> {
    collection("groups")
}

/// Its name sorts before that of volumes: a word is on record before anything is done by it.
pub(crate) fn words() -> Result<Collection<Word>> {
    collection("audit")
}

pub(crate) fn word_at(volume: &VolumeKey, epoch: FenceEpoch) -> Result<Key> {
    words()?.key([&volume.tenant.to_string(), volume.volume.as_str(), &format!("{:020}", epoch.as_u64())])
}

/// How each volume is. It is apart from the volume's own record, by whose revision the tokens of its steps are named.
pub(crate) fn reports() -> Result<Collection<VolumeReport>> {
    collection("health")
}

pub(crate) fn report_at(volume: &VolumeKey) -> Result<Key> {
    reports()?.key([&volume.tenant.to_string(), volume.volume.as_str()])
}

pub(crate) fn nodes() -> Result<Collection<NodeRecord>> {
    collection("nodes")
}

pub(crate) fn todos() -> Result<Collection<Todo>> {
    collection("todo")
}

pub(crate) fn handles() -> Result<Collection<HandleOwner>> {
    collection("handles")
}

pub(crate) fn handle_at(provider: &ProviderName, handle: &VolumeHandle) -> Result<Key> {
    handles()?.key([provider.as_str(), &segment(handle.as_str())])
}

pub(crate) fn adopted_snapshots() -> Result<Collection<AdoptedSnapshot>> {
    collection("adopted-snapshots")
}

pub(crate) fn adopted_snapshot_at(provider: &ProviderName, handle: &SnapshotHandle) -> Result<Key> {
    adopted_snapshots()?.key([provider.as_str(), &segment(handle.as_str())])
}

/// A handle as a segment of a key: it may have anything in it, and the segment may not.
pub(crate) fn segment(handle: &str) -> String {
    handle.bytes().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn volume_at(key: &VolumeKey) -> Result<Key> {
    volumes()?.key([&key.tenant.to_string(), key.volume.as_str()])
}

pub(crate) fn claim_at(ctx: &TenantContext, claim: &ClaimId) -> Result<Key> {
    claims()?.key([&ctx.tenant().to_string(), claim.as_str()])
}

pub(crate) fn class_at(class: &StorageClassName) -> Result<Key> {
    classes()?.key([class.as_str()])
}

pub(crate) fn snapshot_at(key: &SnapshotKey) -> Result<Key> {
    let volume = &key.volume;
    snapshots()?.key([&volume.tenant.to_string(), volume.volume.as_str(), key.snapshot.as_str()])
}

pub(crate) fn group_at(key: &GroupKey) -> Result<Key> {
    groups()?.key([&key.tenant.to_string(), key.group.as_str()])
}

pub(crate) fn node_at(provider: &ProviderName, node: &NodeId) -> Result<Key> {
    nodes()?.key([provider.as_str(), node.as_str()])
}

/// The shelf of offers that a claim of this kind looks at: what must be equal is in the key, before the size.
pub(crate) fn shelf<'a>(tenant: &'a str, class: Option<&'a StorageClassName>, block: bool) -> [&'a str; 3] {
    // No name of a class is empty or has an underscore.
    [tenant, class.map_or("_", StorageClassName::as_str), if block { "block" } else { "filesystem" }]
}

pub(crate) fn offer_at(volume: &Volume) -> Result<Key> {
    let tenant = volume.key.tenant.to_string();
    let [tenant, class, mode] = shelf(&tenant, volume.class.as_ref(), volume.options.volume_mode.is_block());
    let size = format!("{:016x}", volume.size.as_bytes());
    offers()?.key([tenant, class, mode, &size, volume.key.volume.as_str()])
}

/// What there is to do about the record at `key`.
pub(crate) fn todo_at(key: &Key) -> Result<Key> {
    todos()?.key(key.segments().skip(1))
}

/// The record that there is something to do about.
pub(crate) fn todo_of(todo: &Key) -> Result<Key> {
    let mut segments: Vec<&[u8]> = todo.segments().collect();
    if segments.len() > 2 {
        segments.remove(1);
    }
    Key::new(segments).map_err(|e| Error::of(ErrorKind::Internal, "todo", e))
}

/// A name for a reservation of what `parts` name: readable if it fits, and else a hash. It is kept, so it is the same for
/// ever; and tenants choose the parts, so it is of a kind that nobody can make two of.
pub(crate) fn reservation(kind: &str, parts: &[&str]) -> Result<ReservationId> {
    let readable = format!("{kind}-{}", parts.join("-"));
    // Names of several parts could be cut in several ways, so only single ones are readable.
    if let ([_], Ok(id)) = (parts, ReservationId::new(&readable)) {
        return Ok(id);
    }
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let hash = hasher.finalize().to_hex();
    ReservationId::new(format!("{kind}-{:.32}", hash.as_str()))
        .map_err(|e| Error::of(ErrorKind::Internal, "reservation", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_have_names_whatever_is_charged() -> Result<()> {
        assert_eq!(reservation("volume", &["data"])?.as_str(), "volume-data");
        let kept = reservation("snapshot", &["data", "nightly"])?;
        assert_eq!(kept.as_str(), "snapshot-0f09a32627c9a90796f3eba02809c4ba");
        let long = "x".repeat(63);
        assert!(reservation("volume", &[&long])?.as_str().len() <= 63);
        assert_ne!(reservation("snapshot", &["a-b", "c"])?, reservation("snapshot", &["a", "b-c"])?);
        Ok(())
    }

    #[test]
    fn a_todo_finds_its_record_again() -> Result<()> {
        let at = volumes()?.key(["acme.0000000000000001", "data"])?;
        assert_eq!(todo_of(&todo_at(&at)?)?, at);
        Ok(())
    }
}
