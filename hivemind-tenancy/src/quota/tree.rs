//! Quotas of a whole tree of tenants in memory, for hosts that admit millions of requests a second. No I/O, no
//! clock, no async.
//!
//! It decides by the same arithmetic as the store. One short lock for each root tenant makes "check all levels, then
//! add" one step; what is below different roots never waits for each other. It forgets all when the process ends: what
//! must survive is charged in the store.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hivemind_core::resources::{ResourceName, Resources};
use hivemind_core::{Error, ErrorKind, Result, TenantId, Timestamp};

use super::level::{LevelRules, Limits, Taken, charge, shortage};
use super::{OverQuota, QuotaRule, QuotaSpec, Shortage};

const NONE: u32 = u32::MAX;

/// Numbers trees, so that none takes what another gave.
static TREES: AtomicU32 = AtomicU32::new(0);

/// A tenant of a [`QuotaTree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeTenant {
    tree: u32,
    lane: u32,
    level: u32,
}

/// An amount, prepared for one [`QuotaTree`]: of each of its resources, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeAmount {
    tree: u32,
    row: Vec<u64>,
}

/// Names a charge; it cannot be copied, so it is consumed once.
#[derive(Debug, PartialEq, Eq)]
struct Handle {
    tree: u32,
    lane: u32,
    slot: u32,
    generation: u32,
}

/// What is held: [`commit`](QuotaTree::commit) or [`abort`](QuotaTree::abort) it. One that is lost is given back by
/// [`expire`](QuotaTree::expire).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is held is committed or aborted"]
pub struct TreeReservation(Handle);

/// What is in use: [`release`](QuotaTree::release) it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is in use is released in the end"]
pub struct TreeCharge(Handle);

/// One resource at one tenant.
#[derive(Debug, Clone, Copy)]
struct Cell {
    taken: Taken,
    used: i128,
    limits: Limits,
    held: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Free,
    Reserved(Timestamp),
    Committed,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    generation: u32,
    level: u32,
    state: SlotState,
}

/// A root tenant and everything below it. Rows are as wide as there are resources.
#[derive(Debug, Default)]
struct Lane {
    ids: Vec<TenantId>,
    /// The level above; `NONE` for the root.
    parents: Vec<u32>,
    /// A row for each level.
    cells: Vec<Cell>,
    slots: Vec<Slot>,
    /// A row for each slot.
    amounts: Vec<u64>,
    free: Vec<u32>,
}

/// See the module. Built with `&mut`, then shared.
///
/// ```
/// use hivemind_core::Timestamp;
/// use hivemind_core::resources::{MilliCpu, ResourceName, Resources};
/// use hivemind_tenancy::{QuotaRule, QuotaSpec, QuotaTree};
///
/// let mut tree = QuotaTree::new([ResourceName::Cpu]);
/// let ten = QuotaSpec::new().with_rule(ResourceName::Cpu, QuotaRule::default().with_max(10_000));
/// let corp = tree.add_root("corp".parse()?, &ten)?;
/// let red = tree.add("red".parse()?, corp, &QuotaSpec::new())?;
///
/// let six = tree.amount(&Resources::new().with_cpu(MilliCpu::from_cores(6)))?;
/// let held = tree.reserve(red, &six, Timestamp::from_secs(60))?;
/// assert!(tree.reserve(red, &six, Timestamp::from_secs(60)).is_err());
/// let charge = tree.commit(held)?;
/// tree.release(charge)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct QuotaTree {
    number: u32,
    resources: Vec<ResourceName>,
    lanes: Vec<Mutex<Lane>>,
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn number(index: usize) -> Result<u32> {
    let full = |_| Error::new(ErrorKind::Exhausted, "quota tree", "there are 2^32 of them already");
    u32::try_from(index).map_err(full).and_then(|number| match number {
        NONE => Err(Error::new(ErrorKind::Exhausted, "quota tree", "there are 2^32 of them already")),
        number => Ok(number),
    })
}

fn unknown(what: &str) -> Error {
    Error::not_found("quota tree", format!("there is no such {what} in this tree, or no longer"))
}

