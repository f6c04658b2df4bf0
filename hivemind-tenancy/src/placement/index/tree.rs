//! Nodes in the order of preference, each part knowing the most that is free in it. No I/O, no clock, no async.
//!
//! A search tree of wide blocks: a change moves a few neighbours in memory, and touches one block a level.

use std::ops::ControlFlow;

use hivemind_core::resources::Resources;

/// Processing power, memory, storage, and the largest amount of any one custom resource.
pub(super) type Amounts = [u64; 4];

pub(super) fn amounts(of: &Resources) -> Amounts {
    let largest = of.custom().map(|(_, amount)| amount).max().unwrap_or_default();
    [of.cpu().as_millis(), of.memory().as_bytes(), of.storage().as_bytes(), largest]
}

/// Amounts by which whole parts of a tree are skipped, in short: what fits exactly fits in short, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room([u32; 4]);

impl Room {
    pub(super) fn of([cpu, memory, storage, custom]: &Amounts) -> Self {
        let short = |amount: u64| u32::try_from(amount).unwrap_or(u32::MAX);
        // By the mebibyte, rounded down on both sides: who has less in short has less.
        Self([short(*cpu), short(memory >> 20), short(storage >> 20), short(*custom)])
    }

    fn fits_in(&self, free: &Self) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, free.0);
        // Without a branch for each.
        (a <= e) & (b <= f) & (c <= g) & (d <= h)
    }

    /// The more of both, of each.
    fn max(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a.max(e), b.max(f), c.max(g), d.max(h)])
    }
}

/// A node by preference: the lower the better. By rank, then by tie, then by slot: one number, compared at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u128);

impl Key {
    /// Ranks are a few millions; a larger one counts as the largest.
    pub(super) fn new(rank: u64, tie: u64, slot: usize) -> Self {
        let short = |number: u64| u128::from(u32::try_from(number).unwrap_or(u32::MAX));
        let slot = u64::try_from(slot).unwrap_or(u64::MAX);
        Self((short(rank) << 96) | (u128::from(tie) << 32) | short(slot))
    }

    pub(super) fn rank(self) -> u64 {
        u64::try_from(self.0 >> 96).unwrap_or(u64::MAX)
    }

    pub(super) fn tie(self) -> u64 {
        u64::try_from((self.0 >> 32) & u128::from(u64::MAX)).unwrap_or(u64::MAX)
    }

    pub(super) fn slot(self) -> usize {
        usize::try_from(self.0 & u128::from(u32::MAX)).unwrap_or(usize::MAX)
    }
}

/// The most entries of a block.
const WIDTH: usize = 32;

/// An index into the blocks.
type Link = usize;

/// Entries in order. At the bottom each is a node; above, a block with its first key and the most that is free in it.
#[derive(Debug, Clone, Default)]
struct Block {
    keys: Vec<Key>,
    rooms: Vec<Room>,
    /// Empty at the bottom.
    below: Vec<Link>,
}

impl Block {
    fn len(&self) -> usize {
        self.keys.len()
    }

    /// Its own entry in the block above, but for where it is.
    fn summary(&self) -> Option<(Key, Room)> {
        Some((*self.keys.first()?, self.rooms.iter().copied().fold(Room::default(), Room::max)))
    }

    /// The entry below which `key` is, or would be.
    fn entry(&self, key: &Key) -> usize {
        self.keys.partition_point(|first| first <= key).saturating_sub(1)
    }

    fn insert(&mut self, at: usize, key: Key, room: Room, below: Option<Link>) {
        self.keys.insert(at, key);
        self.rooms.insert(at, room);
        if let Some(link) = below {
            self.below.insert(at, link);
        }
    }

    fn remove(&mut self, at: usize) -> Option<Room> {
        if at >= self.keys.len() {
            return None;
        }
        self.keys.remove(at);
        if at < self.below.len() {
            self.below.remove(at);
        }
        (at < self.rooms.len()).then(|| self.rooms.remove(at))
    }

    /// The second half, if there is too much.
    fn split(&mut self) -> Option<Self> {
        if self.len() <= WIDTH {
            return None;
        }
        let half = self.len() / 2;
        let below = if self.below.is_empty() { Vec::new() } else { self.below.split_off(half) };
        Some(Self { keys: self.keys.split_off(half), rooms: self.rooms.split_off(half), below })
    }

    fn append(&mut self, mut right: Self) {
        self.keys.append(&mut right.keys);
        self.rooms.append(&mut right.rooms);
        self.below.append(&mut right.below);
    }

    /// The most that is free here, where it was `most` before something with `gone` went.
    fn most_without(&self, most: Room, gone: Room) -> Room {
        let mut left = most;
        for (lane, (left, gone)) in left.0.iter_mut().zip(gone.0).enumerate() {
            if gone < *left || gone == 0 {
                continue;
            }
            let of = |room: &Room| room.0.get(lane).copied().unwrap_or_default();
            // Most often another has as much.
            if !self.rooms.iter().any(|room| of(room) == gone) {
                *left = self.rooms.iter().map(of).max().unwrap_or_default();
            }
        }
        left
    }
}

