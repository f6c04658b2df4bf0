//! Nodes in the order of preference, each part knowing the most that is free in it. No I/O, no clock, no async.
//!
//! A treap: a search tree by key that is a heap by a number made from the slot, hence balanced whatever comes in.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use hivemind_core::resources::{ResourceName, Resources};

/// Amounts by which whole parts of the tree are skipped: processing power, memory, storage, and the largest amount of
/// any one custom resource.
pub(super) type Amounts = [u64; 4];

pub(super) fn amounts(of: &Resources) -> Amounts {
    let custom = of.iter().filter(|(name, _)| matches!(name, ResourceName::Custom(_)));
    let largest = custom.map(|(_, amount)| amount).max().unwrap_or_default();
    [of.cpu().as_millis(), of.memory().as_bytes(), of.storage().as_bytes(), largest]
}

fn fits(need: &Amounts, free: &Amounts) -> bool {
    need.iter().zip(free).all(|(need, free)| need <= free)
}

/// A node by preference: the lower the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) rank: u64,
    pub(super) tie: u64,
    pub(super) slot: usize,
}

/// An index into the arena; the first entry stands for nothing.
type Link = usize;
const NONE: Link = 0;

#[derive(Debug, Clone, Copy)]
struct Item {
    key: Key,
    weight: u64,
    left: Link,
    right: Link,
    free: Amounts,
    /// The most that is free, of each, in this item and below.
    most: Amounts,
}

const NOTHING: Item = Item {
    key: Key { rank: 0, tie: 0, slot: 0 },
    weight: 0,
    left: NONE,
    right: NONE,
    free: [0; 4],
    most: [0; 4],
};

/// Scatters the slots.
fn weight(slot: usize) -> u64 {
    let seed = u64::try_from(slot).unwrap_or(u64::MAX).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

#[derive(Debug, Clone)]
pub(super) struct Tree {
    root: Link,
    items: Vec<Item>,
    spare: Vec<Link>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: NONE, items: vec![NOTHING], spare: Vec::new() }
    }
}

impl Tree {
    fn item(&self, at: Link) -> &Item {
        self.items.get(at).unwrap_or(&NOTHING)
    }

