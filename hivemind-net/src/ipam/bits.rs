//! Free numbers as bits of what was taken: one look-up for a random one. No I/O, no clock, no async.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use foldhash::fast::RandomState;

use super::FreeRanges;

/// How many children a word has a bit for, as a power of two.
const BITS: u32 = 6;

/// What is free of some ranges, of which single numbers are taken and put back.
///
/// What is taken is a tree of words of 64 bits, of which only those exist that are neither empty nor full: a word that
/// fills up becomes one bit of the word above. So a random number costs a look-up or two of a table, where
/// [`FreeRanges`] walks a tree, and memory grows with fragments: 29 to 57 bytes for a word that is partly taken, however
/// many numbers there are in all. A gap between `ranges` costs some words at each of its ends. [`probes`](Self::probes)
/// counts the look-ups, for tests.
///
/// ```
/// use hivemind_net::ipam::{FreeBits, FreeRanges};
///
/// let mut free = FreeBits::new(&FreeRanges::from(vec![(10, 12), (20, 29)]));
/// assert_eq!((free.take_from(0), free.take_from(13), free.take_from(11)), (Some(10), Some(20), Some(11)));
/// assert!(free.take(12) && !free.take(12) && !free.take(13));
/// assert!(free.put(11) && !free.put(11));
/// assert_eq!(free.ranges(), [(11, 11), (21, 29)]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct FreeBits {
    /// The lowest and the highest number there is, free or not.
    span: Option<(u128, u128)>,
    /// Words by what they stand for: bit `b` of word `w` of level `l` is the numbers from `(64 w + b) 64^l` on, `64^l` of
    /// them. A number is taken if, on one level, its bit is set; then it is on no other.
    levels: Vec<HashMap<Word, u64, RandomState>>,
    /// How many numbers there are after the first, since of all numbers the count does not fit.
    others: u128,
    taken: u128,
    /// No number below is free.
    lowest: u128,
    probes: u64,
}

/// Which word of its level; two halves, since a table's entry is smaller so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Word(u64, u64);

/// The word of a level that has a bit for `number`, and which bit.
#[expect(clippy::cast_possible_truncation, reason = "each part is cut out of the number")]
fn place(number: u128, level: u32) -> (Word, u32) {
    let child = number >> (BITS * level);
    let word = child >> BITS;
    (Word((word >> 64) as u64, word as u64), (child & 63) as u32)
}

impl FreeBits {
    /// What `ranges` has, all of it free.
    pub fn new(ranges: &FreeRanges) -> Self {
        Self::of(ranges.ranges())
    }

    /// What is in one of the ranges, which are in order, and may touch or share an end.
    pub(super) fn of(ranges: impl IntoIterator<Item = (u128, u128)>) -> Self {
        let mut free = Self::default();
        for (first, last) in ranges {
            let Some((low, high)) = free.span else {
                free.span = Some((first, last));
                free.others = last - first;
                continue;
            };
            let before = first.saturating_sub(1);
            if high < before {
                free.mark_range(high + 1, before);
            }
            free.others += last - high.max(before);
            free.span = Some((low, last));
        }
        free
    }

    /// The lowest and the highest number there is, free or not.
    pub fn span(&self) -> Option<(u128, u128)> {
        self.span
    }

    /// How many numbers are free, at most `u128::MAX`.
    pub fn count(&self) -> u128 {
        match self.others.checked_sub(self.taken) {
            Some(others) if self.span.is_some() => others.saturating_add(1),
            _ => 0,
        }
    }

    /// Whether nothing is free.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Whether a number is free.
    pub fn contains(&self, number: u128) -> bool {
        self.span.is_some_and(|(low, high)| low <= number && number <= high) && self.mark_of(number).is_none()
    }

    /// Takes the lowest free number from `number` on; if there is none, the lowest of all.
    pub fn take_from(&mut self, number: u128) -> Option<u128> {
        let (low, _) = self.span?;
        let lowest = self.lowest.max(low);
        let mut found = self.at_or_after(number.max(lowest));
        if found.is_none() && number > lowest {
            found = self.at_or_after(lowest);
        }
        let taken = found?;
        if number <= lowest {
            self.lowest = taken.saturating_add(1);
        }
        self.mark_free(taken);
        Some(taken)
    }

    /// The lowest free number.
    pub(super) fn lowest(&mut self) -> Option<u128> {
        let (low, _) = self.span?;
        let found = self.at_or_after(self.lowest.max(low))?;
        self.lowest = found;
        Some(found)
    }

    /// Takes one number; `false` if it is not free.
    pub fn take(&mut self, number: u128) -> bool {
        self.probes += self.words();
        let free = self.contains(number);
        if free {
            self.mark_free(number);
        }
        free
    }

