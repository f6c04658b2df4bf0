//! Names across the border: what a CSI caller calls things becomes a name of ours, and the other way round.
//!
//! Everything here is a function of its input alone: a driver that restarts, or a second one, finds the same things.

use std::str::FromStr;

use hivemind_core::{NodeId, OpToken, SnapshotId, TenantRef, VolumeId};

use crate::{
    GroupHandle, GroupKey, NodeHandle, NodeRef, SnapshotHandle, SnapshotKey, SnapshotRef, VolumeHandle,
    VolumeKey, VolumeRef,
};

/// Begins every name that is a hash, and therefore no other.
const HASHED: &str = "csi-";
/// The longest name of a volume that stays as it is: `pvc-` and a UUID.
const PLAIN_VOLUME: usize = 40;
/// The longest name of a snapshot that stays as it is.
const PLAIN_SNAPSHOT: usize = 25;

/// 105 bits of the hash of `text`, for one `purpose`, as 21 of `a-z2-7`.
fn hash(purpose: &str, text: &str) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut hasher = blake3::Hasher::new();
    hasher.update(purpose.as_bytes());
    hasher.update(&[0]);
    hasher.update(text.as_bytes());
    let mut bits =
        hasher.finalize().as_bytes().iter().take(16).fold(0u128, |all, byte| all << 8 | u128::from(*byte));
    let mut digits = String::with_capacity(21);
    for _ in 0..21 {
        let digit = usize::try_from(bits & 31).ok().and_then(|at| DIGITS.get(at)).copied();
        digits.push(digit.map_or('a', char::from));
        bits >>= 5;
    }
    digits
}

/// `text` if it is a name of at most `longest` bytes that no hash has, and else the name of its hash.
fn name<T: FromStr>(purpose: &str, text: &str, longest: usize) -> Option<T> {
    let plain = Some(text).filter(|text| text.len() <= longest && !text.starts_with(HASHED));
    if let Some(plain) = plain.and_then(|plain| plain.parse().ok()) {
        return Some(plain);
    }
    format!("{HASHED}{}", hash(purpose, text)).parse().ok()
}

/// The volume that a CSI caller calls `text`.
pub(super) fn volume_key(tenant: &TenantRef, text: &str) -> Option<VolumeKey> {
    name("volume", text, PLAIN_VOLUME).map(|volume| VolumeKey::new(tenant.clone(), volume))
}

/// The snapshot, or the group of them, that a CSI caller calls `text`.
pub(super) fn snapshot_name(text: &str) -> Option<SnapshotId> {
    name("snapshot", text, PLAIN_SNAPSHOT)
}

/// The node that a driver calls `text`.
pub(super) fn node_ref(text: &str) -> Option<NodeRef> {
    let node: NodeId = name("node", text, 63)?;
    Some(NodeRef::new(node, NodeHandle::new(text).ok()?))
}

/// The token of one intent of a CSI caller.
pub(super) fn token(intent: &[&str]) -> OpToken {
    OpToken::new(format!("{HASHED}{}", hash("token", &intent.join("\0"))))
}

/// What a driver of ours calls a volume: our name and the provider's, so that it need not remember.
pub(super) fn volume_id(key: &VolumeKey, handle: &VolumeHandle) -> String {
    format!("{}.{handle}", key.volume)
}

/// The volume of an id; `None` for one that no driver of ours made.
pub(super) fn parse_volume_id(tenant: &TenantRef, id: &str) -> Option<VolumeRef> {
    let (volume, handle) = id.split_once('.')?;
    let volume: VolumeId = volume.parse().ok()?;
    Some(VolumeRef::new(VolumeKey::new(tenant.clone(), volume), handle.parse().ok()?))
}

/// What a driver of ours calls a snapshot.
pub(super) fn snapshot_id(key: &SnapshotKey, handle: &SnapshotHandle) -> String {
    format!("{}.{}.{handle}", key.volume.volume, key.snapshot)
}

