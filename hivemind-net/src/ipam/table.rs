//! A table of small entries, of which each look-up waits for the memory once. No I/O, no clock, no async.

/// What a [`Table`] keeps.
pub(super) trait Entry: Copy {
    /// What is where no entry is.
    const NONE: Self;

    /// Whether it is [`NONE`](Self::NONE).
    fn is_none(&self) -> bool;
}

/// Entries by a hash: one after the other from the place of their hash on, and no gap before the last of those that share
/// a place.
///
/// The standard table looks at bytes of its own before it looks at an entry, and decides by them; in a table larger than
/// the caches both waits are long. Here the place of an entry follows from its hash alone, so that the waits for several
/// tables can be [one](Self::touch). Removing leaves nothing behind, so that nothing ever has to be cleaned up.
#[derive(Debug, Clone)]
pub(super) struct Table<E> {
    /// A power of two, or none.
    entries: Vec<E>,
    len: usize,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        Self { entries: Vec::new(), len: 0 }
    }
}

impl<E: Entry> Table<E> {
    /// At most five of eight places are used: more would make the searches long.
    fn places(entries: usize) -> usize {
        if entries == 0 { 0 } else { (entries / 5 * 8 + entries % 5 * 8 / 5 + 1).next_power_of_two() }
    }

    #[expect(clippy::cast_possible_truncation, reason = "what is cut off is masked out anyway")]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.entries.len().wrapping_sub(1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & self.entries.len().wrapping_sub(1)
    }

    fn is_none(&self, at: usize) -> bool {
        self.entries.get(at).is_none_or(Entry::is_none)
    }

    /// Where the entry is, or where it belongs.
    fn place(&self, hash: u64, is: impl Fn(&E) -> bool) -> usize {
        let mut at = self.home(hash);
        while let Some(entry) = self.entries.get(at).filter(|entry| !entry.is_none() && !is(entry)) {
            let _ = entry;
            at = self.after(at);
        }
        at
    }

    /// Brings what a look-up will need into the caches, and does not wait for it: the processor goes on until somebody asks
    /// what the entry is. So look-ups of several tables that are touched first cost one wait together.
    pub(super) fn touch(&self, hash: u64) {
        std::hint::black_box(self.entries.get(self.home(hash)).copied());
    }

    pub(super) fn find(&self, hash: u64, is: impl Fn(&E) -> bool) -> Option<&E> {
        self.entries.get(self.place(hash, is)).filter(|entry| !entry.is_none())
    }

    /// Makes the entry what `change` makes of it, which may be [`NONE`](Entry::NONE) as it may have been.
    pub(super) fn update(
        &mut self,
        hash: u64,
        is: impl Fn(&E) -> bool,
        hash_of: impl Fn(&E) -> u64,
        change: impl FnOnce(&E) -> E,
    ) {
        self.reserve(1, &hash_of);
        let at = self.place(hash, is);
        let Some(entry) = self.entries.get_mut(at) else { return };
        let was = entry.is_none();
        *entry = change(entry);
        match (was, entry.is_none()) {
            (true, false) => self.len += 1,
            (false, true) => self.close(at, hash_of),
            _ => {}
        }
    }

    /// Moves those entries nearer to their place that are farther from it than a gap is.
    fn close(&mut self, mut gap: usize, hash_of: impl Fn(&E) -> u64) {
        self.len -= 1;
        let mask = self.entries.len().wrapping_sub(1);
        let mut at = self.after(gap);
        while let Some(entry) = self.entries.get(at).copied().filter(|entry| !entry.is_none()) {
            let far = |from: usize| at.wrapping_sub(from) & mask;
            if far(self.home(hash_of(&entry))) >= far(gap) {
                self.entries.swap(gap, at);
                gap = at;
            }
            at = self.after(at);
        }
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize, hash_of: impl Fn(&E) -> u64) {
        let places = Self::places(self.len + more);
        if places <= self.entries.len() {
            return;
        }
        let old = std::mem::replace(&mut self.entries, vec![E::NONE; places]);
        for entry in old.into_iter().filter(|entry| !entry.is_none()) {
            let mut at = self.home(hash_of(&entry));
            while !self.is_none(at) {
                at = self.after(at);
            }
            if let Some(place) = self.entries.get_mut(at) {
                *place = entry;
            }
        }
    }

    /// All entries, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &E> {
        self.entries.iter().filter(|entry| !entry.is_none())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Count(u8, u8);

    impl Entry for Count {
        const NONE: Self = Self(0, 0);
        fn is_none(&self) -> bool {
            self.1 == 0
        }
    }

    proptest! {
        /// Of few hashes, so that many entries share a place, also at the end of the table, from where it goes round.
        #[test]
        fn a_table_is_a_map(hashes in prop::sample::select(vec![1u64, 3, 7, 255]),
                            steps in prop::collection::vec((0u8..40, 0u8..3), 1..200)) {
            let hash = |key: u8| u64::from(key).wrapping_mul(0x9e37_79b9).rotate_right(7) & hashes | u64::MAX << 60 | 6;
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            for (key, value) in steps {
                let before = table.find(hash(key), |entry: &Count| entry.0 == key).copied();
                prop_assert_eq!(before.map(|entry| entry.1), model.get(&key).copied());
                let mut seen = None;
                table.update(hash(key), |entry| entry.0 == key, |entry| hash(entry.0), |entry| {
                    seen = Some(*entry).filter(|entry| !entry.is_none());
                    Count(key, value)
                });
                prop_assert_eq!(seen, before);
                if value == 0 { model.remove(&key); } else { model.insert(key, value); }
                let mut all: Vec<_> = table.iter().map(|entry| (entry.0, entry.1)).collect();
                all.sort_unstable();
                prop_assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
                prop_assert_eq!(table.len, model.len());
            }
            for key in 0..40 {
                prop_assert_eq!(table.find(hash(key), |entry| entry.0 == key).map(|entry| entry.1), model.get(&key).copied());
            }
        }
    }
}
