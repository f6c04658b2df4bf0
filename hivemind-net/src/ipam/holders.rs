//! Who holds which number of a layout, and which are free. No I/O, no clock, no async.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::layout::{Fixed, Use};
use super::table::{Entry, Table};
use super::{FreeBits, Start};

/// How many numbers are in a group, as a power of two. With four, the one number that a random address takes of its group
/// costs as much memory as a bit of 64 and its owner in tables of their own would, and is one look-up instead of two.
const BITS: u32 = 2;
const EACH: usize = 1 << BITS;

/// What a number is: an owner's, or one of a few others. A word of 32 bits, since there are millions of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder(u32);

impl Holder {
    const OPEN: Self = Self(u32::MAX);
    const BAND: Self = Self(u32::MAX - 1);
    const RESERVED: Self = Self(u32::MAX - 2);
    /// Nobody's, and for nobody.
    const OUTSIDE: Self = Self(u32::MAX - 3);
    /// Given back, and not yet free.
    pub(super) const RESTS: Self = Self(u32::MAX - 4);

    /// An owner, by its number in a [`Slab`](crate::slab::Slab).
    pub(super) fn owner(slot: u32) -> Self {
        Self(slot)
    }

    /// The owner, if there is one.
    pub(super) fn slot(self) -> Option<u32> {
        (self.0 < Self::RESTS.0).then_some(self.0)
    }

    fn free(of: Option<Use>) -> Self {
        match of {
            Some(Use::Open) => Self::OPEN,
            Some(Use::Band) => Self::BAND,
            Some(Use::Reserved) => Self::RESERVED,
            None => Self::OUTSIDE,
        }
    }

    /// Whether an owner has it, or it rests.
    fn is_held(self) -> bool {
        self.0 <= Self::RESTS.0
    }
}

/// Numbers that lie together.
#[derive(Debug, Clone, Copy)]
struct Group([Holder; EACH]);

/// The group of a number, and its place there.
fn place(number: u128) -> (u128, usize) {
    (number >> BITS, (number % EACH as u128) as usize)
}

/// The number at a place of a group.
fn number(group: u128, at: usize) -> u128 {
    (group << BITS) | at as u128
}

impl Group {
    fn has(&self, holder: Holder) -> bool {
        self.0.contains(&holder)
    }

    /// Where the first is, from `at` on.
    fn find(&self, at: usize, holder: Holder) -> Option<usize> {
        (at..).zip(self.0.iter().skip(at)).find(|(_, found)| **found == holder).map(|(at, _)| at)
    }

    fn with(mut self, at: usize, holder: Holder) -> Self {
        self.0.iter_mut().skip(at).take(1).for_each(|there| *there = holder);
        self
    }

    /// Whether nothing of it must be remembered, since the layout says as much.
    fn is_plain(&self) -> bool {
        let [first, others @ ..] = &self.0;
        !first.is_held() && others.iter().all(|other| other == first)
    }

    fn owned(&self) -> usize {
        self.0.iter().filter(|holder| holder.slot().is_some()).count()
    }

    fn numbers(self, group: u128) -> impl Iterator<Item = (u128, Holder)> {
        (0..).zip(self.0).map(move |(at, holder)| (number(group, at), holder))
    }
}

/// A group in the table of groups. Never in two lines of a cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Kept {
    group: u128,
    holders: Group,
}

impl Entry for Kept {
    const NONE: Self = Self { group: u128::MAX, holders: Group([Holder::OUTSIDE; EACH]) };

    fn is_none(&self) -> bool {
        self.group == u128::MAX
    }
}

/// The table of groups: those that are not in it are plain.
#[derive(Debug, Clone, Default)]
struct Groups {
    table: Table<Kept>,
    hasher: RandomState,
}

impl Groups {
    fn hash(&self, group: u128) -> u64 {
        self.hasher.hash_one(group)
    }

    fn touch(&self, group: u128) {
        self.table.touch(self.hash(group));
    }

    fn get(&self, group: u128) -> Option<&Group> {
        self.table.find(self.hash(group), |kept| kept.group == group).map(|kept| &kept.holders)
    }

    fn reserve(&mut self, more: usize) {
        let Self { table, hasher } = self;
        table.reserve(more, |kept| hasher.hash_one(kept.group));
    }

    fn iter(&self) -> impl Iterator<Item = (u128, &Group)> {
        self.table.iter().map(|kept| (kept.group, &kept.holders))
    }

