//! Subvolumes, snapshots, quotas and send streams of btrfs, by ioctl: numbers and layouts are those of `linux/btrfs.h`.
#![allow(unsafe_code, reason = "ioctls take structures whose layout only we can vouch for")]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::ioctl::{Getter, Opcode, Setter, Updater, ioctl, opcode};

const MAGIC: u64 = 0x9123_683e;
const FIRST_FREE_OBJECTID: u64 = 256;

const SUBVOL_CREATE_V2: u32 = 0x5000_9418;
const SNAP_CREATE_V2: u32 = 0x5000_9417;
const SNAP_DESTROY: u32 = 0x5000_940f;
const SNAP_DESTROY_V2: u32 = 0x5000_943f;
const INO_LOOKUP: u32 = 0xd000_9412;
const TREE_SEARCH: u32 = 0xd000_9411;
const QUOTA_CTL: u32 = 0xc010_9428;
const QGROUP_LIMIT: u32 = 0x8030_942b;
const START_SYNC: u32 = 0x8008_9418;
const WAIT_SYNC: u32 = 0x4008_9416;
const GET_SUBVOL_INFO: u32 = 0x81f8_943c;
/// Its number depends on how long a pointer is.
const SEND: Opcode = opcode::write::<SendArgs>(0x94, 38);

/// `BTRFS_SUBVOL_RDONLY`.
const READ_ONLY: u64 = 1 << 1;
/// `BTRFS_SUBVOL_SPEC_BY_ID`.
const BY_NUMBER: u64 = 1 << 4;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct InoLookup {
    treeid: u64,
    objectid: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
struct QuotaCtl {
    cmd: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct QgroupLimit {
    qgroupid: u64,
    flags: u64,
    max_rfer: u64,
    max_excl: u64,
    rsv_rfer: u64,
    rsv_excl: u64,
}

/// `struct btrfs_ioctl_search_args`.
#[repr(C)]
struct Search {
    tree_id: u64,
    objectids: [u64; 2],
    offsets: [u64; 2],
    transids: [u64; 2],
    types: [u32; 2],
    nr_items: u32,
    unused: u32,
    unused_more: [u64; 4],
    buf: [u8; 3992],
}

/// `struct btrfs_ioctl_send_args`.
#[repr(C)]
struct SendArgs {
    send_fd: i64,
    clone_sources_count: u64,
    clone_sources: *const u64,
    parent_root: u64,
    flags: u64,
    version: u32,
    reserved: [u8; 28],
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
#[derive(Clone, Copy)]
struct SubvolInfo {
    treeid: u64,
    name: [u8; 256],
    parent_id: u64,
    dirid: u64,
    generation: u64,
    flags: u64,
    uuid: Uuid,
    parent_uuid: Uuid,
    received_uuid: Uuid,
    transids: [u64; 4],
    times: [[u64; 2]; 4],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<VolArgs>() == 4096 && size_of::<VolArgsV2>() == 4096);
const _: () = assert!(size_of::<InoLookup>() == 4096 && size_of::<Search>() == 4096);
const _: () = assert!(size_of::<QuotaCtl>() == 16 && size_of::<QgroupLimit>() == 48);
const _: () = assert!(size_of::<SubvolInfo>() == 504);
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<SendArgs>() == 72);

/// By what a subvolume is known, also on other file systems.
pub(crate) type Uuid = [u8; 16];

fn name<const N: usize>(name: &OsStr) -> io::Result<[u8; N]> {
    let (mut bytes, given) = ([0; N], name.as_bytes());
    // The last byte stays zero.
    match bytes.get_mut(..given.len()) {
        Some(room) if given.len() < N && !given.is_empty() => room.copy_from_slice(given),
        _ => return Err(io::ErrorKind::InvalidFilename.into()),
    }
    Ok(bytes)
}

fn parts(path: &Path) -> io::Result<(File, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((File::open(parent)?, name)),
        _ => Err(io::ErrorKind::InvalidFilename.into()),
    }
}

/// A btrfs file system, by a directory in it.
#[derive(Debug)]
pub(crate) struct Btrfs(File);

impl Btrfs {
    /// `None` if `path` is on another file system.
    pub(crate) fn at(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let found = rustix::fs::fstatfs(&file)?.f_type;
        Ok(u64::try_from(found).is_ok_and(|found| found == MAGIC).then_some(Self(file)))
    }

    /// Turns quotas on, simple ones where the kernel has them (from 6.7 on): they do not slow snapshots down.
    pub(crate) fn enable_quotas(&self) -> io::Result<()> {
        let enable = |cmd| {
            let mut ctl = QuotaCtl { cmd, status: 0 };
            // SAFETY: QUOTA_CTL reads and writes a `btrfs_ioctl_quota_ctl_args`, whose size is checked above.
            unsafe { ioctl(&self.0, Updater::<QUOTA_CTL, _>::new(&mut ctl)) }
        };
        // 4 is `BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA`, 1 is `BTRFS_QUOTA_CTL_ENABLE`.
        match enable(4) {
            Err(rustix::io::Errno::INVAL) => Ok(enable(1)?),
            done => Ok(done?),
        }
    }

    /// Waits until what has happened so far is durable, apart from what is in files that are not synced.
    pub(crate) fn commit(&self) -> io::Result<()> {
        let transaction = begin_commit(&self.0)?;
        // SAFETY: WAIT_SYNC reads a u64.
        Ok(unsafe { ioctl(&self.0, Setter::<WAIT_SYNC, u64>::new(transaction)) }?)
    }

    /// No more than so many bytes in the subvolume `path`.
    pub(crate) fn limit(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.limit_number(id(path)?, bytes)
    }

    /// No more than so many bytes in the subvolume of that number.
    pub(crate) fn limit_number(&self, subvolume: u64, bytes: u64) -> io::Result<()> {
        limit_on(&self.0, subvolume, bytes)
    }

    /// How many bytes are accounted to the subvolume `path`; of what was just written, some may be missing.
    pub(crate) fn used(&self, path: &Path) -> io::Result<u64> {
        let subvolume = id(path)?;
        // 8 is the quota tree, 242 is `BTRFS_QGROUP_INFO_KEY`.
        let mut search = Search {
            tree_id: 8,
            objectids: [0, 0],
            offsets: [subvolume, subvolume],
            transids: [0, u64::MAX],
            types: [242, 242],
            nr_items: 1,
            unused: 0,
            unused_more: [0; 4],
            buf: [0; 3992],
        };
        // SAFETY: TREE_SEARCH reads and writes a `btrfs_ioctl_search_args`, whose size is checked above.
        unsafe { ioctl(&self.0, Updater::<TREE_SEARCH, _>::new(&mut search)) }?;
        // A header of 32 bytes, then `struct btrfs_qgroup_info_item`: generation and referenced bytes.
        let referenced = search.buf.get(40..48).and_then(|bytes| bytes.try_into().ok());
        match referenced.filter(|_| search.nr_items == 1) {
            Some(bytes) => Ok(u64::from_le_bytes(bytes)),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "it has no quota group")),
        }
    }
}

