//! What kind of local volume is asked for, and how it is mounted. No I/O, no clock, no async.

use std::fmt;

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Result};
use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};

use super::LocalBackend;
use crate::{AccessMode, Beyond, Capabilities, Capability, SizeRange, VolumeMode, VolumeOptions};

/// As what the data of a volume is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// A directory.
    Directory,
    /// A subvolume of btrfs.
    Subvolume,
    /// An image that is a block device.
    Block,
    /// An image with ext4 on it.
    Ext4,
    /// An image with ext4 on it, in which all that is the volume's is encrypted.
    EncryptedExt4,
    /// An image with xfs on it.
    Xfs,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "directory",
            Self::Subvolume => "subvolume",
            Self::Block => "block device",
            Self::Ext4 => "ext4 image",
            Self::EncryptedExt4 => "encrypted ext4 image",
            Self::Xfs => "xfs image",
        })
    }
}

impl Kind {
    /// The file system that a volume of this kind has for itself.
    pub(super) fn fs_type(self) -> Option<&'static str> {
        match self {
            Self::Directory | Self::Block => None,
            Self::Subvolume => Some("btrfs"),
            Self::Ext4 | Self::EncryptedExt4 => Some("ext4"),
            Self::Xfs => Some("xfs"),
        }
    }

    /// Whether it is a file behind a loop device.
    pub(super) fn is_image(self) -> bool {
        !matches!(self, Self::Directory | Self::Subvolume)
    }

    /// Whether it can grow while it is used; `ext4` says whether a mounted one of those may.
    pub(super) fn grows_online(self, ext4: bool) -> bool {
        ext4 || !matches!(self, Self::Ext4 | Self::EncryptedExt4)
    }

    /// The unit of its sizes, and the smallest one, in bytes.
    fn sizes(self) -> (u64, u64) {
        match self {
            Self::Directory | Self::Subvolume => (1, 1),
            Self::Block => (4096, 4096),
            Self::Ext4 | Self::EncryptedExt4 => (4096, 4 << 20),
            Self::Xfs => (4096, 300 << 20),
        }
    }

    /// The smallest size that a volume of this kind can have.
    pub(super) fn smallest(self) -> ByteSize {
        ByteSize::from_bytes(self.sizes().1)
    }

    /// The size of a new volume.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the range has no size in it that will do.
    pub(super) fn size(self, range: SizeRange, least: ByteSize) -> Result<ByteSize> {
        let (unit, smallest) = self.sizes();
        let size = range.required().max(least).as_bytes().max(smallest).checked_next_multiple_of(unit);
        let size = size.map(ByteSize::from_bytes).filter(|size| range.admits(*size));
        size.ok_or_else(|| {
            let message = format!("no size that is asked for will do for a {self}: it has at least {smallest} bytes, a multiple of {unit}, and what its source has");
            Error::invalid("size", message).with_source(Beyond::Size)
        })
    }
}

/// What a pool can do; `ext4_online` says whether an ext4 that is mounted may grow.
pub(super) fn capabilities(backend: LocalBackend, ext4_online: bool) -> Capabilities {
    use Capability::{Capacity, Condition, Expand, ExpandOnline, ListVolumes, Topology};
    let always = [Capacity, Condition, Expand, ListVolumes, Topology];
    let modes = [AccessMode::ReadWriteOnce, AccessMode::ReadWriteOncePod, AccessMode::ReadOnlyOnce];
    let copies = [
        Capability::Snapshots,
        Capability::ListSnapshots,
        Capability::GroupSnapshots,
        Capability::RestoreInPlace,
        Capability::Clone,
        Capability::GrowFromSource,
        Capability::HardLimit,
        Capability::Encryption,
    ];
    let mut able = Capabilities::new(always).with_access_modes(modes);
    if ext4_online || backend != LocalBackend::Images {
        able.features.insert(ExpandOnline);
    }
    if backend != LocalBackend::Directories {
        able.features.extend(copies);
        able.block = true;
    }
    able
}

/// The kind of a volume with these options.
pub(super) fn kind(backend: LocalBackend, options: &VolumeOptions) -> Result<Kind> {
    let refused = |what: String| {
        let message = format!("a pool of {backend} has no {what}: ask for something else, or leave it open");
        Err(Error::new(ErrorKind::Unsupported, "options", message))
    };
    let images = backend != LocalBackend::Directories;
    let (fs_type, mount_flags) = match &options.volume_mode {
        VolumeMode::Filesystem { fs_type, mount_flags } => (fs_type.as_str(), mount_flags),
        VolumeMode::Block if images && !options.encryption => return Ok(Kind::Block),
        VolumeMode::Block => return refused("such block devices".to_owned()),
    };
    MountWish::of(mount_flags)?;
    match (backend, fs_type) {
        (_, "" | "ext4") if images && options.encryption => Ok(Kind::EncryptedExt4),
        (_, other) if options.encryption => refused(format!("encrypted file system {other}")),
        (LocalBackend::Directories, "") => Ok(Kind::Directory),
        (LocalBackend::Subvolumes, "" | "btrfs") => Ok(Kind::Subvolume),
        (LocalBackend::Images, "") => Ok(Kind::Ext4),
        (_, "ext4") if images => Ok(Kind::Ext4),
        (_, "xfs") if images => Ok(Kind::Xfs),
        (_, other) => refused(format!("file system {other}")),
    }
}

