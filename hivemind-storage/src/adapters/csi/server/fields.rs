//! What must be in a request: checked before anything else, so that a wrong request changes nothing.

use std::collections::BTreeSet;

use hivemind_core::resources::ByteSize;
use tonic::Status;

use super::super::convert::{self, Map};
use super::super::wire::{self, SecretEntry};
use crate::{AccessMode, SizeRange, VolumeMode};

/// Strings have at most 128 bytes, where CSI does not say otherwise.
const LONGEST: usize = 128;
/// The id of a node.
const LONGEST_NODE: usize = 256;
/// Paths: what the kernel takes.
const LONGEST_PATH: usize = 4096;
/// A map has at most 4 KiB, names and values together.
const LARGEST_MAP: usize = 4096;

/// There must be a `field`, of at most `longest` bytes, without control characters.
fn text(field: &str, value: &str, longest: usize) -> Result<(), Status> {
    if value.is_empty() {
        return Err(Status::invalid_argument(format!("{field} is missing")));
    }
    if value.len() > longest {
        let message = format!("{field} has {} bytes, at most {longest} are allowed", value.len());
        return Err(Status::invalid_argument(message));
    }
    if value.chars().any(char::is_control) {
        return Err(Status::invalid_argument(format!("{field} has a control character")));
    }
    Ok(())
}

/// An id or a name.
pub(super) fn id(field: &str, value: &str) -> Result<(), Status> {
    text(field, value, LONGEST)
}

pub(super) fn node_id(value: &str) -> Result<(), Status> {
    text("node_id", value, LONGEST_NODE)
}

/// An absolute path.
pub(super) fn path(field: &str, value: &str) -> Result<(), Status> {
    text(field, value, LONGEST_PATH)?;
    if value.starts_with('/') {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{field} is {value:?}, which is not absolute")))
}

/// Where a volume is said to be. It need not be absolute: at another path there is no volume, and that is the answer.
pub(super) fn volume_path(value: &str) -> Result<(), Status> {
    text("volume_path", value, LONGEST_PATH)
}

/// Maps of bounded size.
pub(super) fn maps<'a>(maps: impl IntoIterator<Item = (&'a str, &'a Map)>) -> Result<(), Status> {
    for (field, map) in maps {
        bounded(field, map.iter().map(|(name, value)| name.len() + value.len()).sum())?;
    }
    Ok(())
}

/// Secrets, which are a map on the wire.
pub(super) fn secrets(secrets: &[SecretEntry]) -> Result<(), Status> {
    bounded("secrets", secrets.iter().map(|entry| entry.name.len() + entry.value.len()).sum())
}

fn bounded(field: &str, size: usize) -> Result<(), Status> {
    if size <= LARGEST_MAP {
        return Ok(());
    }
    let message = format!("{field} has {size} bytes, at most {LARGEST_MAP} are allowed");
    Err(Status::invalid_argument(message))
}

/// Parameters that may change, of those that the driver knows.
pub(super) fn mutable(known: Option<&BTreeSet<String>>, parameters: &Map) -> Result<(), Status> {
    maps([("mutable_parameters", parameters)])?;
    let unknown = |name: &&String| known.is_some_and(|known| !known.contains(*name));
    match parameters.keys().find(unknown) {
        Some(name) => {
            Err(Status::invalid_argument(format!("mutable_parameters has {name}, which cannot change here")))
        }
        None => Ok(()),
    }
}

/// How one volume is to be used.
pub(super) fn capability(
    wanted: Option<&wire::VolumeCapability>,
) -> Result<(AccessMode, VolumeMode), Status> {
    let wanted = wanted.ok_or_else(|| Status::invalid_argument("volume_capability is missing"))?;
    let volume_mode = match (&wanted.block, &wanted.mount) {
        (Some(_), None) => VolumeMode::Block,
        (None, Some(mount)) if !mount.volume_mount_group.is_empty() => {
            let message = "volume_mount_group is set, and this driver has no capability VOLUME_MOUNT_GROUP";
            return Err(Status::invalid_argument(message));
        }
        (None, Some(mount)) => {
            VolumeMode::Filesystem { fs_type: mount.fs_type.clone(), mount_flags: mount.mount_flags.clone() }
        }
        _ => {
            let message = "the access_type of volume_capability is missing: give either block or mount";
            return Err(Status::invalid_argument(message));
        }
    };
    let mode = wanted.access_mode.as_ref().map_or(0, |mode| mode.mode);
    let access = convert::from_access_mode(mode).ok_or_else(|| {
        Status::invalid_argument(format!("access_mode {mode} of volume_capability is none of 1 to 7"))
    })?;
    Ok((access, volume_mode))
}

