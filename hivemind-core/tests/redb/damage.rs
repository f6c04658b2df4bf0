//! Damaged copies of a sound file: refused, or read as what they were; never as something else.

use std::path::Path;

use hivemind_core::testkit::SimRng;
use hivemind_core::{ErrorKind, RedbStore, StateStore, block_on};

use crate::{commit, rounds, shown};

const PAGE: usize = 4096;

/// A file with a base and a log, closed in order, and what it shows.
fn sound(path: &Path) -> Vec<String> {
    let store = RedbStore::open(path).unwrap();
    for n in 0..60 {
        commit(&store, &format!("k{}", n % 40), &format!("{n}-").repeat(60)).unwrap();
    }
    block_on(store.compact(hivemind_core::store::Revision::new(40))).unwrap();
    shown(&store, None).unwrap()
}

/// Whether the damaged copy was refused; panics if it shows something else than the truth.
fn refused(path: &Path, truth: &[String], what: &str) -> bool {
    match RedbStore::open(path) {
        Ok(store) => {
            assert_eq!(shown(&store, None).unwrap(), truth, "{what}");
            false
        }
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{what}: {e}");
            true
        }
    }
}

#[test]
fn a_torn_or_blank_page_is_refused_or_makes_no_difference() {
    let directory = tempfile::tempdir().unwrap();
    let (original, copy) = (directory.path().join("original"), directory.path().join("copy"));
    let truth = sound(&original);
    let bytes = std::fs::read(&original).unwrap();
    let mut found = 0;
    for page in 0..bytes.len() / PAGE {
        // The second half of the page is blank, or all of it, as after a torn write.
        for from in [0, PAGE / 2] {
            let mut damaged = bytes.clone();
            damaged[page * PAGE + from..(page + 1) * PAGE].fill(0);
            if damaged == bytes {
                continue;
            }
            std::fs::write(&copy, &damaged).unwrap();
            found += u32::from(refused(&copy, &truth, &format!("page {page} from {from}")));
        }
    }
    assert!(found > 5, "only {found} torn pages were found");
}

#[test]
fn a_file_cut_short_is_refused_or_makes_no_difference() {
    let directory = tempfile::tempdir().unwrap();
    let (original, copy) = (directory.path().join("original"), directory.path().join("copy"));
    let truth = sound(&original);
    let bytes = std::fs::read(&original).unwrap();
    for pages in 1..bytes.len() / PAGE {
        std::fs::write(&copy, &bytes[..pages * PAGE]).unwrap();
        refused(&copy, &truth, &format!("{pages} pages are left"));
    }
}

#[test]
fn flipped_bits_are_refused_or_make_no_difference() {
    let directory = tempfile::tempdir().unwrap();
    let (original, copy) = (directory.path().join("original"), directory.path().join("copy"));
    let truth = sound(&original);
    let bytes = std::fs::read(&original).unwrap();
    let used: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let (mut rng, mut found) = (SimRng::new(1), 0);
    for _ in 0..rounds(300) {
        let at = used[usize::try_from(rng.below(used.len() as u64)).unwrap()];
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << rng.below(8);
        std::fs::write(&copy, &damaged).unwrap();
        found += u32::from(refused(&copy, &truth, &format!("a bit of byte {at}")));
    }
    assert!(found > 30, "only {found} flipped bits were found");
}

#[test]
fn a_check_reads_everything_and_tells_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let truth = sound(&path);
    let bytes = std::fs::metadata(&path).unwrap().len();
    let checked = RedbStore::check(&path).unwrap();
    let numbers = (checked.oldest.as_u64(), checked.newest.as_u64(), checked.records);
    assert_eq!(numbers, (40, 60, truth.len()));
    assert_eq!(checked.bytes, bytes);
    // A check changes nothing that matters.
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(shown(&store, None).unwrap(), truth);
    assert_eq!(block_on(store.revision()).unwrap().as_u64(), 60);
}
