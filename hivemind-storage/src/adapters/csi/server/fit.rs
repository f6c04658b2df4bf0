//! Whether a volume can be used as somebody wants. No I/O, no clock, no async.

use std::collections::BTreeSet;

use super::super::convert::Map;
use crate::{AccessMode, VolumeMode, VolumeOptions};

/// Why a volume that was made like `made` cannot be used so, if it cannot.
pub(super) fn misfit(
    made: &VolumeOptions,
    modes: &BTreeSet<AccessMode>,
    mode: &VolumeMode,
) -> Option<String> {
    if let Some(mode) = modes.difference(&made.access_modes).next() {
        return Some(format!("the volume was not made for access mode {mode}"));
    }
    match (&made.volume_mode, mode) {
        (VolumeMode::Block, VolumeMode::Block) => None,
        (VolumeMode::Block, VolumeMode::Filesystem { .. }) => {
            Some("the volume is a block device, and has no file system".to_owned())
        }
        (VolumeMode::Filesystem { .. }, VolumeMode::Block) => {
            Some("the volume has a file system, and is no block device".to_owned())
        }
        (VolumeMode::Filesystem { fs_type: has, .. }, VolumeMode::Filesystem { fs_type: wanted, .. }) => {
            // What was left open on one side fits whatever is on the other.
            let other = !has.is_empty() && !wanted.is_empty() && has != wanted;
            other.then(|| format!("the volume has file system {has}, and not {wanted}"))
        }
    }
}

/// Which of `wanted` is not so in `made`, if any is.
pub(super) fn difference(what: &str, made: &Map, wanted: &Map) -> Option<String> {
    let (name, value) = wanted.iter().find(|(name, value)| made.get(*name) != Some(*value))?;
    Some(match made.get(name) {
        Some(other) => format!("the volume has {other:?} as {what} {name}, and not {value:?}"),
        None => format!("the volume has no {what} {name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_system(name: &str) -> VolumeMode {
        VolumeMode::Filesystem { fs_type: name.to_owned(), mount_flags: Vec::new() }
    }

    #[test]
    fn a_volume_fits_what_it_was_made_for_and_nothing_else() {
        let once = BTreeSet::from([AccessMode::ReadWriteOnce]);
        let made = VolumeOptions::default().with_volume_mode(file_system("ext4"));
        for fits in ["", "ext4"] {
            assert_eq!(misfit(&made, &once, &file_system(fits)), None);
        }
        let why = |made: &VolumeOptions, modes: &BTreeSet<_>, mode: &_| misfit(made, modes, mode).unwrap();
        assert!(why(&made, &once, &file_system("xfs")).contains("file system ext4, and not xfs"));
        assert!(why(&made, &once, &VolumeMode::Block).contains("no block device"));
        let many = BTreeSet::from([AccessMode::ReadWriteOnce, AccessMode::ReadWriteMany]);
        assert!(why(&made, &many, &file_system("ext4")).contains("read-write-many"));
        let block = VolumeOptions::default().with_volume_mode(VolumeMode::Block);
        assert_eq!(misfit(&block, &once, &VolumeMode::Block), None);
        assert!(why(&block, &once, &file_system("")).contains("no file system"));
        assert_eq!(misfit(&VolumeOptions::default(), &once, &file_system("ext4")), None);
    }

    #[test]
    fn parameters_are_compared_by_name() {
        let map = |value: &str| Map::from([("speed".to_owned(), value.to_owned())]);
        assert_eq!(difference("parameter", &map("fast"), &map("fast")), None);
        assert_eq!(difference("parameter", &map("fast"), &Map::new()), None);
        assert!(difference("parameter", &map("fast"), &map("slow")).unwrap().contains("\"fast\""));
        assert!(difference("parameter", &Map::new(), &map("slow")).unwrap().contains("no parameter speed"));
    }
}