/// Lets the file system begin to write what has happened so far; which transaction that is. What comes from now on is in
/// the next one.
fn begin_commit(on: &File) -> io::Result<u64> {
    // SAFETY: START_SYNC writes a u64.
    Ok(unsafe { ioctl(on, Getter::<START_SYNC, u64>::new()) }?)
}

/// Limits a subvolume: by its number and through another one, since in one that is full this is refused, too.
fn limit_on(on: &File, subvolume: u64, bytes: u64) -> io::Result<()> {
    // 1 is `BTRFS_QGROUP_LIMIT_MAX_RFER`; so large a limit is none.
    let (qgroupid, flags, max_rfer) = (subvolume, 1, bytes);
    let limit = QgroupLimit { qgroupid, flags, max_rfer, max_excl: 0, rsv_rfer: 0, rsv_excl: 0 };
    // SAFETY: QGROUP_LIMIT reads a `btrfs_ioctl_qgroup_limit_args`, whose size is checked above.
    Ok(unsafe { ioctl(on, Setter::<QGROUP_LIMIT, _>::new(limit)) }?)
}

/// The number of the subvolume whose root `path` is.
pub(crate) fn id(path: &Path) -> io::Result<u64> {
    id_of(&File::open(path)?)
}

fn id_of(root: &File) -> io::Result<u64> {
    let mut lookup = InoLookup { treeid: 0, objectid: FIRST_FREE_OBJECTID, name: [0; 4080] };
    // SAFETY: INO_LOOKUP reads and writes a `btrfs_ioctl_ino_lookup_args`, whose size is checked above.
    unsafe { ioctl(root, Updater::<INO_LOOKUP, _>::new(&mut lookup)) }?;
    Ok(lookup.treeid)
}