    /// Puts back a number that was taken, of those there were in the beginning; `false` if it is free.
    pub fn put(&mut self, number: u128) -> bool {
        self.probes += self.words();
        if self.span.is_none_or(|(low, high)| number < low || high < number) {
            return false;
        }
        let Some(marked) = self.mark_of(number) else { return false };
        for (level, words) in (0u32..).zip(&mut self.levels).take(marked as usize + 1) {
            let (word, bit) = place(number, level);
            if level < marked {
                // What was one bit above is this number's word again, with all the others.
                words.insert(word, !(1 << bit));
            } else if let Entry::Occupied(mut found) = words.entry(word) {
                *found.get_mut() &= !(1 << bit);
                if *found.get() == 0 {
                    found.remove();
                }
            }
        }
        self.taken = self.taken.saturating_sub(1);
        self.lowest = self.lowest.min(number);
        true
    }

    /// The free ranges, both ends included, in order; looks at every word and sorts them.
    pub fn ranges(&self) -> Vec<(u128, u128)> {
        let Some((low, high)) = self.span else { return Vec::new() };
        let mut taken: Vec<(u128, u128)> = Vec::new();
        for (level, words) in (0u32..).zip(&self.levels) {
            taken.extend(words.iter().flat_map(|(word, mask)| {
                let base = ((u128::from(word.0) << 64) | u128::from(word.1)) << BITS;
                runs(*mask).map(move |(first, last)| {
                    ((base + u128::from(first)) << (BITS * level), end(base + u128::from(last), level))
                })
            }));
        }
        taken.sort_unstable();
        let mut free = Vec::new();
        let mut from = Some(low);
        for (first, last) in taken {
            match from {
                Some(from) if from < first => free.push((from, first - 1)),
                Some(_) => {}
                None => return free,
            }
            from = last.checked_add(1);
        }
        free.extend(from.filter(|from| *from <= high).map(|from| (from, high)));
        free
    }

    /// How many look-ups of words all operations took that change the set.
    pub fn probes(&self) -> u64 {
        self.probes
    }

    /// How many levels have words.
    fn words(&self) -> u64 {
        self.levels.iter().map(|words| u64::from(!words.is_empty())).sum()
    }

    /// The level on which a number is taken. Where there is a word, no word above has a bit for it.
    fn mark_of(&self, number: u128) -> Option<u32> {
        let found = (0u32..).zip(&self.levels).find_map(|(level, words)| {
            let (word, bit) = place(number, level);
            words.get(&word).map(|mask| (level, mask >> bit & 1 == 1))
        });
        found.filter(|(_, taken)| *taken).map(|(level, _)| level)
    }

    /// The lowest free number from `number` on, which is not below the span. Each turn ends a level's word or goes down to
    /// a lower one: at most two for each level.
    pub(super) fn at_or_after(&mut self, number: u128) -> Option<u128> {
        let (_, high) = self.span?;
        let mut at = number;
        while at <= high {
            self.probes += self.words();
            let Some(level) = self.mark_of(at) else { return Some(at) };
            let (word, bit) = place(at, level);
            let mask = self.levels.get(level as usize).and_then(|words| words.get(&word)).copied();
            let run = (mask.unwrap_or_default() >> bit).trailing_ones().max(1);
            let child = (at >> (BITS * level)).saturating_add(u128::from(run - 1));
            at = end(child, level).checked_add(1)?;
        }
        None
    }

    fn mark_free(&mut self, number: u128) {
        self.probes += 1;
        self.taken = self.taken.saturating_add(1);
        self.mark(number, 0);
    }

    /// Sets the bit of a number on a level. A word that is full by that becomes a bit of the level above.
    fn mark(&mut self, number: u128, level: u32) {
        for level in level.. {
            while self.levels.len() <= level as usize {
                self.levels.push(HashMap::default());
            }
            let Some(words) = self.levels.get_mut(level as usize) else { return };
            let (word, bit) = place(number, level);
            match words.entry(word) {
                Entry::Vacant(none) => {
                    none.insert(1 << bit);
                    return;
                }
                Entry::Occupied(mut found) => {
                    *found.get_mut() |= 1 << bit;
                    if *found.get() != u64::MAX {
                        return;
                    }
                    found.remove();
                }
            }
        }
    }

    /// Marks numbers of which none is marked yet, by as few bits as possible.
    fn mark_range(&mut self, first: u128, last: u128) {
        let mut from = Some(first);
        while let Some(at) = from.filter(|at| *at <= last) {
            let fits = |level: &u32| {
                let aligned = at.trailing_zeros() >= BITS * level;
                aligned && end(at >> (BITS * level), *level) <= last
            };
            let level = (0..128 / BITS + 1).rev().find(fits).unwrap_or_default();
            self.mark(at, level);
            from = end(at >> (BITS * level), level).checked_add(1);
        }
    }
}

/// The first and the last bit of each run of ones.
fn runs(mask: u64) -> impl Iterator<Item = (u32, u32)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = mask.checked_shr(from)?;
        let first = (rest != 0).then(|| from + rest.trailing_zeros())?;
        from = first + (mask >> first).trailing_ones();
        Some((first, from - 1))
    })
}

/// The last of the numbers that a child of a level stands for.
fn end(child: u128, level: u32) -> u128 {
    let size = BITS * level;
    (child << size) | ((1u128 << size) - 1)
}
