//! What is received from somebody who sends something else than he should.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use hivemind_core::{ErrorKind, block_on};
use hivemind_storage::{SnapshotRef, VolumeHandle, VolumeRef};

use crate::ground::{Ground, create, run, wish};
use crate::side::{Side, words, write_tree};
use crate::subvolumes::{data, fill, plain, snapshot};

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
