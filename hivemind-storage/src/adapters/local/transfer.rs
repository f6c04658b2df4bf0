//! Snapshots as streams: sent to wherever, and received from there, by this pool or another one.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use hivemind_core::{Error, ErrorKind, Result, Worker};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::arrival::{Arrival, Expected, Since};
use super::backing::DATA;
use super::index::Index;
use super::options::Kind;
use super::pool::{Pool, SNAPSHOTS, TMP};
use super::record::SnapshotRecord;
use super::snapshots::{check_key, exists};
use super::stream::Stream;
use super::sys::btrfs;
use super::{During as _, LocalBackend, LocalProvider};
use crate::{CreateSnapshot, SnapshotRef, VolumeSnapshot};

const SEND: &str = "send";
const RECEIVE: &str = "receive";

impl LocalProvider {
    /// Writes `snapshot` into `to` as a send stream of btrfs: whole, or as the difference to `since`, another snapshot
    /// of the same volume. The stream is of version 1, which `btrfs receive` takes as well.
    ///
    /// `to` is a pipe, a socket or a file, which is written from its beginning and not synced. It is made blocking, and
    /// closed at the end. It runs on a thread of its own, also if the future is dropped: to give up, close the other
    /// end. A snapshot that is deleted meanwhile may keep its room until the pool is opened next.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the pool does not keep volumes as subvolumes, or this one is an image;
    /// [`ErrorKind::NotFound`] if a snapshot is not there; [`ErrorKind::Invalid`] if they are of two volumes;
    /// [`ErrorKind::Denied`] without `CAP_SYS_ADMIN`; [`ErrorKind::Exhausted`] if the disk of `to` is full;
    /// [`ErrorKind::Unavailable`] if the other end is closed. What was written until then is cut off, and nobody
    /// receives it.
    pub async fn send(&self, snapshot: &SnapshotRef, since: Option<&SnapshotRef>, to: OwnedFd) -> Result<()> {
        self.require_streams(SEND)?;
        let (of, since) = (snapshot.clone(), since.cloned());
        let (from, since) = self.run(move |pool| pool.to_send(&of, since.as_ref())).await?;
        let of = snapshot.clone();
        apart(SEND, move || {
            block(SEND, &to)?;
            let sent = btrfs::send(&from, since.as_ref(), to.as_fd());
            sent.during(SEND, format_args!("send snapshot {} from", of.key), Path::new(SNAPSHOTS))
        })
        .await
    }

    /// Makes the snapshot of `request` with what [`send`](Self::send), or `btrfs send`, writes into the other end of
    /// `from`, and not with what is in the volume. It can be restored, cloned, sent and deleted like any other one.
    ///
    /// A difference needs `since`: the snapshot of the same volume, received earlier, that it is a difference to. So keep
    /// the one that was received last. The stream is read to the end of the file, and has one snapshot in it. `from` is
    /// made blocking. As long as it is not whole, nothing is there but what is removed when the pool is opened next; to
    /// give up, close the other end.
    ///
    /// The stream may come from anybody: it is checked, no file of it is made anywhere else, and no more is written than
    /// the size of the volume, and a little for the file system itself. It may have in it what `root` can make in a
    /// volume, such as programs that run as `root`, but no devices.
    ///
    /// Needs the program `btrfs` of btrfs-progs, `CAP_SYS_ADMIN` and `CAP_SYS_CHROOT`, and, for a difference, that the
    /// subvolume that the pool is in is mounted as a whole.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the pool does not keep volumes as subvolumes, this one is an image, or the stream
    /// has another version; [`ErrorKind::AlreadyExists`] if there is such a snapshot, whole, as after an answer that was
    /// lost; [`ErrorKind::NotFound`] if the volume or `since` is not there; [`ErrorKind::Corrupt`] if the stream is cut
    /// off or damaged, or is none; [`ErrorKind::Invalid`] if it has more than one snapshot in it, is no difference to
    /// `since`, or says what it may not; [`ErrorKind::Exhausted`] if more is in it than the size of the volume, or the
    /// pool is full; [`ErrorKind::Conflict`] if something else on the file system claims to be `since`;
    /// [`ErrorKind::Denied`] and [`ErrorKind::Unavailable`] as the system says. Nothing is changed then.
    pub async fn receive(
        &self,
        request: &CreateSnapshot,
        since: Option<&SnapshotRef>,
        from: OwnedFd,
    ) -> Result<VolumeSnapshot> {
        self.require_streams(RECEIVE)?;
        let (wanted, since) = (request.clone(), since.cloned());
        let expected = self.run(move |pool| pool.to_receive(&wanted, since.as_ref())).await?;
        let arrived = apart(RECEIVE, move || {
            block(RECEIVE, &from)?;
            arrive(expected, BufReader::with_capacity(1 << 18, File::from(from)))
        });
        let (arrived, request) = (arrived.await?, request.clone());
        self.run(move |pool| pool.received(&request, &arrived)).await
    }

    fn require_streams(&self, operation: &'static str) -> Result<()> {
        let backend = self.backend();
        if backend == LocalBackend::Subvolumes {
            return Ok(());
        }
        let message = format!("a pool of {backend} has no send streams: only one of subvolumes has");
        Err(Error::new(ErrorKind::Unsupported, operation, message))
    }
}