/// All the ways in which one volume is to be used: it must be able to do each of them.
pub(super) fn capabilities(
    wanted: &[wire::VolumeCapability],
) -> Result<(BTreeSet<AccessMode>, VolumeMode), Status> {
    let mut all = wanted.iter().map(|one| capability(Some(one)));
    let Some(first) = all.next() else {
        return Err(Status::invalid_argument("volume_capabilities are missing"));
    };
    let (access, volume_mode) = first?;
    let mut modes = BTreeSet::from([access]);
    for one in all {
        let (access, other) = one?;
        if other != volume_mode {
            let message = "volume_capabilities ask for one volume as different things: ask for one kind";
            return Err(Status::invalid_argument(message));
        }
        modes.insert(access);
    }
    Ok((modes, volume_mode))
}

/// The range asked for; `least` where the caller leaves the least to us.
pub(super) fn size(range: Option<&wire::CapacityRange>, least: ByteSize) -> Result<SizeRange, Status> {
    let range = range.cloned().unwrap_or_default();
    let number = |field: &str, bytes: i64| {
        u64::try_from(bytes)
            .map_err(|_| Status::invalid_argument(format!("{field} is {bytes}, which is negative")))
    };
    let required = number("required_bytes", range.required_bytes)?;
    let limit = number("limit_bytes", range.limit_bytes)?;
    let limit = (limit > 0).then(|| ByteSize::from_bytes(limit));
    let required = match required {
        0 => limit.map_or(least, |limit| limit.min(least)),
        bytes => ByteSize::from_bytes(bytes),
    };
    SizeRange::new(required, limit).map_err(|error| Status::out_of_range(error.message()))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, part: &str) {
        let status = outcome.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(part), "{status}");
    }

    #[test]
    fn texts_and_maps_are_bounded() {
        refused(id("name", ""), Code::InvalidArgument, "name is missing");
        refused(id("name", &"x".repeat(129)), Code::InvalidArgument, "at most 128");
        refused(id("name", "a\u{7f}"), Code::InvalidArgument, "control");
        refused(path("target_path", "a/b"), Code::InvalidArgument, "not absolute");
        let known = BTreeSet::from(["speed".to_owned()]);
        assert!(mutable(Some(&known), &Map::from([("speed".to_owned(), "1".to_owned())])).is_ok());
        let other = Map::from([("size".to_owned(), "1".to_owned())]);
        refused(mutable(Some(&known), &other), Code::InvalidArgument, "cannot change");
        assert!(mutable(None, &other).is_ok() && volume_path("some/path").is_ok());
        assert!(id("name", &"x".repeat(128)).is_ok() && node_id(&"x".repeat(256)).is_ok());
        let large = Map::from([("k".to_owned(), "v".repeat(4096))]);
        refused(maps([("parameters", &large)]), Code::InvalidArgument, "parameters has 4097 bytes");
        let large = SecretEntry { name: "k".to_owned(), value: "v".repeat(4096) };
        refused(secrets(&[large]), Code::InvalidArgument, "secrets has 4097 bytes");
    }

    #[test]
    fn a_capability_says_how_and_by_whom() {
        let good = convert::to_capability(AccessMode::ReadWriteOnce, &VolumeMode::filesystem(), true);
        assert_eq!(capability(Some(&good)).unwrap(), (AccessMode::ReadWriteOnce, VolumeMode::filesystem()));
        let block = convert::to_capability(AccessMode::ReadWriteOnce, &VolumeMode::Block, false);
        refused(capabilities(&[good.clone(), block.clone()]), Code::InvalidArgument, "different things");
        let both = wire::VolumeCapability { mount: good.mount.clone(), ..block };
        refused(capability(Some(&both)), Code::InvalidArgument, "either block or mount");
        let no_mode = wire::VolumeCapability { access_mode: None, ..good };
        refused(capability(Some(&no_mode)), Code::InvalidArgument, "access_mode 0");
        refused(capabilities(&[]), Code::InvalidArgument, "are missing");
    }

    #[test]
    fn a_range_may_leave_the_size_to_us_and_must_not_be_empty() {
        let least = ByteSize::from_bytes(100);
        let of = |required_bytes, limit_bytes| {
            size(Some(&wire::CapacityRange { required_bytes, limit_bytes }), least)
        };
        assert_eq!(size(None, least).unwrap(), SizeRange::at_least(least).unwrap());
        assert_eq!(of(0, 7).unwrap().required(), ByteSize::from_bytes(7));
        assert_eq!(of(5, 0).unwrap(), SizeRange::at_least(ByteSize::from_bytes(5)).unwrap());
        refused(of(-1, 0), Code::InvalidArgument, "negative");
        refused(of(5, 4), Code::OutOfRange, "raise the limit");
    }
}
