//! What file systems on images are asked for: to stand still, to grow, to encrypt.
#![allow(unsafe_code, reason = "ioctls take structures whose layout only we can vouch for")]

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::ioctl::{NoArg, Setter, Updater, ioctl};

const FREEZE: u32 = 0xc004_5877;
const THAW: u32 = 0xc004_5878;
const XFS_GROW_DATA: u32 = 0x4010_586e;
const ADD_KEY: u32 = 0xc050_6617;
const SET_POLICY: u32 = 0x800c_6613;

/// A file system that takes no writes until this is dropped.
#[derive(Debug)]
pub(crate) struct Frozen(File);

/// Brings the file system at `path` to a halt, with all it has written on its device.
pub(crate) fn freeze(path: &Path) -> io::Result<Frozen> {
    let file = File::open(path)?;
    // SAFETY: FIFREEZE ignores its argument.
    unsafe { ioctl(&file, NoArg::<FREEZE>::new()) }?;
    Ok(Frozen(file))
}

/// Ends a halt that somebody began and did not live to end, if `path` is on the device of that number, `major:minor`.
pub(crate) fn thaw(path: &Path, device: &str) -> io::Result<()> {
    let file = File::open(path)?;
    let on = file.metadata()?.dev();
    // Something else may be mounted over it.
    if format!("{}:{}", rustix::fs::major(on), rustix::fs::minor(on)) != device {
        return Ok(());
    }
    // SAFETY: FITHAW ignores its argument.
    match unsafe { ioctl(file, NoArg::<THAW>::new()) } {
        Err(rustix::io::Errno::INVAL) => Ok(()),
        done => Ok(done?),
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: FITHAW ignores its argument. It can only fail if somebody else has thawed it.
        let _ = unsafe { ioctl(&self.0, NoArg::<THAW>::new()) };
    }
}

/// `struct xfs_growfs_data`.
#[repr(C)]
struct GrowData {
    newblocks: u64,
    imaxpct: u32,
    padding: u32,
}

/// Grows the xfs at `path` to `blocks`, and leaves the share of inodes as it is.
pub(crate) fn grow_xfs(path: &Path, blocks: u64, imaxpct: u32) -> io::Result<()> {
    let data = GrowData { newblocks: blocks, imaxpct, padding: 0 };
    // SAFETY: XFS_IOC_FSGROWFSDATA reads an `xfs_growfs_data`, whose size is checked below.
    Ok(unsafe { ioctl(File::open(path)?, Setter::<XFS_GROW_DATA, _>::new(data)) }?)
}

/// `struct fscrypt_key_specifier`.
#[repr(C)]
#[derive(Clone, Copy)]
struct KeySpec {
    kind: u32,
    reserved: u32,
    identifier: [u8; 32],
}

/// `struct fscrypt_add_key_arg` with 64 bytes of key.
#[repr(C)]
struct AddKey {
    spec: KeySpec,
    raw_size: u32,
    key_id: u32,
    reserved: [u32; 8],
    raw: [u8; 64],
}

impl Drop for AddKey {
    fn drop(&mut self) {
        self.raw.fill(0);
        // So that the compiler does not take the line before for useless.
        std::hint::black_box(&self.raw);
    }
}

/// `struct fscrypt_policy_v2`.
#[repr(C)]
struct Policy {
    version: u8,
    contents: u8,
    names: u8,
    flags: u8,
    reserved: [u8; 4],
    identifier: [u8; 16],
}

const _: () = assert!(size_of::<GrowData>() == 16 && size_of::<AddKey>() == 144);
const _: () = assert!(size_of::<Policy>() == 24);

/// A key that a file system knows, until it is mounted nowhere any more.
#[derive(Debug)]
pub(crate) struct KnownKey([u8; 32]);

/// Tells the file system at `path` a key.
pub(crate) fn add_key(path: &Path, key: &[u8; 64]) -> io::Result<KnownKey> {
    // 2 is `FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER`: the kernel finds the identifier itself.
    let spec = KeySpec { kind: 2, reserved: 0, identifier: [0; 32] };
    let mut add = AddKey { spec, raw_size: 64, key_id: 0, reserved: [0; 8], raw: *key };
    // SAFETY: ADD_ENCRYPTION_KEY reads a `fscrypt_add_key_arg` with `raw_size` bytes after it, and writes its `spec`.
    unsafe { ioctl(File::open(path)?, Updater::<ADD_KEY, _>::new(&mut add)) }?;
    Ok(KnownKey(add.spec.identifier))
}

impl KnownKey {
    /// Encrypts the empty directory `path` with the key; an encrypted one stays as it is, if it has this key.
    pub(crate) fn encrypt(&self, path: &Path) -> io::Result<()> {
        let mut identifier = [0; 16];
        identifier.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        // AES-256-XTS for contents, AES-256-CTS for names, which are padded to 32 bytes.
        let policy = Policy { version: 2, contents: 1, names: 4, flags: 3, reserved: [0; 4], identifier };
        // SAFETY: SET_ENCRYPTION_POLICY reads a `fscrypt_policy_v2` for version 2, whose size is checked above.
        Ok(unsafe { ioctl(File::open(path)?, Setter::<SET_POLICY, _>::new(policy)) }?)
    }
}
