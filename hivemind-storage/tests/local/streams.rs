//! Snapshots sent as streams and received from them, also from somebody who sends something else.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hivemind_core::{Error, ErrorKind, Result, SystemClock, block_on};
use hivemind_storage::{
    CreateSnapshot, LocalBackend, LocalProvider, SnapshotKey, SnapshotRef, StorageProvider, VolumeHandle,
    VolumeRef, VolumeSnapshot, VolumeSource,
};
use rustix::fs::{OFlags, XattrFlags};

use crate::ground::{Ground, create, file_system, node_info, provider, publish, ready, run, token, wish};
use crate::subvolumes::{data, fill, plain, snapshot};

/// A pool with a volume in it.
struct Side {
    pool: PathBuf,
    provider: Arc<LocalProvider>,
    volume: VolumeRef,
}

impl Side {
    fn new(ground: &Ground, name: &str) -> Self {
        Self::at(ground.btrfs(name))
    }

    fn at(pool: PathBuf) -> Self {
        let provider = provider(&pool);
        let volume = create(&provider, &plain("data")).volume;
        Self { pool, provider, volume }
    }

    fn data(&self) -> PathBuf {
        data(&self.pool, &self.volume)
    }

    fn take(&self, name: &str) -> SnapshotRef {
        snapshot(&self.provider, &self.volume, name)
    }

    fn frozen(&self, of: &SnapshotRef) -> PathBuf {
        self.pool.join("snapshots").join(of.handle.as_str()).join("data")
    }

    fn send(&self, of: &SnapshotRef, since: Option<&SnapshotRef>, to: &Path) {
        block_on(self.provider.send(of, since, File::create(to).unwrap().into())).unwrap();
    }

    fn wish(&self, name: &str) -> CreateSnapshot {
        let key = SnapshotKey::new(self.volume.key.clone(), name.parse().unwrap());
        CreateSnapshot::new(token(), key, self.volume.clone())
    }

    fn attempt(&self, name: &str, since: Option<&SnapshotRef>, from: &Path) -> Result<VolumeSnapshot> {
        block_on(self.provider.receive(&self.wish(name), since, File::open(from).unwrap().into()))
    }

    fn receive(&self, name: &str, since: Option<&SnapshotRef>, from: &Path) -> SnapshotRef {
        let received = self.attempt(name, since, from).unwrap();
        assert_eq!(received.source, self.volume.handle);
        received.reference(self.wish(name).key)
    }

    /// All that is there, but the empty subvolumes that are kept ready.
    fn all(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for part in ["snapshots", "tmp", "trash"] {
            let entries = fs::read_dir(self.pool.join(part)).unwrap();
            found.extend(entries.map(|entry| entry.unwrap().path()));
        }
        found.sort();
        found
    }

    /// That this is refused, and nothing is there afterwards that was not there before.
    fn refuses(&self, since: Option<&SnapshotRef>, from: &Path) -> Error {
        let before = (self.all(), block_on(self.provider.get_provider_metrics()).unwrap());
        let refused = self.attempt("refused", since, from).unwrap_err();
        assert_eq!(before, (self.all(), block_on(self.provider.get_provider_metrics()).unwrap()));
        refused
    }
}