fn lock(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    // No step leaves a lane half changed, so what a thread that died held is sound.
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    fn row(&self, level: u32, width: usize) -> &[Cell] {
        let from = index(level).saturating_mul(width);
        self.cells.get(from..from.saturating_add(width)).unwrap_or_default()
    }

    fn row_mut(&mut self, level: u32, width: usize) -> &mut [Cell] {
        let from = index(level).saturating_mul(width);
        self.cells.get_mut(from..from.saturating_add(width)).unwrap_or_default()
    }

    fn above(&self, level: u32) -> u32 {
        self.parents.get(index(level)).copied().unwrap_or(NONE)
    }

    /// Whether `amount` more fits at `level` and above.
    fn fits(&self, level: u32, amount: &[u64]) -> bool {
        let width = amount.len();
        for (resource, amount) in amount.iter().enumerate().filter(|(_, amount)| **amount > 0) {
            let (more, mut load, mut at) = (i128::from(*amount), i128::from(*amount), level);
            while at != NONE {
                let Some(cell) = self.row(at, width).get(resource) else { return false };
                let after = Taken { usage: cell.taken.usage + more, load: cell.taken.load + load };
                if shortage(cell.limits, cell.taken, after).is_some() {
                    return false;
                }
                load = charge(after.load, cell.held) - charge(cell.taken.load, cell.held);
                at = self.above(at);
            }
        }
        true
    }

    /// Adds `amount` as often as `times` says, such as 1 or -1, at `level` and above.
    fn add(&mut self, level: u32, amount: &[u64], times: i128, used: i128) {
        let width = amount.len();
        for (resource, amount) in amount.iter().enumerate().filter(|(_, amount)| **amount > 0) {
            let more = i128::from(*amount) * times;
            let (mut load, mut at) = (more, level);
            while at != NONE {
                if let Some(cell) = self.row_mut(at, width).get_mut(resource) {
                    let was = charge(cell.taken.load, cell.held);
                    cell.taken.usage += more;
                    cell.taken.load += load;
                    cell.used += i128::from(*amount) * used;
                    load = charge(cell.taken.load, cell.held) - was;
                }
                at = self.above(at);
            }
        }
    }

    /// Marks `amount` at `level` and above as in use.
    fn settle(&mut self, level: u32, amount: &[u64]) {
        let mut at = level;
        while at != NONE {
            for (cell, amount) in self.row_mut(at, amount.len()).iter_mut().zip(amount) {
                cell.used += i128::from(*amount);
            }
            at = self.above(at);
        }
    }

    /// Everything that would be short.
    fn over(&self, level: u32, amount: &[u64], names: &[ResourceName]) -> Option<OverQuota> {
        let part = |amount: i128| u64::try_from(amount.max(0)).unwrap_or(u64::MAX);
        let mut short = Vec::new();
        for (resource, (asked, name)) in amount.iter().zip(names).enumerate() {
            let (more, mut load, mut at, mut depth) = (i128::from(*asked), i128::from(*asked), level, 0);
            while at != NONE {
                let (cell, tenant) = (self.row(at, names.len()).get(resource)?, self.ids.get(index(at))?);
                let after = Taken { usage: cell.taken.usage + more, load: cell.taken.load + load };
                if let Some(found) = shortage(cell.limits, cell.taken, after) {
                    short.push(Shortage {
                        resource: name.clone(),
                        tenant: tenant.clone(),
                        depth,
                        quota: None,
                        uncovered: false,
                        limit: found.limit,
                        used: part(cell.used),
                        reserved: part(cell.taken.usage - cell.used),
                        held: part(cell.taken.load - cell.taken.usage),
                        asked: *asked,
                        short_by: found.by,
                    });
                }
                load = charge(after.load, cell.held) - charge(cell.taken.load, cell.held);
                (at, depth) = (self.above(at), depth + 1);
            }
        }
        short.sort_by_key(|short| short.depth);
        let tenant = self.ids.get(index(level))?.clone();
        (!short.is_empty()).then_some(OverQuota { tenant, short })
    }

    /// Keeps `amount` in a free slot.
    fn keep(&mut self, level: u32, amount: &[u64], state: SlotState) -> Result<(u32, u32)> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = number(self.slots.len())?;
                self.slots.push(Slot { generation: 0, level, state: SlotState::Free });
                self.amounts.resize(self.amounts.len().saturating_add(amount.len()), 0);
                slot
            }
        };
        let from = index(slot).saturating_mul(amount.len());
        if let Some(row) = self.amounts.get_mut(from..from.saturating_add(amount.len())) {
            row.copy_from_slice(amount);
        }
        let kept = self.slots.get_mut(index(slot)).ok_or_else(|| unknown("slot"))?;
        (kept.level, kept.state) = (level, state);
        Ok((slot, kept.generation))
    }

    fn slot(&mut self, handle: &Handle) -> Option<&mut Slot> {
        self.slots.get_mut(index(handle.slot)).filter(|slot| slot.generation == handle.generation)
    }

    /// Gives back what a slot holds.
    fn give_back(&mut self, slot: u32, width: usize) {
        let Some(kept) = self.slots.get_mut(index(slot)) else { return };
        let (level, used) = (kept.level, if kept.state == SlotState::Committed { -1 } else { 0 });
        kept.state = SlotState::Free;
        kept.generation = kept.generation.wrapping_add(1);
        self.free.push(slot);
        let from = index(slot).saturating_mul(width);
        // The row is lent to the sums, and comes back.
        let amounts = std::mem::take(&mut self.amounts);
        if let Some(row) = amounts.get(from..from.saturating_add(width)) {
            self.add(level, row, -1, used);
        }
        self.amounts = amounts;
    }
}

