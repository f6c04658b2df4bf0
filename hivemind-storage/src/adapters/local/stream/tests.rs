//! Streams as a kernel writes them, and as somebody might who means harm.

use super::*;

const OWN: Uuid = [1; 16];
const SINCE: Uuid = [2; 16];

fn command(number: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let one = |(number, value): &(u16, &[u8])| {
        let length = u16::try_from(value.len()).unwrap();
        [&number.to_le_bytes()[..], &length.to_le_bytes(), value].concat()
    };
    let payload: Vec<u8> = attributes.iter().flat_map(one).collect();
    let length = u32::try_from(payload.len()).unwrap();
    [&length.to_le_bytes()[..], &number.to_le_bytes(), &[0; 4], &payload].concat()
}

fn head() -> Vec<u8> {
    [&MAGIC[..], &VERSION.to_le_bytes()].concat()
}

fn whole() -> Vec<u8> {
    command(command::SUBVOL, &[(attribute::PATH, b"data"), (attribute::UUID, &OWN), (2, &[0; 8])])
}

fn difference() -> Vec<u8> {
    let attributes: [(u16, &[u8]); 3] =
        [(attribute::PATH, b"data"), (attribute::UUID, &OWN), (attribute::CLONE_UUID, &SINCE)];
    command(command::SNAPSHOT, &attributes)
}

fn end() -> Vec<u8> {
    command(command::END, &[])
}

/// Reads all of it; what came through, or why not.
fn through(parts: &[Vec<u8>]) -> Result<Vec<u8>> {
    let bytes = [&[head()], parts].concat().concat();
    let mut stream = Stream::open(&*bytes)?;
    let mut seen = stream.bytes().to_vec();
    while stream.advance()? {
        seen.extend(stream.bytes());
    }
    assert_eq!(seen, bytes, "what is allowed goes through as it is");
    Ok(seen)
}

fn refused(parts: &[Vec<u8>]) -> (ErrorKind, String) {
    let error = through(parts).unwrap_err();
    (error.kind(), error.message().to_owned())
}

fn write(path: &[u8], data: &[u8]) -> Vec<u8> {
    command(15, &[(attribute::PATH, path), (18, &[0; 8]), (attribute::DATA, data)])
}

fn clone(from: &Uuid, path: &[u8]) -> Vec<u8> {
    let attributes: [(u16, &[u8]); 3] =
        [(attribute::PATH, b"file"), (attribute::CLONE_UUID, from), (attribute::CLONE_PATH, path)];
    command(command::CLONE, &attributes)
}

#[test]
fn what_a_kernel_says_goes_through_unchanged_and_is_counted() {
    let link = command(8, &[(attribute::PATH, b"dir/link"), (attribute::PATH_LINK, b"../../etc")]);
    let root = command(command::UTIMES, &[(attribute::PATH, b"")]);
    let whiteout =
        [(attribute::PATH, &b"gone"[..]), (attribute::MODE, &0o020_000u64.to_le_bytes()), (8, &[0; 8])];
    let whiteout = command(command::MKNOD, &whiteout);
    through(&[whole(), write(b"dir/file", b"12345"), link, root, whiteout, end()]).unwrap();
    through(&[difference(), clone(&OWN, b"a"), clone(&SINCE, b"b/c"), end()]).unwrap();

    let bytes = [head(), difference(), write(b"f", &[0; 100]), clone(&SINCE, b"b/c"), end()].concat();
    let mut stream = Stream::open(&*bytes).unwrap();
    let expected = Beginning { name: "data".to_owned(), identity: OWN, since: Some(SINCE) };
    assert_eq!(*stream.beginning(), expected);
    assert!(stream.advance().unwrap() && stream.taken().is_none());
    assert!(stream.advance().unwrap());
    assert_eq!((stream.written(), stream.taken()), (100, Some(Path::new("b/c"))));
}

#[test]
fn a_stream_that_is_cut_off_anywhere_is_no_stream() {
    let bytes = [head(), whole(), write(b"file", b"content"), end()].concat();
    let read_all = |bytes: &[u8]| {
        let mut stream = Stream::open(bytes)?;
        while stream.advance()? {}
        Ok::<_, Error>(())
    };
    read_all(&bytes).unwrap();
    for length in 0..bytes.len() {
        let error = read_all(&bytes[..length]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "after {length} bytes: {error}");
        assert!(!error.message().contains("content"));
    }
}

