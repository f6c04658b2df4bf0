use bytes::Bytes;
use hivemind_core::store::{Key, Revision};
use hivemind_core::{ErrorKind, Result, SecretBytes};
use proptest::prelude::*;

use super::*;
use crate::{Compression, CompressionLevel};

fn seal(zstd: bool, encrypted: bool, binding: &str) -> Seal {
    let compression = if zstd { Compression::Zstd } else { Compression::None };
    let level = if zstd { CompressionLevel::Fast } else { CompressionLevel::None };
    let key = encrypted.then(|| SecretBytes::new(vec![7; 32]));
    Seal::new(compression, level, key, binding.as_bytes().to_vec()).unwrap()
}

/// The kinds of seal that this build can make.
fn kinds() -> Vec<(bool, bool)> {
    let all = [(false, false), (true, false), (false, true), (true, true)];
    let can = |&(zstd, encrypted): &(bool, bool)| {
        (!zstd || cfg!(feature = "zstd")) && (!encrypted || cfg!(feature = "encryption"))
    };
    all.into_iter().filter(can).collect()
}

fn encode(changes: &[Change], seal: Seal) -> Vec<u8> {
    let mut count = 0_u8;
    let nonces = Box::new(move || {
        count = count.wrapping_add(1);
        [count; 24]
    });
    let mut encoder = Encoder::new(seal, nonces);
    let mut out = Vec::new();
    for change in changes {
        out.extend(encoder.push(change).unwrap().into_iter().flatten());
    }
    out.extend(encoder.finish().unwrap().0);
    out
}

fn decode(bytes: &[u8], seal: Seal, piece: usize) -> Result<Vec<Change>> {
    let mut decoder = Decoder::new(seal);
    let mut changes = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.feed(piece);
        while let Some(more) = decoder.next_block()? {
            changes.extend(more);
        }
    }
    decoder.finish()?;
    Ok(changes)
}

fn put(key: &str, value: &[u8], revision: u64) -> Change {
    let key = Key::from_bytes(key.as_bytes()).unwrap();
    Change::Put { key, value: Bytes::copy_from_slice(value), mod_revision: Revision::new(revision) }
}

fn sample() -> Vec<Change> {
    let gone = Change::Delete(Key::new(["c", "gone"]).unwrap());
    vec![put("a", b"", 1), put("b/x", &[0, 255, 10], 2), gone, put("d", b"the last one", u64::MAX)]
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let segment = prop::collection::vec(any::<u8>().prop_map(|b| if b == b'/' { 0 } else { b }), 1..4);
    let key = prop::collection::vec(segment, 1..4).prop_map(|segments| Key::new(segments).unwrap());
    let value = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 60_000..140_000_usize).prop_map(|(b, n)| vec![b; n]),
    ];
    let what = prop::option::of((value, any::<u64>()));
    prop::collection::btree_map(key, what, 0..20).prop_map(|all| {
        let change = |(key, what): (Key, Option<(Vec<u8>, u64)>)| match what {
            None => Change::Delete(key),
            Some((value, revision)) => {
                Change::Put { key, value: value.into(), mod_revision: Revision::new(revision) }
            }
        };
        all.into_iter().map(change).collect()
    })
}

#[test]
fn version_1_is_read_and_written_as_ever() {
    let golden = include_bytes!("../../tests/data/v1-plain.backup");
    assert_eq!(encode(&sample(), seal(false, false, "b")), golden);
    assert_eq!(decode(golden, seal(false, false, "b"), 7).unwrap(), sample());
}

#[cfg(feature = "encryption")]
#[test]
fn encrypted_version_1_is_read_and_written_as_ever() {
    let golden = include_bytes!("../../tests/data/v1-encrypted.backup");
    assert_eq!(encode(&sample(), seal(false, true, "b")), golden);
    assert_eq!(decode(golden, seal(false, true, "b"), 7).unwrap(), sample());
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    // A decoder of Zstandard ignores some bits; there, the checksum in the metadata or the tag tells.
    for (zstd, encrypted) in kinds().into_iter().filter(|kind| *kind != (true, false)) {
        let good = encode(&sample(), seal(zstd, encrypted, "b"));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let error = decode(&bad, seal(zstd, encrypted, "b"), usize::MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(decode(&good[..cut], seal(zstd, encrypted, "b"), usize::MAX).is_err(), "cut at {cut}");
        }
        let longer = [&good[..], b"x"].concat();
        assert!(decode(&longer, seal(zstd, encrypted, "b"), usize::MAX).is_err());
    }
}

/// The frames of a backup without its header.
#[cfg(feature = "encryption")]
fn frames(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut frames) = (&bytes[12..], Vec::new());
    while !rest.is_empty() {
        let len = 9 + u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        frames.push(&rest[..len]);
        rest = &rest[len..];
    }
    frames
}

#[cfg(feature = "encryption")]
#[test]
fn frames_cannot_be_moved_dropped_or_exchanged() {
    let large: Vec<_> = (0..4).map(|n| put(&format!("k{n}"), &[n; 70_000], 1)).collect();
    let good = encode(&large, seal(false, true, "b"));
    let all = frames(&good);
    assert_eq!(all.len(), 5);
    let with = |order: &[usize]| {
        let body: Vec<u8> = order.iter().flat_map(|&n| all[n].to_vec()).collect();
        decode(&[&good[..12], &body].concat(), seal(false, true, "b"), usize::MAX)
    };
    assert_eq!(with(&[0, 1, 2, 3, 4]).unwrap(), large);
    for order in [&[1, 0, 2, 3, 4][..], &[0, 1, 2, 4], &[0, 1, 2, 3, 3, 4], &[4], &[0, 1, 2, 3]] {
        assert!(with(order).is_err(), "{order:?}");
    }
    let error = decode(&good, seal(false, true, "another"), usize::MAX).unwrap_err();
    assert_eq!(error.detail::<Damage>(), Some(&Damage::NotAuthentic(0)));
}

#[test]
fn claimed_sizes_are_bounded() {
    let mut bytes = encode(&[], seal(false, false, "b"));
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = decode(&bytes, seal(false, false, "b"), usize::MAX).unwrap_err();
    assert_eq!(error.detail::<Damage>(), Some(&Damage::BadHead(0)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_written_is_read(changes in changes(), piece in 1..100_000_usize) {
        for (zstd, encrypted) in kinds() {
            let bytes = encode(&changes, seal(zstd, encrypted, "b"));
            prop_assert_eq!(&decode(&bytes, seal(zstd, encrypted, "b"), piece).unwrap(), &changes);
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), begun: bool) {
        for (zstd, encrypted) in kinds() {
            let mut all = if begun { encode(&[], seal(zstd, encrypted, "b"))[..12].to_vec() } else { Vec::new() };
            all.extend(&bytes);
            prop_assert!(decode(&all, seal(zstd, encrypted, "b"), 64).is_err());
        }
    }

    #[test]
    fn damage_anywhere_never_panics(changes in changes(), at: prop::sample::Index, with: u8) {
        for (zstd, encrypted) in kinds() {
            let mut bytes = encode(&changes, seal(zstd, encrypted, "b"));
            let at = at.index(bytes.len());
            bytes[at] ^= with;
            if let Ok(read) = decode(&bytes, seal(zstd, encrypted, "b"), 5000) {
                prop_assert_eq!(&read, &changes);
            }
        }
    }
}