    /// Makes a group what `change` makes of it, or of `None` if it is plain.
    fn update(&mut self, group: u128, change: impl FnOnce(Option<Group>) -> Group) {
        let Self { table, hasher } = self;
        let hash = |kept: &Kept| hasher.hash_one(kept.group);
        table.update(
            hasher.hash_one(group),
            |kept| kept.group == group,
            hash,
            |kept| {
                let holders = change(Some(kept.holders).filter(|_| !kept.is_none()));
                if holders.is_plain() { Kept::NONE } else { Kept { group, holders } }
            },
        );
    }
}

/// Where a search begins: a group of which one is free, and a place in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aim {
    of: Use,
    group: u128,
    at: usize,
}

/// Every number of a layout: free, held, or at rest; and every number held that the layout lacks.
///
/// Numbers are kept in groups of four that lie together, of which only those exist that are not all free or all outside.
/// So to see whether a number is free, to take it, and to tell its owner is one look-up of one table, and the numbers that
/// are taken one after the other lie together there. Which groups have a free one is told by bits: most often by none.
#[derive(Debug, Clone)]
pub(super) struct Holders {
    layout: Fixed,
    groups: Groups,
    /// Of each use the groups that have a free one.
    open: FreeBits,
    band: FreeBits,
    reserved: FreeBits,
    owned: usize,
    probes: u64,
}

impl Aim {
    /// The number where it begins.
    pub(super) fn number(self) -> u128 {
        number(self.group, self.at)
    }
}

impl Holders {
    /// All of `layout`, free but for what is held; quickest in order.
    pub(super) fn new(layout: Fixed, held: &[(u128, Holder)]) -> Self {
        let groups =
            |of| FreeBits::of(layout.of(of).iter().map(|(first, last)| (first >> BITS, last >> BITS)));
        let [open, band, reserved] = Use::ALL.map(groups);
        let groups = Groups::default();
        let mut all = Self { open, band, reserved, layout, groups, owned: 0, probes: 0 };
        let ends = all.layout.ranges().flat_map(|(first, last)| [Some(first), last.checked_add(1)]);
        // A layout ends within these groups: so they are as it says at each place, and never plain.
        let edges: Vec<_> = ends.flatten().filter(|end| place(*end).1 != 0).map(|end| place(end).0).collect();
        let same = |a: &(u128, Holder), b: &(u128, Holder)| a.0 >> BITS == b.0 >> BITS;
        // A table that grows while it is filled is made several times.
        all.groups.reserve(edges.len() + held.chunk_by(same).count());
        for group in edges {
            let of = |at| Holder::free(all.layout.use_of(number(group, at)));
            all.groups.update(group, |_| Group(std::array::from_fn(of)));
        }
        for together in held.chunk_by(same) {
            let Some((first, _)) = together.first() else { continue };
            all.change(first >> BITS, |group| {
                together.iter().fold(group, |group, (number, holder)| group.with(place(*number).1, *holder))
            });
        }
        all
    }

    pub(super) fn layout(&self) -> &Fixed {
        &self.layout
    }

    /// What a number is.
    pub(super) fn get(&self, number: u128) -> Holder {
        let (group, at) = place(number);
        match self.groups.get(group).and_then(|group| group.0.get(at)) {
            Some(holder) => *holder,
            None => Holder::free(self.layout.use_of(number)),
        }
    }

    /// Who owns a number.
    pub(super) fn slot(&self, number: u128) -> Option<u32> {
        let (group, at) = place(number);
        self.groups.get(group)?.0.get(at)?.slot()
    }

    /// How many numbers have owners.
    pub(super) fn owned(&self) -> usize {
        self.owned
    }

    /// Everything that is held, in no order.
    pub(super) fn held(&self) -> impl Iterator<Item = (u128, Holder)> {
        let all = self.groups.iter().flat_map(|(group, holders)| holders.numbers(group));
        all.filter(|(_, holder)| holder.is_held())
    }

    fn with_free(&mut self, of: Use) -> &mut FreeBits {
        match of {
            Use::Open => &mut self.open,
            Use::Band => &mut self.band,
            Use::Reserved => &mut self.reserved,
        }
    }

    /// Makes a number what `holder` says; returns what it was.
    pub(super) fn put(&mut self, number: u128, holder: Holder) -> Holder {
        let (group, at) = place(number);
        let was = self.change(group, |was| was.with(at, holder));
        was.0.get(at).copied().unwrap_or(Holder::OUTSIDE)
    }

