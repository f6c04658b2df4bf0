//! Counts a tree again from what its reservations and charges say.
//!
//! No I/O, no clock, no async.

use super::lane::{Cell, Lane, NOBODY, SlotState, at, part, range};

impl Lane {
    /// Whether every level holds what the slots and the limits add up to.
    pub(super) fn is_consistent(&self) -> bool {
        let mut counted: Vec<Cell> = self.cells.iter().map(Cell::without_usage).collect();
        self.count_slots(&mut counted);
        for node in self.deepest_first() {
            self.count_into_parent(&mut counted, node);
        }
        let live = |node: &usize| self.nodes.get(*node).is_some_and(|node| node.live);
        (0..self.nodes.len()).filter(live).all(|node| {
            let range = node * self.width..(node + 1) * self.width;
            self.cells.get(range.clone()) == counted.get(range)
        })
    }

    fn count_slots(&self, counted: &mut [Cell]) {
        for (index, slot) in (0..).zip(&self.slots).filter(|(_, slot)| slot.state != SlotState::Free) {
            let cells = counted.get_mut(range(self.width, slot.node)).unwrap_or_default();
            for (cell, amount) in cells.iter_mut().zip(self.kept(index)) {
                cell.usage += amount;
                cell.load += amount;
                cell.used += if slot.state == SlotState::Committed { *amount } else { 0 };
            }
        }
    }

    /// Live tenants, each before the one above it.
    fn deepest_first(&self) -> Vec<u32> {
        let depth = |mut node: u32| {
            let mut depth = 0_usize;
            while node != NOBODY {
                node = self.parent(node);
                depth += 1;
            }
            depth
        };
        let mut nodes: Vec<_> = (0..self.nodes.len())
            .filter(|node| self.nodes.get(*node).is_some_and(|node| node.live))
            .filter_map(|node| u32::try_from(node).ok())
            .collect();
        nodes.sort_by_key(|node| std::cmp::Reverse(depth(*node)));
        nodes
    }

    fn count_into_parent(&self, counted: &mut [Cell], node: u32) {
        let parent = self.parent(node);
        if parent == NOBODY {
            return;
        }
        for resource in 0..self.width {
            let Some(child) = counted.get(at(node) * self.width + resource).copied() else { continue };
            if let Some(cell) = counted.get_mut(at(parent) * self.width + resource) {
                cell.used += child.used;
                cell.usage += child.usage;
                cell.load += part(child.charge());
            }
        }
    }
}
