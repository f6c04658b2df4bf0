//! The same decisions as [`place`](super::place), at a cost that grows with what changes. No I/O, no clock, no async.

mod apart;
mod counters;
mod find;
mod intern;
mod preempt;
mod query;
mod rule;
mod scopes;
mod shapes;
mod shares;
mod slot;
mod tally;
mod tidy;
mod tree;
mod workloads;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;
use hivemind_core::resources::Resources;
use hivemind_core::{Error, ErrorKind, NodeId, Result, TenantRef, WorkloadId};

use self::counters::Counters;
use self::query::Query;
use self::rule::Kind;
use self::shapes::Shapes;
use self::shares::Shares;
use self::slot::{Class, Equals, Here, Slot};
use self::tidy::Allowance;
use self::tree::amounts;
use self::workloads::{Running, Workloads};
use super::cluster::{Ask, tie};
use super::{Node, Packing, PlacedWorkload, Placement, PlacementRequest, Unplaceable, Unplaced};
use crate::isolation::mark;

/// So many classes without a node are kept.
const CLASSES: usize = 64;

/// A cluster, kept ready for placing workloads.
///
/// It gives the answers of [`place`](super::place) with the same seed, but keeps nodes in the order of preference, what
/// each selector and set of tolerations allows, and how many workloads of which kind are in each place. So a
/// decision looks at few nodes, and a change renews what it touches. A host feeds it from a mirror of its store, and
/// commits what it decides by [`stage_assign`](crate::TenantManager::stage_assign).
///
/// What is asked for the first time, be it a selector, a set of tolerations or a rule about other workloads, costs a look
/// at every node or at the tenant's kinds of workloads, and is remembered. When much is, all of it is forgotten that what
/// runs does not need: a look at every workload, seldom enough to cost each request little.
///
/// ```
/// use hivemind_core::{Generation, TenantRef};
/// use hivemind_core::resources::{MilliCpu, Resources};
/// use hivemind_tenancy::{ClusterIndex, Node};
/// use hivemind_tenancy::placement::{Ask, Packing, WorkloadRequest};
///
/// let mut index = ClusterIndex::new(Packing::Spread, 7);
/// let cores = |n| Resources::new().with_cpu(MilliCpu::from_cores(n));
/// index.add_node(Node::new("n1".parse()?, cores(2)))?;
/// let acme = TenantRef::new("acme".parse()?, Generation::from_u64(1));
/// let workload = |name: &str| Ok::<_, hivemind_core::InvalidName>(WorkloadRequest::new(name.parse()?, cores(2)));
/// let (first, second) = (workload("a")?, workload("b")?);
/// assert_eq!(index.place(Ask::new(&acme, &first))?.as_str(), "n1");
/// let error = index.place(Ask::new(&acme, &second)).unwrap_err();
/// assert_eq!(error.message(), "no node for b (cpu=2): 1 nodes too little free");
/// index.unassign(&acme, &first.id)?;
/// assert!(index.place(Ask::new(&acme, &second)).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClusterIndex {
    packing: Packing,
    seed: u64,
    slots: Vec<Option<Slot>>,
    spare: Vec<usize>,
    by_node: BTreeMap<NodeId, usize>,
    tenants: Vec<TenantRef>,
    /// What nodes of each are labelled with.
    marks: Vec<String>,
    /// Never iterated.
    tenant_index: HashMap<TenantRef, usize, RandomState>,
    classes: Vec<Equals>,
    class_index: BTreeMap<Class, usize>,
    /// The classes that are possible, by shape.
    classes_of: Vec<Vec<usize>>,
    shapes: Shapes,
    counters: Counters,
    shares: Shares,
    workloads: Workloads,
    allowance: Allowance,
    /// Nodes that are one tenant's, and others still use.
    mixed: BTreeSet<usize>,
    /// Tenants that were told to have their nodes to themselves.
    isolated: BTreeSet<usize>,
}

fn exhausted(unplaced: Unplaced) -> Error {
    Error::of(ErrorKind::Exhausted, "place", Unplaceable { workloads: vec![unplaced] })
}

impl ClusterIndex {
    /// No nodes yet; they will be filled so, with ties decided by `seed`.
    pub fn new(packing: Packing, seed: u64) -> Self {
        Self {
            packing,
            seed,
            slots: Vec::new(),
            spare: Vec::new(),
            by_node: BTreeMap::new(),
            tenants: Vec::new(),
            marks: Vec::new(),
            tenant_index: HashMap::default(),
            classes: Vec::new(),
            class_index: BTreeMap::new(),
            classes_of: Vec::new(),
            shapes: Shapes::default(),
            counters: Counters::default(),
            shares: Shares::default(),
            workloads: Workloads::default(),
            allowance: Allowance::default(),
            mixed: BTreeSet::new(),
            isolated: BTreeSet::new(),
        }
    }

