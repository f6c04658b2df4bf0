//! Free numbers as ranges: memory by fragments, not by size. No I/O, no clock, no async.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A set of numbers below 2^128, kept as ranges that do not touch.
///
/// Every operation takes a bounded number of look-ups of a balanced tree, at any fill and fragmentation; a range costs
/// 32 bytes and its share of the tree. [`probes`](Self::probes) counts the look-ups, for tests.
///
/// ```
/// use hivemind_net::ipam::FreeRanges;
///
/// let mut free = FreeRanges::from_range(10, 20);
/// assert_eq!((free.take_from(0), free.take_from(15)), (Some(10), Some(15)));
/// assert!(free.take(17) && !free.take(17));
/// assert_eq!(free.ranges().collect::<Vec<_>>(), [(11, 14), (16, 16), (18, 20)]);
/// assert!(free.put(15) && !free.put(15));
/// assert_eq!(free.ranges().collect::<Vec<_>>(), [(11, 16), (18, 20)]);
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(u128, u128)>", into = "Vec<(u128, u128)>")]
pub struct FreeRanges {
    /// From the last number of a range to its first. So the range that holds a number, or follows it, is one look-up
    /// away, and taking the lowest number of a range changes a value and no key.
    by_last: BTreeMap<u128, u128>,
    probes: u64,
}

impl PartialEq for FreeRanges {
    fn eq(&self, other: &Self) -> bool {
        self.by_last == other.by_last
    }
}

impl Eq for FreeRanges {}

impl FreeRanges {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The numbers from `first` to `last`; nothing if in the wrong order.
    pub fn from_range(first: u128, last: u128) -> Self {
        let mut free = Self::new();
        free.insert(first, last);
        free
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_last.is_empty()
    }

    /// How many ranges there are.
    pub fn fragments(&self) -> usize {
        self.by_last.len()
    }

    /// How many numbers there are, at most `u128::MAX`; looks at every range.
    pub fn count(&self) -> u128 {
        self.ranges().fold(0, |sum, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }

    /// The ranges, both ends included, in order.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = (u128, u128)> {
        self.by_last.iter().map(|(last, first)| (*first, *last))
    }

    /// The lowest and the highest number.
    pub fn span(&self) -> Option<(u128, u128)> {
        let (_, low) = self.by_last.first_key_value()?;
        let (high, _) = self.by_last.last_key_value()?;
        Some((*low, *high))
    }

    /// Whether a number is in the set.
    pub fn contains(&self, number: u128) -> bool {
        self.at_or_after(number) == Some(number)
    }

    /// The lowest number from `number` on.
    pub fn at_or_after(&self, number: u128) -> Option<u128> {
        self.by_last.range(number..).next().map(|(_, first)| number.max(*first))
    }

    /// Takes the lowest number from `number` on; if there is none, the lowest of all.
    pub fn take_from(&mut self, number: u128) -> Option<u128> {
        self.probes += 1;
        let found = self.by_last.range_mut(number..).next();
        let Some((last, first)) = found else { return if number == 0 { None } else { self.take_from(0) } };
        let (last, from) = (*last, number.max(*first));
        let before = std::mem::replace(first, from.saturating_add(1));
        self.split(before, from, last);
        Some(from)
    }

    /// Takes one number; `false` if it is not in the set.
    pub fn take(&mut self, number: u128) -> bool {
        self.probes += 1;
        let Some((last, first)) = self.by_last.range_mut(number..).next() else { return false };
        if *first > number {
            return false;
        }
        let last = *last;
        let before = std::mem::replace(first, number.saturating_add(1));
        self.split(before, number, last);
        true
    }

    /// Keeps what is before a number just taken from the range `first` to `last`, of which the rest begins after it.
    fn split(&mut self, first: u128, taken: u128, last: u128) {
        if taken == last {
            self.probes += 1;
            self.by_last.remove(&last);
        }
        if first < taken {
            self.probes += 1;
            self.by_last.insert(taken - 1, first);
        }
    }

    /// Adds one number; `false` if it is in the set already.
    pub fn put(&mut self, number: u128) -> bool {
        self.put_range(number, number)
    }

    /// Adds the numbers from `first` to `last`; `false`, and nothing changes, if one is in the set already or the
    /// order is wrong.
    pub fn put_range(&mut self, first: u128, last: u128) -> bool {
        self.probes += 2;
        let next = self.by_last.range(first..).next().map(|(last, first)| (*first, *last));
        if first > last || next.is_some_and(|(next, _)| next <= last) {
            return false;
        }
        let before =
            first.checked_sub(1).and_then(|end| self.by_last.get(&end).copied().map(|start| (start, end)));
        let start = match before {
            Some((start, end)) => {
                self.by_last.remove(&end);
                start
            }
            None => first,
        };
        match next {
            Some((next, end)) if last.checked_add(1) == Some(next) => self.by_last.insert(end, start),
            _ => self.by_last.insert(last, start),
        };
        true
    }

    /// Adds whatever of `first` to `last` is not in the set yet; a look-up for each range that is.
    pub fn insert(&mut self, first: u128, last: u128) {
        if first <= last {
            self.remove(first, last);
            self.put_range(first, last);
        }
    }

    /// Removes whatever of `first` to `last` is in the set; returns what was. A look-up for each range removed.
    pub fn remove(&mut self, first: u128, last: u128) -> Vec<(u128, u128)> {
        let mut removed = Vec::new();
        while let Some((end, start)) = self.by_last.range(first..).next().map(|(end, start)| (*end, *start)) {
            self.probes += 1;
            if start > last || first > last {
                break;
            }
            let (low, high) = (start.max(first), end.min(last));
            self.cut(start, end, low, high);
            removed.push((low, high));
        }
        removed
    }

    /// Removes `low` to `high` from the range `first` to `last` that holds them.
    fn cut(&mut self, first: u128, last: u128, low: u128, high: u128) {
        self.probes += 1;
        if high < last {
            self.by_last.insert(last, high + 1);
        } else {
            self.by_last.remove(&last);
        }
        if first < low {
            self.by_last.insert(low - 1, first);
        }
    }

    /// How many look-ups all operations took that change the set.
    pub fn probes(&self) -> u64 {
        self.probes
    }
}

impl From<Vec<(u128, u128)>> for FreeRanges {
    /// Ranges that touch or overlap become one.
    fn from(ranges: Vec<(u128, u128)>) -> Self {
        let mut free = Self::new();
        ranges.into_iter().for_each(|(first, last)| free.insert(first, last));
        free
    }
}

impl From<FreeRanges> for Vec<(u128, u128)> {
    fn from(free: FreeRanges) -> Self {
        free.ranges().collect()
    }
}
