//! The numbers of a tree, in flat arrays. The arithmetic of a level is that of `level`.
//!
//! No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::ops::Range;

use hivemind_core::{TenantId, Timestamp};

use super::{Amounts, MAX_RESOURCES, TreeUsage};
use crate::quota::level::{LevelRules, Limits, Taken, charge, shortage};

pub(super) const NOBODY: u32 = u32::MAX;

/// One resource of one tenant.
///
/// As wide as what is stored: no limit is above [`UNLIMITED`](crate::quota::level::UNLIMITED), so whatever is admitted
/// fits in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) used: u64,
    pub(super) usage: u64,
    pub(super) load: u64,
    pub(super) limits: Limits,
    pub(super) held: u64,
}

impl Cell {
    /// What is taken, wide enough to be summed up.
    pub(super) fn taken(&self) -> Taken {
        Taken { usage: i128::from(self.usage), load: i128::from(self.load) }
    }

    /// What it asks of the tenant above.
    pub(super) fn charge(&self) -> i128 {
        charge(i128::from(self.load), self.held)
    }

    /// With more, or less, in use and asked for.
    pub(super) fn with(&self, usage: i128, load: i128) -> Taken {
        let taken = self.taken();
        Taken { usage: taken.usage + usage, load: taken.load + load }
    }

    /// Its limits alone.
    pub(super) fn without_usage(&self) -> Self {
        Self { limits: self.limits, held: self.held, ..Self::default() }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    name: TenantId,
    pub(super) parent: u32,
    generation: u32,
    pub(super) live: bool,
    children: u32,
    slots: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotState {
    Free,
    Reserved,
    Committed,
}

#[derive(Debug, Clone)]
pub(super) struct Slot {
    generation: u32,
    pub(super) node: u32,
    pub(super) state: SlotState,
    deadline: Option<Timestamp>,
}

/// A limit that is short, by place.
#[derive(Debug)]
pub(super) struct Short {
    pub(super) depth: usize,
    pub(super) node: u32,
    pub(super) resource: usize,
    pub(super) limit: u64,
    pub(super) used: u64,
    pub(super) reserved: u64,
    pub(super) held: u64,
    pub(super) asked: u64,
    pub(super) by: u64,
}

/// An amount of each resource, with a sign.
type Row = [i128; MAX_RESOURCES];

const NOTHING: Row = [0; MAX_RESOURCES];

/// What changes at a level: what is asked of its pool, what is taken, and what of that is in use.
#[derive(Debug, Clone, Copy)]
struct Delta {
    load: Row,
    usage: Row,
    used: Row,
}

impl Delta {
    /// Only what is asked for changes.
    fn load(load: Row) -> Self {
        Self { load, usage: NOTHING, used: NOTHING }
    }

    /// An amount is taken.
    fn take(amounts: &Amounts) -> Self {
        let row = amounts.of.map(i128::from);
        Self { load: row, usage: row, used: NOTHING }
    }

    fn negated(self) -> Self {
        Self { load: self.load.map(|n| -n), usage: self.usage.map(|n| -n), used: self.used.map(|n| -n) }
    }

    /// The rises of it alone.
    fn rises(self) -> Self {
        Self { load: self.load.map(|n| n.max(0)), usage: self.usage.map(|n| n.max(0)), used: self.used }
    }
}

pub(super) fn part(amount: i128) -> u64 {
    u64::try_from(amount.max(0)).unwrap_or(u64::MAX)
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) width: usize,
    pub(super) nodes: Vec<Node>,
    pub(super) cells: Vec<Cell>,
    pub(super) slots: Vec<Slot>,
    /// The amounts of each slot, `width` of them: beside the slots, so that a tree of few resources touches little.
    pub(super) amounts: Vec<u64>,
    free_nodes: Vec<u32>,
    free_slots: Vec<u32>,
    deadlines: BTreeSet<(Timestamp, u32)>,
}

pub(super) fn at(index: u32) -> usize {
    index as usize
}

/// Where the `width` numbers of the one at `index` are.
pub(super) fn range(width: usize, index: u32) -> Range<usize> {
    let start = at(index) * width;
    start..start + width
}

impl Lane {
    pub(super) fn new(root: TenantId, levels: &[LevelRules]) -> (Self, u32) {
        let mut lane = Self {
            width: levels.len(),
            nodes: Vec::new(),
            cells: Vec::new(),
            slots: Vec::new(),
            amounts: Vec::new(),
            free_nodes: Vec::new(),
            free_slots: Vec::new(),
            deadlines: BTreeSet::new(),
        };
        let root = lane.place(root, NOBODY, levels);
        (lane, root)
    }

