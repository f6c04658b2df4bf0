//! Quotas of a tree of tenants in memory, for hosts that decide many thousand times a second.
//!
//! A tree is one root tenant and everything below it, behind one short lock. A host has one tree for each root: roots
//! never wait for each other. Nothing here is lock-free: a lock that is held for some tens of nanoseconds costs less
//! than as many atomic counters, and makes all levels and all resources change at once.
//!
//! It decides by the same arithmetic as the quotas in the store: for every tenant and resource it counts what is used and
//! reserved by it and everything below it, and its *load*: its own part and, for each child, the larger of the child's
//! load and what the child keeps back, which is its guarantee less what it lends. It forgets everything when the process
//! ends; what must survive is charged in the store.
//!
//! No I/O, no clock, no async.

mod denial;
mod lane;
mod recount;
mod take;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hivemind_core::resources::{ResourceName, Resources};
use hivemind_core::{TenantId, Timestamp};

pub use self::denial::TreeError;
use self::lane::{Lane, SlotState};
use super::level::LevelRules;
use super::{OverQuota, QuotaRule, QuotaSpec, Shortage};

/// The most resources that one tree counts.
pub const MAX_RESOURCES: usize = 16;

static TREES: AtomicU64 = AtomicU64::new(0);

/// A tenant's place in a [`QuotaTree`]. It is of no use after the tenant was removed, even if the place is taken again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaNode {
    pub(self) tree: u64,
    pub(self) index: u32,
    pub(self) generation: u32,
}

/// Amounts of the resources of one tree, without their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amounts {
    tree: u64,
    of: [u64; MAX_RESOURCES],
}

/// What may be charged, is reserved and is in use in a tree of tenants.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use hivemind_core::resources::{MilliCpu, ResourceName, Resources};
/// use hivemind_tenancy::QuotaTree;
/// use hivemind_tenancy::quota::{QuotaRule, TreeError};
///
/// let cpu = |rule: QuotaRule| BTreeMap::from([(ResourceName::Cpu, rule)]);
/// let eight = cpu(QuotaRule::default().with_max(8000));
/// let (tree, company) = QuotaTree::new([ResourceName::Cpu], "company".parse()?, &eight)?;
/// // A team with four cores by right, of which it lends two while it does not need them.
/// let rule = QuotaRule::default().with_guaranteed(4000).with_lending_limit(2000);
/// let team = tree.add("team".parse()?, company, &cpu(rule))?;
/// let other = tree.add("other".parse()?, company, &BTreeMap::new())?;
///
/// let cores = |n| tree.amounts(&Resources::new().with_cpu(MilliCpu::from_cores(n)));
/// let charge = tree.reserve(other, &cores(6)?, None)?.commit()?;
/// let Err(TreeError::Denied(over)) = tree.reserve(other, &cores(1)?, None) else { panic!("two are kept back") };
/// assert_eq!(over.to_string(), "tenant other: cpu: a tenant above has too little left");
/// assert_eq!(
///     over.in_full()[0].to_string(),
///     "cpu at tenant company: limit 8, used 6, reserved 0, held for others 2, asked 1, short by 1"
/// );
/// tree.reserve(team, &cores(2)?, None)?.commit()?;
/// assert!(tree.release(charge).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct QuotaTree {
    id: u64,
    resources: Vec<ResourceName>,
    lane: Mutex<Lane>,
}

/// An amount that is held for a request. Dropped, it is given back.
#[must_use = "a reservation that is dropped is given back"]
#[derive(Debug)]
pub struct Hold<'a> {
    tree: &'a QuotaTree,
    slot: u32,
    generation: u32,
}

/// An amount that is in use until it is [released](QuotaTree::release).
#[must_use = "a charge that is lost is never released"]
#[derive(Debug, PartialEq, Eq)]
pub struct Charge {
    tree: u64,
    slot: u32,
    generation: u32,
}