    fn tenant(&mut self, tenant: &TenantRef) -> usize {
        if let Some(at) = self.tenant_index.get(tenant) {
            return *at;
        }
        self.tenants.push(tenant.clone());
        self.marks.push(mark(tenant));
        self.tenant_index.insert(tenant.clone(), self.tenants.len() - 1);
        self.tenants.len() - 1
    }

    /// The class of the node that comes to `at`.
    fn class(&mut self, at: usize, capacity: &Resources) -> usize {
        let (cpu, memory) = (capacity.cpu().as_millis(), capacity.memory().as_bytes());
        let class = Class { cpu, memory, verdicts: self.shapes.verdicts(at) };
        if let Some(known) = self.class_index.get(&class) {
            return *known;
        }
        let new = self.classes.len();
        self.classes_of.resize_with(class.verdicts.len(), Vec::new);
        for (shape, _) in class.verdicts.iter().enumerate().filter(|(_, verdict)| verdict.is_some()) {
            if let Some(classes) = self.classes_of.get_mut(shape) {
                classes.push(new);
            }
        }
        self.class_index.insert(class.clone(), new);
        self.classes.push(Equals { class, ..Equals::default() });
        new
    }

    /// Every node in its class anew: there is a new shape, which may tell apart what was alike.
    fn classify(&mut self) {
        self.classes.clear();
        self.classes_of.clear();
        self.class_index.clear();
        for at in 0..self.slots.len() {
            let Some(mut slot) = self.slots.get_mut(at).and_then(Option::take) else { continue };
            slot.class = self.class(at, &slot.node.capacity);
            self.put(at, slot);
        }
    }

    /// Changes a node, and moves it to where it then belongs.
    fn change<T>(&mut self, at: usize, change: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        let slot = self.slots.get_mut(at)?.as_mut()?;
        if let Some(equals) = self.classes.get_mut(slot.class) {
            equals.change(at, slot, false);
        }
        let done = change(slot);
        slot.renew(self.packing);
        if let Some(equals) = self.classes.get_mut(slot.class) {
            equals.change(at, slot, true);
        }
        self.note_mixed(at);
        Some(done)
    }

    fn at(&self, node: &NodeId) -> Result<usize> {
        let missing = || Error::not_found("node", format!("there is no node {node}"));
        self.by_node.get(node).copied().ok_or_else(missing)
    }

    /// A node comes.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if it is there.
    pub fn add_node(&mut self, node: Node) -> Result<()> {
        if self.by_node.contains_key(&node.id) {
            let message = format!("node {} is there already: update it", node.id);
            return Err(Error::new(ErrorKind::AlreadyExists, "node", message));
        }
        let at = self.spare.pop().unwrap_or(self.slots.len());
        self.by_node.insert(node.id.clone(), at);
        self.shapes.renew(at, Some(&node));
        self.counters.renew(at, Some(&node), &self.shapes);
        self.shares.nodes_changed();
        let class = self.class(at, &node.capacity);
        let tie = tie(Some(self.seed), &node.id);
        let mut slot = Slot::new(node, tie);
        slot.class = class;
        self.put(at, slot);
        self.merge_classes();
        Ok(())
    }

    /// Forgets classes that no node is in any more, if there are many.
    fn merge_classes(&mut self) {
        if self.classes.len() > 2 * self.slots.len() + CLASSES {
            self.classify();
        }
    }

