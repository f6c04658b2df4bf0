//! The numbers of a tree, in flat arrays.
//!
//! No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::Timestamp;

use super::limits::TreeLimit;
use super::{Amounts, MAX_RESOURCES, TreeUsage};

pub(super) const NOBODY: u32 = u32::MAX;

/// One resource of one tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) used: u64,
    pub(super) reserved: u64,
    pub(super) load: u64,
    ceiling: u64,
    held: u64,
}

impl Cell {
    /// What it asks of the tenant above.
    pub(super) fn charge(&self) -> u64 {
        self.load.max(self.held)
    }

    /// Its limits alone.
    pub(super) fn without_usage(&self) -> Self {
        Self { ceiling: self.ceiling, held: self.held, ..Self::default() }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    parent: u32,
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
    pub(super) amounts: Amounts,
}

/// A limit that is short, by place.
#[derive(Debug)]
pub(super) struct Short {
    pub(super) level: usize,
    pub(super) node: (u32, u32),
    pub(super) resource: usize,
    pub(super) limit: u64,
    pub(super) used: u64,
    pub(super) reserved: u64,
    pub(super) held: u64,
    pub(super) asked: u64,
    pub(super) short_by: u64,
}

/// What changes at a level: load, and what of it is used and reserved.
#[derive(Debug, Clone, Copy)]
struct Delta {
    load: Amounts,
    used: Amounts,
    reserved: Amounts,
}

const NOTHING: Amounts = Amounts([0; MAX_RESOURCES]);

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) width: usize,
    pub(super) nodes: Vec<Node>,
    pub(super) cells: Vec<Cell>,
    pub(super) slots: Vec<Slot>,
    free_nodes: Vec<u32>,
    free_slots: Vec<u32>,
    deadlines: BTreeSet<(Timestamp, u32)>,
}

pub(super) fn at(index: u32) -> usize {
    index as usize
}

fn limit(limits: &[TreeLimit], resource: usize) -> TreeLimit {
    limits.get(resource).copied().unwrap_or_default()
}

impl Lane {
    pub(super) fn new(width: usize, limits: &[TreeLimit]) -> (Self, u32) {
        let mut lane = Self {
            width,
            nodes: Vec::new(),
            cells: Vec::new(),
            slots: Vec::new(),
            free_nodes: Vec::new(),
            free_slots: Vec::new(),
            deadlines: BTreeSet::new(),
        };
        let root = lane.place(NOBODY, limits);
        (lane, root)
    }

    fn cells(&self, node: u32) -> &[Cell] {
        let start = at(node) * self.width;
        self.cells.get(start..start + self.width).unwrap_or_default()
    }