fn words<'a>(words: &'a [&'a str], paths: &'a [&'a Path]) -> Vec<&'a OsStr> {
    words.iter().map(OsStr::new).chain(paths.iter().map(|path| path.as_os_str())).collect()
}

fn write_tree(at: &Path) {
    fs::create_dir(at.join("dir")).unwrap();
    fs::write(at.join("dir/file"), "content").unwrap();
    std::os::unix::fs::chown(at.join("dir/file"), Some(1234), Some(4321)).unwrap();
    fs::set_permissions(at.join("dir/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(at.join("dir/file"), at.join("twin")).unwrap();
    symlink("../outside", at.join("link")).unwrap();
    rustix::fs::setxattr(at.join("dir"), "user.colour", b"blue", XattrFlags::empty()).unwrap();
    fs::write(at.join("large"), [7; 1 << 20]).unwrap();
    // As layered file systems mark what was deleted.
    let mode = rustix::fs::Mode::empty();
    let character = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, at.join("gone"), character, mode, 0).unwrap();
}

fn check_tree(at: &Path) {
    assert_eq!(fs::read_to_string(at.join("dir/file")).unwrap(), "content");
    let (file, twin) = (fs::metadata(at.join("dir/file")).unwrap(), fs::metadata(at.join("twin")).unwrap());
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o4751, 1234, 4321));
    assert_eq!((file.ino(), file.nlink()), (twin.ino(), 2));
    assert_eq!(fs::read_link(at.join("link")).unwrap(), Path::new("../outside"));
    let mut colour = [0; 16];
    let length = rustix::fs::getxattr(at.join("dir"), "user.colour", &mut colour[..]).unwrap();
    assert_eq!(&colour[..length], b"blue");
    assert_eq!(fs::read(at.join("large")).unwrap(), [7; 1 << 20]);
    assert_eq!(fs::symlink_metadata(at.join("gone")).unwrap().rdev(), 0);
}

#[test]
fn a_snapshot_is_the_same_in_another_pool_and_a_difference_is_small_and_follows_it() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    write_tree(&here.data());
    let first = here.take("s1");
    fs::write(here.data().join("dir/new"), "more").unwrap();
    fs::rename(here.data().join("large"), here.data().join("moved")).unwrap();
    // What is shared within the volume, so that the difference says to copy it.
    run("cp", words(&["--reflink=always"], &[&here.data().join("moved"), &here.data().join("large")]));
    let second = here.take("s2");
    let [whole, difference] = ["whole", "difference"].map(|name| ground.path(name));
    here.send(&first, None, &whole);
    here.send(&second, Some(&first), &difference);
    let lengths = [&whole, &difference].map(|path| fs::metadata(path).unwrap().len());
    assert!(lengths[0] > 1 << 20 && lengths[1] < 1 << 14, "{lengths:?}");

    let old = there.receive("s1", None, &whole);
    check_tree(&there.frozen(&old));
    assert!(fs::write(there.frozen(&old).join("twin"), "").is_err(), "it can be written");
    let new = there.receive("s2", Some(&old), &difference);
    check_tree(&there.frozen(&new));
    assert_eq!(fs::read_to_string(there.frozen(&new).join("dir/new")).unwrap(), "more");
    assert!(!there.frozen(&old).join("dir/new").exists());
    assert_eq!(there.all().len(), 2, "something was left: {:?}", there.all());

    // What was received is sent on, and fits what came another way.
    let third = Side::new(&ground, "third");
    let base = third.receive("s1", None, &whole);
    there.send(&new, Some(&old), &difference);
    let last = third.receive("s2", Some(&base), &difference);
    check_tree(&third.frozen(&last));
}

#[test]
fn what_was_received_is_restored_and_copied_and_outlives_the_provider() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    write_tree(&here.data());
    let stream = ground.path("stream");
    here.send(&here.take("s1"), None, &stream);
    let received = there.receive("s1", None, &stream);
    ready(block_on(there.provider.restore_snapshot(&token(), &received, &there.volume)));
    let node = there.provider.node().unwrap();
    let target = publish(&node, &ground, &there.volume, "target");
    check_tree(&target);
    let (_, full) = fill(&target.join("full"), 64 << 20);
    assert_eq!(full.map(|e| e.kind()), Some(io::ErrorKind::QuotaExceeded));
    let Side { pool, provider, .. } = there;
    drop(provider);
    let again = crate::ground::provider(&pool);
    assert!(block_on(again.get_snapshot_status(&received)).is_ok());
    let copy = create(&again, &plain("copy").from_source(VolumeSource::Snapshot(received.clone())));
    check_tree(&data(&pool, &copy.volume));
    ready(block_on(again.delete_snapshot(&token(), &received)));
    assert_eq!(fs::read_dir(pool.join("snapshots")).unwrap().count(), 0);
}