impl QuotaTree {
    /// A tree without tenants, that counts these resources and no others.
    pub fn new(resources: impl IntoIterator<Item = ResourceName>) -> Self {
        let mut resources: Vec<_> = resources.into_iter().collect();
        resources.sort();
        resources.dedup();
        Self { number: TREES.fetch_add(1, Ordering::Relaxed), resources, lanes: Vec::new() }
    }

    /// Adds a root tenant. Its quota has rules only: the rest is for the store.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if `spec` contradicts itself, or names what the tree does not count or do.
    pub fn add_root(&mut self, id: TenantId, spec: &QuotaSpec) -> Result<TreeTenant> {
        let mut lane = Lane::default();
        let level = self.push(&mut lane, id, NONE, spec)?;
        let number = number(self.lanes.len())?;
        self.lanes.push(Mutex::new(lane));
        Ok(TreeTenant { tree: self.number, lane: number, level })
    }

    /// Adds a tenant below `parent`.
    ///
    /// # Errors
    /// As [`add_root`](Self::add_root); [`ErrorKind::NotFound`] if `parent` is of another tree;
    /// [`ErrorKind::QuotaExceeded`] if the tenants above cannot hold back its guarantee.
    pub fn add(&mut self, id: TenantId, parent: TreeTenant, spec: &QuotaSpec) -> Result<TreeTenant> {
        let mut lane = self.lane(parent.tree, parent.lane)?;
        if index(parent.level) >= lane.ids.len() {
            return Err(unknown("tenant"));
        }
        let level = self.push(&mut lane, id, parent.level, spec)?;
        Ok(TreeTenant { level, ..parent })
    }

    fn push(&self, lane: &mut Lane, id: TenantId, parent: u32, spec: &QuotaSpec) -> Result<u32> {
        spec.check()?;
        let foreign = spec.rules.keys().find(|name| !self.resources.contains(name));
        if let Some(name) = foreign {
            return Err(Error::invalid("quota tree", format!("{name} is not counted by this tree")));
        }
        if !spec.scoped.is_empty() || !spec.required.is_empty() || !spec.temporary.is_empty() {
            let message = "scoped, required and temporary limits are for the store, not for a tree in memory";
            return Err(Error::invalid("quota tree", message));
        }
        let (level, width) = (number(lane.ids.len())?, self.resources.len());
        let none = QuotaRule::default();
        let rules = |name| LevelRules::of(spec.rules.get(name).unwrap_or(&none));
        let rules: Vec<_> = self.resources.iter().map(rules).collect();
        // What it holds back while idle is asked of the levels above, without any use.
        let held: Vec<_> = rules.iter().map(LevelRules::held).collect();
        let mut loads = Vec::new();
        for (resource, held) in held.iter().enumerate() {
            let (mut load, mut at) = (i128::from(*held), parent);
            while at != NONE && load > 0 {
                let cell = lane.row(at, width).get(resource).ok_or_else(|| unknown("tenant"))?;
                let after = Taken { load: cell.taken.load + load, ..cell.taken };
                if let Some(short) = shortage(cell.limits, cell.taken, after) {
                    let message =
                        format!("the guarantee of {id} is above what is left above it, by {}", short.by);
                    return Err(Error::new(ErrorKind::QuotaExceeded, "quota tree", message));
                }
                loads.push((at, resource, load));
                load = charge(after.load, cell.held) - charge(cell.taken.load, cell.held);
                at = lane.above(at);
            }
        }
        for (at, resource, load) in loads {
            if let Some(cell) = lane.row_mut(at, width).get_mut(resource) {
                cell.taken.load += load;
            }
        }
        lane.cells.extend(rules.iter().map(|rules| Cell {
            taken: Taken::default(),
            used: 0,
            limits: rules.limits(parent != NONE),
            held: rules.held(),
        }));
        lane.ids.push(id);
        lane.parents.push(parent);
        Ok(level)
    }

    /// Prepares an amount.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] names a resource that the tree does not count.
    pub fn amount(&self, amount: &Resources) -> Result<TreeAmount> {
        match amount.iter().find(|(name, _)| !self.resources.contains(name)) {
            Some((name, _)) => {
                Err(Error::invalid("quota tree", format!("{name} is not counted by this tree")))
            }
            None => Ok(TreeAmount {
                tree: self.number,
                row: self.resources.iter().map(|name| amount.amount(name)).collect(),
            }),
        }
    }

