//! What is asked of a tree most: to take an amount, and to give it back. The arithmetic of a level is that of `level`.
//!
//! No I/O, no clock, no async.

use super::Amounts;
use super::lane::{Lane, NOBODY, at};
use crate::quota::level::{charge, is_short};

impl Lane {
    /// The resources of which `amounts` has some, with their places.
    fn asked<'a>(&self, amounts: &'a Amounts) -> impl Iterator<Item = (usize, i128)> + use<'a> {
        let all = amounts.of.iter().take(self.width).enumerate();
        all.filter(|(_, amount)| **amount > 0).map(|(resource, amount)| (resource, i128::from(*amount)))
    }

    /// Whether `amounts` fit at `node` and above it: one resource after the other, so that nothing is
    /// kept on the way.
    pub(super) fn fits(&self, node: u32, amounts: &Amounts) -> bool {
        for (resource, usage) in self.asked(amounts) {
            let (mut node, mut load) = (node, usage);
            while node != NOBODY
                && let Some(cell) = self.cells.get(at(node) * self.width + resource)
            {
                let after = cell.with(usage, load);
                if is_short(cell.limits, cell.taken, after) {
                    return false;
                }
                load = charge(after.load, cell.held) - cell.charge();
                node = self.parent(node);
            }
        }
        true
    }

    /// Takes `amounts` at `node` and above it, or gives them back, as `SIGN` is 1 or -1; of what is `used`, if it is.
    pub(super) fn shift<const SIGN: i8>(&mut self, node: u32, amounts: &Amounts, used: bool) {
        for (resource, amount) in self.asked(amounts) {
            let usage = i128::from(SIGN) * amount;
            let (mut node, mut load) = (node, usage);
            while node != NOBODY
                && let Some(cell) = self.cells.get_mut(at(node) * self.width + resource)
            {
                let before = cell.charge();
                cell.taken = cell.with(usage, load);
                cell.used += if used { usage } else { 0 };
                load = cell.charge() - before;
                node = self.parent(node);
            }
        }
    }
}