/// Does `job` on a thread of its own: it may take as long as whoever is at the other end, and the pool goes on.
async fn apart<T: Send + 'static>(
    operation: &'static str,
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let worker = Worker::start(&format!("local-{operation}"))?;
    // Whoever drops the future does not wait for the thread.
    let own = worker.clone();
    let done = worker.run(move || {
        let _own = own;
        job()
    });
    done.await
}

/// Lets whoever reads or writes `file` wait: neither the kernel nor a program is asked again later.
fn block(operation: &'static str, file: &OwnedFd) -> Result<()> {
    let blocking = fcntl_getfl(file).and_then(|flags| fcntl_setfl(file, flags - OFlags::NONBLOCK));
    blocking.during(operation, "wait for", Path::new("the other end"))
}

/// Receives what comes, beside the pool.
fn arrive(expected: Expected, from: impl Read) -> Result<Arrival> {
    let mut stream = Stream::open(from)?;
    expected.check(stream.beginning())?;
    let arrival = Arrival::begin(expected, stream.beginning().clone())?;
    arrival.fill(&mut stream)?;
    Ok(arrival)
}

impl Pool {
    /// What is sent, open: so it can be read whatever becomes of it.
    fn to_send(&self, of: &SnapshotRef, since: Option<&SnapshotRef>) -> Result<(File, Option<File>)> {
        let (snapshot, since) = {
            let index = self.index();
            let since = since.map(|since| index.snapshot(SEND, since)).transpose()?;
            (index.snapshot(SEND, of)?.clone(), since.cloned())
        };
        if since.as_ref().is_some_and(|since| since.source != snapshot.source) {
            let message = format!("there is no difference of snapshot {} to one of another volume", of.key);
            return Err(Error::invalid(SEND, message));
        }
        let since = since.map(|since| self.opened(SEND, &since)).transpose()?;
        Ok((self.opened(SEND, &snapshot)?, since))
    }

    fn opened(&self, operation: &'static str, snapshot: &SnapshotRecord) -> Result<File> {
        require_subvolume(operation, snapshot.kind)?;
        let data = self.place(SNAPSHOTS, snapshot.handle.as_str()).join(DATA);
        File::open(&data).during(operation, "open", &data)
    }

    /// What may come.
    fn to_receive(&self, request: &CreateSnapshot, since: Option<&SnapshotRef>) -> Result<Expected> {
        check_key(RECEIVE, request)?;
        let (volume, since) = {
            let index = self.index();
            free(&index, request)?;
            let since = since.map(|since| index.snapshot(RECEIVE, since)).transpose()?;
            (index.volume(RECEIVE, &request.volume)?.clone(), since.cloned())
        };
        require_subvolume(RECEIVE, volume.kind)?;
        let since = since.map(|since| {
            if since.source != volume.handle {
                let message = format!("snapshot {} is of another volume than {}", since.key, volume.key);
                return Err(Error::invalid(RECEIVE, message));
            }
            let root = self.opened(RECEIVE, &since)?;
            let about = btrfs::about(&root).during(RECEIVE, "look at", Path::new(since.handle.as_str()))?;
            Since::new(since.key, root, about)
        });
        let directory = self.place(TMP, &Self::fresh(RECEIVE));
        Ok(Expected { size: volume.size, since: since.transpose()?, directory })
    }

    /// Takes what has come into the pool.
    fn received(&self, request: &CreateSnapshot, arrived: &Arrival) -> Result<VolumeSnapshot> {
        let (volume, siblings) = {
            let index = self.index();
            free(&index, request)?;
            let tenant = &request.key.volume.tenant;
            let siblings = index.snapshots.values().filter(|other| other.key.volume.tenant == *tenant);
            (index.volume(RECEIVE, &request.volume)?.clone(), siblings.cloned().collect::<Vec<_>>())
        };
        let found = arrived.made()?;
        // The program finds what a stream is a difference to by its identity, which others may have given to something
        // else. What was received twice is the same; what is of another tenant, or not of the pool, may be anything.
        let ours = |uuid| {
            let mut opened = siblings.iter().filter_map(|other| self.opened(RECEIVE, other).ok());
            opened.any(|root| btrfs::about(&root).is_ok_and(|about| about.uuid == uuid))
        };
        if !arrived.is_based(&found) && !ours(found.source) {
            let message = "btrfs receive has taken another subvolume for what the stream is a difference to";
            return Err(Error::new(ErrorKind::Conflict, RECEIVE, message));
        }
        self.take_one(RECEIVE, &request.key, &volume, Some(arrived.path()))
    }
}

fn require_subvolume(operation: &'static str, kind: Kind) -> Result<()> {
    if kind == Kind::Subvolume {
        return Ok(());
    }
    let message = format!("a {kind} has no send streams: only a subvolume has");
    Err(Error::new(ErrorKind::Unsupported, operation, message))
}

/// Refuses a snapshot that is there already.
fn free(index: &Index, request: &CreateSnapshot) -> Result<()> {
    match index.snapshots.get(&request.key) {
        None => Ok(()),
        Some(there) => {
            index.stays(RECEIVE, there.handle.as_str())?;
            Err(exists(RECEIVE, &format!("snapshot {} exists", request.key)))
        }
    }
}