    fn cells_mut(&mut self, node: u32) -> &mut [Cell] {
        let start = at(node) * self.width;
        self.cells.get_mut(start..start + self.width).unwrap_or_default()
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
            reserved: cell.reserved,
            load: cell.load,
            limit: cell.ceiling,
        };
        self.cells(node).iter().map(usage).collect()
    }

    fn place(&mut self, parent: u32, limits: &[TreeLimit]) -> u32 {
        let index = self.free_nodes.pop().unwrap_or_else(|| {
            self.nodes.push(Node { parent: NOBODY, generation: 0, live: false, children: 0, slots: 0 });
            self.cells.resize(self.nodes.len() * self.width, Cell::default());
            u32::try_from(self.nodes.len() - 1).unwrap_or(NOBODY)
        });
        if let Some(node) = self.nodes.get_mut(at(index)) {
            node.parent = parent;
            node.live = true;
        }
        for (resource, cell) in self.cells_mut(index).iter_mut().enumerate() {
            let limit = limit(limits, resource);
            *cell = Cell { ceiling: limit.ceiling(), held: limit.held(), ..Cell::default() };
        }
        if let Some(parent) = self.nodes.get_mut(at(parent)) {
            parent.children += 1;
        }
        index
    }

    pub(super) fn add(&mut self, parent: u32, limits: &[TreeLimit]) -> Result<(u32, u32), Vec<Short>> {
        let mut held = NOTHING;
        for (resource, amount) in held.0.iter_mut().take(self.width).enumerate() {
            *amount = limit(limits, resource).held();
        }
        self.check(parent, &held, 1)?;
        self.raise(parent, Delta { load: held, used: NOTHING, reserved: NOTHING });
        let index = self.place(parent, limits);
        Ok((index, self.nodes.get(at(index)).map_or(0, |node| node.generation)))
    }

    pub(super) fn remove(&mut self, node: u32) {
        let (parent, charge) = (self.parent(node), self.charge(node));
        self.lower(parent, Delta { load: charge, used: NOTHING, reserved: NOTHING });
        if let Some(parent) = self.nodes.get_mut(at(parent)) {
            parent.children -= 1;
        }
        if let Some(gone) = self.nodes.get_mut(at(node)) {
            gone.live = false;
            gone.generation = gone.generation.wrapping_add(1);
            self.free_nodes.push(node);
        }
    }

    fn charge(&self, node: u32) -> Amounts {
        let mut charge = NOTHING;
        for (amount, cell) in charge.0.iter_mut().zip(self.cells(node)) {
            *amount = cell.charge();
        }
        charge
    }

    /// Whether `asked` more fits at `node` and above it; otherwise every limit that is short.
    fn check(&self, node: u32, asked: &Amounts, level: usize) -> Result<(), Vec<Short>> {
        let (mut node, mut rising) = (node, *asked);
        let mut fits = true;
        let start = node;
        while node != NOBODY {
            let mut any = false;
            for (cell, rise) in self.cells(node).iter().zip(rising.0.iter_mut()) {
                if *rise == 0 {
                    continue;
                }
                let Some(load) = cell.load.checked_add(*rise) else {
                    return Err(self.shortages(start, asked, level));
                };
                fits &= load <= cell.ceiling;
                *rise = load.max(cell.held) - cell.charge();
                any |= *rise > 0;
            }
            if !any {
                break;
            }
            node = self.parent(node);
        }
        if fits { Ok(()) } else { Err(self.shortages(start, asked, level)) }
    }

    #[cold]
    fn shortages(&self, mut node: u32, asked: &Amounts, mut level: usize) -> Vec<Short> {
        let (mut short, mut rising) = (Vec::new(), *asked);
        while node != NOBODY {
            let generation = self.nodes.get(at(node)).map_or(0, |node| node.generation);
            for (resource, (cell, rise)) in self.cells(node).iter().zip(rising.0.iter_mut()).enumerate() {
                let wanted = u128::from(cell.load) + u128::from(*rise);
                if *rise > 0 && wanted > u128::from(cell.ceiling) {
                    short.push(Short {
                        level,
                        node: (node, generation),
                        resource,
                        limit: cell.ceiling,
                        used: cell.used,
                        reserved: cell.reserved,
                        held: cell.load.saturating_sub(cell.used).saturating_sub(cell.reserved),
                        asked: *rise,
                        short_by: u64::try_from(wanted - u128::from(cell.ceiling)).unwrap_or(u64::MAX),
                    });
                }
                let load = cell.load.saturating_add(*rise);
                *rise = load.max(cell.held) - cell.charge();
            }
            node = self.parent(node);
            level += 1;
        }
        short
    }

    fn raise(&mut self, mut node: u32, mut delta: Delta) {
        while node != NOBODY {
            let parts = delta.load.0.iter_mut().zip(&delta.used.0).zip(&delta.reserved.0);
            for (cell, ((rise, used), reserved)) in self.cells_mut(node).iter_mut().zip(parts) {
                cell.used += *used;
                cell.reserved += *reserved;
                let before = cell.charge();
                cell.load += *rise;
                *rise = cell.charge() - before;
            }
            node = self.parent(node);
        }
    }

    fn lower(&mut self, mut node: u32, mut delta: Delta) {
        while node != NOBODY {
            let parts = delta.load.0.iter_mut().zip(&delta.used.0).zip(&delta.reserved.0);
            for (cell, ((fall, used), reserved)) in self.cells_mut(node).iter_mut().zip(parts) {
                cell.used -= *used;
                cell.reserved -= *reserved;
                let before = cell.charge();
                cell.load -= *fall;
                *fall = before - cell.charge();
            }
            node = self.parent(node);
        }
    }

    pub(super) fn reserve(
        &mut self,
        node: u32,
        amounts: &Amounts,
        deadline: Option<Timestamp>,
    ) -> Result<(u32, u32), Vec<Short>> {
        self.check(node, amounts, 0)?;
        self.raise(node, Delta { load: *amounts, used: NOTHING, reserved: *amounts });
        if let Some(node) = self.nodes.get_mut(at(node)) {
            node.slots += 1;
        }
        let index = self.free_slots.pop().unwrap_or_else(|| {
            let free = SlotState::Free;
            self.slots.push(Slot { generation: 0, node, state: free, deadline: None, amounts: NOTHING });
            u32::try_from(self.slots.len() - 1).unwrap_or(NOBODY)
        });
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, index));
        }
        let Some(slot) = self.slots.get_mut(at(index)) else { return Ok((index, 0)) };
        slot.node = node;
        slot.state = SlotState::Reserved;
        slot.deadline = deadline;
        slot.amounts = *amounts;
        Ok((index, slot.generation))
    }

    fn slot(&mut self, slot: u32, generation: u32, state: SlotState) -> Option<&mut Slot> {
        self.slots.get_mut(at(slot)).filter(|slot| slot.generation == generation && slot.state == state)
    }

    pub(super) fn commit(&mut self, slot: u32, generation: u32) -> bool {
        let Some(found) = self.slot(slot, generation, SlotState::Reserved) else { return false };
        found.state = SlotState::Committed;
        let (mut node, amounts) = (found.node, found.amounts);
        if let Some(deadline) = found.deadline.take() {
            self.deadlines.remove(&(deadline, slot));
        }
        while node != NOBODY {
            for (cell, amount) in self.cells_mut(node).iter_mut().zip(amounts.0) {
                cell.reserved -= amount;
                cell.used += amount;
            }
            node = self.parent(node);
        }
        true
    }

    pub(super) fn give_back(&mut self, slot: u32, generation: u32, state: SlotState) -> bool {
        let Some(found) = self.slot(slot, generation, state) else { return false };
        found.state = SlotState::Free;
        found.generation = found.generation.wrapping_add(1);
        let (node, amounts) = (found.node, found.amounts);
        if let Some(deadline) = found.deadline.take() {
            self.deadlines.remove(&(deadline, slot));
        }
        self.free_slots.push(slot);
        if let Some(node) = self.nodes.get_mut(at(node)) {
            node.slots -= 1;
        }
        let (used, reserved) =
            if state == SlotState::Committed { (amounts, NOTHING) } else { (NOTHING, amounts) };
        self.lower(node, Delta { load: amounts, used, reserved });
        true
    }

    /// `None` if there is no such charge.
    pub(super) fn resize(
        &mut self,
        slot: u32,
        generation: u32,
        amounts: &Amounts,
    ) -> Option<Result<(), Vec<Short>>> {
        let found = self.slot(slot, generation, SlotState::Committed)?;
        let (node, old) = (found.node, found.amounts);
        let (mut more, mut less) = (NOTHING, NOTHING);
        for ((more, less), (old, new)) in more.0.iter_mut().zip(&mut less.0).zip(old.0.iter().zip(amounts.0))
        {
            *more = new.saturating_sub(*old);
            *less = old.saturating_sub(new);
        }
        if let Err(short) = self.check(node, &more, 0) {
            return Some(Err(short));
        }
        self.raise(node, Delta { load: more, used: more, reserved: NOTHING });
        self.lower(node, Delta { load: less, used: less, reserved: NOTHING });
        self.slot(slot, generation, SlotState::Committed)?.amounts = *amounts;
        Some(Ok(()))
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

    pub(super) fn set_limits(&mut self, node: u32, limits: &[TreeLimit]) -> Result<(), Vec<Short>> {
        let (mut more, mut less) = (NOTHING, NOTHING);
        let changes = self.cells(node).iter().zip(more.0.iter_mut().zip(&mut less.0)).enumerate();
        for (resource, (cell, (more, less))) in changes {
            let charge = cell.load.max(limit(limits, resource).held());
            *more = charge.saturating_sub(cell.charge());
            *less = cell.charge().saturating_sub(charge);
        }
        let parent = self.parent(node);
        self.check(parent, &more, 1)?;
        self.raise(parent, Delta { load: more, used: NOTHING, reserved: NOTHING });
        self.lower(parent, Delta { load: less, used: NOTHING, reserved: NOTHING });
        for (resource, cell) in self.cells_mut(node).iter_mut().enumerate() {
            let limit = limit(limits, resource);
            (cell.ceiling, cell.held) = (limit.ceiling(), limit.held());
        }
        Ok(())
    }

    pub(super) fn reparent(&mut self, node: u32, parent: u32) -> Result<(), Vec<Short>> {
        let old = self.parent(node);
        let (mut used, mut reserved) = (NOTHING, NOTHING);
        for (cell, (used, reserved)) in self.cells(node).iter().zip(used.0.iter_mut().zip(&mut reserved.0)) {
            (*used, *reserved) = (cell.used, cell.reserved);
        }
        let delta = Delta { load: self.charge(node), used, reserved };
        // Lowered first: what the old and the new place have above them in common must not count twice.
        self.lower(old, delta);
        if let Err(short) = self.check(parent, &delta.load, 1) {
            self.raise(old, delta);
            return Err(short);
        }
        self.raise(parent, delta);
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