/// What a subvolume says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) read_only: bool,
    pub(crate) uuid: Uuid,
    /// What it is a snapshot of.
    pub(crate) source: Uuid,
    /// By what streams know it, if it came from one.
    pub(crate) received: Option<Uuid>,
}

/// What the subvolume whose root is open says of itself.
pub(crate) fn about(root: &File) -> io::Result<About> {
    // SAFETY: GET_SUBVOL_INFO writes a `btrfs_ioctl_get_subvol_info_args`, whose size is checked above.
    let info = unsafe { ioctl(root, Getter::<GET_SUBVOL_INFO, SubvolInfo>::new()) }?;
    let received = Some(info.received_uuid).filter(|uuid| *uuid != [0; 16]);
    // 1 is `BTRFS_ROOT_SUBVOL_RDONLY`.
    Ok(About { read_only: info.flags & 1 == 1, uuid: info.uuid, source: info.parent_uuid, received })
}

/// Writes the snapshot `from` into `to` as a stream: whole, or as the difference to the snapshot `since`.
pub(crate) fn send(from: &File, since: Option<&File>, to: BorrowedFd<'_>) -> io::Result<()> {
    let since = since.map(id_of).transpose()?;
    let args = SendArgs {
        send_fd: i64::from(to.as_raw_fd()),
        clone_sources_count: u64::from(since.is_some()),
        // What stays the same is copied of it.
        clone_sources: since.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
        parent_root: since.unwrap_or(0),
        flags: 0,
        version: 0,
        reserved: [0; 28],
    };
    // SAFETY: SEND reads a `btrfs_ioctl_send_args`, whose size is checked above, and as many numbers as it says, of
    // which `since` has the only one; `to` is open meanwhile.
    Ok(unsafe { ioctl(from, Setter::<SEND, _>::new(args)) }?)
}

/// Makes an empty subvolume.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    let (parent, last) = parts(path)?;
    let args = VolArgsV2 { fd: 0, transid: 0, flags: 0, unused: [0; 4], name: name(last)? };
    // SAFETY: SUBVOL_CREATE_V2 reads a `btrfs_ioctl_vol_args_v2`, whose size is checked above, with a name that ends.
    Ok(unsafe { ioctl(parent, Setter::<SUBVOL_CREATE_V2, _>::new(args)) }?)
}

/// Makes `to` a snapshot of the subvolume `from`. It is durable, and has everything that was written before.
pub(crate) fn snapshot(from: &Path, to: &Path, read_only: bool) -> io::Result<()> {
    Snapshot::prepare(from, to, read_only)?.take()
}

/// A snapshot of which nothing is missing but the call itself.
pub(crate) struct Snapshot {
    parent: File,
    source: File,
    args: VolArgsV2,
}

impl Snapshot {
    /// As [`snapshot`].
    pub(crate) fn prepare(from: &Path, to: &Path, read_only: bool) -> io::Result<Self> {
        let (parent, last) = parts(to)?;
        let source = File::open(from)?;
        let flags = if read_only { READ_ONLY } else { 0 };
        let fd = i64::from(source.as_raw_fd());
        let args = VolArgsV2 { fd, transid: 0, flags, unused: [0; 4], name: name(last)? };
        Ok(Self { parent, source, args })
    }

    /// Lets the file system begin to write what has happened before.
    pub(crate) fn begin_commit(&self) -> io::Result<()> {
        begin_commit(&self.parent).map(|_| ())
    }

    /// Takes it.
    pub(crate) fn take(self) -> io::Result<()> {
        let Self { parent, source, args } = self;
        // SAFETY: SNAP_CREATE_V2 reads a `btrfs_ioctl_vol_args_v2`, whose size is checked above, with a name that ends;
        // `source` is open meanwhile.
        let taken = unsafe { ioctl(parent, Setter::<SNAP_CREATE_V2, _>::new(args)) };
        drop(source);
        Ok(taken?)
    }
}