#[test]
fn garbage_is_refused_wherever_it_is() {
    assert_eq!(Stream::open(&[0xa5; 4096][..]).unwrap_err().kind(), ErrorKind::Corrupt);
    let newer = [&MAGIC[..], &2u32.to_le_bytes(), &whole()].concat();
    assert_eq!(Stream::open(&*newer).unwrap_err().kind(), ErrorKind::Unsupported);
    let (kind, _) = refused(&[write(b"file", b"")]);
    assert_eq!(kind, ErrorKind::Corrupt, "it does not begin with a snapshot");
    let long = [&u32::MAX.to_le_bytes()[..], &[0; 6]].concat();
    for bad in [long, vec![0xff; 300], command(15, &[(15, b"a"), (15, b"b")]), command(4711, &[])] {
        assert_eq!(refused(&[whole(), bad, end()]).0, ErrorKind::Corrupt);
    }
    let short = command(command::SUBVOL, &[(attribute::PATH, b"data"), (attribute::UUID, b"short")]);
    assert_eq!(refused(&[short, end()]).0, ErrorKind::Corrupt);
}

#[test]
fn one_stream_makes_one_snapshot_with_what_is_in_its_files() {
    for second in [vec![whole()], vec![difference()], vec![end(), head(), whole()], vec![end(), end()]] {
        let parts = [vec![whole()], second, vec![end()]].concat();
        assert_eq!(refused(&parts).0, ErrorKind::Invalid);
    }
    assert_eq!(refused(&[whole(), command(command::UPDATE_EXTENT, &[]), end()]).0, ErrorKind::Invalid);
}

#[test]
fn no_path_leads_out_of_the_snapshot() {
    for path in [&b".."[..], b"../a", b"a/../b", b"/etc/passwd", b"a//b", b".", b"a/", b"a\0b"] {
        assert_eq!(refused(&[whole(), write(path, b""), end()]).0, ErrorKind::Invalid);
        let moved = command(9, &[(attribute::PATH, b"a"), (attribute::PATH_TO, path)]);
        assert_eq!(refused(&[whole(), moved, end()]).0, ErrorKind::Invalid);
        let linked = command(command::LINK, &[(attribute::PATH, b"a"), (attribute::PATH_LINK, path)]);
        assert_eq!(refused(&[whole(), linked, end()]).0, ErrorKind::Invalid);
        for from in [OWN, SINCE] {
            assert_eq!(refused(&[difference(), clone(&from, path), end()]).0, ErrorKind::Invalid);
        }
        let named = command(command::SUBVOL, &[(attribute::PATH, path), (attribute::UUID, &OWN)]);
        assert_eq!(refused(&[named, end()]).0, ErrorKind::Invalid);
    }
    for name in [&b"a/b"[..], b""] {
        let named = command(command::SUBVOL, &[(attribute::PATH, name), (attribute::UUID, &OWN)]);
        assert_eq!(refused(&[named, end()]).0, ErrorKind::Invalid);
    }
}

#[test]
fn nothing_is_taken_of_what_the_stream_is_no_difference_to() {
    assert_eq!(refused(&[whole(), clone(&SINCE, b"file"), end()]).0, ErrorKind::Invalid);
    assert_eq!(refused(&[difference(), clone(&[3; 16], b"file"), end()]).0, ErrorKind::Invalid);
}

#[test]
fn devices_are_refused() {
    for (mode, device) in [(0o060_000u64, 0u64), (0o060_000, 0x800), (0o020_000, 0x103)] {
        let attributes: [(u16, &[u8]); 3] = [
            (attribute::PATH, b"sda"),
            (attribute::MODE, &mode.to_le_bytes()),
            (attribute::RDEV, &device.to_le_bytes()),
        ];
        assert_eq!(refused(&[whole(), command(command::MKNOD, &attributes), end()]).0, ErrorKind::Invalid);
    }
    assert_eq!(refused(&[whole(), command(command::MKNOD, &[]), end()]).0, ErrorKind::Invalid);
}
