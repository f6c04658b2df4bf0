//! Volumes as files, behind loop devices: made of templates, copied by sharing, grown.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use super::backing::DATA;
use super::mounts::Mounts;
use super::options::{Kind, MountWish};
use super::pool::VOLUMES;
use super::sys::filesystems::{self, Frozen};
use super::sys::loops::{self, FileId, Lasting, Loop};
use super::{During as _, ENCRYPTION_KEY, target, templates};
use crate::{StageVolume, VolumeMode};

/// The directory in an encrypted file system that is encrypted, and is the volume.
const ENCRYPTED: &str = "volume";

/// Makes `to` share all that is in `from`. It must not be there.
pub(super) fn share(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let fresh = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    rustix::fs::ioctl_ficlone(&fresh, &source)?;
    fresh.sync_all()
}

/// Whether files in `directory` can share what is in them; an error if that cannot be found out, as on a full disk.
pub(super) fn can_share(directory: &Path) -> io::Result<bool> {
    let [from, to] = ["share-from", "share-to"].map(|name| directory.join(name));
    let clean = || [&from, &to].map(|path| fs::remove_file(path).is_ok());
    clean();
    let shared = fs::write(&from, [1; 4096]).and_then(|()| share(&from, &to));
    clean();
    match shared {
        Ok(()) => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Err(e),
        Err(_) => Ok(false),
    }
}

/// Makes an empty image of `size`, formatted as its kind says: a copy of a template, which is formatted once.
pub(super) fn make(
    operation: &'static str,
    kind: Kind,
    pool: &Path,
    path: &Path,
    size: ByteSize,
) -> Result<()> {
    let Some(mkfs) = mkfs(kind) else {
        let fresh = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let sized = fresh.and_then(|file| file.set_len(size.as_bytes()).and_then(|()| file.sync_all()));
        return sized.during(operation, "make", path);
    };
    let name = format!("{kind}-{}", size.as_bytes()).replace(' ', "-");
    templates::copy(operation, pool, &name, path, |fresh| {
        // A file that nobody else has a name for: only what was just made is ever formatted.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh);
        file.and_then(|file| file.set_len(size.as_bytes())).during(operation, "make", fresh)?;
        run(operation, mkfs, fresh)
    })
}

fn mkfs(kind: Kind) -> Option<&'static [&'static str]> {
    match kind {
        Kind::Ext4 => Some(&["mkfs.ext4", "-q", "-F", "-m", "0"]),
        Kind::EncryptedExt4 => Some(&["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "encrypt"]),
        Kind::Xfs => Some(&["mkfs.xfs", "-q", "-m", "reflink=1"]),
        _ => None,
    }
}

fn run(operation: &'static str, words: &[&str], path: &Path) -> Result<()> {
    let Some((command, arguments)) = words.split_first() else { return Ok(()) };
    let done = Command::new(command).args(arguments).arg(path).output();
    let done = done.during(operation, format_args!("run {command} on"), path)?;
    // e2fsck says with 1 that it has repaired what it found.
    if done.status.success() || (*command == "e2fsck" && done.status.code() == Some(1)) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let message = format!("{command} {}: {}: {}", path.display(), done.status, said.trim());
    Err(Error::new(ErrorKind::Unavailable, operation, message))
}

/// Makes the image at least as large as `size`.
pub(super) fn resize(path: &Path, size: ByteSize) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    if file.metadata()?.len() < size.as_bytes() {
        file.set_len(size.as_bytes())?;
        file.sync_all()?;
    }
    Ok(())
}

/// What a file system says of itself, in its first blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Superblock {
    kind: &'static str,
    block: u64,
    blocks: u64,
    imaxpct: u32,
}

/// The file system on `image`; `None` if it is none that we know, and an error if it cannot be read.
fn superblock(image: &Path) -> io::Result<Option<Superblock>> {
    let mut bytes = [0; 4096];
    File::open(image)?.read_exact_at(&mut bytes, 0)?;
    let at = |offset: usize, n: usize| bytes.get(offset..offset + n).unwrap_or_default();
    let little = |offset| at(offset, 4).iter().rev().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let big = |offset, n| at(offset, n).iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
    if at(0, 4) == b"XFSB" {
        let imaxpct = u32::from(bytes.get(127).copied().unwrap_or_default());
        return Ok(Some(Superblock { kind: "xfs", block: big(4, 4), blocks: big(8, 8), imaxpct }));
    }
    if at(1024 + 0x38, 2) == [0x53, 0xef] {
        let wide = little(1024 + 0x60) & 0x80 != 0;
        let high = if wide { little(1024 + 0x150) << 32 } else { 0 };
        let block = 1024u64.checked_shl(u32::try_from(little(1024 + 0x18)).unwrap_or(64)).unwrap_or(0);
        return Ok(Some(Superblock { kind: "ext4", block, blocks: little(1024 + 4) | high, imaxpct: 0 }));
    }
    Ok(None)
}

