//! Things by number; the numbers of removed ones are used again. No I/O, no clock, no async.

#[derive(Debug, Clone)]
pub(super) struct Slab<T> {
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
    pub(super) fn reserve(&mut self, more: usize) {
        self.items.reserve(more.saturating_sub(self.free.len()));
    }

    /// The number that the next one gets.
    pub(super) fn next(&self) -> u32 {
        // More than four billion would not fit into memory.
        self.free.last().copied().unwrap_or_else(|| u32::try_from(self.items.len()).unwrap_or(u32::MAX))
    }

    pub(super) fn insert(&mut self, item: T) -> u32 {
        let number = self.next();
        self.free.pop();
        match self.items.get_mut(number as usize) {
            Some(slot) => *slot = Some(item),
            None => self.items.push(Some(item)),
        }
        number
    }

    /// Nothing has a higher number.
    pub(super) fn highest(&self) -> u32 {
        u32::try_from(self.items.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let item = self.items.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(item)
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.items.get(number as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.items.get_mut(number as usize)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.items).filter_map(|(number, item)| Some((number, item.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().filter_map(Option::as_mut)
    }
}