/// What a tenant and everything below it have of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TreeUsage {
    /// In use.
    pub used: u64,
    /// Held for requests that are not committed.
    pub reserved: u64,
    /// What is asked of its pool: used, reserved, and kept back for tenants below.
    pub load: u64,
    /// Whether a limit was lowered below what was there.
    pub over: bool,
}

/// The rules of each of `resources`, in order.
fn levels(
    resources: &[ResourceName],
    rules: &BTreeMap<ResourceName, QuotaRule>,
) -> Result<Vec<LevelRules>, TreeError> {
    if let Some(name) = rules.keys().find(|name| !resources.contains(name)) {
        return Err(TreeError::UnknownResource(name.clone()));
    }
    let spec = QuotaSpec { rules: rules.clone(), ..QuotaSpec::default() };
    spec.check().map_err(|e| TreeError::Contradiction(e.message().to_owned()))?;
    let none = QuotaRule::default();
    Ok(resources.iter().map(|name| LevelRules::of(rules.get(name).unwrap_or(&none))).collect())
}

impl QuotaTree {
    /// A tree that counts `resources`, with `root` at its top. What has no rule has no limit.
    ///
    /// # Errors
    /// [`TreeError::TooManyResources`] with more than [`MAX_RESOURCES`] of them; [`TreeError::Contradiction`] or
    /// [`TreeError::UnknownResource`] for a rule that cannot be obeyed.
    pub fn new(
        resources: impl IntoIterator<Item = ResourceName>,
        root: TenantId,
        rules: &BTreeMap<ResourceName, QuotaRule>,
    ) -> Result<(Self, QuotaNode), TreeError> {
        let resources: Vec<_> = resources.into_iter().collect();
        if resources.len() > MAX_RESOURCES {
            return Err(TreeError::TooManyResources(resources.len()));
        }
        let levels = levels(&resources, rules)?;
        let id = TREES.fetch_add(1, Ordering::Relaxed);
        let (lane, root) = Lane::new(root, &levels);
        let tree = Self { id, resources, lane: Mutex::new(lane) };
        Ok((tree, QuotaNode { tree: id, index: root, generation: 0 }))
    }