#[test]
fn a_pool_sends_to_itself_through_a_pipe_and_goes_on_meanwhile() {
    let Some(ground) = Ground::new() else { return };
    let side = Side::new(&ground, "pool");
    write_tree(&side.data());
    let first = side.take("s1");
    let (reader, writer) = io::pipe().unwrap();
    // As an executor has its pipes.
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
    rustix::fs::fcntl_setfl(&writer, rustix::fs::fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
    let request = side.wish("s2");
    let (sent, received) = block_on(futures::future::join(
        side.provider.send(&first, None, writer.into()),
        side.provider.receive(&request, None, reader.into()),
    ));
    sent.unwrap();
    let received = received.unwrap().reference(request.key.clone());
    check_tree(&side.frozen(&received));
    // What was sent and what was received of it are known by the same identity here.
    fs::write(side.data().join("new"), "new").unwrap();
    let (third, difference) = (side.take("s3"), ground.path("difference"));
    side.send(&third, Some(&first), &difference);
    let last = side.receive("s4", Some(&received), &difference);
    assert_eq!(fs::read_to_string(side.frozen(&last).join("new")).unwrap(), "new");

    let (reader, mut writer) = io::pipe().unwrap();
    let request = side.wish("s5");
    let waiting = side.provider.receive(&request, None, reader.into());
    let others = async {
        // Others are not kept waiting by one who sends nothing.
        ready(side.provider.create_volume(&plain("other")).await);
        writer.write_all(b"btrfs-stream").unwrap();
        drop(writer);
    };
    let (cut_off, ()) = block_on(futures::future::join(waiting, others));
    assert_eq!(cut_off.unwrap_err().kind(), ErrorKind::Corrupt);
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let closed = block_on(side.provider.send(&first, None, writer.into())).unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Unavailable, "{closed}");
}

