//! Volumes on a disk of the node itself (feature `local`, Linux).
//!
//! Every call that touches the system runs on a thread of the provider's own, so no executor is blocked.

mod arrival;
mod backing;
mod counters;
mod image;
mod index;
mod mounts;
mod node;
mod options;
mod pool;
mod provider;
mod record;
mod snapshots;
mod stream;
mod sys;
mod target;
mod templates;
mod transfer;
mod uses;
mod volumes;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hivemind_core::{Clock, Error, ErrorKind, ProviderName, Result, SystemClock, Worker};

pub use self::node::LocalNode;
use self::pool::Pool;
use crate::NodeInfo;

/// Under which name staging wants the key of an encrypted volume: 64 bytes.
const ENCRYPTION_KEY: &str = "encryption-key";

/// The segment of a topology that names the node of a local volume, unless the host says otherwise.
const NODE_SEGMENT: &str = "hivemind.node";

/// In what a local pool keeps volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LocalBackend {
    /// Subvolumes of btrfs, each with a quota: instant snapshots and clones, groups of snapshots, restoring in place.
    ///
    /// A quota counts what was written in the volume itself: a clone may hold its size in addition to what it shares
    /// with its source. What a workload puts into subvolumes of its own is neither counted nor in snapshots. A quota group
    /// around the volume would not change that: whoever makes a subvolume may say, without any right, that it is to be in
    /// none (seen on 6.18). Where that matters, take the file system `ext4` or `xfs`.
    Subvolumes,
    /// Image files behind loop devices, on a file system whose files can share their content (xfs): ext4, or what
    /// else is asked for. The file system is made once for each size, and copied.
    Images,
    /// Plain directories: the last resort, on any file system. Nothing stops a volume from growing over its size, and
    /// there are neither snapshots nor clones.
    Directories,
}

impl fmt::Display for LocalBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subvolumes => "subvolumes",
            Self::Images => "images",
            Self::Directories => "directories",
        })
    }
}

/// Volumes in a directory of one node: the *pool*.
///
/// What it can do depends on the file system of the pool: see [`LocalBackend`]. A volume is in the place of its node
/// alone, and needs no attaching; [`LocalNode`] mounts it.
///
/// On btrfs and xfs a volume can be a block device, or have the file system `ext4` or `xfs`, in an image file; one of
/// ext4 can be encrypted, with the key that is in the secret `encryption-key` (64 bytes) whenever it is staged, and
/// that the kernel forgets when it is unstaged. Images need `mkfs.ext4`, `e2fsck` and `resize2fs`, or `mkfs.xfs`. An
/// image of xfs, and a block device, grow whenever; one of ext4 while it is used where this process and the one of the
/// node side have `CAP_SYS_RESOURCE`, and else when nobody uses it.
///
/// All volumes together are never promised more than the pool can hold; snapshots, and what clones share and then
/// change, come on top. Room for those is kept free by [`with_reserve`](Self::with_reserve).
///
/// # On disk
///
/// Each volume is a directory `volumes/<handle>` with its `data`, its `uses` on the node, and its `record.json`, which is
/// written when everything else is durable. It goes by one rename. So a crash at any moment leaves a whole volume or
/// none; what was being made (it says so by a file `partial`), and what is in `tmp` and `trash`, is removed when the
/// pool is opened next. One provider at a time has a pool open.
///
/// On btrfs some empty subvolumes are made ahead, each in such a directory with an empty record, and one commit makes
/// them durable. A volume is made of one by a single flush, that of its record: a limit that a loss of power takes away
/// is set again when the pool is opened, and uses end with the start of the system that they are of, so neither is
/// flushed. The record of a group of snapshots of subvolumes goes out with them; one that has its file `partial` and
/// lacks a snapshot never came to be.
///
/// What was deleted and could not be made durable is neither there nor gone: it is listed as abnormal, everything else
/// is refused with [`ErrorKind::Unavailable`], and deleting it again goes on where it ended.
#[derive(Debug)]
pub struct LocalProvider {
    name: ProviderName,
    pool: Arc<Pool>,
    worker: Worker,
}

impl LocalProvider {
    /// The pool in `directory`, which exists, on the node `node`, with the best that its file system can do.
    ///
    /// Where `node` is in no place, it is in `hivemind.node=<name>`. This blocks.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is no directory, or one with something else in it; [`ErrorKind::Conflict`] if
    /// another provider has it open; [`ErrorKind::Corrupt`] if a record cannot be read; [`ErrorKind::Denied`] and
    /// [`ErrorKind::Unavailable`] as the system says.
    pub fn open(name: ProviderName, node: NodeInfo, directory: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(name, node, directory, Arc::new(SystemClock::new()), None)
    }

    /// The same with `clock` for the times of snapshots, and with this backend instead of the best one.
    ///
    /// # Errors
    /// As for [`open`](Self::open), and [`ErrorKind::Unsupported`] if the file system cannot do it.
    pub fn open_with(
        name: ProviderName,
        node: NodeInfo,
        directory: impl AsRef<Path>,
        clock: Arc<dyn Clock>,
        backend: Option<LocalBackend>,
    ) -> Result<Self> {
        let pool = Arc::new(Pool::open(placed(node), directory.as_ref(), clock, backend)?);
        let worker = Worker::start(&format!("local-{name}"))?;
        Ok(Self { name, pool, worker })
    }

    /// In what the pool keeps volumes.
    pub fn backend(&self) -> LocalBackend {
        self.pool.backend()
    }

    /// Never promising the last `percent` of the pool to volumes: room for snapshots, for what clones share and then change,
    /// and for what the file system itself needs. Without it there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if nothing would be left.
    pub fn with_reserve(self, percent: u8) -> Result<Self> {
        if percent >= 100 {
            let message =
                format!("{percent} percent of pool {} are to be kept free: keep less than all", self.name);
            return Err(Error::invalid("open pool", message));
        }
        self.pool.set_reserve(percent);
        Ok(self)
    }

    /// The node side, in this process. Elsewhere on the node: [`LocalNode::open`].
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the system gives no thread.
    pub fn node(&self) -> Result<LocalNode> {
        LocalNode::open(self.pool.node().clone(), self.pool.directory())
    }
}

/// A node that is somewhere.
fn placed(node: NodeInfo) -> NodeInfo {
    if !node.topology.is_everywhere() {
        return node;
    }
    let place = node.topology.clone().with(NODE_SEGMENT, node.node.node.as_str());
    node.with_topology(place)
}

/// What was being done to which path when the system refused.
trait During<T> {
    fn during(self, operation: &'static str, what: impl fmt::Display, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, operation: &'static str, what: impl fmt::Display, path: &Path) -> Result<T> {
        self.map_err(|e| {
            let error = e.into();
            let kind = match error.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
                io::ErrorKind::ResourceBusy => ErrorKind::Conflict,
                io::ErrorKind::Unsupported => ErrorKind::Unsupported,
                _ => ErrorKind::Unavailable,
            };
            let message = format!("cannot {what} {}: {error}", path.display());
            Error::new(kind, operation, message).with_source(error)
        })
    }
}

/// There is no such thing in the pool.
fn missing(operation: &'static str, what: impl fmt::Display) -> Error {
    Error::not_found(operation, format!("there is no {what} in this pool"))
}

fn below(path: &Path, parts: &[&str]) -> PathBuf {
    parts.iter().fold(path.to_path_buf(), |path, part| path.join(part))
}