/// The superblock of `image`, which must be of the file system that its kind says. Nothing is ever formatted instead.
fn recognised(operation: &'static str, kind: Kind, image: &Path) -> Result<Superblock> {
    let found = superblock(image).during(operation, "read", image)?;
    let expected = kind.fs_type();
    match found {
        Some(found) if Some(found.kind) == expected && found.block > 0 => Ok(found),
        other => {
            let other = other.map_or("nothing that is known", |found| found.kind);
            let message = format!(
                "{} should have {} on it, and has {other}: it is left alone",
                image.display(),
                expected.unwrap_or("nothing")
            );
            Err(Error::new(ErrorKind::Corrupt, operation, message))
        }
    }
}

/// Makes the image usable at `at`: a device bound to a file, or its file system mounted on a directory.
pub(super) fn stage(
    operation: &'static str,
    kind: Kind,
    image: &Path,
    at: &Path,
    request: &StageVolume,
) -> Result<()> {
    let used = loops::of(image).during(operation, "look for devices of", image)?;
    if kind == Kind::Block {
        let lasts = |device: &&PathBuf| !loops::is_read_only(device) && !loops::is_going(device);
        let device = match used.iter().find(lasts) {
            Some(device) => Loop::open(device, image),
            None => loops::attach(image, Lasting::UntilFreed),
        };
        let device = device.during(operation, "put behind a device", image)?;
        target::make(operation, at, true)?;
        return mount_bind(&device.path, at).during(operation, "mount at", at);
    }
    if let Some(device) = used.first() {
        let message = format!("{} is in use as {}: unmount it first", image.display(), device.display());
        return Err(Error::new(ErrorKind::Conflict, operation, message));
    }
    let found = recognised(operation, kind, image)?;
    let blocks =
        File::open(image).and_then(|f| f.metadata()).during(operation, "measure", image)?.len() / found.block;
    if found.kind == "ext4" && found.blocks < blocks {
        run(operation, &["e2fsck", "-f", "-p"], image)?;
        run(operation, &["resize2fs"], image)?;
    }
    let VolumeMode::Filesystem { mount_flags, .. } = &request.volume_mode else {
        return Err(Error::invalid(operation, "a volume with a file system is no block device"));
    };
    let device = loops::attach(image, Lasting::WhileUsed).during(operation, "put behind a device", image)?;
    mount_device(operation, found.kind, &device, at, MountWish::of(mount_flags)?)?;
    let ready = (|| {
        if found.kind == "xfs" && found.blocks < blocks {
            filesystems::grow_xfs(at, blocks, found.imaxpct).during(operation, "grow", at)?;
        }
        if kind == Kind::EncryptedExt4 { unlock(operation, at, request) } else { Ok(()) }
    })();
    if ready.is_err() {
        let _ = unmount(at, UnmountFlags::NOFOLLOW);
    }
    ready
}

/// A device of the image that cannot be written. It is freed with the others, and shows what was synced to it: what
/// others write on this node and do not sync is in the cache of their device.
pub(super) fn read_only_device(operation: &'static str, image: &Path) -> Result<PathBuf> {
    let used = loops::of(image).during(operation, "look for devices of", image)?;
    sync(operation, image, &used)?;
    if let Some(device) = used.into_iter().find(|one| loops::is_read_only(one) && !loops::is_going(one)) {
        return Ok(device);
    }
    let device = loops::attach(image, Lasting::ReadOnly).during(operation, "put behind a device", image)?;
    Ok(device.path.clone())
}

fn mount_device(
    operation: &'static str,
    fs_type: &str,
    device: &Loop,
    at: &Path,
    wish: MountWish,
) -> Result<()> {
    let mut data = wish.data;
    if fs_type == "xfs" {
        // A copy has the identity of its source, and is mounted beside it all the same; a new identity would have to
        // be written into the copy, and has destroyed copies elsewhere.
        data = if data.is_empty() { "nouuid".to_owned() } else { format!("nouuid,{data}") };
    }
    let data = std::ffi::CString::new(data).map_err(|e| Error::invalid(operation, e.to_string()))?;
    let flags = wish.flags & !MountFlags::RDONLY;
    mount(&device.path, at, fs_type, flags, data.as_c_str()).during(operation, "mount at", at)
}

pub(super) fn unlock(operation: &'static str, at: &Path, request: &StageVolume) -> Result<()> {
    let secret = request.secrets.get(ENCRYPTION_KEY).map(|secret| secret.expose());
    let Some(key) = secret.and_then(|secret| <&[u8; 64]>::try_from(secret).ok()) else {
        let message = format!("volume {} needs a secret {ENCRYPTION_KEY:?} of 64 bytes", request.volume.key);
        return Err(Error::invalid(operation, message));
    };
    let known = filesystems::add_key(at, key).during(operation, "give a key to", at)?;
    let inner = at.join(ENCRYPTED);
    match fs::DirBuilder::new().mode(0o755).create(&inner) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(e).during(operation, "make", &inner);
        }
        _ => {}
    }
    known.encrypt(&inner).map_err(|e| {
        let message = format!("the key is not the one of volume {}: {e}", request.volume.key);
        Error::new(ErrorKind::Denied, operation, message)
    })
}