#[derive(Debug, Clone)]
pub(super) struct Tree {
    root: Link,
    blocks: Vec<Block>,
    spare: Vec<Link>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: 0, blocks: vec![Block::default()], spare: Vec::new() }
    }
}

impl Tree {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.get(self.root).is_none_or(|root| root.keys.is_empty())
    }

    fn add(&mut self, block: Block) -> Link {
        if let Some(link) = self.spare.pop()
            && let Some(place) = self.blocks.get_mut(link)
        {
            *place = block;
            return link;
        }
        self.blocks.push(block);
        self.blocks.len() - 1
    }

    fn take(&mut self, link: Link) -> Block {
        self.spare.push(link);
        self.blocks.get_mut(link).map(std::mem::take).unwrap_or_default()
    }

    fn summary(&self, link: Link) -> Option<(Key, Room)> {
        self.blocks.get(link)?.summary()
    }

    pub(super) fn insert(&mut self, key: Key, free: Room) {
        let root = self.root;
        let Some(new) = self.insert_below(root, key, free) else { return };
        let mut above = Block::default();
        for link in [root, new] {
            if let Some((first, most)) = self.summary(link) {
                above.insert(above.len(), first, most, Some(link));
            }
        }
        self.root = self.add(above);
    }

    /// Returns the block to the right of it, if it was split.
    fn insert_below(&mut self, link: Link, key: Key, free: Room) -> Option<Link> {
        let block = self.blocks.get_mut(link)?;
        if block.below.is_empty() {
            let at = block.keys.partition_point(|one| *one < key);
            block.insert(at, key, free, None);
        } else {
            let at = block.entry(&key);
            let below = *block.below.get(at)?;
            if let (Some(first), Some(most)) = (block.keys.get_mut(at), block.rooms.get_mut(at)) {
                *first = (*first).min(key);
                *most = most.max(free);
            }
            if let Some(right) = self.insert_below(below, key, free) {
                let (left, (first, most)) = (self.summary(below)?, self.summary(right)?);
                let block = self.blocks.get_mut(link)?;
                if let Some(room) = block.rooms.get_mut(at) {
                    *room = left.1;
                }
                block.insert(at + 1, first, most, Some(right));
            }
        }
        let right = self.blocks.get_mut(link)?.split()?;
        Some(self.add(right))
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.remove_below(self.root, key);
        while let Some([only]) = self.blocks.get(self.root).map(|root| root.below.as_slice()) {
            let only = *only;
            self.take(self.root);
            self.root = only;
        }
    }

    /// Returns what was free there.
    fn remove_below(&mut self, link: Link, key: &Key) -> Option<Room> {
        let block = self.blocks.get_mut(link)?;
        if block.below.is_empty() {
            let at = block.keys.binary_search(key).ok()?;
            return block.remove(at);
        }
        let at = block.entry(key);
        let (below, most) = (*block.below.get(at)?, *block.rooms.get(at)?);
        let gone = self.remove_below(below, key)?;
        let left = self.blocks.get(below)?;
        let (first, len, most) = (left.keys.first().copied(), left.len(), left.most_without(most, gone));
        let block = self.blocks.get_mut(link)?;
        match first {
            None => {
                block.remove(at);
                self.take(below);
            }
            Some(first) => {
                if let (Some(key), Some(room)) = (block.keys.get_mut(at), block.rooms.get_mut(at)) {
                    (*key, *room) = (first, most);
                }
                if len < WIDTH / 4 {
                    self.merge(link, at);
                }
            }
        }
        Some(gone)
    }

    /// Makes one of the block at `at` below `link` and a neighbour, if that is not too much.
    fn merge(&mut self, link: Link, at: usize) -> Option<()> {
        let block = self.blocks.get(link)?;
        let at = if at + 1 < block.len() { at } else { at.checked_sub(1)? };
        let (left, right) = (*block.below.get(at)?, *block.below.get(at + 1)?);
        let len = |link: Link| self.blocks.get(link).map(Block::len);
        if len(left)? + len(right)? > WIDTH * 3 / 4 {
            return None;
        }
        let taken = self.take(right);
        self.blocks.get_mut(left)?.append(taken);
        let (first, most) = self.summary(left)?;
        let block = self.blocks.get_mut(link)?;
        block.remove(at + 1);
        *block.keys.get_mut(at)? = first;
        *block.rooms.get_mut(at)? = most;
        Some(())
    }

    /// Shows those with room for `need`, the best first, until `see` has seen enough. Parts without room are skipped
    /// whole.
    pub(super) fn walk(&self, need: &Room, see: &mut impl FnMut(Key) -> ControlFlow<()>) {
        let _ = self.walk_below(self.root, need, see);
    }

    fn walk_below(
        &self,
        link: Link,
        need: &Room,
        see: &mut impl FnMut(Key) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some(block) = self.blocks.get(link) else { return ControlFlow::Continue(()) };
        let possible = block.rooms.iter().enumerate().filter(|(_, room)| need.fits_in(room));
        for (at, _) in possible {
            if let Some(below) = block.below.get(at) {
                self.walk_below(*below, need, see)?;
            } else if let Some(key) = block.keys.get(at) {
                see(*key)?;
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Every entry above tells what is below, no block is empty or too wide, and all bottoms are as deep.
    fn depth(tree: &Tree, link: Link) -> usize {
        let block = &tree.blocks[link];
        assert!(block.len() <= WIDTH && block.keys.is_sorted());
        assert_eq!(block.keys.len(), block.rooms.len());
        if block.below.is_empty() {
            return 0;
        }
        assert_eq!(block.keys.len(), block.below.len());
        let depths =
            block.below.iter().zip(block.keys.iter().zip(&block.rooms)).map(|(below, (key, room))| {
                assert_eq!(tree.summary(*below), Some((*key, *room)));
                depth(tree, *below)
            });
        let depths: Vec<_> = depths.collect();
        assert!(depths.iter().all(|one| *one == depths[0]));
        depths[0] + 1
    }

    fn found(tree: &Tree, need: &Room) -> Vec<Key> {
        let mut found = Vec::new();
        tree.walk(need, &mut |key| {
            found.push(key);
            ControlFlow::Continue(())
        });
        found
    }

    proptest! {
        /// Against a sorted map that is searched from end to end.
        #[test]
        fn finds_what_a_sorted_map_finds(
            slots in 1usize..400,
            steps in prop::collection::vec((any::<usize>(), 0u64..4, prop::array::uniform4(0u32..4), 0u8..8), 0..600),
            filled in any::<bool>(),
            need in prop::array::uniform4(0u32..4),
        ) {
            let (mut tree, mut model) = (Tree::default(), BTreeMap::<Key, Room>::new());
            if filled {
                for slot in 0..slots {
                    let (key, room) = (Key::new(1, 7, slot), Room([1; 4]));
                    tree.insert(key, room);
                    model.insert(key, room);
                }
            }
            for (slot, rank, free, kind) in steps {
                // Fuller with time, or emptier.
                let insert = if filled { kind == 0 } else { kind < 6 };
                let key = Key::new(rank, 7, slot % slots);
                if insert && !model.contains_key(&key) {
                    tree.insert(key, Room(free));
                    model.insert(key, Room(free));
                } else if !insert {
                    let last = if filled { model.keys().nth(slot % model.len().max(1)).copied() } else { None };
                    let key = last.unwrap_or(key);
                    tree.remove(&key);
                    model.remove(&key);
                }
                prop_assert_eq!(tree.is_empty(), model.is_empty());
            }
            depth(&tree, tree.root);
            let need = Room(need);
            let expected: Vec<_> =
                model.iter().filter(|(_, free)| need.fits_in(free)).map(|(key, _)| *key).collect();
            prop_assert_eq!(found(&tree, &need), expected);
            for key in model.keys() {
                tree.remove(key);
                depth(&tree, tree.root);
            }
            prop_assert!(tree.is_empty());
            prop_assert_eq!(tree.blocks.len(), tree.spare.len() + 1);
        }

        /// A key is compared by its rank, then by its tie, then by its slot, and tells all three.
        #[test]
        fn a_key_is_its_parts_in_order(
            a in (0u64..=u64::from(u32::MAX), any::<u64>(), 0usize..=u32::MAX as usize),
            b in (0u64..=u64::from(u32::MAX), any::<u64>(), 0usize..=u32::MAX as usize),
        ) {
            let key = |(rank, tie, slot)| Key::new(rank, tie, slot);
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert_eq!((key(a).rank(), key(a).tie(), key(a).slot()), a);
        }

        /// What fits exactly fits in short.
        #[test]
        fn what_fits_fits_in_short(need in prop::array::uniform4(any::<u64>()), more in prop::array::uniform4(any::<u64>())) {
            let mut free = need;
            free.iter_mut().zip(more).for_each(|(free, more)| *free = free.saturating_add(more));
            prop_assert!(Room::of(&need).fits_in(&Room::of(&free)));
        }

        /// Of ten thousand nodes all but the last are full: the one is found without a look at the others.
        #[test]
        fn skips_what_is_full(last in 0usize..10_000) {
            let mut tree = Tree::default();
            for slot in 0..10_000 {
                tree.insert(Key::new(0, 0, slot), Room([u32::from(slot == last); 4]));
            }
            prop_assert_eq!(found(&tree, &Room([1; 4])), vec![Key::new(0, 0, last)]);
        }
    }
}
