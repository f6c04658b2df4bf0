//! Keys of the state store: segments joined by `/`.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The longest key, in bytes, in every adapter.
pub const MAX_KEY_LEN: usize = 1024;

const SEPARATOR: u8 = b'/';

/// A key: one or more non-empty segments of any bytes but `/`, at most [`MAX_KEY_LEN`] bytes in all.
///
/// Keys are ordered by their bytes. Segments are usually text, and may be binary. Cheap to clone.
///
/// ```
/// use hivemind_core::store::Key;
///
/// let key = Key::new(["tenancy", "tenant", "acme"])?;
/// assert_eq!(key.to_string(), "tenancy/tenant/acme");
/// assert_eq!(key.last(), b"acme");
/// assert!(Key::new(["a/b"]).is_err());
/// # Ok::<(), hivemind_core::store::InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Key(Arc<[u8]>);

/// Why bytes are not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// There is no segment at all, where a key needs one.
    #[error("a key needs at least one segment")]
    NoSegment,
    /// A segment is empty.
    #[error("segment {index} of a key is empty")]
    EmptySegment {
        /// Which segment, from 0.
        index: usize,
    },
    /// A segment holds the separator.
    #[error("segment {index} of a key holds '/', which separates segments")]
    Separator {
        /// Which segment, from 0.
        index: usize,
    },
    /// The whole is too long.
    #[error("a key of {len} bytes is longer than the {MAX_KEY_LEN} allowed")]
    TooLong {
        /// The length in bytes.
        len: usize,
    },
}

/// Room for most keys.
const USUAL: usize = 128;

/// A key being made: most fit, so that only the key itself is allocated.
struct Joined {
    usual: [u8; USUAL],
    len: usize,
    /// All of it, once it is longer.
    longer: Vec<u8>,
}

impl Joined {
    fn new() -> Self {
        Self { usual: [0; USUAL], len: 0, longer: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        match self.usual.get_mut(self.len..end) {
            Some(room) => room.copy_from_slice(bytes),
            None => {
                if self.longer.is_empty() {
                    self.longer.extend_from_slice(self.usual.get(..self.len).unwrap_or_default());
                }
                self.longer.extend_from_slice(bytes);
            }
        }
        self.len = end;
    }

    fn as_bytes(&self) -> &[u8] {
        self.usual.get(..self.len).unwrap_or(&self.longer)
    }

    /// Writes the segments behind what is there, which ends in a separator if it is not empty.
    fn join<S: AsRef<[u8]>>(mut self, segments: impl IntoIterator<Item = S>) -> Result<Self, InvalidKey> {
        for (index, segment) in segments.into_iter().enumerate() {
            let segment = segment.as_ref();
            if segment.is_empty() {
                return Err(InvalidKey::EmptySegment { index });
            }
            if segment.contains(&SEPARATOR) {
                return Err(InvalidKey::Separator { index });
            }
            if index > 0 {
                self.push(&[SEPARATOR]);
            }
            self.push(segment);
            if self.len > MAX_KEY_LEN {
                return Err(InvalidKey::TooLong { len: self.len });
            }
        }
        Ok(self)
    }
}

impl Key {
    /// The key of `segments`.
    ///
    /// # Errors
    /// [`InvalidKey`] names the segment that is wrong.
    pub fn new<S: AsRef<[u8]>>(segments: impl IntoIterator<Item = S>) -> Result<Self, InvalidKey> {
        let joined = Joined::new().join(segments)?;
        if joined.len == 0 {
            return Err(InvalidKey::NoSegment);
        }
        Ok(Self(joined.as_bytes().into()))
    }

    /// The key that [`as_bytes`](Self::as_bytes) printed.
    ///
    /// # Errors
    /// [`InvalidKey`] names the segment that is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        Self::new(bytes.split(|&b| b == SEPARATOR))
    }

    /// The segments joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The segments, in order.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == SEPARATOR)
    }

    /// The last segment.
    pub fn last(&self) -> &[u8] {
        self.segments().next_back().unwrap_or_default()
    }
}

impl TryFrom<Vec<u8>> for Key {
    type Error = InvalidKey;
    fn try_from(bytes: Vec<u8>) -> Result<Self, InvalidKey> {
        Self::from_bytes(&bytes)
    }
}

impl From<Key> for Vec<u8> {
    fn from(key: Key) -> Self {
        key.0.to_vec()
    }
}

fn escaped(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}", bytes.escape_ascii())
}

impl fmt::Display for Key {
    /// Bytes outside printable ASCII are escaped as in Rust string literals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escaped(&self.0, f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// Every key that begins with the same whole segments; [`Prefix::ROOT`] is every key there is.
///
/// `tenancy/tenant` covers `tenancy/tenant/acme` but neither `tenancy/tenants` nor the key `tenancy/tenant`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(Bytes);

impl Prefix {
    /// Every key.
    pub const ROOT: Self = Self(Bytes::new());

