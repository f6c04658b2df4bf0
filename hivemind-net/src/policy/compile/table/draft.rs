//! A table made of all that policies say, at once. No I/O, no clock, no async.

use super::{
    ALL_KEYS, Cell, Direction, Keys, LineRange, NamedPorts, Policy, Sources, Table, isolates, lines,
};

/// A table in the making: what policies say in one direction, at the border or not.
#[derive(Debug, Default)]
pub(in super::super) struct Draft {
    ranges: Vec<LineRange>,
    isolating: usize,
}

impl Draft {
    /// At the border, where what no grant allows is denied.
    pub(in super::super) fn of_border() -> Self {
        Self { ranges: Vec::new(), isolating: 1 }
    }

    /// What `policy` says too; policies come in the order in which they are asked.
    pub(in super::super) fn add(
        &mut self,
        sources: Sources<'_>,
        direction: Direction,
        (number, policy): (u32, &Policy),
        own: &NamedPorts,
        border: bool,
    ) {
        self.isolating += isolates(policy, direction, border);
        lines(sources, direction, (number, policy), own, border, |first, last, active| {
            self.ranges.push((first, last, active));
        });
    }

    pub(in super::super) fn table(mut self, sources: Sources<'_>, direction: Direction) -> Table {
        if self.ranges.is_empty() {
            return Table { isolating: self.isolating, ..Table::default() };
        }
        // Stable, so rules of the cluster stay in their order.
        self.ranges.sort_by_key(|(_, _, active)| active.place());
        let mut table = Table::divided(self.ranges, self.isolating);
        table.settle(sources, direction);
        table
    }
}

impl Table {
    /// The ranges cut where any begins or ends, each with its lines.
    fn divided(ranges: Vec<LineRange>, isolating: usize) -> Self {
        // Many rules are about the same few ports: what can be is done once for each range.
        let mut spans: Vec<(u32, u32)> = ranges.iter().map(|(first, last, _)| (*first, *last)).collect();
        spans.sort_unstable();
        spans.dedup();
        let (begin, end) = ALL_KEYS;
        let mut starts = Vec::with_capacity(2 * spans.len() + 1);
        starts.push(begin);
        for (first, last) in &spans {
            starts.push(*first);
            if *last < end {
                starts.push(*last + 1);
            }
        }
        starts.sort_unstable();
        starts.dedup();
        let mut cells = Vec::new();
        cells.resize_with(starts.len(), || Cell { stale: true, ..Cell::default() });
        let mut table = Self { keys: Keys::new(starts), cells, isolating };
        let within: Vec<_> = spans.iter().map(|(first, last)| table.within(*first, *last)).collect();
        for (first, last, active) in ranges {
            let cells = spans.binary_search(&(first, last)).ok().and_then(|at| within.get(at)).cloned();
            let cells = cells.and_then(|cells| table.cells.get_mut(cells)).unwrap_or_default();
            cells.iter_mut().for_each(|cell| cell.active.push(active.clone()));
        }
        table
    }
}