    fn lane(&self, tree: u32, lane: u32) -> Result<MutexGuard<'_, Lane>> {
        let lane = self.lanes.get(index(lane)).filter(|_| tree == self.number);
        lane.map(lock).ok_or_else(|| unknown("tenant"))
    }

    /// Holds `amount` for `tenant` and everything above it until `deadline`, or nothing at all.
    ///
    /// # Errors
    /// [`ErrorKind::QuotaExceeded`] lists everything that is short as [`OverQuota`]; [`ErrorKind::NotFound`] if the
    /// tenant, [`ErrorKind::Invalid`] if the amount is of another tree.
    pub fn reserve(
        &self,
        tenant: TreeTenant,
        amount: &TreeAmount,
        deadline: Timestamp,
    ) -> Result<TreeReservation> {
        if amount.tree != self.number {
            return Err(Error::invalid("reserve", "the amount was prepared by another tree"));
        }
        let mut lane = self.lane(tenant.tree, tenant.lane)?;
        if index(tenant.level) >= lane.ids.len() {
            return Err(unknown("tenant"));
        }
        if !lane.fits(tenant.level, &amount.row) {
            let over = lane.over(tenant.level, &amount.row, &self.resources);
            let over = over.ok_or_else(|| unknown("tenant"))?;
            return Err(Error::of(ErrorKind::QuotaExceeded, "reserve", over));
        }
        let (slot, generation) = lane.keep(tenant.level, &amount.row, SlotState::Reserved(deadline))?;
        lane.add(tenant.level, &amount.row, 1, 0);
        Ok(TreeReservation(Handle { tree: self.number, lane: tenant.lane, slot, generation }))
    }

    /// What was held is in use from now on.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it has expired.
    pub fn commit(&self, held: TreeReservation) -> Result<TreeCharge> {
        let TreeReservation(handle) = held;
        let mut lane = self.lane(handle.tree, handle.lane)?;
        let slot = lane.slot(&handle).ok_or_else(|| unknown("reservation"))?;
        slot.state = SlotState::Committed;
        let level = slot.level;
        let (width, amounts) = (self.resources.len(), std::mem::take(&mut lane.amounts));
        let from = index(handle.slot).saturating_mul(width);
        if let Some(row) = amounts.get(from..from.saturating_add(width)) {
            lane.settle(level, row);
        }
        lane.amounts = amounts;
        Ok(TreeCharge(handle))
    }

    /// Gives back what was held.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it has expired: then it was given back.
    pub fn abort(&self, held: TreeReservation) -> Result<()> {
        self.give_back(&held.0)
    }

    /// Gives back what was in use.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is of another tree.
    pub fn release(&self, charge: TreeCharge) -> Result<()> {
        self.give_back(&charge.0)
    }

    fn give_back(&self, handle: &Handle) -> Result<()> {
        let mut lane = self.lane(handle.tree, handle.lane)?;
        lane.slot(handle).ok_or_else(|| unknown("reservation"))?;
        lane.give_back(handle.slot, self.resources.len());
        Ok(())
    }

    /// Gives back everything held whose deadline is not after `now`; returns how many.
    pub fn expire(&self, now: Timestamp) -> usize {
        let mut expired = 0;
        for lane in &self.lanes {
            let mut lane = lock(lane);
            let due = |slot: &Slot| matches!(slot.state, SlotState::Reserved(deadline) if deadline <= now);
            let numbers = (0..NONE).zip(&lane.slots).filter(|(_, slot)| due(slot)).map(|(number, _)| number);
            let gone: Vec<_> = numbers.collect();
            gone.iter().for_each(|slot| lane.give_back(*slot, self.resources.len()));
            expired += gone.len();
        }
        expired
    }

    /// What `tenant` and everything below it use, and what they hold besides.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant is of another tree.
    pub fn usage(&self, tenant: TreeTenant) -> Result<super::Charged> {
        let lane = self.lane(tenant.tree, tenant.lane)?;
        let part = |amount: i128| u64::try_from(amount.max(0)).unwrap_or(u64::MAX);
        let mut charged = super::Charged::default();
        for (cell, name) in lane.row(tenant.level, self.resources.len()).iter().zip(&self.resources) {
            charged.used = charged.used.with(name.clone(), part(cell.used));
            charged.reserved = charged.reserved.with(name.clone(), part(cell.taken.usage - cell.used));
        }
        Ok(charged)
    }
}