    fn lane(&self) -> MutexGuard<'_, Lane> {
        // Nothing under the lock can panic half way: what another thread left is whole.
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, lane: &Lane, node: QuotaNode) -> Result<u32, TreeError> {
        let known = node.tree == self.id && lane.is_live(node.index, node.generation);
        if known { Ok(node.index) } else { Err(TreeError::UnknownNode) }
    }

    fn own(&self, amounts: &Amounts) -> Result<(), TreeError> {
        if amounts.tree == self.id { Ok(()) } else { Err(TreeError::ForeignAmounts) }
    }

    fn denied(&self, lane: &Lane, asking: u32, short: Vec<lane::Short>) -> TreeError {
        let named = |short: lane::Short| {
            Some(Shortage {
                resource: self.resources.get(short.resource)?.clone(),
                tenant: lane.name(short.node)?.clone(),
                depth: short.depth,
                quota: None,
                uncovered: false,
                soft: None,
                budget: None,
                limit: short.limit,
                used: short.used,
                reserved: short.reserved,
                held: short.held,
                asked: short.asked,
                short_by: short.by,
            })
        };
        match lane.name(asking) {
            Some(tenant) => {
                let short = short.into_iter().filter_map(named).collect();
                TreeError::Denied(OverQuota::new(tenant.clone(), Vec::new(), short))
            }
            None => TreeError::UnknownNode,
        }
    }

    /// `resources` as amounts of this tree.
    ///
    /// # Errors
    /// [`TreeError::UnknownResource`] for a resource that the tree does not count.
    pub fn amounts(&self, resources: &Resources) -> Result<Amounts, TreeError> {
        let mut amounts = Amounts { tree: self.id, of: [0; MAX_RESOURCES] };
        for (name, amount) in resources.iter().filter(|(_, amount)| *amount > 0) {
            let at = self.resources.iter().position(|known| *known == name);
            let Some(cell) = at.and_then(|at| amounts.of.get_mut(at)) else {
                return Err(TreeError::UnknownResource(name));
            };
            *cell = amount;
        }
        Ok(amounts)
    }

    /// Adds a tenant below `parent`.
    ///
    /// # Errors
    /// [`TreeError::Denied`] if what it keeps back does not fit above it; [`TreeError::UnknownNode`]; for a rule that
    /// cannot be obeyed, as [`new`](Self::new).
    pub fn add(
        &self,
        tenant: TenantId,
        parent: QuotaNode,
        rules: &BTreeMap<ResourceName, QuotaRule>,
    ) -> Result<QuotaNode, TreeError> {
        let levels = levels(&self.resources, rules)?;
        let mut lane = self.lane();
        let parent = self.place(&lane, parent)?;
        let added = lane.add(tenant, parent, &levels);
        let (index, generation) = added.map_err(|short| self.denied(&lane, parent, short))?;
        Ok(QuotaNode { tree: self.id, index, generation })
    }

    /// Removes a tenant that has nothing.
    ///
    /// # Errors
    /// [`TreeError::NotEmpty`] if it has children, reservations or charges; [`TreeError::UnknownNode`].
    pub fn remove(&self, node: QuotaNode) -> Result<(), TreeError> {
        let mut lane = self.lane();
        let index = self.place(&lane, node)?;
        let (children, reservations) = lane.contents(index);
        if children > 0 || reservations > 0 {
            return Err(TreeError::NotEmpty { children, reservations });
        }
        lane.remove(index);
        Ok(())
    }

    /// Holds `amounts` for a request of `node`, at every level above it or at none, until `deadline` if there is one.
    ///
    /// # Errors
    /// [`TreeError::Denied`] with every limit that is short; [`TreeError::UnknownNode`]; [`TreeError::ForeignAmounts`].
    pub fn reserve(
        &self,
        node: QuotaNode,
        amounts: &Amounts,
        deadline: Option<Timestamp>,
    ) -> Result<Hold<'_>, TreeError> {
        self.own(amounts)?;
        let mut lane = self.lane();
        let index = self.place(&lane, node)?;
        match lane.take(index, amounts, deadline, SlotState::Reserved) {
            Ok((slot, generation)) => Ok(Hold { tree: self, slot, generation }),
            Err(short) => Err(self.denied(&lane, index, short)),
        }
    }

    /// Takes `amounts` for `node` to be used at once, at every level above it or at none: what
    /// [`reserve`](Self::reserve) and [`commit`](Hold::commit) do, in one step and under one lock. For hosts with nothing
    /// to do between the two.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn charge(&self, node: QuotaNode, amounts: &Amounts) -> Result<Charge, TreeError> {
        self.own(amounts)?;
        let mut lane = self.lane();
        let index = self.place(&lane, node)?;
        match lane.take(index, amounts, None, SlotState::Committed) {
            Ok((slot, generation)) => Ok(Charge { tree: self.id, slot, generation }),
            Err(short) => Err(self.denied(&lane, index, short)),
        }
    }

    /// Whether all of `asked` together would be admitted, in that order. Changes nothing.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve), for the first that would not.
    pub fn what_if(&self, asked: &[(QuotaNode, Amounts)]) -> Result<(), TreeError> {
        let mut lane = self.lane();
        let mut held = Vec::new();
        let outcome = asked.iter().try_for_each(|(node, amounts)| {
            let index = self.place(&lane, *node)?;
            self.own(amounts)?;
            let reserved = lane.take(index, amounts, None, SlotState::Reserved);
            held.push(reserved.map_err(|short| self.denied(&lane, index, short))?);
            Ok(())
        });
        for (slot, generation) in held {
            lane.give_back(slot, generation, SlotState::Reserved);
        }
        outcome
    }

    /// Changes what a charge holds.
    ///
    /// # Errors
    /// [`TreeError::Denied`] if there is not enough: the charge stays as it was. [`TreeError::Gone`] if it is another
    /// tree's.
    pub fn resize(&self, charge: &Charge, amounts: &Amounts) -> Result<(), TreeError> {
        if charge.tree != self.id {
            return Err(TreeError::Gone);
        }
        self.own(amounts)?;
        let mut lane = self.lane();
        let Some((node, resized)) = lane.resize(charge.slot, charge.generation, amounts) else {
            return Err(TreeError::Gone);
        };
        resized.map_err(|short| self.denied(&lane, node, short))
    }

    /// Gives back a charge. It is gone then: nobody can release it again.
    ///
    /// # Errors
    /// The charge itself if it is another tree's.
    pub fn release(&self, charge: Charge) -> Result<(), Charge> {
        if charge.tree != self.id {
            return Err(charge);
        }
        self.lane().give_back(charge.slot, charge.generation, SlotState::Committed);
        Ok(())
    }

    /// Gives back what was held until `now` and not committed; returns how many reservations that were.
    pub fn expire(&self, now: Timestamp) -> usize {
        self.lane().expire(now)
    }

    /// Changes the limits of a tenant. Lowered below what is there they take nothing away: the tenant
    /// [is over](TreeUsage::over) until it has shrunk, and gets nothing more before.
    ///
    /// # Errors
    /// [`TreeError::Denied`] if what it keeps back no longer fits above it; [`TreeError::UnknownNode`]; for a rule that
    /// cannot be obeyed, as [`new`](Self::new).
    pub fn set_rules(
        &self,
        node: QuotaNode,
        rules: &BTreeMap<ResourceName, QuotaRule>,
    ) -> Result<(), TreeError> {
        let levels = levels(&self.resources, rules)?;
        let mut lane = self.lane();
        let index = self.place(&lane, node)?;
        lane.set_rules(index, &levels).map_err(|short| self.denied(&lane, index, short))
    }

    /// Moves a tenant and everything below it, with all that it has, below another parent; all or nothing.
    ///
    /// # Errors
    /// [`TreeError::Denied`] if it does not fit there, [`TreeError::Cycle`] if `parent` is below it or it is the root,
    /// [`TreeError::UnknownNode`].
    pub fn reparent(&self, node: QuotaNode, parent: QuotaNode) -> Result<(), TreeError> {
        let mut lane = self.lane();
        let (node, parent) = (self.place(&lane, node)?, self.place(&lane, parent)?);
        if lane.is_root(node) || lane.is_within(parent, node) {
            return Err(TreeError::Cycle);
        }
        lane.reparent(node, parent).map_err(|short| self.denied(&lane, node, short))
    }

    /// What a tenant and everything below it have, by resource in the tree's order.
    ///
    /// # Errors
    /// [`TreeError::UnknownNode`].
    pub fn usage(&self, node: QuotaNode) -> Result<Vec<(ResourceName, TreeUsage)>, TreeError> {
        let lane = self.lane();
        let index = self.place(&lane, node)?;
        Ok(self.resources.iter().cloned().zip(lane.usage(index)).collect())
    }

    /// Whether what is counted at every level is what the reservations, charges and limits add up to.
    pub fn is_consistent(&self) -> bool {
        self.lane().is_consistent()
    }
}

impl Hold<'_> {
    /// Puts what is held to use.
    ///
    /// # Errors
    /// [`TreeError::Gone`] if its deadline passed and it was given back.
    pub fn commit(self) -> Result<Charge, TreeError> {
        let charge = Charge { tree: self.tree.id, slot: self.slot, generation: self.generation };
        let committed = self.tree.lane().commit(self.slot, self.generation);
        std::mem::forget(self);
        if committed { Ok(charge) } else { Err(TreeError::Gone) }
    }

    /// Gives back what is held.
    pub fn abort(self) {}
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.tree.lane().give_back(self.slot, self.generation, SlotState::Reserved);
    }
}

impl fmt::Debug for QuotaTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotaTree").field("resources", &self.resources).finish_non_exhaustive()
    }
}
