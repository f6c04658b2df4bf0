//! What may come, and what is told of it, without a file system that has subvolumes.

use std::os::unix::process::ExitStatusExt as _;

use hivemind_core::{Generation, TenantRef};

use super::*;
use crate::VolumeKey;

fn key(name: &str) -> SnapshotKey {
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    SnapshotKey::new(VolumeKey::new(tenant, "data".parse().unwrap()), name.parse().unwrap())
}

fn about(received: Option<Uuid>) -> About {
    About { read_only: true, uuid: [7; 16], source: [0; 16], received }
}

fn expected(directory: &Path, since: Option<Uuid>) -> Expected {
    let since = since.map(|identity| {
        let root = File::open(directory).unwrap();
        Since::new(key("s1"), root, about(Some(identity))).unwrap()
    });
    Expected { size: ByteSize::from_mib(8), since, directory: directory.join("fresh") }
}

fn beginning(since: Option<Uuid>) -> Beginning {
    Beginning { name: "data".to_owned(), identity: [1; 16], since }
}

#[test]
fn a_difference_is_taken_only_to_what_it_is_one_to() {
    let here = tempfile::tempdir().unwrap();
    let (one, other) = (Some([2; 16]), Some([3; 16]));
    for (wanted, found, fits) in
        [(None, None, true), (one, one, true), (None, one, false), (one, None, false), (one, other, false)]
    {
        let checked = expected(here.path(), wanted).check(&beginning(found));
        assert_eq!(checked.map_err(|e| e.kind()), if fits { Ok(()) } else { Err(ErrorKind::Invalid) });
    }
    let made_here = Since::new(key("s1"), File::open(here.path()).unwrap(), about(None));
    assert_eq!(made_here.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn nothing_is_taken_through_symbolic_links_of_the_snapshot() {
    let here = tempfile::tempdir().unwrap();
    let inner = here.path().join("snapshot");
    fs::create_dir_all(inner.join("dir")).unwrap();
    fs::write(inner.join("dir/file"), "").unwrap();
    fs::write(here.path().join("secret"), "").unwrap();
    std::os::unix::fs::symlink("..", inner.join("out")).unwrap();
    std::os::unix::fs::symlink("dir/file", inner.join("link")).unwrap();
    let expected = expected(&inner, Some([2; 16]));
    expected.check_taken(Path::new("dir/file")).unwrap();
    for path in ["out/secret", "link", "none", "../secret"] {
        assert_eq!(expected.check_taken(Path::new(path)).unwrap_err().kind(), ErrorKind::Invalid, "{path}");
    }
}

#[test]
fn why_the_program_failed_is_told_without_what_it_said() {
    let here = tempfile::tempdir().unwrap();
    let arrival = Arrival::begin(expected(here.path(), None), beginning(None)).unwrap();
    for (said, kind) in [
        ("ERROR: writing to data/secret failed: Disk quota exceeded\n", ErrorKind::Exhausted),
        ("ERROR: mkfile secret failed: No space left on device\n", ErrorKind::Exhausted),
        ("ERROR: chown secret failed: Operation not permitted\n", ErrorKind::Denied),
        ("ERROR: crc32 mismatch in command\n", ErrorKind::Corrupt),
        ("ERROR: lsetxattr data user.x=secret failed: Invalid argument\n", ErrorKind::Unavailable),
        ("", ErrorKind::Unavailable),
    ] {
        fs::write(here.path().join("fresh/said"), said).unwrap();
        let failure = arrival.failure(ExitStatus::from_raw(1 << 8));
        assert_eq!(failure.kind(), kind, "{said}");
        assert!(!failure.to_string().contains("secret"), "{failure}");
    }
    drop(arrival);
    assert_eq!(fs::read_dir(here.path()).unwrap().count(), 0);
}
