//! A hash table of names whose look-up reads one cache line. No I/O, no clock, no async.
//!
//! A line holds the name, what is kept under it, and a part of the hash: it is compared whole, so names of one hash are
//! never taken for each other. The hash is keyed at random, for names are chosen by whoever asks. The table is cut into
//! parts that copies share: a change copies one part, and readers of the table before are not disturbed.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::hint::black_box;
use std::sync::Arc;

use foldhash::quality::RandomState;

/// So many bytes of a name lie within its line.
const INLINE: usize = 30;

/// A name, beside what is kept under it if it is short.
#[derive(Debug, Clone)]
enum Text {
    Short { len: u8, bytes: [u8; INLINE] },
    Long(Arc<str>),
}

impl Text {
    fn new(name: &str) -> Self {
        let mut bytes = [0; INLINE];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(name.as_bytes());
                Self::Short { len, bytes }
            }
            _ => Self::Long(name.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Self::Long(text) => text.as_bytes(),
        }
    }

    /// Whether it is `name`. Names are short: mostly that is two comparisons, of the first bytes and of the last.
    fn is(&self, name: &[u8]) -> bool {
        let here = self.as_bytes();
        if here.len() != name.len() {
            return false;
        }
        match name.len() {
            8..=16 => {
                here.first_chunk::<8>() == name.first_chunk() && here.last_chunk::<8>() == name.last_chunk()
            }
            4..=7 => {
                here.first_chunk::<4>() == name.first_chunk() && here.last_chunk::<4>() == name.last_chunk()
            }
            _ => here == name,
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// One name in its space, and what is kept under it. On a cache line of its own.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Line<S, T> {
    tag: u32,
    space: S,
    name: Text,
    value: T,
}

/// The hash and the new value of each name.
type Changes<'a, S, T> = BTreeMap<(S, &'a str), (u64, Option<T>)>;

type Part<S, T> = Arc<[Option<Line<S, T>>]>;

/// How names are hashed.
#[derive(Debug, Clone)]
pub(in super::super) struct Keyed {
    state: RandomState,
    /// All ones; fewer in tests, so that hashes collide.
    mask: u64,
}

impl Keyed {
    pub(in super::super) fn new() -> Self {
        Self { state: RandomState::default(), mask: u64::MAX }
    }

    /// Of each hash only the bits of `mask`.
    #[cfg(test)]
    pub(in super::super) fn weak(mask: u64) -> Self {
        Self { mask, ..Self::new() }
    }

    fn of(&self, space: impl Hash, name: &str) -> u64 {
        let mut hasher = self.state.build_hasher();
        space.hash(&mut hasher);
        hasher.write(name.as_bytes());
        hasher.finish() & self.mask
    }
}

/// Where a name is, if it is anywhere. No line was looked at yet.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Seek<'a, 'n, S, T> {
    part: &'a [Option<Line<S, T>>],
    hash: u64,
    space: S,
    name: &'n str,
}

impl<'a, S: Copy + Eq, T> Seek<'a, '_, S, T> {
    /// Has the line brought into the cache, and does not wait for it: several of them come at once.
    pub(in super::super) fn fetch(self) -> Self {
        let line = self.part.get(place_of(self.hash, self.part.len()));
        black_box(line.is_some_and(Option::is_some));
        self
    }

    pub(in super::super) fn get(self) -> Option<&'a T> {
        // Most often it is at its place, and nothing else is looked at.
        let first = self.part.get(place_of(self.hash, self.part.len()))?.as_ref()?;
        if self.is_at(first) { Some(&first.value) } else { self.find() }
    }

    fn is_at(&self, line: &Line<S, T>) -> bool {
        line.tag == tag(self.hash) && line.space == self.space && line.name.is(self.name.as_bytes())
    }

    #[cold]
    fn find(&self) -> Option<&'a T> {
        for line in places(self.part, self.hash) {
            // After an empty place there is nothing more of this hash.
            let line = line.as_ref()?;
            if self.is_at(line) {
                return Some(&line.value);
            }
        }
        None
    }
}

/// Values by names, each name in a space of its own.
#[derive(Debug, Clone)]
pub(in super::super) struct Table<S, T> {
    keyed: Keyed,
    /// A power of two, about the square root of the number of names.
    parts: Vec<Part<S, T>>,
    len: usize,
}

fn tag(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or_default()
}

