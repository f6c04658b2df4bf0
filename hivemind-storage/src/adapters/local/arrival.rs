//! What comes in a stream, while it is not yet part of the pool.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::During as _;
use super::backing;
use super::options::Kind;
use super::stream::{Beginning, Stream};
use super::sys::btrfs::{self, About, Uuid};
use crate::SnapshotKey;

const OPERATION: &str = "receive";

/// Where the program works, which it cannot leave.
const INSIDE: &str = "in";
/// What it said.
const SAID: &str = "said";

/// What may come.
#[derive(Debug)]
pub(super) struct Expected {
    /// The size of the volume.
    pub(super) size: ByteSize,
    /// What it is a difference to.
    pub(super) since: Option<Since>,
    /// Where it comes to be; not there yet.
    pub(super) directory: PathBuf,
}

/// A snapshot that was received earlier.
#[derive(Debug)]
pub(super) struct Since {
    key: SnapshotKey,
    root: File,
    uuid: Uuid,
    identity: Uuid,
}

impl Since {
    /// # Errors
    /// [`ErrorKind::Invalid`] if it was not received: what a workload made has devices in it, maybe, and a stream could
    /// write to them.
    pub(super) fn new(key: SnapshotKey, root: File, about: About) -> Result<Self> {
        match about.received {
            Some(identity) => Ok(Self { key, root, uuid: about.uuid, identity }),
            None => {
                let message = format!("snapshot {key} was not received, so nothing is a difference to it");
                Err(Error::invalid(OPERATION, message))
            }
        }
    }
}

impl Expected {
    /// Refuses what is a difference to something else.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] says to what it should be one.
    pub(super) fn check(&self, beginning: &Beginning) -> Result<()> {
        let message = match (&self.since, beginning.since) {
            (None, None) => return Ok(()),
            (Some(since), Some(identity)) if since.identity == identity => return Ok(()),
            (None, Some(_)) => "the stream is a difference to a snapshot: say to which one".to_owned(),
            (Some(since), None) => {
                format!("the stream is whole, and no difference to snapshot {}", since.key)
            }
            (Some(since), Some(_)) => {
                format!("the stream is a difference to another snapshot than {}", since.key)
            }
        };
        Err(Error::invalid(OPERATION, message))
    }

    /// Refuses to take something of a file that is not in the snapshot that the stream is a difference to, but where
    /// symbolic links in it lead to.
    fn check_taken(&self, path: &Path) -> Result<()> {
        let stay = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let found = self
            .since
            .as_ref()
            .map(|since| openat2(&since.root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), stay));
        match found {
            Some(Ok(_)) => Ok(()),
            _ => Err(Error::invalid(
                OPERATION,
                "the stream takes something of what is no file of its snapshot",
            )),
        }
    }

    /// No more is written. What a full volume has in it takes more room elsewhere, for the file system itself: its
    /// directories may be spread over more blocks, and what is being written counts before it is.
    fn most(&self) -> ByteSize {
        let size = self.size.as_bytes();
        ByteSize::from_bytes(size.saturating_add(size / 16).saturating_add(4 << 20))
    }

    fn too_large(&self) -> Error {
        let message = format!("the stream has more in it than {}, the size of the volume", self.size);
        Error::new(ErrorKind::Exhausted, OPERATION, message)
    }
}

/// What comes in a stream. It goes when this is dropped.
#[derive(Debug)]
pub(super) struct Arrival {
    expected: Expected,
    beginning: Beginning,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        // What stays is removed when the pool is opened next.
        let _ = backing::remove(&self.expected.directory);
    }
}

impl Arrival {
    /// Makes an empty place for it.
    pub(super) fn begin(expected: Expected, beginning: Beginning) -> Result<Self> {
        let arrival = Self { expected, beginning };
        let directory = &arrival.expected.directory;
        for path in [directory.clone(), directory.join(INSIDE)] {
            DirBuilder::new().mode(0o700).create(&path).during(OPERATION, "make", &path)?;
        }
        Ok(arrival)
    }

    /// Where the subvolume is that the stream makes.
    pub(super) fn path(&self) -> PathBuf {
        self.expected.directory.join(INSIDE).join(&self.beginning.name)
    }