#[test]
fn what_is_no_whole_stream_of_one_snapshot_changes_nothing() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    write_tree(&here.data());
    let (first, stream, bad) = (here.take("s1"), ground.path("stream"), ground.path("bad"));
    here.send(&first, None, &stream);
    let whole = fs::read(&stream).unwrap();
    let with = |bytes: &[u8]| {
        fs::write(&bad, bytes).unwrap();
        there.refuses(None, &bad).kind()
    };
    // At its very end, so that everything is there by then, and within.
    for length in [0, 5, 17, 60, 500, whole.len() / 2, whole.len() - 10, whole.len() - 1] {
        assert_eq!(with(&whole[..length]), ErrorKind::Corrupt, "after {length} bytes");
    }
    assert_eq!(with(&[0xa5; 1 << 16]), ErrorKind::Corrupt);
    assert_eq!(with(&[&whole[..], &whole].concat()), ErrorKind::Invalid);
    assert_eq!(with(&[&whole[..], &[0]].concat()), ErrorKind::Invalid);
    let mut damaged = whole.clone();
    *damaged.iter_mut().rfind(|byte| **byte == 7).unwrap() ^= 1;
    assert_eq!(with(&damaged), ErrorKind::Corrupt, "a bit has changed in a file");
    // Two in one, as the program sends them.
    let second = here.take("s2");
    let frozen = [&first, &second].map(|of| here.frozen(of));
    run("btrfs", words(&["send", "-q", "-f"], &[&bad, &frozen[0], &frozen[1]]));
    assert_eq!(there.refuses(None, &bad).kind(), ErrorKind::Invalid);
    // It names what is there already, or not there.
    let received = there.receive("s1", None, &stream);
    assert_eq!(there.attempt("s1", None, &stream).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let mut request = there.wish("other");
    request.volume = VolumeRef::new(request.volume.key, "vol-none".parse::<VolumeHandle>().unwrap());
    let refused = block_on(there.provider.receive(&request, None, File::open(&stream).unwrap().into()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(there.refuses(Some(&received), &stream).kind(), ErrorKind::Invalid, "it is no difference");
}

#[test]
fn a_difference_to_something_else_changes_nothing() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    let [one, two, three] = ["s1", "s2", "s3"].map(|name| {
        fs::write(here.data().join(name), name).unwrap();
        here.take(name)
    });
    let [whole, difference, bad] = ["whole", "difference", "bad"].map(|name| ground.path(name));
    here.send(&one, None, &whole);
    here.send(&three, Some(&two), &difference);
    assert_eq!(there.refuses(None, &difference).kind(), ErrorKind::Invalid);
    let received = there.receive("s1", None, &whole);
    assert_eq!(there.refuses(Some(&received), &difference).kind(), ErrorKind::Invalid);
    // It was made here, so it may have anything in it.
    let own = there.take("own");
    assert_eq!(there.refuses(Some(&own), &difference).kind(), ErrorKind::Invalid);
    let gone = SnapshotRef::new(own.key.clone(), "snap-none".parse().unwrap());
    assert_eq!(there.refuses(Some(&gone), &difference).kind(), ErrorKind::NotFound);
    // Of another volume.
    let other = create(&there.provider, &plain("other")).volume;
    let foreign = snapshot(&there.provider, &other, "s1");
    assert_eq!(there.refuses(Some(&foreign), &difference).kind(), ErrorKind::Invalid);
    let refused =
        block_on(there.provider.send(&received, Some(&foreign), File::create(&bad).unwrap().into()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn what_others_have_under_the_same_identity_is_not_taken_for_ours() {
    let Some(ground) = Ground::new() else { return };
    let (here, disk) = (Side::new(&ground, "here"), ground.btrfs("disk"));
    let there = Side::at(ground.directory("disk/pool"));
    let first = here.take("s1");
    fs::write(here.data().join("new"), "new").unwrap();
    let second = here.take("s2");
    let [whole, difference] = ["whole", "difference"].map(|name| ground.path(name));
    here.send(&first, None, &whole);
    here.send(&second, Some(&first), &difference);
    // Somebody else has received it before, beside the pool: the program finds that one.
    run("btrfs", words(&["receive", "-q", "-f"], &[&whole, &disk]));
    let received = there.receive("s1", None, &whole);
    assert_eq!(there.refuses(Some(&received), &difference).kind(), ErrorKind::Conflict);
    run("btrfs", words(&["subvolume", "delete"], &[&disk.join("data")]));
    there.receive("s2", Some(&received), &difference);
    // What is in the pool twice is the same, whichever of the two is found.
    let other = create(&there.provider, &plain("other")).volume;
    let there = Side { volume: other, ..there };
    let twin = there.receive("s1", None, &whole);
    let last = there.receive("s2", Some(&twin), &difference);
    assert_eq!(fs::read_to_string(there.frozen(&last).join("new")).unwrap(), "new");
}

#[test]
fn no_more_comes_than_the_size_of_the_volume() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    let large = create(&here.provider, &wish("large", 64, Default::default())).volume;
    let [stream, small, difference] = ["stream", "small", "difference"].map(|name| ground.path(name));
    let first = snapshot(&here.provider, &large, "s1");
    fill(&data(&here.pool, &large).join("file"), 20 << 20);
    let second = snapshot(&here.provider, &large, "s2");
    here.send(&second, None, &stream);
    let refused = there.refuses(None, &stream);
    assert_eq!(refused.kind(), ErrorKind::Exhausted, "{refused}");
    here.send(&first, None, &small);
    here.send(&second, Some(&first), &difference);
    let received = there.receive("s1", None, &small);
    let refused = there.refuses(Some(&received), &difference);
    assert_eq!(refused.kind(), ErrorKind::Exhausted, "{refused}");
    assert!(!refused.to_string().contains("file"), "{refused}");
    // So small that it is over before there is a limit.
    let tiny = create(&there.provider, &wish("tiny", 1, Default::default())).volume;
    let there = Side { volume: tiny, ..there };
    assert_eq!(there.refuses(None, &stream).kind(), ErrorKind::Exhausted);
}

#[test]
fn a_device_is_not_made() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    let device = here.data().join("device");
    let mode = rustix::fs::Mode::empty();
    let block = rustix::fs::FileType::BlockDevice;
    rustix::fs::mknodat(rustix::fs::CWD, &device, block, mode, rustix::fs::makedev(7, 200)).unwrap();
    let stream = ground.path("stream");
    here.send(&here.take("s1"), None, &stream);
    assert_eq!(there.refuses(None, &stream).kind(), ErrorKind::Invalid);
}

/// A command as a kernel writes it, with its checksum.
fn command(number: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let one = |(number, value): &(u16, &[u8])| {
        let length = u16::try_from(value.len()).unwrap();
        [&number.to_le_bytes()[..], &length.to_le_bytes(), value].concat()
    };
    let payload: Vec<u8> = attributes.iter().flat_map(one).collect();
    let length = u32::try_from(payload.len()).unwrap();
    let mut bytes = [&length.to_le_bytes()[..], &number.to_le_bytes(), &[0; 4], &payload].concat();
    let bit = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    let sum = bytes.iter().fold(0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc)));
    bytes[6..10].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn links_in_a_stream_lead_nowhere_else() {
    let Some(ground) = Ground::new() else { return };
    let (there, outside, stream) =
        (Side::new(&ground, "there"), ground.directory("outside"), ground.path("stream"));
    let subvolume = command(1, &[(15, b"data"), (1, &[9; 16]), (2, &1u64.to_le_bytes())]);
    let begin = [b"btrfs-stream\0\x01\0\0\0", &subvolume[..]].concat();
    let stream_of = |link: &Path, path: &str| {
        let link = command(8, &[(15, b"link"), (3, &[0; 8]), (17, link.as_os_str().as_encoded_bytes())]);
        let file = command(3, &[(15, path.as_bytes()), (3, &[0; 8])]);
        fs::write(&stream, [&begin[..], &link, &file, &command(21, &[])].concat()).unwrap();
    };
    // It is one that is taken, if nothing is wrong with it.
    stream_of(&outside, "file");
    let received = there.receive("s1", None, &stream);
    assert_eq!(fs::read_link(there.frozen(&received).join("link")).unwrap(), outside);
    let up = PathBuf::from("../".repeat(20)).join(outside.strip_prefix("/").unwrap());
    for link in [outside.as_path(), &up] {
        stream_of(link, "link/file");
        let refused = there.refuses(None, &stream);
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    }
    // Not even beside the snapshot.
    stream_of(Path::new("/"), "link/file");
    assert_eq!(there.refuses(None, &stream).kind(), ErrorKind::Invalid);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn what_a_crash_left_of_receiving_is_gone_after_opening() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    write_tree(&here.data());
    let stream = ground.path("stream");
    here.send(&here.take("s1"), None, &stream);
    let whole = fs::read(&stream).unwrap();
    fs::write(ground.path("half"), &whole[..whole.len() / 2]).unwrap();
    let (before, Side { pool, provider, .. }) = (there.all(), there);
    drop(provider);
    // As it is just before the end, and half-way.
    for (name, from) in [("receive-a", "stream"), ("receive-b", "half")] {
        let inside = pool.join("tmp").join(name).join("in");
        fs::create_dir_all(&inside).unwrap();
        fs::write(inside.with_file_name("said"), "").unwrap();
        let mut program = std::process::Command::new("btrfs");
        program.args(words(&["receive", "-q", "-f"], &[&ground.path(from), &inside])).output().unwrap();
        assert!(inside.join("data/large").exists());
    }
    let again = provider_of(&pool, None);
    assert_eq!(fs::read_dir(pool.join("tmp")).unwrap().count(), 0);
    assert_eq!(block_on(again.get_provider_metrics()).unwrap().snapshots, 0);
    assert!(before.is_empty() && fs::read_dir(pool.join("trash")).unwrap().next().is_none());
}

fn provider_of(pool: &Path, backend: Option<LocalBackend>) -> LocalProvider {
    let clock = Arc::new(SystemClock::new());
    LocalProvider::open_with("local".parse().unwrap(), node_info(), pool, clock, backend).unwrap()
}

#[test]
fn only_subvolumes_are_sent_and_received() {
    let Some(ground) = Ground::new() else { return };
    let here = Side::new(&ground, "here");
    let (taken, stream, output) = (here.take("s1"), ground.path("stream"), ground.path("output"));
    here.send(&taken, None, &stream);
    let refuses = |provider: &LocalProvider, of: &SnapshotRef, to: &CreateSnapshot| {
        let sent = block_on(provider.send(of, None, File::create(&output).unwrap().into()));
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(fs::metadata(&output).unwrap().len(), 0);
        let received = block_on(provider.receive(to, None, File::open(&stream).unwrap().into()));
        assert_eq!(received.unwrap_err().kind(), ErrorKind::Unsupported);
    };
    let image =
        wish("image", 8, hivemind_storage::VolumeOptions::default().with_volume_mode(file_system("ext4")));
    let image = create(&here.provider, &image).volume;
    let of_image = snapshot(&here.provider, &image, "s1");
    let key = SnapshotKey::new(image.key.clone(), "s2".parse().unwrap());
    refuses(&here.provider, &of_image, &CreateSnapshot::new(token(), key, image));
    let (request, Side { pool, provider, .. }) = (here.wish("s2"), here);
    drop(provider);
    refuses(&provider_of(&pool, Some(LocalBackend::Images)), &taken, &request);
    refuses(&provider_of(&pool, Some(LocalBackend::Directories)), &taken, &request);
    let plain = ground.directory("plain");
    refuses(&provider_of(&plain, None), &taken, &request);
    assert_eq!(fs::read_dir(plain.join("tmp")).unwrap().count(), 0);
}