    pub(super) fn name(&self, node: u32) -> Option<&TenantId> {
        self.nodes.get(at(node)).map(|node| &node.name)
    }

    pub(super) fn cells(&self, node: u32) -> &[Cell] {
        self.cells.get(range(self.width, node)).unwrap_or_default()
    }

    fn cells_mut(&mut self, node: u32) -> &mut [Cell] {
        self.cells.get_mut(range(self.width, node)).unwrap_or_default()
    }

    /// The amounts of a slot.
    pub(super) fn kept(&self, slot: u32) -> &[u64] {
        self.amounts.get(range(self.width, slot)).unwrap_or_default()
    }

    pub(super) fn parent(&self, node: u32) -> u32 {
        self.nodes.get(at(node)).map_or(NOBODY, |node| node.parent)
    }

    pub(super) fn is_live(&self, node: u32, generation: u32) -> bool {
        self.nodes.get(at(node)).is_some_and(|node| node.live && node.generation == generation)
    }

    pub(super) fn is_root(&self, node: u32) -> bool {
        self.parent(node) == NOBODY
    }

    /// Whether `node` is `top` or below it.
    pub(super) fn is_within(&self, mut node: u32, top: u32) -> bool {
        while node != NOBODY {
            if node == top {
                return true;
            }
            node = self.parent(node);
        }
        false
    }

    /// Children, and own reservations and charges.
    pub(super) fn contents(&self, node: u32) -> (u32, u32) {
        self.nodes.get(at(node)).map_or((0, 0), |node| (node.children, node.slots))
    }

    pub(super) fn usage(&self, node: u32) -> Vec<TreeUsage> {
        let usage = |cell: &Cell| TreeUsage {
            used: cell.used,
            reserved: cell.usage.saturating_sub(cell.used),
            load: cell.load,
            over: shortage(cell.limits, Taken { usage: -1, load: -1 }, cell.taken()).is_some(),
        };
        self.cells(node).iter().map(usage).collect()
    }

    fn place(&mut self, name: TenantId, parent: u32, levels: &[LevelRules]) -> u32 {
        let index = match self.free_nodes.pop() {
            Some(index) => index,
            None => {
                let node =
                    Node { name: name.clone(), parent, generation: 0, live: false, children: 0, slots: 0 };
                self.nodes.push(node);
                self.cells.resize(self.nodes.len() * self.width, Cell::default());
                u32::try_from(self.nodes.len() - 1).unwrap_or(NOBODY)
            }
        };
        if let Some(node) = self.nodes.get_mut(at(index)) {
            (node.name, node.parent, node.live) = (name, parent, true);
        }
        for (cell, rules) in self.cells_mut(index).iter_mut().zip(levels) {
            *cell = Cell { limits: rules.limits(parent != NOBODY), held: rules.held(), ..Cell::default() };
        }
        if let Some(parent) = self.nodes.get_mut(at(parent)) {
            parent.children += 1;
        }
        index
    }

    pub(super) fn add(
        &mut self,
        name: TenantId,
        parent: u32,
        levels: &[LevelRules],
    ) -> Result<(u32, u32), Vec<Short>> {
        let mut held = NOTHING;
        for (amount, rules) in held.iter_mut().zip(levels) {
            *amount = i128::from(rules.held());
        }
        self.check(parent, Delta::load(held), 1)?;
        self.change(parent, Delta::load(held));
        let index = self.place(name, parent, levels);
        Ok((index, self.nodes.get(at(index)).map_or(0, |node| node.generation)))
    }

    pub(super) fn remove(&mut self, node: u32) {
        let (parent, charge) = (self.parent(node), self.charge(node));
        self.change(parent, Delta::load(charge).negated());
        if let Some(parent) = self.nodes.get_mut(at(parent)) {
            parent.children -= 1;
        }
        if let Some(gone) = self.nodes.get_mut(at(node)) {
            gone.live = false;
            gone.generation = gone.generation.wrapping_add(1);
            self.free_nodes.push(node);
        }
    }

