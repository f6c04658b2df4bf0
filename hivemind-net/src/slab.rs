//! Things under small numbers. No I/O, no clock, no async.

/// Things, each under a number that stays its own until it is removed. The number that was freed last is used first: what
/// lies there is still in a cache.
#[derive(Debug, Clone)]
pub(crate) struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.items.reserve(more.saturating_sub(self.free.len()));
    }

    /// Whether there is no number left of 32 bits, but for sixteen with which callers may say other things.
    pub(crate) fn is_full(&self) -> bool {
        self.next() >= u32::MAX - 15
    }

    /// The number that the next one gets.
    pub(crate) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or_else(|| u32::try_from(self.items.len()).unwrap_or(u32::MAX))
    }

    /// Keeps a thing; tells its number. Where billions may come, ask first whether it [is full](Self::is_full).
    pub(crate) fn insert(&mut self, item: T) -> u32 {
        let number = self.next();
        self.free.pop();
        match self.items.get_mut(number as usize) {
            Some(slot) => *slot = Some(item),
            None => self.items.push(Some(item)),
        }
        number
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let item = self.items.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(item)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.items.get(number as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.items.get_mut(number as usize)?.as_mut()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    /// Nothing has a higher number.
    pub(crate) fn highest(&self) -> u32 {
        u32::try_from(self.items.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// All, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.items).filter_map(|(number, item)| Some((number, item.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().filter_map(Option::as_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_that_was_freed_last_is_used_first_and_no_other_changes() {
        let mut slab = Slab::default();
        for value in ["a", "b", "c"] {
            slab.insert(value);
        }
        assert_eq!(
            (slab.remove(0), slab.remove(2), slab.remove(2), slab.remove(9)),
            (Some("a"), Some("c"), None, None)
        );
        assert_eq!((slab.len(), slab.next()), (1, 2));
        assert_eq!((slab.insert("d"), slab.insert("e"), slab.insert("f")), (2, 0, 3));
        assert_eq!(
            (slab.get(0), slab.get(1), slab.get(2), slab.get(3)),
            (Some(&"e"), Some(&"b"), Some(&"d"), Some(&"f"))
        );
        assert_eq!(slab.iter().map(|(_, value)| *value).collect::<String>(), "ebdf");
        assert!(slab.highest() == 3 && !slab.is_full());
    }
}