fn part_of(hash: u64, parts: usize) -> usize {
    usize::try_from(hash >> 40).unwrap_or_default() & parts.saturating_sub(1)
}

fn place_of(hash: u64, len: usize) -> usize {
    let scaled = (hash & u64::from(u32::MAX)).saturating_mul(u64::try_from(len).unwrap_or_default()) >> 32;
    usize::try_from(scaled).unwrap_or_default()
}

/// The places of a part from that of `hash` on, and around.
fn places<S, T>(part: &[Option<Line<S, T>>], hash: u64) -> impl Iterator<Item = &Option<Line<S, T>>> {
    let (before, after) = part.split_at_checked(place_of(hash, part.len())).unwrap_or((part, &[]));
    after.iter().chain(before)
}

/// As many parts as fit so many names: a look-up finds the part in a list that stays in the cache, and a change copies
/// no more than a part and that list.
fn parts_for(len: usize) -> usize {
    len.isqrt().next_power_of_two().min(1 << 16)
}

impl<S: Copy + Eq + Hash + Ord, T: Clone> Table<S, T> {
    /// What `fold` makes of all that is given under a name, name by name.
    pub(in super::super) fn new<'a, V>(
        keyed: Keyed,
        given: impl IntoIterator<Item = (S, &'a str, V)>,
        fold: impl Fn(Vec<V>) -> Option<T>,
    ) -> Self {
        let mut given: Vec<_> = given
            .into_iter()
            .map(|(space, name, value)| (keyed.of(space, name), space, name, value))
            .collect();
        let count = parts_for(given.len());
        // Stable: what is given under one name keeps its order.
        given.sort_by(|a, b| {
            let key = |one: &(u64, S, &'a str, V)| (part_of(one.0, count), one.0, one.1, one.2);
            key(a).cmp(&key(b))
        });
        let mut table = Self { keyed, parts: Vec::with_capacity(count), len: 0 };
        let mut given = given.into_iter().peekable();
        for number in 0..count {
            let mut lines = Vec::new();
            while let Some((hash, space, name, value)) =
                given.next_if(|(hash, ..)| part_of(*hash, count) == number)
            {
                let mut values = vec![value];
                while let Some((.., more)) =
                    given.next_if(|(other, at, text, _)| (*other, *at, *text) == (hash, space, name))
                {
                    values.push(more);
                }
                if let Some(value) = fold(values) {
                    lines.push((hash, Line { tag: tag(hash), space, name: Text::new(name), value }));
                }
            }
            table.len = table.len.saturating_add(lines.len());
            table.parts.push(part(lines));
        }
        table
    }

    pub(in super::super) fn len(&self) -> usize {
        self.len
    }

    pub(in super::super) fn get(&self, space: S, name: &str) -> Option<&T> {
        self.seek(space, name).get()
    }

    /// Where a name is to be looked for.
    pub(in super::super) fn seek<'n>(&self, space: S, name: &'n str) -> Seek<'_, 'n, S, T> {
        let hash = self.keyed.of(space, name);
        let part = self.parts.get(part_of(hash, self.parts.len()));
        Seek { part: part.map_or(&[], |part| part), hash, space, name }
    }

    /// Puts the value under each name, or nothing. Copies the parts that the names are in.
    pub(in super::super) fn set_all<'a>(
        &mut self,
        changes: impl IntoIterator<Item = (S, &'a str, Option<T>)>,
    ) {
        let count = self.parts.len();
        let mut by_part: BTreeMap<usize, Changes<'a, S, T>> = BTreeMap::new();
        for (space, name, value) in changes {
            let hash = self.keyed.of(space, name);
            by_part.entry(part_of(hash, count)).or_default().insert((space, name), (hash, value));
        }
        for (at, changes) in by_part {
            let Some(old) = self.parts.get_mut(at) else { continue };
            let keyed = &self.keyed;
            let before = old.iter().flatten();
            let kept = before.clone().filter(|line| !changes.contains_key(&(line.space, line.name.as_str())));
            let kept = kept.map(|line| (keyed.of(line.space, line.name.as_str()), line.clone()));
            let mut lines: Vec<_> = kept.collect();
            self.len = self.len.saturating_sub(before.count());
            lines.extend(changes.into_iter().filter_map(|((space, name), (hash, value))| {
                Some((hash, Line { tag: tag(hash), space, name: Text::new(name), value: value? }))
            }));
            self.len = self.len.saturating_add(lines.len());
            *old = part(lines);
        }
        if parts_for(self.len) > count.saturating_mul(2) {
            self.grow();
        }
    }