/// What of a staged image is published.
pub(super) fn published(kind: Kind, staged: PathBuf) -> PathBuf {
    if kind == Kind::EncryptedExt4 { staged.join(ENCRYPTED) } else { staged }
}

/// Undoes staging.
pub(super) fn unstage(operation: &'static str, kind: Kind, image: &Path, at: &Path) -> Result<()> {
    target::unmount(operation, at)?;
    if kind != Kind::Block {
        // The device goes with the mount, and so does the key.
        return Ok(());
    }
    target::remove(operation, at, true)?;
    free(operation, image)
}

/// Frees the devices that the image is behind.
pub(super) fn free(operation: &'static str, image: &Path) -> Result<()> {
    for device in loops::of(image).during(operation, "look for devices of", image)? {
        let detached = Loop::open(&device, image).and_then(|device| device.detach());
        detached.during(operation, "free", &device)?;
    }
    Ok(())
}

/// Lets whoever uses the image see how large it has become.
pub(super) fn grow_mounted(operation: &'static str, kind: Kind, image: &Path, at: &Path) -> Result<()> {
    for device in loops::of(image).during(operation, "look for devices of", image)? {
        let refreshed = Loop::open(&device, image).and_then(|device| device.refresh());
        refreshed.during(operation, "refresh", &device)?;
    }
    if kind == Kind::Block {
        return Ok(());
    }
    let found = recognised(operation, kind, image)?;
    let length = fs::metadata(image).during(operation, "measure", image)?.len();
    let blocks = length / found.block;
    if found.blocks >= blocks {
        return Ok(());
    }
    if kind == Kind::Xfs {
        return filesystems::grow_xfs(at, blocks, found.imaxpct).during(operation, "grow", at);
    }
    let grown = File::open(at).and_then(|file| Ok(rustix::fs::ext4_ioc_resize_fs(&file, blocks)?));
    grown.map_err(|e| {
        let message =
            format!("ext4 cannot grow here while it is mounted ({e}): stage it again, and it grows");
        Error::new(ErrorKind::Conflict, operation, message)
    })
}

/// Writes to the image what is in the caches of its devices.
fn sync(operation: &'static str, image: &Path, devices: &[PathBuf]) -> Result<()> {
    for device in devices.iter().filter(|device| !loops::is_read_only(device)) {
        let synced = Loop::open(device, image).and_then(|device| device.sync());
        synced.during(operation, "sync", device)?;
    }
    Ok(())
}

/// Lets file systems of the pool be written again that a provider halted and did not live to let go on. For the only
/// provider of the pool. One that cannot even be opened, for it is broken, is its volume's trouble and not the pool's.
pub(super) fn go_on(operation: &'static str, pool: &Path) -> Result<()> {
    let mounts = Mounts::now(operation)?;
    let on_images = mounts.iter().filter_map(|mount| Some((mount, loops::file_of(&mount.source)?)));
    let on_images: Vec<_> = on_images.collect();
    if on_images.is_empty() {
        return Ok(());
    }
    let volumes = pool.join(VOLUMES);
    let places = fs::read_dir(&volumes).during(operation, "list", &volumes)?.flatten();
    let ours: BTreeSet<_> = places.filter_map(|place| FileId::of(&place.path().join(DATA)).ok()).collect();
    for (mount, _) in on_images.into_iter().filter(|(_, image)| ours.contains(image)) {
        let _ = filesystems::thaw(&mount.at, &mount.device);
    }
    Ok(())
}

/// Brings the image to a halt until the answer is dropped, if it is in use.
pub(super) fn halt(operation: &'static str, kind: Kind, image: &Path) -> Result<Option<Frozen>> {
    let devices = loops::of(image).during(operation, "look for devices of", image)?;
    if kind == Kind::Block {
        return sync(operation, image, &devices).map(|()| None);
    }
    let Some(device) = devices.first() else { return Ok(None) };
    let mounts = Mounts::now(operation)?;
    let mounted = mounts.iter().find(|mount| mount.source == *device);
    let Some(mounted) = mounted.filter(|mount| !mount.read_only) else {
        let message = format!("{} is in use, and where cannot be seen from here", image.display());
        return Err(Error::new(ErrorKind::Unavailable, operation, message));
    };
    filesystems::freeze(&mounted.at).during(operation, "freeze", &mounted.at).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pitfall_13_what_cannot_be_recognised_or_read_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        let refused = |kind| recognised("stage_volume", kind, &image).unwrap_err().kind();
        assert_eq!(refused(Kind::Ext4), ErrorKind::Unavailable, "it is not there");
        fs::write(&image, [0; 100]).unwrap();
        assert_eq!(refused(Kind::Ext4), ErrorKind::Unavailable, "it is cut off");
        for foreign in [vec![0; 8192], vec![0xa5; 8192], [b"XFSB".to_vec(), vec![0; 8192]].concat()] {
            fs::write(&image, &foreign).unwrap();
            assert_eq!(refused(Kind::Ext4), ErrorKind::Corrupt);
            assert_eq!(fs::read(&image).unwrap(), foreign);
        }
    }
}