    /// The keys below `segments`; none at all is the root.
    ///
    /// # Errors
    /// [`InvalidKey`] names the segment that is wrong.
    pub fn new<S: AsRef<[u8]>>(segments: impl IntoIterator<Item = S>) -> Result<Self, InvalidKey> {
        let mut joined = Joined::new().join(segments)?;
        if joined.len > 0 {
            joined.push(&[SEPARATOR]);
        }
        Ok(Self(Bytes::copy_from_slice(joined.as_bytes())))
    }

    /// The bytes every covered key begins with: empty, or ending in `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key of `rest` below this prefix.
    ///
    /// # Errors
    /// [`InvalidKey`] names the segment of `rest` that is wrong.
    pub fn key<S: AsRef<[u8]>>(&self, rest: impl IntoIterator<Item = S>) -> Result<Key, InvalidKey> {
        let mut joined = Joined::new();
        joined.push(&self.0);
        let joined = joined.join(rest)?;
        if joined.len == self.0.len() {
            return Err(InvalidKey::NoSegment);
        }
        Ok(Key(joined.as_bytes().into()))
    }

    /// Whether `key` is below this prefix.
    pub fn covers(&self, key: &Key) -> bool {
        key.0.starts_with(&self.0)
    }

    /// The covered keys as a range of an ordered map, in byte order.
    pub fn range(&self) -> (Bound<Key>, Bound<Key>) {
        let Some((_, stem)) = self.0.split_last() else {
            return (Bound::Unbounded, Bound::Unbounded);
        };
        // The separator is '/', so everything below the prefix sorts before the stem followed by '0'.
        let mut end = stem.to_vec();
        end.push(SEPARATOR + 1);
        (Bound::Excluded(Key(self.as_bytes().into())), Bound::Excluded(Key(end.into())))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escaped(&self.0, f)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_bad_segments() {
        assert_eq!(Key::new([""; 0]), Err(InvalidKey::NoSegment));
        assert_eq!(Key::new(["a", ""]), Err(InvalidKey::EmptySegment { index: 1 }));
        assert_eq!(Key::new(["a", "b/c"]), Err(InvalidKey::Separator { index: 1 }));
        assert_eq!(Key::from_bytes(b"a//b"), Err(InvalidKey::EmptySegment { index: 1 }));
        assert!(Key::new([vec![b'x'; MAX_KEY_LEN]]).is_ok());
        assert!(matches!(Key::new([vec![b'x'; MAX_KEY_LEN + 1]]), Err(InvalidKey::TooLong { .. })));
        assert_eq!(Prefix::ROOT.key([""; 0]), Err(InvalidKey::NoSegment));
    }

    #[test]
    fn a_prefix_covers_whole_segments_only() {
        let prefix = Prefix::new(["a", "b"]).unwrap();
        assert!(prefix.covers(&Key::new(["a", "b", "c"]).unwrap()));
        assert!(!prefix.covers(&Key::new(["a", "bc"]).unwrap()));
        assert!(!prefix.covers(&Key::new(["a", "b"]).unwrap()));
        assert!(Prefix::ROOT.covers(&Key::new(["a"]).unwrap()));
    }

    fn segment() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(b'.'), Just(b'0'), Just(0u8), Just(255u8), Just(b'a')], 1..3)
    }

    proptest! {
        #[test]
        fn a_range_holds_exactly_the_covered_keys(
            keys in prop::collection::btree_set(prop::collection::vec(segment(), 1..4), 0..40),
            prefix in prop::collection::vec(segment(), 0..3),
        ) {
            let keys: BTreeSet<Key> = keys.into_iter().map(|k| Key::new(k).unwrap()).collect();
            let prefix = Prefix::new(prefix).unwrap();
            let ranged: Vec<_> = keys.range(prefix.range()).collect();
            let covered: Vec<_> = keys.iter().filter(|key| prefix.covers(key)).collect();
            prop_assert_eq!(ranged, covered);
        }

        #[test]
        fn segments_of_every_length_are_joined(lengths in prop::collection::vec(1usize..200, 1..6), at in 0usize..6) {
            let segments: Vec<Vec<u8>> = lengths.iter().map(|len| vec![b'x'; *len]).collect();
            let joined = segments.join(&SEPARATOR);
            let (above, below) = segments.split_at(at.min(segments.len() - 1));
            let keys = [Key::new(&segments), Prefix::new(above).and_then(|prefix| prefix.key(below))];
            for key in keys {
                match key {
                    Ok(key) => prop_assert_eq!(key.as_bytes(), joined.as_slice()),
                    Err(error) => {
                        prop_assert!(joined.len() > MAX_KEY_LEN);
                        prop_assert_eq!(error, InvalidKey::TooLong { len: joined.len() });
                    }
                }
            }
        }

        #[test]
        fn bytes_round_trip(segments in prop::collection::vec(segment(), 1..5)) {
            let key = Key::new(&segments).unwrap();
            prop_assert_eq!(&Key::from_bytes(key.as_bytes()).unwrap(), &key);
            prop_assert_eq!(key.segments().map(<[u8]>::to_vec).collect::<Vec<_>>(), segments);
        }
    }
}
