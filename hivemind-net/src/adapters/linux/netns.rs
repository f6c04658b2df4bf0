//! Namespaces: entering, making and deleting them.
//!
//! A thread is in a namespace, not a program: only the adapter's own thread ever enters one, and it looks where it is
//! before it opens a socket there.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hivemind_core::ErrorKind;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use super::fault::Fault;
use super::netlink::{Protocol, Socket};
use crate::dataplane::state::Netns;

const NAMED: &str = "/run/netns";
const OWN: &str = "/proc/thread-self/ns/net";

/// Where namespaces are, and which one is the machine's own.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) host: Arc<File>,
    /// Who we are, as a name says that is not a namespace yet.
    owner: String,
}

/// A namespace with the sockets in it.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) file: Arc<File>,
    pub(super) route: Socket,
    pub(super) netfilter: Socket,
}

impl Inside {
    /// What tells one namespace from another, whatever their names are.
    pub(super) fn identity(&self) -> Result<(u64, u64), Fault> {
        inode(&self.file).map_err(|e| Fault::io("look which namespace it is", &e))
    }
}

/// How many namespaces stay open beside the machine's own: three descriptors each.
const KEPT: usize = 32;

/// Namespaces that calls have been in.
#[derive(Debug, Default)]
pub(super) struct Kept {
    host: Option<Inside>,
    /// Those used last at the end.
    others: VecDeque<(Netns, Inside)>,
}

impl Kept {
    /// Lets go of those that their names no longer mean: kept open, they would live on.
    pub(super) fn tidy(&mut self) {
        self.others.retain(|(netns, inside)| {
            let Some(path) = path_of(netns) else { return true };
            let named = fs::metadata(path).map(|found| (found.dev(), found.ino()));
            matches!((named, inode(&inside.file)), (Ok(named), Ok(kept)) if named == kept)
        });
    }

    pub(super) fn take(&mut self, netns: &Netns) -> Option<Inside> {
        if *netns == Netns::Host {
            return self.host.take();
        }
        let at = self.others.iter().position(|(kept, _)| kept == netns)?;
        self.others.remove(at).map(|(_, inside)| inside)
    }

    pub(super) fn put(&mut self, netns: Netns, inside: Inside) {
        if netns == Netns::Host {
            self.host = Some(inside);
            return;
        }
        self.forget(&netns);
        self.others.push_back((netns, inside));
        while self.others.len() > KEPT {
            self.others.pop_front();
        }
    }

    pub(super) fn forget(&mut self, netns: &Netns) {
        self.others.retain(|(kept, _)| kept != netns);
    }
}

impl Places {
    /// `host` is the machine's own namespace: that of this process, unless it has a name.
    pub(super) fn new(host: &Netns, owner: &str) -> Result<Self, Fault> {
        let path = path_of(host).unwrap_or_else(|| PathBuf::from("/proc/self/ns/net"));
        let file = File::open(&path).map_err(|e| Fault::io(format!("open namespace {host}"), &e))?;
        Ok(Self { host: Arc::new(file), owner: owner.to_owned() })
    }

    /// The namespace, for the kernel; `None` if it is not there.
    pub(super) fn file(&self, netns: &Netns) -> Result<Option<Arc<File>>, Fault> {
        let Some(path) = path_of(netns) else { return Ok(Some(self.host.clone())) };
        match File::open(path) {
            Ok(file) if is_namespace(&file) => Ok(Some(Arc::new(file))),
            // A name that was to get a namespace when its maker was interrupted.
            Ok(file) if self.is_left(&file) => Ok(None),
            Ok(_) => {
                let message = format!("{netns} is the name of no namespace, and not ours: it is left alone");
                Err(Fault::new(ErrorKind::AlreadyExists, message))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::io(format!("open namespace {netns}"), &error)),
        }
    }

    /// Puts this thread into the namespace and opens sockets there; `None` if it is not there.
    pub(super) fn enter(&self, netns: &Netns) -> Result<Option<Inside>, Fault> {
        let Some(named) = self.file(netns)? else { return Ok(None) };
        move_to(&named, netns)?;
        // Not the one opened by its name: while that is open, nobody can unmount the name.
        let file = File::open(OWN).map_err(|e| Fault::io(format!("open namespace {netns}"), &e))?;
        let open = |protocol| {
            Socket::open(protocol).map_err(|e| Fault::system(format!("open a netlink socket in {netns}"), e))
        };
        Ok(Some(Inside {
            file: Arc::new(file),
            route: open(Protocol::Route)?,
            netfilter: open(Protocol::Netfilter)?,
        }))
    }

    fn is_left(&self, mut file: &File) -> bool {
        let mut text = String::new();
        file.read_to_string(&mut text).is_ok() && text == self.owner
    }