    fn change(&mut self, at: Link, change: impl FnOnce(&mut Item)) {
        if let Some(item) = self.items.get_mut(at) {
            change(item);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root == NONE
    }

    /// Counts again what is most below `at`.
    fn renew(&mut self, at: Link) {
        let item = *self.item(at);
        let (left, right) = (self.item(item.left).most, self.item(item.right).most);
        let mut most = item.free;
        for ((most, left), right) in most.iter_mut().zip(left).zip(right) {
            *most = (*most).max(left).max(right);
        }
        self.change(at, |item| item.most = most);
    }

    /// Those below `key`, and the others.
    fn split(&mut self, at: Link, key: &Key) -> (Link, Link) {
        if at == NONE {
            return (NONE, NONE);
        }
        let Item { key: here, left, right, .. } = *self.item(at);
        let halves = if here < *key {
            let (below, above) = self.split(right, key);
            self.change(at, |item| item.right = below);
            (at, above)
        } else {
            let (below, above) = self.split(left, key);
            self.change(at, |item| item.left = above);
            (below, at)
        };
        self.renew(at);
        halves
    }

    /// Both, where all of `low` is below all of `high`.
    fn join(&mut self, low: Link, high: Link) -> Link {
        if low == NONE || high == NONE {
            return low.max(high);
        }
        let top = if self.item(low).weight >= self.item(high).weight {
            let right = self.join(self.item(low).right, high);
            self.change(low, |item| item.right = right);
            low
        } else {
            let left = self.join(low, self.item(high).left);
            self.change(high, |item| item.left = left);
            high
        };
        self.renew(top);
        top
    }

    pub(super) fn insert(&mut self, key: Key, free: Amounts) {
        let new = Item { key, weight: weight(key.slot), left: NONE, right: NONE, free, most: free };
        let at = match self.spare.pop() {
            Some(at) => {
                self.change(at, |item| *item = new);
                at
            }
            None => {
                self.items.push(new);
                self.items.len() - 1
            }
        };
        self.root = self.insert_below(self.root, at);
    }

    fn insert_below(&mut self, top: Link, new: Link) -> Link {
        let (above, item) = (*self.item(top), *self.item(new));
        if top == NONE {
            return new;
        }
        if item.weight > above.weight {
            let (left, right) = self.split(top, &item.key);
            self.change(new, |item| (item.left, item.right) = (left, right));
            self.renew(new);
            return new;
        }
        if item.key < above.key {
            let left = self.insert_below(above.left, new);
            self.change(top, |item| item.left = left);
        } else {
            let right = self.insert_below(above.right, new);
            self.change(top, |item| item.right = right);
        }
        self.renew(top);
        top
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.root = self.remove_below(self.root, key);
    }

    fn remove_below(&mut self, at: Link, key: &Key) -> Link {
        if at == NONE {
            return NONE;
        }
        let Item { key: here, left, right, .. } = *self.item(at);
        match key.cmp(&here) {
            Ordering::Equal => {
                self.spare.push(at);
                return self.join(left, right);
            }
            Ordering::Less => {
                let left = self.remove_below(left, key);
                self.change(at, |item| item.left = left);
            }
            Ordering::Greater => {
                let right = self.remove_below(right, key);
                self.change(at, |item| item.right = right);
            }
        }
        self.renew(at);
        at
    }

    /// Shows those with room for `need`, the best first, until `see` has seen enough. Parts without room are skipped
    /// whole.
    pub(super) fn walk(&self, need: &Amounts, see: &mut impl FnMut(&Key) -> ControlFlow<()>) {
        let _ = self.walk_below(self.root, need, see);
    }

    fn walk_below(
        &self,
        at: Link,
        need: &Amounts,
        see: &mut impl FnMut(&Key) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let item = self.item(at);
        if at == NONE || !fits(need, &item.most) {
            return ControlFlow::Continue(());
        }
        self.walk_below(item.left, need, see)?;
        if fits(need, &item.free) {
            see(&item.key)?;
        }
        self.walk_below(item.right, need, see)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a sorted map that is searched from end to end.
        #[test]
        fn finds_what_a_sorted_map_finds(
            steps in prop::collection::vec((0usize..24, 0u64..4, prop::array::uniform4(0u64..4), any::<bool>()), 0..80),
            need in prop::array::uniform4(0u64..4),
        ) {
            let (mut tree, mut model) = (Tree::default(), BTreeMap::<Key, Amounts>::new());
            for (slot, rank, free, insert) in steps {
                let key = Key { rank, tie: 7, slot };
                if insert && !model.contains_key(&key) {
                    tree.insert(key, free);
                    model.insert(key, free);
                } else if !insert {
                    tree.remove(&key);
                    model.remove(&key);
                }
                let mut found = Vec::new();
                tree.walk(&need, &mut |key| { found.push(*key); ControlFlow::Continue(()) });
                let expected: Vec<_> =
                    model.iter().filter(|(_, free)| fits(&need, free)).map(|(key, _)| *key).collect();
                prop_assert_eq!(found, expected);
                prop_assert_eq!(tree.is_empty(), model.is_empty());
            }
        }

        /// Of ten thousand nodes all but the last are full: the one is found without a look at the others.
        #[test]
        fn skips_what_is_full(last in 0usize..10_000) {
            let mut tree = Tree::default();
            for slot in 0..10_000 {
                let free = [u64::from(slot == last); 4];
                tree.insert(Key { rank: 0, tie: 0, slot }, free);
            }
            let mut seen = Vec::new();
            tree.walk(&[1; 4], &mut |key| { seen.push(key.slot); ControlFlow::Continue(()) });
            prop_assert_eq!(seen, vec![last]);
        }
    }
}