/// Destroys the subvolume `path`, with those in it, however deep. It is on its way out: directories in it may be moved.
pub(crate) fn destroy(path: &Path) -> io::Result<()> {
    let attempt = || -> io::Result<()> {
        let (parent, last) = parts(path)?;
        let args = VolArgs { fd: 0, name: name(last)? };
        // SAFETY: SNAP_DESTROY reads a `btrfs_ioctl_vol_args`, whose size is checked above, with a name that ends.
        Ok(unsafe { ioctl(parent, Setter::<SNAP_DESTROY, _>::new(args)) }?)
    };
    match attempt() {
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
            // A workload may have made subvolumes of its own. From one that is full none can be taken; without quotas none is
            // full.
            let _ = lift(path);
            match destroy_below(path) {
                Err(e) if e.kind() == io::ErrorKind::InvalidFilename => {
                    // The kernel finds one by its number only if the way to it is no longer than a path may be.
                    for inner in shorten(path)? {
                        destroy(&inner)?;
                    }
                }
                done => done?,
            }
            attempt()
        }
        done => done,
    }
}

/// Lets the subvolume `path` be as large as it likes.
fn lift(path: &Path) -> io::Result<()> {
    let (parent, _) = parts(path)?;
    limit_on(&parent, id(path)?, u64::MAX)
}

/// Moves every directory below `path` into `path` itself, so that no way to one is long; the subvolumes among them.
fn shorten(path: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let (mut left, mut inner, mut number) = (vec![path.to_path_buf()], Vec::new(), 0u64);
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let mut at = entry.path();
            if directory != path {
                // A name that nothing has there: a workload may have chosen any.
                let free = loop {
                    number += 1;
                    let name = path.join(format!("{number:x}"));
                    if name.symlink_metadata().is_err() {
                        break name;
                    }
                };
                std::fs::rename(&at, &free)?;
                at = free;
            }
            if is_subvolume(&at) { inner.push(at) } else { left.push(at) }
        }
    }
    Ok(inner)
}

/// Destroys every subvolume in the subvolume `path`: by their numbers, so that it does not matter how many are in each
/// other.
fn destroy_below(path: &Path) -> io::Result<()> {
    let (parent, _) = parts(path)?;
    let mut open = vec![id(path)?];
    while let Some(last) = open.last().copied() {
        match first_below(&parent, last)? {
            Some(inner) => open.push(inner),
            None if open.len() == 1 => return Ok(()),
            None => {
                destroy_number(&parent, last)?;
                open.pop();
            }
        }
    }
    Ok(())
}

/// One of the subvolumes that are in the subvolume of that number.
fn first_below(on: &File, subvolume: u64) -> io::Result<Option<u64>> {
    // 1 is the tree of roots, 156 is `BTRFS_ROOT_REF_KEY`: whose offset is the number of what is in it.
    let mut search = Search {
        tree_id: 1,
        objectids: [subvolume, subvolume],
        offsets: [0, u64::MAX],
        transids: [0, u64::MAX],
        types: [156, 156],
        nr_items: 1,
        unused: 0,
        unused_more: [0; 4],
        buf: [0; 3992],
    };
    // SAFETY: TREE_SEARCH reads and writes a `btrfs_ioctl_search_args`, whose size is checked above.
    unsafe { ioctl(on, Updater::<TREE_SEARCH, _>::new(&mut search)) }?;
    // A header begins with the transaction, the object and the offset.
    let offset = search.buf.get(16..24).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    Ok(offset.filter(|_| search.nr_items == 1))
}

/// Destroys the subvolume of that number, which has none in it.
fn destroy_number(on: &File, subvolume: u64) -> io::Result<()> {
    let mut args = VolArgsV2 { fd: 0, transid: 0, flags: BY_NUMBER, unused: [0; 4], name: [0; 4040] };
    // The number is in the same place as a name would be.
    args.name.iter_mut().zip(subvolume.to_ne_bytes()).for_each(|(to, from)| *to = from);
    // SAFETY: SNAP_DESTROY_V2 reads a `btrfs_ioctl_vol_args_v2`, whose size is checked above.
    Ok(unsafe { ioctl(on, Setter::<SNAP_DESTROY_V2, _>::new(args)) }?)
}

/// Whether `path` is the root of a subvolume.
pub(crate) fn is_subvolume(path: &Path) -> bool {
    let root = std::fs::symlink_metadata(path).is_ok_and(|m| m.is_dir() && m.ino() == FIRST_FREE_OBJECTID);
    root && Btrfs::at(path).is_ok_and(|found| found.is_some())
}
