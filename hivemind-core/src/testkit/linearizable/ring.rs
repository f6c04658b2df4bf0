//! The operations that are not yet in the order, with constant-time removal and return. No I/O, no clock, no async.

/// A doubly linked list of the numbers below some length, in order. The link beyond the last number is the head.
#[derive(Debug)]
pub(super) struct Ring {
    next: Vec<usize>,
    previous: Vec<usize>,
    out: Vec<bool>,
}

impl Ring {
    pub(super) fn new(len: usize) -> Self {
        let next = (1..=len).chain([0]).collect();
        let previous = std::iter::once(len).chain(0..len).collect();
        Self { next, previous, out: vec![false; len] }
    }

    fn link(&mut self, from: usize, to: usize) {
        if let Some(next) = self.next.get_mut(from) {
            *next = to;
        }
        if let Some(previous) = self.previous.get_mut(to) {
            *previous = from;
        }
    }

    fn around(&self, item: usize) -> (usize, usize) {
        let at = |links: &[usize]| links.get(item).copied().unwrap_or(self.out.len());
        (at(&self.previous), at(&self.next))
    }

    fn mark(&mut self, item: usize, gone: bool) {
        if let Some(out) = self.out.get_mut(item) {
            *out = gone;
        }
    }

    pub(super) fn remove(&mut self, item: usize) {
        let (previous, next) = self.around(item);
        self.link(previous, next);
        self.mark(item, true);
    }

    /// Takes back the last removal that was not taken back yet, which was that of `item`.
    pub(super) fn put_back(&mut self, item: usize) {
        let (previous, next) = self.around(item);
        self.link(previous, item);
        self.link(item, next);
        self.mark(item, false);
    }

    pub(super) fn is_out(&self, item: usize) -> bool {
        self.out.get(item).copied().unwrap_or(true)
    }

    /// What is left, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let head = self.out.len();
        let after = move |item: usize| self.next.get(item).copied().filter(|next| *next != head);
        std::iter::successors(after(head), move |item| after(*item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_back_is_where_it_was() {
        let mut ring = Ring::new(5);
        let left = |ring: &Ring| ring.iter().collect::<Vec<_>>();
        for item in [0, 3, 4, 2] {
            ring.remove(item);
        }
        assert_eq!((left(&ring), ring.is_out(3), ring.is_out(1)), (vec![1], true, false));
        ring.remove(1);
        assert_eq!(left(&ring), Vec::<usize>::new());
        for item in [1, 2, 4] {
            ring.put_back(item);
        }
        assert_eq!(left(&ring), vec![1, 2, 4]);
        assert_eq!(left(&Ring::new(0)), Vec::<usize>::new());
    }
}