    fn charge(&self, node: u32) -> Row {
        let mut charge = NOTHING;
        for (amount, cell) in charge.iter_mut().zip(self.cells(node)) {
            *amount = cell.charge();
        }
        charge
    }

    /// Whether what rises fits at `node` and above it; otherwise every limit that is short.
    fn check(&self, node: u32, delta: Delta, depth: usize) -> Result<(), Vec<Short>> {
        let (mut at, mut load) = (node, delta.load);
        while at != NOBODY {
            for (cell, (load, usage)) in self.cells(at).iter().zip(load.iter_mut().zip(&delta.usage)) {
                if *load == 0 && *usage == 0 {
                    continue;
                }
                let after = cell.with(*usage, *load);
                if shortage(cell.limits, cell.taken(), after).is_some() {
                    return Err(self.shortages(node, delta, depth));
                }
                *load = charge(after.load, cell.held) - cell.charge();
            }
            at = self.parent(at);
        }
        Ok(())
    }

    #[cold]
    fn shortages(&self, mut node: u32, delta: Delta, mut depth: usize) -> Vec<Short> {
        let (mut short, mut load) = (Vec::new(), delta.load);
        while node != NOBODY {
            let rows = load.iter_mut().zip(&delta.usage);
            for (resource, (cell, (load, usage))) in self.cells(node).iter().zip(rows).enumerate() {
                let after = cell.with(*usage, *load);
                if let Some(found) = shortage(cell.limits, cell.taken(), after) {
                    short.push(Short {
                        depth,
                        node,
                        resource,
                        limit: found.limit,
                        used: cell.used,
                        reserved: cell.usage.saturating_sub(cell.used),
                        held: cell.load.saturating_sub(cell.usage),
                        asked: part((*load).max(*usage)),
                        by: found.by,
                    });
                }
                *load = charge(after.load, cell.held) - cell.charge();
            }
            node = self.parent(node);
            depth += 1;
        }
        short
    }

    /// Changes `node` and everything above it.
    fn change(&mut self, mut node: u32, mut delta: Delta) {
        while node != NOBODY {
            let rows = delta.load.iter_mut().zip(delta.usage.iter().zip(&delta.used));
            for (cell, (load, (usage, used))) in self.cells_mut(node).iter_mut().zip(rows) {
                if *load == 0 && *usage == 0 && *used == 0 {
                    continue;
                }
                let (before, after) = (cell.charge(), cell.with(*usage, *load));
                (cell.usage, cell.load) = (part(after.usage), part(after.load));
                cell.used = part(i128::from(cell.used) + *used);
                *load = cell.charge() - before;
            }
            node = self.parent(node);
        }
    }