    /// Cuts the table anew, into as many parts as fit it.
    fn grow(&mut self) {
        let all = self.iter().map(|(space, name, value)| (space, name, value.clone()));
        *self = Self::new(self.keyed.clone(), all, |mut values| values.pop());
    }

    /// All there is, in no order that means anything.
    pub(in super::super) fn iter(&self) -> impl Iterator<Item = (S, &str, &T)> {
        let lines = self.parts.iter().flat_map(|part| part.iter().flatten());
        lines.map(|line| (line.space, line.name.as_str(), &line.value))
    }
}

/// The lines, each at the place of its hash or at the next free one. As many as can be are at their place, and three
/// places of seven stay empty.
fn part<S, T>(lines: Vec<(u64, Line<S, T>)>) -> Part<S, T> {
    let places = lines.len().saturating_add(lines.len().saturating_mul(3) / 4).saturating_add(1);
    let mut part: Vec<Option<Line<S, T>>> = std::iter::repeat_with(|| None).take(places).collect();
    let mut displaced = Vec::new();
    for (hash, line) in lines {
        match part.get_mut(place_of(hash, places)) {
            Some(free @ None) => *free = Some(line),
            _ => displaced.push((hash, line)),
        }
    }
    for (hash, line) in displaced {
        let (before, after) = part.split_at_mut(place_of(hash, places).min(places));
        if let Some(free) = after.iter_mut().chain(before).find(|place| place.is_none()) {
            *free = Some(line);
        }
    }
    part.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(table: &Table<u32, u32>, model: &BTreeMap<(u32, String), u32>) {
        let mut all: Vec<_> =
            table.iter().map(|(space, name, value)| ((space, name.to_owned()), *value)).collect();
        all.sort();
        assert!(all.into_iter().eq(model.clone()));
        assert_eq!(table.len(), model.len());
        for ((space, name), value) in model {
            assert_eq!(table.get(*space, name), Some(value));
            assert_eq!(table.get(space + 9, name), None, "of another space");
        }
    }

    proptest! {
        /// Names of one hash, and with a mask of none all of them, are told apart.
        #[test]
        fn a_table_is_a_map_whatever_the_hashes(
            mask in prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(1 << 40)],
            given in prop::collection::vec((0u32..3, "[a-c]{0,3}|a{40}[a-b]", any::<u32>()), 0..40),
            changes in prop::collection::vec((0u32..3, "[a-c]{0,3}|a{40}[a-b]", any::<Option<u32>>()), 0..60),
        ) {
            let all = given.iter().map(|(space, name, value)| (*space, name.as_str(), *value));
            let mut table = Table::new(Keyed::weak(mask), all, |mut values| values.pop());
            let mut model: BTreeMap<_, _> =
                given.iter().map(|(space, name, value)| ((*space, name.clone()), *value)).collect();
            same(&table, &model);
            let (before, kept) = (table.clone(), model.clone());
            for (space, name, value) in changes {
                table.set_all([(space, name.as_str(), value)]);
                match value {
                    Some(value) => drop(model.insert((space, name), value)),
                    None => drop(model.remove(&(space, name))),
                }
            }
            same(&table, &model);
            same(&before, &kept);
            // All at once comes to the same.
            let mut again = before;
            let news = model.iter().map(|((space, name), value)| (*space, name.as_str(), Some(*value)));
            let olds = kept.keys().filter(|key| !model.contains_key(*key));
            again.set_all(news.chain(olds.map(|(space, name)| (*space, name.as_str(), None))));
            same(&again, &model);
        }
    }

    #[test]
    fn a_table_grows_by_changes() {
        let mut table = Table::new(Keyed::new(), [], |mut values: Vec<u32>| values.pop());
        for number in 0..5_000_u32 {
            table.set_all([(0_u32, number.to_string().as_str(), Some(number))]);
        }
        assert!((0..5_000).all(|number| table.get(0, &number.to_string()) == Some(&number)));
        assert!(table.parts.len() >= 32, "{}", table.parts.len());
    }

    #[test]
    fn a_line_of_a_subject_is_one_cache_line() {
        assert_eq!(size_of::<Option<Line<u32, crate::rbac::index::Held>>>(), 64);
    }
}