    /// The namespaces that have a name, in order, without those that are among `others`, the machine's own included:
    /// one namespace is read once, whatever names it has.
    pub(super) fn named(&self, others: &BTreeSet<Netns>) -> Result<Vec<Netns>, Fault> {
        let entries = match fs::read_dir(NAMED) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Fault::io(format!("list {NAMED}"), &error)),
        };
        let others = others.iter().filter_map(|netns| self.file(netns).ok().flatten());
        let known: BTreeSet<_> =
            others.chain([self.host.clone()]).filter_map(|file| inode(&file).ok()).collect();
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Some(netns) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let same = File::open(entry.path()).ok().and_then(|file| inode(&file).ok());
            if same.is_some_and(|same| !known.contains(&same)) {
                found.push(netns);
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Puts this thread into a namespace, and makes sure that it is there.
pub(super) fn move_to(file: &File, netns: &Netns) -> Result<(), Fault> {
    setns(file, CloneFlags::CLONE_NEWNET)
        .map_err(|e| Fault::system(format!("enter namespace {netns}"), e))?;
    let own = File::open(OWN).and_then(|own| inode(&own));
    match (own, inode(file)) {
        (Ok(own), Ok(wanted)) if own == wanted => Ok(()),
        _ => {
            let message = format!("the thread is not in namespace {netns} after it entered it");
            Err(Fault::new(ErrorKind::Internal, message))
        }
    }
}

/// Whether it is a namespace, and no plain file.
fn is_namespace(file: &File) -> bool {
    fstatfs(file).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}

fn inode(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Where it is; `None` for the machine's own.
fn path_of(netns: &Netns) -> Option<PathBuf> {
    match netns {
        Netns::Host => None,
        Netns::Named(name) => Some(Path::new(NAMED).join(&**name)),
        Netns::Path(path) => Some(PathBuf::from(&**path)),
    }
}

/// Makes a namespace with a name, and has `mark` work in it before anybody can see it. Leaves this thread in it.
///
/// Whenever this is interrupted, what is there is either a whole namespace with its mark, or a plain file that says whose
/// it is, and is taken up the next time.
pub(super) fn create(
    netns: &Netns,
    owner: &str,
    mark: impl FnOnce(&mut Socket) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let (Netns::Named(name), Some(path)) = (netns, path_of(netns)) else {
        let message = format!("namespace {netns} has no name, and can only be made by somebody else");
        return Err(Fault::new(ErrorKind::Invalid, message));
    };
    let doing = format!("make namespace {netns}");
    reserve(name, &path, owner).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Fault::foreign(format!("namespace {netns}")),
        _ => Fault::io(&doing, &error),
    })?;
    let failed = |errno| Fault::system(&doing, errno);
    let made = unshare(CloneFlags::CLONE_NEWNET)
        .map_err(failed)
        .and_then(|()| mark(&mut Socket::open(Protocol::Route).map_err(failed)?))
        .and_then(|()| mount(Some(OWN), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(failed));
    made.inspect_err(|_| {
        let _ = fs::remove_file(&path);
    })
}

/// Has the folder of names be a mount that all see alike, as `ip netns` does, and for the same reason: what is mounted in it
/// would else live on wherever somebody has a copy of the mounts. If that program came later, it would lay such a mount
/// over the names that are there, and none of them could be deleted any more.
fn share() -> io::Result<()> {
    fs::create_dir_all(NAMED)?;
    // Two that did it at once would lay one over the other; it is the lock that `ip netns` takes, too.
    let folder = File::open(NAMED)?;
    folder.lock()?;
    let change = |source, flags| mount(source, NAMED, None::<&str>, flags, None::<&str>);
    let shared = || change(None, MsFlags::MS_SHARED | MsFlags::MS_REC);
    match shared() {
        Err(Errno::EINVAL) => {
            change(Some(NAMED), MsFlags::MS_BIND | MsFlags::MS_REC)?;
            Ok(shared()?)
        }
        other => Ok(other?),
    }
}

/// Takes the name: a file that says whose it is appears at once.
fn reserve(name: &str, path: &Path, owner: &str) -> io::Result<()> {
    share()?;
    // No name of a namespace begins with a dot.
    let new = Path::new(NAMED).join(format!(".{owner}.{name}"));
    fs::write(&new, owner)?;
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new)?;
    match linked {
        // Reading a namespace fails, so this is our own from before.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::read_to_string(path) {
            Ok(text) if text == owner => Ok(()),
            _ => Err(error),
        },
        linked => linked,
    }
}

/// Deletes a namespace's name; the namespace ends with the last process in it.
pub(super) fn delete(netns: &Netns) -> Result<(), Fault> {
    let Some(path) = path_of(netns) else { return Ok(()) };
    let doing = format!("delete namespace {netns}");
    umount2(&path, MntFlags::MNT_DETACH).map_err(|e| Fault::system(&doing, e))?;
    fs::remove_file(&path).map_err(|e| Fault::io(doing, &e))
}