    /// Takes `amounts` at `node` and above it; as `state` says, for a request or to be used at once.
    pub(super) fn take(
        &mut self,
        node: u32,
        amounts: &Amounts,
        deadline: Option<Timestamp>,
        state: SlotState,
    ) -> Result<(u32, u32), Vec<Short>> {
        if !self.fits(node, amounts) {
            return Err(self.shortages(node, Delta::take(amounts), 0));
        }
        let index = self.free_slots.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, node, state: SlotState::Free, deadline: None });
            self.amounts.resize(self.slots.len() * self.width, 0);
            u32::try_from(self.slots.len() - 1).unwrap_or(NOBODY)
        });
        if let Some(kept) = self.amounts.get_mut(range(self.width, index)) {
            // One by one: as few as they are, a call of `memcpy` takes longer.
            for (kept, amount) in kept.iter_mut().zip(&amounts.of) {
                *kept = *amount;
            }
        }
        match state {
            SlotState::Committed => self.rise::<true>(node, index),
            _ => self.rise::<false>(node, index),
        }
        if let Some(node) = self.nodes.get_mut(at(node)) {
            node.slots += 1;
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, index));
        }
        let Some(slot) = self.slots.get_mut(at(index)) else { return Ok((index, 0)) };
        (slot.node, slot.state, slot.deadline) = (node, state, deadline);
        Ok((index, slot.generation))
    }

    fn slot(&mut self, slot: u32, generation: u32, state: SlotState) -> Option<&mut Slot> {
        self.slots.get_mut(at(slot)).filter(|slot| slot.generation == generation && slot.state == state)
    }

    pub(super) fn commit(&mut self, slot: u32, generation: u32) -> bool {
        let Some(found) = self.slot(slot, generation, SlotState::Reserved) else { return false };
        found.state = SlotState::Committed;
        let node = found.node;
        if let Some(deadline) = found.deadline.take() {
            self.deadlines.remove(&(deadline, slot));
        }
        self.put_to_use(node, slot);
        true
    }

    pub(super) fn give_back(&mut self, slot: u32, generation: u32, state: SlotState) -> bool {
        let Some(found) = self.slot(slot, generation, state) else { return false };
        found.state = SlotState::Free;
        found.generation = found.generation.wrapping_add(1);
        let node = found.node;
        if let Some(deadline) = found.deadline.take() {
            self.deadlines.remove(&(deadline, slot));
        }
        self.free_slots.push(slot);
        if let Some(node) = self.nodes.get_mut(at(node)) {
            node.slots -= 1;
        }
        match state {
            SlotState::Committed => self.fall::<true>(node, slot),
            _ => self.fall::<false>(node, slot),
        }
        true
    }

    /// Whose charge it is, and how that went; `None` if there is no such charge.
    pub(super) fn resize(
        &mut self,
        slot: u32,
        generation: u32,
        amounts: &Amounts,
    ) -> Option<(u32, Result<(), Vec<Short>>)> {
        let found = self.slot(slot, generation, SlotState::Committed)?;
        let node = found.node;
        let mut change = NOTHING;
        for (change, (new, old)) in change.iter_mut().zip(amounts.of.iter().zip(self.kept(slot))) {
            *change = i128::from(*new) - i128::from(*old);
        }
        let delta = Delta { load: change, usage: change, used: change };
        if let Err(short) = self.check(node, delta.rises(), 0) {
            return Some((node, Err(short)));
        }
        self.change(node, delta);
        if let Some(kept) = self.amounts.get_mut(range(self.width, slot)) {
            for (kept, amount) in kept.iter_mut().zip(&amounts.of) {
                *kept = *amount;
            }
        }
        Some((node, Ok(())))
    }

    pub(super) fn expire(&mut self, now: Timestamp) -> usize {
        let mut expired = 0;
        while let Some((deadline, slot)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(deadline, slot));
            let generation = self.slots.get(at(slot)).map_or(0, |slot| slot.generation);
            expired += usize::from(self.give_back(slot, generation, SlotState::Reserved));
        }
        expired
    }

    pub(super) fn set_rules(&mut self, node: u32, levels: &[LevelRules]) -> Result<(), Vec<Short>> {
        let mut change = NOTHING;
        for (change, (cell, rules)) in change.iter_mut().zip(self.cells(node).iter().zip(levels)) {
            *change = charge(i128::from(cell.load), rules.held()) - cell.charge();
        }
        let (parent, delta) = (self.parent(node), Delta::load(change));
        self.check(parent, delta.rises(), 1)?;
        self.change(parent, delta);
        for (cell, rules) in self.cells_mut(node).iter_mut().zip(levels) {
            (cell.limits, cell.held) = (rules.limits(parent != NOBODY), rules.held());
        }
        Ok(())
    }

    pub(super) fn reparent(&mut self, node: u32, parent: u32) -> Result<(), Vec<Short>> {
        let old = self.parent(node);
        let mut delta = Delta::load(self.charge(node));
        for (cell, (usage, used)) in self.cells(node).iter().zip(delta.usage.iter_mut().zip(&mut delta.used))
        {
            (*usage, *used) = (i128::from(cell.usage), i128::from(cell.used));
        }
        // Lowered first: what the old and the new place have above them in common must not count twice.
        self.change(old, delta.negated());
        if let Err(short) = self.check(parent, delta, 1) {
            self.change(old, delta);
            return Err(short);
        }
        self.change(parent, delta);
        for (index, children) in [(old, -1), (parent, 1)] {
            if let Some(node) = self.nodes.get_mut(at(index)) {
                node.children = node.children.saturating_add_signed(children);
            }
        }
        if let Some(node) = self.nodes.get_mut(at(node)) {
            node.parent = parent;
        }
        Ok(())
    }
}
