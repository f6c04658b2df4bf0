//! What a send stream of btrfs is made of, and what one may say that comes from somewhere else. No file system here.
//!
//! The program that applies a stream does whatever it says. So each command is looked at before: a stream makes one
//! subvolume, every path stays in it, and nothing is copied from anywhere but it and the snapshot that it is a
//! difference to. Checksums are left to the program.

use std::io::{ErrorKind as Io, Read};
use std::path::Path;

use hivemind_core::{Error, ErrorKind, Result};

use super::During as _;
use super::sys::btrfs::Uuid;

const OPERATION: &str = "receive";

/// How each stream begins; then comes the version.
const MAGIC: &[u8; 13] = b"btrfs-stream\0";
/// The version that is understood: kernels write it unless they are asked for another one.
const VERSION: u32 = 1;
/// The head of a command: its length, its number, a checksum.
const HEAD: usize = 10;
/// No command of this version is longer.
const LONGEST: usize = 64 << 10;

/// Commands, `enum btrfs_send_cmd` of the kernel.
mod command {
    pub(super) const SUBVOL: u16 = 1;
    pub(super) const SNAPSHOT: u16 = 2;
    pub(super) const MKFILE: u16 = 3;
    pub(super) const MKNOD: u16 = 5;
    pub(super) const LINK: u16 = 10;
    pub(super) const CLONE: u16 = 16;
    pub(super) const UTIMES: u16 = 20;
    pub(super) const END: u16 = 21;
    pub(super) const UPDATE_EXTENT: u16 = 22;
}

/// Attributes of commands, the unnamed enumeration after it.
mod attribute {
    pub(super) const UUID: u16 = 1;
    pub(super) const MODE: u16 = 5;
    pub(super) const RDEV: u16 = 8;
    pub(super) const PATH: u16 = 15;
    pub(super) const PATH_TO: u16 = 16;
    pub(super) const PATH_LINK: u16 = 17;
    pub(super) const DATA: u16 = 19;
    pub(super) const CLONE_UUID: u16 = 20;
    pub(super) const CLONE_PATH: u16 = 22;
}

/// What a stream makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beginning {
    /// What the subvolume is called.
    pub(super) name: String,
    /// By what it is known wherever it is received.
    pub(super) identity: Uuid,
    /// By what the snapshot is known that it is a difference to; `None` if it is whole.
    pub(super) since: Option<Uuid>,
}

/// A stream that is read, command by command.
#[derive(Debug)]
pub(super) struct Stream<R> {
    from: R,
    beginning: Beginning,
    /// The last command, with whatever is before it.
    last: Vec<u8>,
    number: u16,
    /// How many bytes were written to files so far.
    written: u64,
    /// Of which file of the snapshot that it is a difference to the last command takes something.
    taken: Option<Vec<u8>>,
}

impl<R: Read> Stream<R> {
    /// Reads the beginning of a stream.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is none or is cut off, [`ErrorKind::Unsupported`] if it is of another version.
    pub(super) fn open(mut from: R) -> Result<Self> {
        let mut head = [0; MAGIC.len() + 4];
        read(&mut from, &mut head)?;
        let version = match head.split_first_chunk() {
            Some((MAGIC, rest)) => rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)),
            _ => None,
        };
        match version {
            Some(VERSION) => {}
            Some(other) => {
                let message = format!("the stream has version {other}: send it as version {VERSION}");
                return Err(Error::new(ErrorKind::Unsupported, OPERATION, message));
            }
            None => return Err(corrupt("is no send stream of btrfs")),
        }
        let mut last = head.to_vec();
        let number = read_command(&mut from, &mut last)?;
        let payload = last.get(head.len() + HEAD..).unwrap_or_default();
        let beginning = beginning(number, &Attributes::of(payload)?)?;
        Ok(Self { from, beginning, last, number, written: 0, taken: None })
    }

    /// What it makes.
    pub(super) fn beginning(&self) -> &Beginning {
        &self.beginning
    }

    /// What was read last, as it came.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.last
    }

    /// How many bytes all that was read so far writes to files.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// A file of the snapshot that the stream is a difference to, if the last command takes something of it.
    pub(super) fn taken(&self) -> Option<&Path> {
        use std::os::unix::ffi::OsStrExt as _;
        self.taken.as_deref().map(|path| Path::new(std::ffi::OsStr::from_bytes(path)))
    }

    /// Reads the next command, and checks it; `false` after the last one.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is cut off or damaged, [`ErrorKind::Invalid`] if it says what it may not.
    pub(super) fn advance(&mut self) -> Result<bool> {
        self.last.clear();
        if self.number == command::END {
            return match read(&mut self.from, &mut [0]) {
                Err(e) if e.kind() == ErrorKind::Corrupt => Ok(false),
                Err(e) => Err(e),
                Ok(()) => Err(Error::invalid(OPERATION, "something comes after the end of the stream")),
            };
        }
        self.number = read_command(&mut self.from, &mut self.last)?;
        let attributes = Attributes::of(self.last.get(HEAD..).unwrap_or_default())?;
        self.taken = check(self.number, &attributes, &self.beginning)?;
        let data = attributes.find(attribute::DATA).map_or(0, <[u8]>::len);
        self.written = self.written.saturating_add(u64::try_from(data).unwrap_or(u64::MAX));
        Ok(true)
    }
}

fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, OPERATION, format!("what was to be received {what}"))
}

/// Fills `bytes`.
fn read(from: &mut impl Read, bytes: &mut [u8]) -> Result<()> {
    match from.read_exact(bytes) {
        Err(e) if e.kind() == Io::UnexpectedEof => Err(corrupt("is cut off")),
        read => read.during(OPERATION, "read", Path::new("the stream")),
    }
}

/// Reads one command after what is in `into`; its number.
fn read_command(from: &mut impl Read, into: &mut Vec<u8>) -> Result<u16> {
    let mut head = [0; HEAD];
    read(from, &mut head)?;
    let [a, b, c, d, low, high, ..] = head;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(corrupt("is damaged: a command in it is too long"));
    }
    into.extend(head);
    let start = into.len();
    into.resize(start + length, 0);
    read(from, into.get_mut(start..).unwrap_or_default())?;
    Ok(u16::from_le_bytes([low, high]))
}

/// The attributes of one command.
struct Attributes<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Attributes<'a> {
    fn of(mut rest: &'a [u8]) -> Result<Self> {
        let mut found: Vec<(u16, &[u8])> = Vec::new();
        while let Some(([low, high, short, long], after)) = rest.split_first_chunk() {
            let number = u16::from_le_bytes([*low, *high]);
            let length = usize::from(u16::from_le_bytes([*short, *long]));
            let value = after.split_at_checked(length);
            let Some((value, after)) = value.filter(|_| found.iter().all(|(other, _)| *other != number))
            else {
                return Err(corrupt("is damaged: a command in it does not fit"));
            };
            found.push((number, value));
            rest = after;
        }
        if rest.is_empty() {
            Ok(Self(found))
        } else {
            Err(corrupt("is damaged: a command in it does not fit"))
        }
    }

    fn find(&self, number: u16) -> Option<&'a [u8]> {
        self.0.iter().find(|(other, _)| *other == number).map(|(_, value)| *value)
    }

    fn uuid(&self, number: u16) -> Result<Uuid> {
        let found = self.find(number).and_then(|value| value.try_into().ok());
        found.ok_or_else(|| corrupt("is damaged: it does not say what it is of"))
    }

    fn number(&self, number: u16) -> Option<u64> {
        self.find(number)?.try_into().ok().map(u64::from_le_bytes)
    }
}

/// What the first command makes.
fn beginning(number: u16, attributes: &Attributes<'_>) -> Result<Beginning> {
    let since = match number {
        command::SUBVOL => None,
        command::SNAPSHOT => Some(attributes.uuid(attribute::CLONE_UUID)?),
        _ => return Err(corrupt("does not begin with a snapshot")),
    };
    let name = attributes.find(attribute::PATH).and_then(|name| std::str::from_utf8(name).ok());
    let Some(name) = name.filter(|name| stays(name.as_bytes()) && !name.is_empty() && !name.contains('/'))
    else {
        return Err(Error::invalid(OPERATION, "the stream gives its snapshot a name that it cannot have"));
    };
    Ok(Beginning { name: name.to_owned(), identity: attributes.uuid(attribute::UUID)?, since })
}

/// Whether a path stays where it begins, as far as there are no symbolic links on it.
fn stays(path: &[u8]) -> bool {
    let mut parts = path.split(|byte| *byte == b'/');
    path.is_empty()
        || parts.all(|part| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0))
}

/// Refuses what a stream may not say; of which file of the snapshot that it is a difference to it takes something.
fn check(number: u16, attributes: &Attributes<'_>, of: &Beginning) -> Result<Option<Vec<u8>>> {
    let refused = |what: &str| Err(Error::invalid(OPERATION, format!("the stream {what}")));
    match number {
        command::SUBVOL | command::SNAPSHOT => {
            return refused("has more than one snapshot in it: send each alone");
        }
        command::UPDATE_EXTENT => return refused("was sent without what is in the files"),
        command::MKFILE..=command::UTIMES | command::END => {}
        _ => return Err(corrupt("is damaged: there is no such command as one in it")),
    }
    let mut paths = vec![attribute::PATH, attribute::PATH_TO, attribute::CLONE_PATH];
    // For a symbolic link it is what is in it, which may be anything.
    paths.extend((number == command::LINK).then_some(attribute::PATH_LINK));
    if !paths.into_iter().filter_map(|path| attributes.find(path)).all(stays) {
        return refused("has a path in it that leads out of its snapshot");
    }
    // What is written to the path of a device goes to the device. The one without a number is none, and marks in
    // layered file systems what was deleted.
    let character = attributes.number(attribute::MODE).is_some_and(|mode| mode & 0o170_000 == 0o020_000);
    if number == command::MKNOD && !(character && attributes.number(attribute::RDEV) == Some(0)) {
        return refused("has a device in it, and none is taken from a stream");
    }
    if number != command::CLONE {
        return Ok(None);
    }
    let source = attributes.uuid(attribute::CLONE_UUID)?;
    let path =
        attributes.find(attribute::CLONE_PATH).ok_or_else(|| corrupt("is damaged: a path is missing"))?;
    match of.since {
        _ if source == of.identity => Ok(None),
        Some(since) if source == since => Ok(Some(path.to_vec())),
        _ => refused("takes something of a snapshot that it is no difference to"),
    }
}

#[cfg(test)]
mod tests;