    /// Whether what was made is based on what the stream is a difference to, or on nothing if it is none.
    pub(super) fn is_based(&self, found: &About) -> bool {
        found.source == self.expected.since.as_ref().map_or([0; 16], |since| since.uuid)
    }

    /// Has a program make what the stream says.
    ///
    /// # Errors
    /// Those of the stream; [`ErrorKind::Exhausted`] if there is no room for it; [`ErrorKind::Unavailable`] if the program
    /// cannot be run, or fails.
    pub(super) fn fill(&self, stream: &mut Stream<impl Read>) -> Result<()> {
        let (mut program, mut input) = self.start()?;
        let fed = self.feed(stream, &mut input);
        if fed.is_err() {
            // Before its input ends: it would take what there is for the whole.
            let _ = program.kill();
        }
        drop(input);
        let ended = program.wait().during(OPERATION, "wait for the program in", &self.expected.directory)?;
        match fed? {
            true if ended.success() => Ok(()),
            _ => Err(self.failure(ended)),
        }
    }

    fn start(&self) -> Result<(Child, ChildStdin)> {
        let directory = &self.expected.directory;
        let said = File::create(directory.join(SAID)).during(OPERATION, "write to", directory)?;
        // Confined to the directory: symbolic links in the stream lead nowhere else.
        let program = Command::new("btrfs")
            .args(["receive", "-q", "-C"])
            .arg(directory.join(INSIDE))
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn();
        let mut program = program.during(OPERATION, "run btrfs receive in", directory)?;
        match program.stdin.take() {
            Some(input) => Ok((program, input)),
            None => Err(Error::internal(OPERATION, "a program has no input")),
        }
    }

    /// Gives the stream to the program, as far as it is what it may be; `false` if the program has ended before.
    fn feed(&self, stream: &mut Stream<impl Read>, input: &mut ChildStdin) -> Result<bool> {
        let (path, most) = (self.path(), self.expected.most());
        let mut limited = false;
        loop {
            match input.write_all(stream.bytes()) {
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
                written => written.during(OPERATION, "write to the program in", &self.expected.directory)?,
            }
            // The program makes the subvolume when it comes to it; until there is a limit, we count.
            if !limited && btrfs::is_subvolume(&path) {
                backing::resize(OPERATION, Kind::Subvolume, &path, most)?;
                limited = true;
            }
            if !limited && stream.written() > most.as_bytes() {
                return Err(self.expected.too_large());
            }
            if !stream.advance()? {
                return Ok(true);
            }
            if let Some(path) = stream.taken() {
                self.expected.check_taken(path)?;
            }
        }
    }

    /// Why the program failed. What it says has names of files in it, and pieces of what is in them: nobody is told.
    fn failure(&self, ended: ExitStatus) -> Error {
        let said = fs::read(self.expected.directory.join(SAID)).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let says = |reason: &str| said.lines().any(|line| line.ends_with(reason));
        if says("Disk quota exceeded") {
            return self.expected.too_large();
        }
        let (kind, why) = if says("No space left on device") {
            (ErrorKind::Exhausted, "the pool is full")
        } else if says("Operation not permitted") || says("Permission denied") {
            (ErrorKind::Denied, "the system does not let it")
        } else if says("crc32 mismatch in command") {
            (ErrorKind::Corrupt, "the stream is damaged")
        } else {
            (ErrorKind::Unavailable, "the stream does not fit, or the subvolume of the pool is not mounted")
        };
        Error::new(kind, OPERATION, format!("btrfs receive failed with {ended}: {why}"))
    }

    /// What the program made, if it is what the stream said, whole, and nothing else.
    pub(super) fn made(&self) -> Result<About> {
        let (inside, path) = (self.expected.directory.join(INSIDE), self.path());
        let entries = fs::read_dir(&inside).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let entries = entries.during(OPERATION, "list", &inside)?;
        let alone = entries.iter().all(|entry| entry.file_name() == *self.beginning.name);
        if alone && btrfs::is_subvolume(&path) {
            let about = File::open(&path).and_then(|root| btrfs::about(&root));
            let about = about.during(OPERATION, "look at what is in", &inside)?;
            if about.read_only && about.received == Some(self.beginning.identity) {
                return Ok(about);
            }
        }
        Err(Error::invalid(OPERATION, "the stream makes something else than one snapshot"))
    }
}

#[cfg(test)]
mod tests;