    /// Makes a group what `change` makes of it; returns what it was.
    fn change(&mut self, group: u128, change: impl FnOnce(Group) -> Group) -> Group {
        self.probes += 1;
        let Self { groups, layout, .. } = self;
        let (mut was, mut is) = (Kept::NONE.holders, Kept::NONE.holders);
        groups.update(group, |found| {
            was = found.unwrap_or_else(|| Group([Holder::free(layout.use_of(number(group, 0))); EACH]));
            is = change(was);
            is
        });
        self.owned = self.owned + is.owned() - was.owned();
        for of in Use::ALL {
            let free = Holder::free(Some(of));
            match (was.has(free), is.has(free)) {
                (true, false) => drop(self.with_free(of).take(group)),
                (false, true) => drop(self.with_free(of).put(group)),
                _ => {}
            }
        }
        was
    }

    /// Makes a number what the layout says; returns what it was.
    pub(super) fn free(&mut self, number: u128) -> Holder {
        let holder = Holder::free(self.layout.use_of(number));
        self.put(number, holder)
    }

    /// Where a search for a free number of a use begins: where `start` says within what there is in all, free or not; or at
    /// the lowest, if there is none from there on.
    pub(super) fn aim(&mut self, of: Use, start: Start) -> Option<Aim> {
        self.probes += 1;
        let (low, high) = self.layout.span(of)?;
        let groups = self.with_free(of);
        let from = match start {
            Start::Lowest => low,
            Start::At(number) => number.max(low),
            Start::Anywhere(random) => {
                let offset = (high - low).checked_add(1).map_or(random, |size| random % size);
                low.saturating_add(offset)
            }
        };
        let (first, at) = place(from);
        let from = if from == low { None } else { groups.at_or_after(first) };
        let group = from.or_else(|| groups.lowest())?;
        Some(Aim { of, group, at: if from == Some(first) { at } else { 0 } })
    }

    /// Brings what a search will need into the caches, without a wait.
    pub(super) fn touch(&self, number: u128) {
        self.groups.touch(number >> BITS);
    }

    /// The free number of a use that comes first: in the group, in those after it, or the lowest.
    pub(super) fn search(&mut self, aim: Aim) -> Option<u128> {
        let Aim { of, group, at } = aim;
        // In a group in whose midst the search begins, all the rest can be taken.
        self.free_in(of, group, at)
            .or_else(|| {
                let next = self.with_free(of).at_or_after(group + 1)?;
                self.free_in(of, next, 0)
            })
            .or_else(|| {
                let lowest = self.with_free(of).lowest()?;
                self.free_in(of, lowest, 0)
            })
    }

    /// The lowest free number of a use in a group that has one, from a place on.
    fn free_in(&mut self, of: Use, group: u128, at: usize) -> Option<u128> {
        self.probes += 1;
        let Some(holders) = self.groups.get(group) else { return Some(number(group, at)) };
        holders.find(at, Holder::free(Some(of))).map(|at| number(group, at))
    }

    /// The free ranges of a use, both ends included, in order; looks at every group.
    pub(super) fn free_ranges(&self, of: Use) -> Vec<(u128, u128)> {
        let groups = match of {
            Use::Open => &self.open,
            Use::Band => &self.band,
            Use::Reserved => &self.reserved,
        };
        let free = Holder::free(Some(of));
        let with_free = self.groups.iter().filter(|(_, holders)| holders.has(free));
        let others = with_free.flat_map(|(group, holders)| holders.numbers(group));
        let mut others: Vec<_> =
            others.filter(|(_, holder)| *holder != free).map(|(number, _)| number).collect();
        others.sort_unstable();
        let mut others = others.into_iter().peekable();
        let mut ranges = Vec::new();
        for (first, last) in groups.ranges() {
            let (mut from, last) = (Some(number(first, 0)), number(last, EACH - 1));
            while let Some(other) = others.next_if(|other| *other <= last) {
                ranges.extend(from.filter(|from| *from < other).map(|from| (from, other - 1)));
                from = other.checked_add(1);
            }
            ranges.extend(from.filter(|from| *from <= last).map(|from| (from, last)));
        }
        ranges
    }

    /// How many look-ups all operations took that change something.
    pub(super) fn probes(&self) -> u64 {
        self.probes + self.open.probes() + self.band.probes() + self.reserved.probes()
    }
}
