//! What is mounted where, from `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use hivemind_core::Result;
use rustix::mount::MountFlags;

use super::During as _;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// The device, as `major:minor`.
    pub(super) device: String,
    /// What of its file system is mounted.
    pub(super) root: PathBuf,
    /// Where.
    pub(super) at: PathBuf,
    /// Whether it cannot be written through this mount.
    pub(super) read_only: bool,
    /// What else holds for it, as far as a remount would forget it.
    pub(super) flags: MountFlags,
    /// Whether its file system takes no writes at all, through whatever mount.
    pub(super) all_read_only: bool,
    /// Of what, such as `/dev/loop0`.
    pub(super) source: PathBuf,
}

/// Everything that is mounted, in the order in which it was.
#[derive(Debug)]
pub(super) struct Mounts(Vec<Mount>);

impl Mounts {
    /// As it is now.
    pub(super) fn now(operation: &'static str) -> Result<Self> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read(path).during(operation, "read", path)?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &[u8]) -> Self {
        Self(text.split(|byte| *byte == b'\n').filter_map(parse_line).collect())
    }

    /// The topmost mount at exactly `path`.
    pub(super) fn at(&self, path: &Path) -> Option<&Mount> {
        self.0.iter().rev().find(|mount| mount.at == path)
    }

    /// Every mount.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter()
    }
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = String::from_utf8_lossy(fields.nth(2)?).into_owned();
    let (root, at) = (unescaped(fields.next()?), unescaped(fields.next()?));
    let words = |field: &'_ [u8]| field.split(|byte| *byte == b',').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let own = words(fields.next()?);
    let read_only = own.iter().any(|word| word == b"ro");
    let flags = own.iter().fold(MountFlags::empty(), |flags, word| flags | flag(word));
    // Optional fields end with a dash; then come the type, the source, and the options of the file system.
    let mut fields = fields.skip_while(|field| *field != b"-").skip(2);
    let source = fields.next().map(unescaped)?;
    let all_read_only = fields.next().is_some_and(|of| words(of).iter().any(|word| word == b"ro"));
    Some(Mount { device, root, at, read_only, flags, all_read_only, source })
}

fn flag(word: &[u8]) -> MountFlags {
    match word {
        b"nosuid" => MountFlags::NOSUID,
        b"nodev" => MountFlags::NODEV,
        b"noexec" => MountFlags::NOEXEC,
        b"noatime" => MountFlags::NOATIME,
        b"nodiratime" => MountFlags::NODIRATIME,
        b"relatime" => MountFlags::RELATIME,
        _ => MountFlags::empty(),
    }
}

/// A space, a tab, a newline and a backslash are written as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let decoded = octal.and_then(|o| u8::from_str_radix(std::str::from_utf8(o).ok()?, 8).ok());
        match decoded {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

impl Mount {
    /// Whether a part of what it shows, or of where it is, is called `name`.
    pub(super) fn involves(&self, name: &str) -> bool {
        let called = |path: &Path| path.iter().any(|part| part.as_bytes() == name.as_bytes());
        called(&self.root) || called(&self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] =
        b"36 35 98:0 /pool/volumes/vol-1/data /mnt/a\\040b rw,noatime master:1 - ext4 /dev/loop0 rw\n\
        37 35 7:1 / /mnt/ro ro,nodev,relatime - xfs /dev/loop1 ro,inode64\nnonsense\n\
        38 35 7:2 / /mnt/ro rw - xfs /dev/loop2 rw\n";

    #[test]
    fn lines_are_understood_and_the_topmost_mount_counts() {
        let mounts = Mounts::parse(TEXT);
        assert_eq!(mounts.iter().count(), 3);
        let first = mounts.at(Path::new("/mnt/a b")).unwrap();
        assert!(first.involves("vol-1") && !first.involves("vol") && !first.read_only);
        assert_eq!((first.device.as_str(), first.source.as_path()), ("98:0", Path::new("/dev/loop0")));
        let top = mounts.at(Path::new("/mnt/ro")).unwrap();
        assert_eq!((top.source.as_path(), top.read_only), (Path::new("/dev/loop2"), false));
        assert_eq!(mounts.at(Path::new("/mnt")), None);
        let below = mounts.iter().nth(1).unwrap();
        assert_eq!(below.flags, MountFlags::NODEV | MountFlags::RELATIME);
        assert!(below.read_only && below.all_read_only && !top.all_read_only && !first.all_read_only);
    }
}