/// The snapshot of an id; `None` for one that no driver of ours made.
pub(super) fn parse_snapshot_id(tenant: &TenantRef, id: &str) -> Option<SnapshotRef> {
    let mut parts = id.splitn(3, '.');
    let (volume, snapshot, handle) = (parts.next()?, parts.next()?, parts.next()?);
    let volume = VolumeKey::new(tenant.clone(), volume.parse().ok()?);
    Some(SnapshotRef::new(SnapshotKey::new(volume, snapshot.parse().ok()?), handle.parse().ok()?))
}

/// What a driver of ours calls a group of snapshots.
pub(super) fn group_id(key: &GroupKey, handle: &GroupHandle) -> String {
    format!("{}.{handle}", key.group)
}

/// The group of an id; `None` for one that no driver of ours made.
pub(super) fn parse_group_id(tenant: &TenantRef, id: &str) -> Option<(GroupKey, GroupHandle)> {
    let (group, handle) = id.split_once('.')?;
    Some((GroupKey::new(tenant.clone(), group.parse().ok()?), handle.parse().ok()?))
}

/// What we tell a driver to call a thing of ours: never longer than CSI allows, and the same for ever.
pub(super) fn foreign_name(purpose: &str, key: &impl std::fmt::Display) -> String {
    format!("hivemind-{}", hash(purpose, &key.to_string()))
}

#[cfg(test)]
mod tests {
    use hivemind_core::Generation;
    use proptest::prelude::*;

    use super::*;

    fn tenant() -> TenantRef {
        TenantRef::new("acme".parse().unwrap(), Generation::from_u64(7))
    }

    #[test]
    fn names_are_the_same_for_ever() {
        let name = |text: &str| volume_key(&tenant(), text).unwrap().volume.to_string();
        assert_eq!(
            name("pvc-12345678-9abc-def0-1234-56789abcdef0"),
            "pvc-12345678-9abc-def0-1234-56789abcdef0"
        );
        assert_eq!(name("My volume"), "csi-nzhj5dliypqfmws6y3epd");
        assert_eq!(name("csi-x"), "csi-ws6o57zrig3zsfavu5iup");
        let key = VolumeKey::new(tenant(), "data".parse().unwrap());
        assert_eq!(foreign_name("volume", &key), "hivemind-d6mwtgm6hkgvos5tzzzff");
    }

    #[test]
    fn purposes_do_not_share_hashes() {
        assert_ne!(hash("volume", "a"), hash("snapshot", "a"));
        assert_ne!(token(&["ab", "c"]), token(&["a", "bc"]));
    }

    proptest! {
        #[test]
        fn every_name_becomes_one_and_ids_find_it_again(text in "\\PC{1,128}", handle in "[!-~]{1,80}") {
            let key = volume_key(&tenant(), &text).unwrap();
            prop_assert_eq!(&key, &volume_key(&tenant(), &text).unwrap());
            prop_assert!(key.volume.as_str() == text || key.volume.as_str().starts_with(HASHED));
            let made = VolumeRef::new(key.clone(), handle.parse().unwrap());
            let id = volume_id(&made.key, &made.handle);
            prop_assert!(id.len() <= 41 + handle.len());
            prop_assert_eq!(parse_volume_id(&tenant(), &id), Some(made));
            let snapshot = SnapshotRef::new(SnapshotKey::new(key, snapshot_name(&text).unwrap()), handle.parse().unwrap());
            let id = snapshot_id(&snapshot.key, &snapshot.handle);
            prop_assert!(id.len() <= 67 + handle.len());
            prop_assert_eq!(parse_snapshot_id(&tenant(), &id), Some(snapshot));
        }

        #[test]
        fn two_names_become_two(one in "[a-z-]{1,50}", other in "[a-z-]{1,50}") {
            prop_assume!(one != other);
            prop_assert_ne!(volume_key(&tenant(), &one), volume_key(&tenant(), &other));
            // Nor does a name that looks like a hash.
            let hashed = volume_key(&tenant(), &one).unwrap().volume;
            if hashed.as_str() != one {
                prop_assert_ne!(volume_key(&tenant(), hashed.as_str()).unwrap().volume, hashed);
            }
        }
    }
}
