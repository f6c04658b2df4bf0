//! Between the words of the ports and the messages of CSI, in the direction that both sides need.

use std::collections::BTreeMap;

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, Result, SecretBytes, Timestamp};

use super::wire::{self, SecretEntry, numbers::mode};
use crate::{AccessMode, Secrets, Topology, Usage, VolumeCondition, VolumeMode};

pub(super) type Map = BTreeMap<String, String>;

/// CSI counts bytes with a sign.
pub(super) fn to_bytes(size: ByteSize) -> i64 {
    i64::try_from(size.as_bytes()).unwrap_or(i64::MAX)
}

/// Zero if it is negative, which no size is.
pub(super) fn from_bytes(bytes: i64) -> ByteSize {
    ByteSize::from_bytes(u64::try_from(bytes).unwrap_or(0))
}

pub(super) fn to_access_mode(mode: AccessMode) -> i32 {
    match mode {
        AccessMode::ReadWriteOnce => mode::SINGLE_NODE_WRITER,
        AccessMode::ReadWriteOncePod => mode::SINGLE_NODE_SINGLE_WRITER,
        AccessMode::ReadOnlyOnce => mode::SINGLE_NODE_READER_ONLY,
        AccessMode::ReadOnlyMany => mode::MULTI_NODE_READER_ONLY,
        AccessMode::SingleWriterMany => mode::MULTI_NODE_SINGLE_WRITER,
        AccessMode::ReadWriteMany => mode::MULTI_NODE_MULTI_WRITER,
    }
}

/// `None` for a mode that we have not heard of, or none.
pub(super) fn from_access_mode(mode: i32) -> Option<AccessMode> {
    match mode {
        mode::SINGLE_NODE_WRITER | mode::SINGLE_NODE_MULTI_WRITER => Some(AccessMode::ReadWriteOnce),
        other => AccessMode::ALL.into_iter().find(|mode| to_access_mode(*mode) == other),
    }
}

/// `single_writers` says whether the driver tells one workload from several on one node.
pub(super) fn to_capability(
    access: AccessMode,
    volume: &VolumeMode,
    single_writers: bool,
) -> wire::VolumeCapability {
    let mode = match access {
        AccessMode::ReadWriteOnce if single_writers => mode::SINGLE_NODE_MULTI_WRITER,
        other => to_access_mode(other),
    };
    let access_mode = Some(wire::AccessMode { mode });
    match volume {
        VolumeMode::Block => {
            wire::VolumeCapability { block: Some(wire::BlockVolume {}), mount: None, access_mode }
        }
        VolumeMode::Filesystem { fs_type, mount_flags } => {
            let (fs_type, mount_flags) = (fs_type.clone(), mount_flags.clone());
            let mount = wire::MountVolume { fs_type, mount_flags, ..wire::MountVolume::default() };
            wire::VolumeCapability { block: None, mount: Some(mount), access_mode }
        }
    }
}

pub(super) fn to_topology(topology: &Topology) -> wire::Topology {
    wire::Topology { segments: topology.segments().clone() }
}

pub(super) fn from_topology(topology: wire::Topology) -> Topology {
    topology.segments.into_iter().collect()
}

/// `None` where nothing is told.
pub(super) fn to_condition(condition: &VolumeCondition) -> Option<wire::VolumeCondition> {
    match condition {
        VolumeCondition::Unknown => None,
        VolumeCondition::Normal => Some(wire::VolumeCondition {
            abnormal: false,
            message: "the volume is as it should be".to_owned(),
        }),
        VolumeCondition::Abnormal(why) => {
            Some(wire::VolumeCondition { abnormal: true, message: why.clone() })
        }
    }
}

pub(super) fn from_condition(condition: Option<wire::VolumeCondition>) -> VolumeCondition {
    match condition {
        None => VolumeCondition::Unknown,
        Some(condition) if condition.abnormal => VolumeCondition::Abnormal(condition.message),
        Some(_) => VolumeCondition::Normal,
    }
}

pub(super) fn to_timestamp(at: Timestamp) -> wire::Timestamp {
    let nanos = i32::try_from(at.as_nanos() % 1_000_000_000).unwrap_or(0);
    wire::Timestamp { seconds: i64::try_from(at.as_secs()).unwrap_or(i64::MAX), nanos }
}

/// The epoch for a time that is not told, or before it.
pub(super) fn from_timestamp(at: Option<wire::Timestamp>) -> Timestamp {
    let at = at.unwrap_or_default();
    let (seconds, nanos) = (u64::try_from(at.seconds).unwrap_or(0), u64::try_from(at.nanos).unwrap_or(0));
    Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

pub(super) fn to_usage(usage: Usage, unit: i32) -> wire::VolumeUsage {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let Usage { total, used, available } = usage;
    wire::VolumeUsage { available: number(available), total: number(total), used: number(used), unit }
}

pub(super) fn from_usage(usage: &wire::VolumeUsage) -> Usage {
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    Usage::new(number(usage.total), number(usage.used), number(usage.available))
}

/// What came over the wire is taken over, not copied.
pub(super) fn from_secrets(secrets: Vec<SecretEntry>) -> Secrets {
    secrets.into_iter().fold(Secrets::none(), |all, mut entry| {
        let (name, value) = (std::mem::take(&mut entry.name), std::mem::take(&mut entry.value));
        all.with(name, SecretBytes::new(value.into_bytes()))
    })
}

/// Secrets as CSI carries them: as text.
pub(super) fn to_secrets(operation: &'static str, secrets: &Secrets) -> Result<Vec<SecretEntry>> {
    let entry = |(name, secret): (&str, &SecretBytes)| {
        let text = std::str::from_utf8(secret.expose()).map_err(|_| {
            Error::invalid(operation, format!("secret {name} is not UTF-8, which CSI asks for: encode it"))
        })?;
        Ok(SecretEntry { name: name.to_owned(), value: text.to_owned() })
    };
    secrets.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_modes_come_back() {
        for mode in AccessMode::ALL {
            assert_eq!(from_access_mode(to_access_mode(mode)), Some(mode));
        }
        assert_eq!(from_access_mode(mode::SINGLE_NODE_MULTI_WRITER), Some(AccessMode::ReadWriteOnce));
        assert_eq!((from_access_mode(0), from_access_mode(8)), (None, None));
        let told = to_capability(AccessMode::ReadWriteOnce, &VolumeMode::Block, true);
        assert_eq!(told.access_mode.map(|mode| mode.mode), Some(mode::SINGLE_NODE_MULTI_WRITER));
    }

    #[test]
    fn times_and_conditions_come_back() {
        for nanos in [0, 1, 999_999_999, 1_000_000_000, 1_700_000_000_123_456_789] {
            let at = Timestamp::from_nanos(nanos);
            assert_eq!(from_timestamp(Some(to_timestamp(at))), at);
        }
        assert_eq!(
            from_timestamp(Some(wire::Timestamp { seconds: -1, nanos: -1 })),
            Timestamp::from_nanos(0)
        );
        for condition in
            [VolumeCondition::Unknown, VolumeCondition::Normal, VolumeCondition::Abnormal("sick".to_owned())]
        {
            assert_eq!(from_condition(to_condition(&condition)), condition);
        }
    }

    #[test]
    fn sizes_stay_within_what_csi_can_say() {
        assert_eq!(to_bytes(ByteSize::from_bytes(u64::MAX)), i64::MAX);
        assert_eq!(from_bytes(-1), ByteSize::ZERO);
    }
}
