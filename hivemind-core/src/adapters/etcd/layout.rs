//! Where things are in etcd: one namespace, and the keys in it. No I/O, no clock, no async.
//!
//! ```text
//! PREFIX:clock           put by every transaction, so its mod_revision is the newest revision
//! PREFIX:data/KEY        the records
//! PREFIX:lease/election  who is alive, by etcd's leases
//! ```
//!
//! A prefix holds no `:`, so no namespace ever lies within another, whatever their names. The leases sort after the
//! data, so that one range covers clock and data alone.

use crate::store::{Key, Prefix};
use crate::{Error, ErrorKind, Result};

/// The version of this layout, which begins the clock's value.
const VERSION: &str = "1";

/// The keys of one namespace.
#[derive(Debug, Clone)]
pub(super) struct Namespace {
    clock: Vec<u8>,
    data: Vec<u8>,
    lease: Vec<u8>,
}

/// A range of etcd's keys: one key, or all from `start` to before `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: Vec<u8>,
    pub(super) end: Option<Vec<u8>>,
}

impl Namespace {
    pub(super) fn new(prefix: &str) -> Self {
        let below = |what| format!("{prefix}:{what}").into_bytes();
        Self { clock: below("clock"), data: below("data/"), lease: below("lease/") }
    }

    pub(super) fn clock(&self) -> &[u8] {
        &self.clock
    }

    /// The key whose lease shows that a leader of `election` is alive.
    pub(super) fn election(&self, election: &str) -> Vec<u8> {
        [&self.lease, election.as_bytes()].concat()
    }

    /// Where the record of `key` is.
    pub(super) fn record(&self, key: &Key) -> Vec<u8> {
        [&self.data, key.as_bytes()].concat()
    }

    /// The key of the record that is at `found`, if it is one.
    pub(super) fn key(&self, found: &[u8]) -> Result<Option<Key>> {
        let Some(rest) = found.strip_prefix(&self.data[..]) else { return Ok(None) };
        Key::from_bytes(rest).map(Some).map_err(|e| {
            let message = format!("{} is no key of ours: {e}: who wrote it?", found.escape_ascii());
            Error::new(ErrorKind::Corrupt, "etcd", message).with_source(e)
        })
    }

    /// The records below `prefix`, those after `after` if it is given.
    pub(super) fn records(&self, prefix: &Prefix, after: Option<&Key>) -> Range {
        let below = [&self.data, prefix.as_bytes()].concat();
        let end = after_slash(&below);
        // The key right after another is that key and a zero byte.
        let start = after.map(|after| [&self.record(after)[..], &[0]].concat());
        match start.filter(|start| *start > below) {
            // Nothing can be there; but the revision must be checked all the same, so read a key that never is.
            Some(start) if start >= end => Range { start: below, end: None },
            Some(start) => Range { start, end: Some(end) },
            None => Range { start: below, end: Some(end) },
        }
    }

    /// The clock and all records.
    pub(super) fn everything(&self) -> Range {
        Range { start: self.clock.clone(), end: Some(after_slash(&self.data)) }
    }
}

/// The end of the range of what begins with `below`, which ends in `/`.
fn after_slash(below: &[u8]) -> Vec<u8> {
    let mut end = below.to_vec();
    end.pop();
    end.push(b'/' + 1);
    end
}

/// What a transaction that asks for `deletes` deletes puts into the clock.
///
/// A watch needs the number: etcd may have compacted away that a key was deleted, and then does not say so.
pub(super) fn tick(deletes: usize) -> Vec<u8> {
    format!("{VERSION} {deletes}").into_bytes()
}

/// How many deletes the transaction of this clock value asked for.
pub(super) fn deletes_of(tick: &[u8]) -> Result<usize> {
    let text = std::str::from_utf8(tick).ok();
    let deletes = text.and_then(|text| text.strip_prefix(VERSION)?.strip_prefix(' ')?.parse().ok());
    deletes.ok_or_else(|| {
        let message = format!(
            "the clock says {:?}, which is no layout this version knows: use a newer one, or another prefix",
            tick.escape_ascii().to_string()
        );
        Error::new(ErrorKind::Unsupported, "etcd", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::from_bytes(text.as_bytes()).unwrap()
    }

    fn holds(range: &Range, found: &[u8]) -> bool {
        match &range.end {
            Some(end) => *range.start <= *found && *found < **end,
            None => range.start == found,
        }
    }

    #[test]
    fn namespaces_never_overlap() {
        let names = ["a", "a/data", "a0", "a-", "a.", "b", "a/clock", "a;"];
        for outer in names {
            let everything = Namespace::new(outer).everything();
            for inner in names {
                let space = Namespace::new(inner);
                for found in [space.clock().to_vec(), space.record(&key("k")), space.record(&key("z/z"))] {
                    assert_eq!(holds(&everything, &found), outer == inner, "{outer} and {inner}");
                }
                assert!(!holds(&everything, &space.election("e")), "{outer} and the leases of {inner}");
            }
        }
    }

    #[test]
    fn a_range_is_what_the_prefix_covers() {
        let space = Namespace::new("a");
        let prefix = Prefix::new(["p"]).unwrap();
        for (after, covered) in [(None, "bd"), (Some("a"), "bd"), (Some("p"), "bd"), (Some("p/b"), "d")] {
            let range = space.records(&prefix, after.map(key).as_ref());
            let found = ["p/b", "p/d", "p", "pp/x", "p0", "o/x"].map(key);
            let found = found.iter().filter(|key| holds(&range, &space.record(key)));
            let last: String = found.map(|key| String::from_utf8_lossy(key.last()).into_owned()).collect();
            assert_eq!(last, covered, "{after:?}");
        }
        for after in ["p0", "q", "z/z"] {
            assert_eq!(space.records(&prefix, Some(&key(after))).end, None, "{after}");
        }
    }

    #[test]
    fn a_tick_tells_its_deletes() {
        assert_eq!(deletes_of(&tick(127)).unwrap(), 127);
        for strange in [&b""[..], b"1", b"2 0", b"1 x", b"\xff"] {
            assert_eq!(deletes_of(strange).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }
}