/// How to mount, as the system wants to hear it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountWish {
    /// What holds for any file system.
    pub(super) flags: MountFlags,
    /// What only the file system itself understands, joined by commas.
    pub(super) data: String,
}

impl MountWish {
    /// What these words mean.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if one has a comma or is empty.
    pub(super) fn of(words: &[String]) -> Result<Self> {
        let (mut flags, mut data) = (MountFlags::empty(), Vec::new());
        for word in words {
            match word.as_str() {
                "rw" | "defaults" => {}
                "ro" => flags |= MountFlags::RDONLY,
                "noatime" => flags |= MountFlags::NOATIME,
                "nodiratime" => flags |= MountFlags::NODIRATIME,
                "relatime" => flags |= MountFlags::RELATIME,
                "strictatime" => flags |= MountFlags::STRICTATIME,
                "nosuid" => flags |= MountFlags::NOSUID,
                "nodev" => flags |= MountFlags::NODEV,
                "noexec" => flags |= MountFlags::NOEXEC,
                "sync" => flags |= MountFlags::SYNCHRONOUS,
                other if other.is_empty() || other.contains(',') || other.contains('\0') => {
                    let message = format!("mount flag {other:?} is none: give them one by one");
                    return Err(Error::invalid("options", message));
                }
                other => data.push(other),
            }
        }
        Ok(Self { flags, data: data.join(",") })
    }

    /// The same for a bind mount, which has no file system of its own to understand more.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] names what is not understood.
    pub(super) fn for_bind(self) -> Result<MountFlags> {
        if self.data.is_empty() && !self.flags.contains(MountFlags::SYNCHRONOUS) {
            return Ok(self.flags);
        }
        let message = format!("a directory cannot be mounted with {:?}", self.data);
        Err(Error::new(ErrorKind::Unsupported, "options", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn mount_flags_are_told_from_the_words_of_a_file_system() {
        let wish = MountWish::of(&words("noatime nodev discard commit=5")).unwrap();
        assert_eq!(wish.flags, MountFlags::NOATIME | MountFlags::NODEV);
        assert_eq!(wish.data, "discard,commit=5");
        assert_eq!(wish.for_bind().unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(MountWish::of(&words("a,ro")).is_err());
        assert_eq!(MountWish::of(&words("ro")).unwrap().for_bind().unwrap(), MountFlags::RDONLY);
    }

    #[test]
    fn ext4_grows_while_it_is_used_only_where_that_is_allowed() {
        for kind in [Kind::Ext4, Kind::EncryptedExt4] {
            assert!(kind.grows_online(true) && !kind.grows_online(false));
        }
        for kind in [Kind::Directory, Kind::Subvolume, Kind::Block, Kind::Xfs] {
            assert!(kind.grows_online(false));
        }
        let online = |backend, ext4| capabilities(backend, ext4).has(Capability::ExpandOnline);
        assert!(online(LocalBackend::Images, true) && !online(LocalBackend::Images, false));
        assert!(online(LocalBackend::Subvolumes, false) && online(LocalBackend::Directories, false));
    }

    #[test]
    fn a_size_that_no_volume_of_the_kind_can_have_says_so() {
        let range =
            |limit| SizeRange::new(ByteSize::from_bytes(1), Some(ByteSize::from_bytes(limit))).unwrap();
        let refused = Kind::Xfs.size(range(1 << 20), ByteSize::ZERO).unwrap_err();
        assert_eq!((refused.kind(), refused.detail()), (ErrorKind::Invalid, Some(&Beyond::Size)));
        assert_eq!(Kind::Xfs.size(range(1 << 30), ByteSize::ZERO).unwrap(), Kind::Xfs.smallest());
        assert!(Kind::Subvolume.size(range(9), ByteSize::from_bytes(10)).is_err(), "its source has more");
    }

    #[test]
    fn an_unknown_file_system_is_unsupported() {
        let mode = VolumeMode::Filesystem { fs_type: "vfat".to_owned(), mount_flags: Vec::new() };
        let options = VolumeOptions::default().with_volume_mode(mode);
        let refused = kind(LocalBackend::Directories, &options).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
    }
}
