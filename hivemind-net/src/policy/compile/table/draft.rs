//! A table made of all that policies say, at once. No I/O, no clock, no async.

use std::collections::HashMap;

use foldhash::fast::FixedState;

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
        let mut spans = Spans::default();
        let places: Vec<usize> = ranges.iter().map(|(first, last, _)| spans.place((*first, *last))).collect();
        let mut table = Self::cut_by(&spans.all, isolating);
        let within: Vec<_> = spans.all.iter().map(|(first, last)| table.within(*first, *last)).collect();
        let mut counts = vec![0; table.cells.len()];
        for cells in places.iter().filter_map(|place| within.get(*place)) {
            counts.get_mut(cells.clone()).into_iter().flatten().for_each(|count| *count += 1);
        }
        table.cells.iter_mut().zip(counts).for_each(|(cell, count)| cell.active.reserve_exact(count));
        for ((_, _, active), place) in ranges.into_iter().zip(places) {
            let cells = within.get(place).cloned().and_then(|cells| table.cells.get_mut(cells));
            cells.into_iter().flatten().for_each(|cell| cell.active.push(active.clone()));
        }
        table
    }

    /// Cut where any of the ranges begins or ends, without lines.
    fn cut_by(spans: &[(u32, u32)], isolating: usize) -> Self {
        let (begin, end) = ALL_KEYS;
        let mut starts = Vec::with_capacity(2 * spans.len() + 1);
        starts.push(begin);
        for (first, last) in spans {
            starts.push(*first);
            if *last < end {
                starts.push(*last + 1);
            }
        }
        starts.sort_unstable();
        starts.dedup();
        let mut cells = Vec::new();
        cells.resize_with(starts.len(), || Cell { stale: true, ..Cell::default() });
        Self { keys: Keys::new(starts), cells, isolating }
    }
}

/// Different ranges, each once.
#[derive(Default)]
struct Spans {
    all: Vec<(u32, u32)>,
    /// The places of those after the first few.
    places: HashMap<(u32, u32), usize, FixedState>,
}

impl Spans {
    /// So many are looked through one by one.
    const FEW: usize = 4;

    /// The place of a range among them.
    fn place(&mut self, span: (u32, u32)) -> usize {
        if let Some(place) = self.all.iter().take(Self::FEW).position(|one| *one == span) {
            return place;
        }
        let next = self.all.len();
        let place = if next < Self::FEW { next } else { *self.places.entry(span).or_insert(next) };
        if place == next {
            self.all.push(span);
        }
        place
    }
}
