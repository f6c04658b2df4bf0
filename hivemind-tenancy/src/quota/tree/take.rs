//! What is asked of a tree most: to take an amount, and to give it back. The arithmetic of a level is that of `level`,
//! as far as amounts only rise or only fall.
//!
//! No I/O, no clock, no async.

use super::lane::{Cell, Lane, NOBODY, Node, at, range};
use super::{Amounts, MAX_RESOURCES};
use crate::quota::level::{fall, has_room, rise};

impl Lane {
    /// Whether `amounts` fit at `node` and above it.
    pub(super) fn fits(&self, mut node: u32, amounts: &Amounts) -> bool {
        let mut loads = amounts.of;
        while node != NOBODY {
            let mut fits = true;
            for (cell, (usage, load)) in self.cells(node).iter().zip(amounts.of.iter().zip(&mut loads)) {
                fits &= has_room(cell.limits.own, cell.usage, *usage)
                    & has_room(cell.limits.pool, cell.load, *load);
                *load = rise(cell.load, cell.held, *load);
            }
            if !fits {
                return false;
            }
            node = self.parent(node);
        }
        true
    }

    /// Adds what a slot holds at `node` and above it, where it [fits](Self::fits); as in use, if `USED`.
    pub(super) fn rise<const USED: bool>(&mut self, node: u32, slot: u32) {
        self.climb(node, slot, |cell, usage, load| {
            let above = rise(cell.load, cell.held, load);
            cell.load = cell.load.wrapping_add(load);
            cell.usage = cell.usage.wrapping_add(usage);
            if USED {
                cell.used = cell.used.wrapping_add(usage);
            }
            above
        });
    }

    /// Takes away again what a slot holds; of what is in use, if `USED`.
    pub(super) fn fall<const USED: bool>(&mut self, node: u32, slot: u32) {
        self.climb(node, slot, |cell, usage, load| {
            cell.load = cell.load.wrapping_sub(load);
            cell.usage = cell.usage.wrapping_sub(usage);
            if USED {
                cell.used = cell.used.wrapping_sub(usage);
            }
            fall(cell.load, cell.held, load)
        });
    }

    /// Counts what a slot holds as in use.
    pub(super) fn put_to_use(&mut self, node: u32, slot: u32) {
        self.climb(node, slot, |cell, usage, _| {
            cell.used = cell.used.wrapping_add(usage);
            0
        });
    }

    /// Changes each cell at `node` and above it, given what a slot holds and what is asked of the pool; `change` says
    /// what is asked of the level above.
    #[inline(always)]
    fn climb(&mut self, mut node: u32, slot: u32, change: impl Fn(&mut Cell, u64, u64) -> u64) {
        let Some(amounts) = self.amounts.get(range(self.width, slot)) else { return };
        let mut loads = [0; MAX_RESOURCES];
        for (load, amount) in loads.iter_mut().zip(amounts) {
            *load = *amount;
        }
        while let Some(level) = self.cells.get_mut(range(self.width, node)) {
            for (cell, (usage, load)) in level.iter_mut().zip(amounts.iter().zip(&mut loads)) {
                *load = change(cell, *usage, *load);
            }
            node = parent(&self.nodes, node);
            if node == NOBODY {
                return;
            }
        }
    }
}

fn parent(nodes: &[Node], node: u32) -> u32 {
    nodes.get(at(node)).map_or(NOBODY, |node| node.parent)
}
