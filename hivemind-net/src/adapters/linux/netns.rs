//! Namespaces: entering, making and deleting them.
//!
//! A thread is in a namespace, not a program: only the adapter's own thread ever enters one, and it looks where it is
//! before it opens a socket there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hivemind_core::ErrorKind;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::fault::Fault;
use super::netlink::{Protocol, Socket};
use crate::dataplane::state::Netns;

const NAMED: &str = "/run/netns";
const OWN: &str = "/proc/thread-self/ns/net";

/// Where namespaces are, and which one is the machine's own.
#[derive(Debug)]
pub(super) struct Places {
    host: Arc<File>,
}

/// A namespace with the sockets in it.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) file: Arc<File>,
    pub(super) route: Socket,
    pub(super) netfilter: Socket,
}

impl Places {
    /// `host` is the machine's own namespace: that of this process, unless it has a name.
    pub(super) fn new(host: &Netns) -> Result<Self, Fault> {
        let path = path_of(host).unwrap_or_else(|| PathBuf::from("/proc/self/ns/net"));
        let file = File::open(&path).map_err(|e| Fault::io(format!("open namespace {host}"), &e))?;
        Ok(Self { host: Arc::new(file) })
    }

    /// The namespace, for the kernel; `None` if it is not there.
    pub(super) fn file(&self, netns: &Netns) -> Result<Option<Arc<File>>, Fault> {
        let Some(path) = path_of(netns) else { return Ok(Some(self.host.clone())) };
        match File::open(path) {
            Ok(file) => Ok(Some(Arc::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::io(format!("open namespace {netns}"), &error)),
        }
    }

    /// Puts this thread into the namespace and opens sockets there; `None` if it is not there.
    pub(super) fn enter(&self, netns: &Netns) -> Result<Option<Inside>, Fault> {
        let Some(file) = self.file(netns)? else { return Ok(None) };
        move_to(&file, netns)?;
        let open = |protocol| {
            Socket::open(protocol).map_err(|e| Fault::system(format!("open a netlink socket in {netns}"), e))
        };
        Ok(Some(Inside { file, route: open(Protocol::Route)?, netfilter: open(Protocol::Netfilter)? }))
    }

    /// The namespaces that have a name, in order.
    pub(super) fn named(&self) -> Result<Vec<Netns>, Fault> {
        let entries = match fs::read_dir(NAMED) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Fault::io(format!("list {NAMED}"), &error)),
        };
        let host = inode(&self.host).ok();
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Some(netns) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let same = File::open(entry.path()).ok().and_then(|file| inode(&file).ok());
            // The machine's own may have a name as well: it is read once.
            if same.is_some() && same != host {
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

/// Makes a namespace with a name. Leaves this thread in it.
pub(super) fn create(netns: &Netns) -> Result<(), Fault> {
    let (Netns::Named(_), Some(path)) = (netns, path_of(netns)) else {
        let message = format!("namespace {netns} has no name, and can only be made by somebody else");
        return Err(Fault::new(ErrorKind::Invalid, message));
    };
    let doing = format!("make namespace {netns}");
    fs::create_dir_all(NAMED).map_err(|e| Fault::io(&doing, &e))?;
    if let Err(error) = File::create_new(&path) {
        let there = error.kind() == io::ErrorKind::AlreadyExists;
        return Err(if there {
            Fault::foreign(format!("namespace {netns}"))
        } else {
            Fault::io(&doing, &error)
        });
    }
    let made = unshare(CloneFlags::CLONE_NEWNET)
        .and_then(|()| mount(Some(OWN), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>));
    made.map_err(|errno| {
        let _ = fs::remove_file(&path);
        Fault::system(doing, errno)
    })
}

/// Deletes a namespace's name; the namespace ends with the last process in it.
pub(super) fn delete(netns: &Netns) -> Result<(), Fault> {
    let Some(path) = path_of(netns) else { return Ok(()) };
    let doing = format!("delete namespace {netns}");
    umount2(&path, MntFlags::MNT_DETACH).map_err(|e| Fault::system(&doing, e))?;
    fs::remove_file(&path).map_err(|e| Fault::io(doing, &e))
}