    fn put(&mut self, at: usize, mut slot: Slot) {
        slot.renew(self.packing);
        if let Some(equals) = self.classes.get_mut(slot.class) {
            equals.change(at, &slot, true);
        }
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, || None);
        }
        if let Some(place) = self.slots.get_mut(at) {
            *place = Some(slot);
        }
        self.note_mixed(at);
    }

    fn take(&mut self, at: usize) -> Option<Slot> {
        let slot = self.slots.get_mut(at)?.take()?;
        if let Some(equals) = self.classes.get_mut(slot.class) {
            equals.change(at, &slot, false);
        }
        Some(slot)
    }

    /// What runs on a node counts, or no longer, unless the node is lost.
    fn count_all(&mut self, at: usize, slot: &Slot, more: bool) {
        let running = slot.running.iter().filter(|_| !slot.is_lost());
        for one in running.filter_map(|one| self.workloads.get(one.number)) {
            self.counters.count(at, one.group, &one.held, more);
            self.shares.count(&self.counters, at, one.tenant, &one.resources, more);
        }
    }

    /// A node has other labels, taints, capacity or another state than before. What runs there stays.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not there.
    pub fn update_node(&mut self, node: Node) -> Result<()> {
        let at = self.at(&node.id)?;
        let Some(mut slot) = self.take(at) else { return Ok(()) };
        self.count_all(at, &slot, false);
        self.shapes.renew(at, Some(&node));
        slot.class = self.class(at, &node.capacity);
        slot.become_like(node);
        self.counters.renew(at, Some(&slot.node), &self.shapes);
        self.shares.nodes_changed();
        self.count_all(at, &slot, true);
        self.put(at, slot);
        self.merge_classes();
        Ok(())
    }

    /// A node goes, with what runs on it; returns that.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not there.
    pub fn remove_node(&mut self, node: &NodeId) -> Result<Vec<(TenantRef, WorkloadId)>> {
        let at = self.at(node)?;
        let running = self.running(node)?;
        for (tenant, id) in &running {
            self.unassign(tenant, id)?;
        }
        self.take(at);
        self.by_node.remove(node);
        self.shapes.renew(at, None);
        self.counters.renew(at, None, &self.shapes);
        self.shares.nodes_changed();
        self.spare.push(at);
        Ok(running)
    }

    /// What runs on a node, in the order of tenants and names.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not there.
    pub fn running(&self, node: &NodeId) -> Result<Vec<(TenantRef, WorkloadId)>> {
        let slot = self.slots.get(self.at(node)?).and_then(Option::as_ref);
        let named = |one: &Here| {
            Some((self.tenants.get(one.tenant)?.clone(), self.workloads.get(one.number)?.id.clone()))
        };
        let mut running: Vec<_> = slot.into_iter().flat_map(|slot| &slot.running).filter_map(named).collect();
        running.sort();
        Ok(running)
    }

    /// A workload runs on a node now, whoever decided that; `isolated` tells whether its tenant has nodes to itself.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if it runs somewhere, [`ErrorKind::NotFound`] if the node is not there.
    pub fn assign(
        &mut self,
        tenant: &TenantRef,
        id: &WorkloadId,
        placed: &PlacedWorkload,
        isolated: bool,
        node: &NodeId,
    ) -> Result<()> {
        self.tidy();
        let (at, tenant) = (self.at(node)?, self.tenant(tenant));
        let group = self.counters.group(Kind {
            tenant,
            labels: &placed.labels,
            generation: placed.generation,
            terminating: placed.terminating,
            spread_key: placed.spread_key.as_deref(),
        });
        let held = self.held(tenant, placed.stances());
        let (id, resources, priority) = (id.clone(), placed.resources.clone(), placed.priority);
        let running = Running { tenant, id, slot: at, resources, priority, group, member: 0, held };
        self.put_on(at, running, isolated)
    }

    fn put_on(&mut self, at: usize, running: Running, isolated: bool) -> Result<()> {
        let Some(slot) = self.slots.get(at).and_then(Option::as_ref) else {
            return Err(Error::internal("assign", "a node without a slot"));
        };
        let used = slot
            .used
            .checked_add(&running.resources)
            .map_err(|e| Error::of(ErrorKind::Invalid, "assign", e))?;
        if self.workloads.find(running.tenant, &running.id).is_some() {
            let message = format!("workload {} runs already: take it away first", running.id);
            return Err(Error::new(ErrorKind::AlreadyExists, "assign", message));
        }
        let (tenant, priority, uses) = (running.tenant, running.priority, amounts(&running.resources));
        let before = |one: &Here| match (one.priority, one.tenant).cmp(&(priority, tenant)) {
            Ordering::Equal => self.workloads.get(one.number).is_some_and(|one| one.id < running.id),
            order => order.is_lt(),
        };
        let position = slot.running.partition_point(before);
        let number = self.workloads.add(running);
        self.join(number);
        self.change(at, |slot| {
            slot.used = used;
            slot.count(tenant, true);
            if isolated {
                slot.dedicated = Some(tenant);
            }
            slot.bands.change(priority, &uses, true);
            slot.running.insert(position, Here { priority, tenant, number });
        });
        Ok(())
    }

    /// A workload that is on its node is one of its group from now on, and counts.
    fn join(&mut self, number: usize) {
        let Some(running) = self.workloads.get_mut(number) else { return };
        running.member = self.counters.join(running.group, number);
        let lost = self.slots.get(running.slot).and_then(Option::as_ref).is_none_or(Slot::is_lost);
        if !lost {
            self.counters.count(running.slot, running.group, &running.held, true);
            self.shares.count(&self.counters, running.slot, running.tenant, &running.resources, true);
        }
    }

    /// The contrary of [`join`](Self::join).
    fn leave(&mut self, running: &Running) {
        let moved = self.counters.leave(running.group, running.member);
        if let Some(moved) = moved.and_then(|number| self.workloads.get_mut(number)) {
            moved.member = running.member;
        }
        let lost = self.slots.get(running.slot).and_then(Option::as_ref).is_none_or(Slot::is_lost);
        if !lost {
            self.counters.count(running.slot, running.group, &running.held, false);
            self.shares.count(&self.counters, running.slot, running.tenant, &running.resources, false);
        }
    }

    /// The workload that asks runs here.
    fn put_query(&mut self, at: usize, query: Query<'_>) -> Result<()> {
        let (workload, isolated) = (query.ask.workload, query.ask.isolated);
        let running = Running {
            tenant: query.tenant,
            id: workload.id.clone(),
            slot: at,
            resources: workload.resources.clone(),
            priority: workload.priority,
            group: query.group,
            member: 0,
            held: query.held,
        };
        self.put_on(at, running, isolated)
    }

    /// A workload no longer runs; returns where it did.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it runs nowhere.
    pub fn unassign(&mut self, tenant: &TenantRef, id: &WorkloadId) -> Result<NodeId> {
        let missing = || Error::not_found("unassign", format!("tenant {} runs no {id}", tenant.id));
        let known = *self.tenant_index.get(tenant).ok_or_else(missing)?;
        let number = self.workloads.find(known, id).ok_or_else(missing)?;
        let running = self.workloads.remove(number).ok_or_else(missing)?;
        self.leave(&running);
        let (uses, isolated) = (amounts(&running.resources), std::mem::take(&mut self.isolated));
        let node = self.change(running.slot, |slot| {
            slot.running.retain(|one| one.number != number);
            slot.bands.change(running.priority, &uses, false);
            slot.used = slot.used.saturating_sub(&running.resources);
            if slot.count(known, false) == 0 {
                slot.disown(known, &isolated);
            }
            slot.node.id.clone()
        });
        self.isolated = isolated;
        node.ok_or_else(missing)
    }

    /// A workload is on its way out: it keeps its room, and no longer counts where live ones are counted.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it runs nowhere.
    pub fn terminate(&mut self, tenant: &TenantRef, id: &WorkloadId) -> Result<()> {
        let missing = || Error::not_found("terminate", format!("tenant {} runs no {id}", tenant.id));
        let known = *self.tenant_index.get(tenant).ok_or_else(missing)?;
        let number = self.workloads.find(known, id).ok_or_else(missing)?;
        let running = self.workloads.get(number).cloned().ok_or_else(missing)?;
        self.leave(&running);
        let leaving = self.counters.leaving(running.group);
        if let Some(running) = self.workloads.get_mut(number) {
            running.group = leaving;
        }
        self.join(number);
        Ok(())
    }

    /// The best node for a workload now; nothing is assigned.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] with [`Unplaceable`] as detail if there is none.
    pub fn find(&mut self, ask: Ask<'_>) -> Result<NodeId> {
        let query = self.query(ask);
        let slot = self.best(&query).and_then(|at| self.slots.get(at)?.as_ref());
        slot.map(|slot| slot.node.id.clone()).ok_or_else(|| exhausted(self.why_not(&query)))
    }

    /// Assigns a workload to the best node, and returns which.
    ///
    /// # Errors
    /// As [`find`](Self::find); [`ErrorKind::AlreadyExists`] if it runs somewhere.
    pub fn place(&mut self, ask: Ask<'_>) -> Result<NodeId> {
        let query = self.query(ask);
        let Some(at) = self.best(&query) else { return Err(exhausted(self.why_not(&query))) };
        self.put_query(at, query)?;
        let slot = self.slots.get(at).and_then(Option::as_ref);
        slot.map(|slot| slot.node.id.clone()).ok_or_else(|| Error::internal("place", "a node without a slot"))
    }

    /// Assigns every workload of `request`, in the order given, or none. The packing and the seed are those of the
    /// index. To ask what would be, take away again what was placed, or ask a clone.
    ///
    /// # Errors
    /// As [`place`](Self::place); then nothing is assigned.
    pub fn place_all(&mut self, request: &PlacementRequest<'_>) -> Result<Placement> {
        let mut placed = Placement::new();
        for workload in request.workloads {
            match self.place(request.ask(workload).packing(self.packing)) {
                Ok(node) => {
                    placed.insert(workload.id.clone(), node);
                }
                Err(refused) => {
                    for id in placed.keys() {
                        self.unassign(request.tenant, id)?;
                    }
                    return Err(refused);
                }
            }
        }
        Ok(placed)
    }
}

#[cfg(test)]
mod tests;
