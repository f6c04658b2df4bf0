//! Values under small numbers. No I/O, no clock, no async.

/// Values, each under a number that stays its own until it is removed. The number that was freed last is used first:
/// what lies there is still in a cache.
#[derive(Debug, Clone)]
pub(super) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { slots: Vec::with_capacity(capacity), free: Vec::new() }
    }

    /// Keeps a value; under which number? `None` if there are none left of 32 bits, but for sixteen which callers use to
    /// say other things.
    pub(super) fn insert(&mut self, value: T) -> Option<u32> {
        if let Some(free) = self.free.pop() {
            *self.slots.get_mut(free as usize)? = Some(value);
            return Some(free);
        }
        let new = u32::try_from(self.slots.len()).ok().filter(|new| *new < u32::MAX - 15)?;
        self.slots.push(Some(value));
        Some(new)
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)?.as_ref()
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.slots.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(value)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// All values, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.slots).filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::with_capacity(0)
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
        assert_eq!(slab.len(), 1);
        assert_eq!((slab.insert("d"), slab.insert("e"), slab.insert("f")), (Some(2), Some(0), Some(3)));
        assert_eq!(
            (slab.get(0), slab.get(1), slab.get(2), slab.get(3)),
            (Some(&"e"), Some(&"b"), Some(&"d"), Some(&"f"))
        );
        assert_eq!(slab.iter().map(|(_, value)| *value).collect::<String>(), "ebdf");
    }
}
