//! An index that follows the records of a store, and placing by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hivemind_core::store::{Key, Revision, Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, MirrorChange, NodeId, Result, TenantContext, TenantRef, WorkloadId};

use super::super::TenantManager;
use super::isolation::{Levels, fence};
use super::place::{Filled, admitting, all_new, assign_admitted, is_isolated, wide_radius};
use crate::placement::{NodeAllocations, Packing, PlacedWorkload, Placement, PlacementPolicy};
use crate::placement::{Unplaceable, Unplaced, WorkloadRequest, allocations, groups, nodes};
use crate::{ClusterIndex, Node, PlacementRequest};

/// A [`ClusterIndex`] that follows a [`Mirror`](hivemind_core::Mirror), for
/// [`stage_place_with`](TenantManager::stage_place_with): what a placement costs grows with what changed since the last one,
/// not with the cluster.
///
/// Tell it every change that [`MirrorFeed::advance`](hivemind_core::MirrorFeed::advance) tells, in order. It only notes
/// which nodes that concerns; a placement then reads those from the view it decides by, and what the transaction has
/// staged before. What it decides it takes back if that turns out not to have been committed. A view of which it was not
/// told is compared node by node, so that it may be asked about any; that only takes longer. Were a change kept from
/// it, it would decide on the state before: [`stage_place_with`](TenantManager::stage_place_with) says what happens then.
///
/// It is a cache. It may be made anew at any time, and several may decide for one store.
///
/// ```
/// use std::sync::Arc;
/// use hivemind_core::resources::{MilliCpu, Resources};
/// use hivemind_core::store::{Prefix, Txn};
/// use hivemind_core::{
///     block_on, MemoryStore, Mirror, Principal, StateStore, SystemClock, SystemIds, TenantContext, TenantRef,
/// };
/// use hivemind_tenancy::placement::{Packing, PlacementPolicy, WorkloadRequest};
/// use hivemind_tenancy::{ClusterMirror, Node, TenantManager, TenantSpec};
///
/// # block_on(async {
/// let store = Arc::new(MemoryStore::new());
/// let tenants = TenantManager::new(store.clone(), Arc::new(SystemClock::new()), Arc::new(SystemIds::new()));
/// let (mirror, mut feed) = Mirror::open(store.clone(), Prefix::ROOT).await?;
/// let mut cluster = ClusterMirror::new(Packing::Spread, 7);
///
/// let root = Principal::User("root".parse()?);
/// let admin = TenantContext::new(TenantRef::system(), root.clone(), "req-1".parse()?);
/// let cores = |n| Resources::new().with_cpu(MilliCpu::from_cores(n));
/// tenants.add_node(&admin, Node::new("n1".parse()?, cores(2))).await?;
/// let acme = tenants.create(&admin, TenantSpec::new("acme".parse()?)).await?;
/// let ctx = TenantContext::new(acme.tenant, root, "req-2".parse()?);
///
/// // Wherever the host brings its mirror forward:
/// let newest = store.revision().await?;
/// while mirror.view().revision() < newest {
///     cluster.note(&feed.advance().await?);
/// }
/// // Wherever it decides:
/// let (asks, policy) = ([WorkloadRequest::new("web".parse()?, cores(1))], PlacementPolicy::default());
/// let mut txn = Txn::new();
/// let placed = tenants.stage_place_with(&mut cluster, &mirror.view(), &mut txn, &ctx, &asks, &policy)?;
/// store.commit(&txn).await?;
/// assert_eq!(placed.values().next().map(|node| node.as_str()), Some("n1"));
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct ClusterMirror {
    packing: Packing,
    seed: u64,
    index: ClusterIndex,
    /// What the index has of each node.
    shown: BTreeMap<NodeId, Shown>,
    /// Nodes that may be otherwise by now, or for whoever decides next.
    due: BTreeSet<NodeId>,
    /// At this revision, all nodes that are not due are as they are shown. Without one, that is true of none.
    complete: Option<Revision>,
    /// How far it was told of changes. What comes after will be told, too.
    told: Revision,
}

/// A node as the index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    node: Arc<Node>,
    running: Arc<NodeAllocations>,
}

impl Shown {
    /// As `view` and `txn` have it, with its owner by the levels of now; `None` if it is not there.
    fn now(view: &Snapshot, txn: &Txn, id: &NodeId, levels: &mut Levels) -> Result<Option<Self>> {
        let node = nodes()?.get(view, txn, &nodes()?.key([id.as_str()])?)?;
        let running = allocations()?.get(view, txn, &allocations()?.key([id.as_str()])?)?;
        match (node, running) {
            (Some(node), Some(running)) => {
                let running = levels.current(view, txn, running)?.value;
                Ok(Some(Self { node: node.value, running }))
            }
            (None, None) => Ok(None),
            _ => {
                let message = format!("node {id} has no record of what runs there, or that has no node");
                Err(Error::new(ErrorKind::Corrupt, "nodes", message))
            }
        }
    }

    fn get(&self, tenant: &TenantRef, id: &WorkloadId) -> Option<&PlacedWorkload> {
        self.running.workloads.get(tenant)?.get(id)
    }

    /// What runs here and not, or otherwise, in `other`.
    fn unlike<'a>(
        &'a self,
        other: Option<&'a Self>,
    ) -> impl Iterator<Item = (&'a TenantRef, &'a WorkloadId, &'a PlacedWorkload)> {
        let all = self.running.workloads.iter();
        let all = all.flat_map(|(tenant, theirs)| theirs.iter().map(move |(id, one)| (tenant, id, one)));
        all.filter(move |(tenant, id, one)| other.and_then(|other| other.get(tenant, id)) != Some(one))
    }
}

/// What some keys are about.
#[derive(Debug, Default)]
struct Touched {
    nodes: BTreeSet<NodeId>,
    /// Which tenants have nodes to themselves, and so every node.
    all: bool,
}

impl Touched {
    fn by<'k>(keys: impl Iterator<Item = &'k Key>) -> Result<Self> {
        let (of_nodes, of_running, (_, levels)) = (nodes()?, allocations()?, fence()?);
        let mut touched = Self::default();
        for key in keys {
            if of_nodes.prefix().covers(key) || of_running.prefix().covers(key) {
                touched.nodes.insert(node_of(key)?);
            }
            touched.all |= *key == levels;
        }
        Ok(touched)
    }
}

/// The node whose record is at `key`.
fn node_of(key: &Key) -> Result<NodeId> {
    let name = std::str::from_utf8(key.last()).ok().and_then(|name| NodeId::new(name).ok());
    name.ok_or_else(|| Error::new(ErrorKind::Corrupt, "nodes", format!("{key} names no node")))
}

/// As `refused` says of the first of `left`, of all of them: they are alike.
fn refused_alike(refused: Error, left: &[&WorkloadRequest]) -> Error {
    let Some(why) = refused.detail::<Unplaceable>().and_then(|why| why.workloads.first()).cloned() else {
        return refused;
    };
    let alike = |one: &&WorkloadRequest| Unplaced {
        workload: one.id.clone(),
        resources: one.resources.clone(),
        ..why.clone()
    };
    Error::of(ErrorKind::Exhausted, "place", Unplaceable { workloads: left.iter().map(alike).collect() })
}

impl ClusterMirror {
    /// Nothing is known yet: the first placement reads all nodes. They are filled so, with ties decided by `seed`.
    pub fn new(packing: Packing, seed: u64) -> Self {
        Self {
            packing,
            seed,
            index: ClusterIndex::new(packing, seed),
            shown: BTreeMap::new(),
            due: BTreeSet::new(),
            complete: None,
            told: Revision::ZERO,
        }
    }

    /// The mirror changed: costs nothing but a look at the keys.
    pub fn note(&mut self, change: &MirrorChange) {
        let batch = match change {
            MirrorChange::Nothing => return,
            MirrorChange::Applied(batch) => batch,
            MirrorChange::ReadAnew(revision) => {
                self.told = self.told.max(*revision);
                self.complete = None;
                return;
            }
            _ => {
                self.complete = None;
                return;
            }
        };
        self.told = self.told.max(batch.revision);
        match Touched::by(batch.events.iter().map(|event| event.key())) {
            Ok(touched) if !touched.all => {
                self.due.extend(touched.nodes);
                self.complete = self.complete.map(|complete| complete.max(batch.revision));
            }
            // What cannot be read is told to who decides.
            _ => self.complete = None,
        }
    }

    /// Forgets everything: the next placement reads all nodes.
    fn forget(&mut self) {
        *self = Self { told: self.told, ..Self::new(self.packing, self.seed) };
    }

    /// Shows the cluster as `view` and `txn` have it.
    fn catch_up(&mut self, view: &Snapshot, txn: &Txn) -> Result<()> {
        let staged = Touched::by(txn.writes().map(|(key, _)| key))?;
        let known = self.complete == Some(view.revision()) && !staged.all;
        let mut due = if known { self.due.clone() } else { self.everywhere(view)? };
        due.extend(staged.nodes.iter().cloned());
        let (mut levels, mut changed) = (Levels::default(), Vec::new());
        for id in due {
            let now = Shown::now(view, txn, &id, &mut levels)?;
            if self.shown.get(&id) != now.as_ref() {
                changed.push((id, now));
            }
        }
        let from_nothing = self.shown.is_empty();
        if let Err(broken) = self.show(changed) {
            self.forget();
            // What it had was wrong, for a change was kept from it, or what the store has is.
            return match from_nothing {
                true => Err(Error::of(ErrorKind::Corrupt, "nodes", broken)),
                false => self.catch_up(view, txn),
            };
        }
        // The next one may not see what this transaction stages.
        self.due = staged.nodes;
        // Nor is a change told again that is later than an old view.
        let lasts = !staged.all && self.told <= view.revision();
        self.complete = lasts.then_some(view.revision());
        Ok(())
    }

    /// Every node there is, or is shown.
    fn everywhere(&self, view: &Snapshot) -> Result<BTreeSet<NodeId>> {
        let (of_nodes, of_running) = (nodes()?, allocations()?);
        let records = view.scan(of_nodes.prefix()).chain(view.scan(of_running.prefix()));
        records.map(|record| node_of(&record.key)).chain(self.shown.keys().cloned().map(Ok)).collect()
    }

    fn show(&mut self, changed: Vec<(NodeId, Option<Shown>)>) -> Result<()> {
        // A workload that moved must be gone where it was before it is where it came to.
        for (id, now) in &changed {
            self.take_away(id, now.as_ref())?;
        }
        let there = changed.into_iter().filter_map(|(id, now)| Some((id, now?)));
        there.into_iter().try_for_each(|(id, now)| self.bring(id, now))
    }

    /// What no longer runs on the node goes, or the node with all that does.
    fn take_away(&mut self, id: &NodeId, now: Option<&Shown>) -> Result<()> {
        let Some(old) = self.shown.get(id) else { return Ok(()) };
        if now.is_none() {
            self.index.remove_node(id)?;
            self.shown.remove(id);
            return Ok(());
        }
        old.unlike(now).try_for_each(|(tenant, workload, _)| self.index.unassign(tenant, workload).map(drop))
    }

    /// The node is so, and what is new runs there.
    fn bring(&mut self, id: NodeId, now: Shown) -> Result<()> {
        let old = self.shown.remove(&id);
        match &old {
            None => self.index.add_node((*now.node).clone())?,
            Some(old) if old.node != now.node => self.index.update_node((*now.node).clone())?,
            Some(_) => {}
        }
        for (tenant, workload, placed) in now.unlike(old.as_ref()) {
            self.index.assign(tenant, workload, placed, false, &id)?;
        }
        self.index.set_owner(&id, now.running.dedicated_to.as_ref())?;
        self.shown.insert(id, now);
        Ok(())
    }

    /// Puts every workload of `request` on a node, or none, in the order of [`place`](crate::place).
    fn place(&mut self, request: &PlacementRequest<'_>) -> Result<Placement> {
        let mut placed = Placement::new();
        for group in groups(request.workloads) {
            for (position, workload) in group.iter().enumerate() {
                let ask = request.ask(workload).packing(self.packing);
                match self.index.place(ask) {
                    Ok(node) => drop(placed.insert(workload.id.clone(), node)),
                    Err(refused) if refused.kind() == ErrorKind::Exhausted => {
                        self.take_back(request.tenant, &placed);
                        return Err(refused_alike(refused, group.get(position..).unwrap_or_default()));
                    }
                    // The store knows nothing of what stands in its way here.
                    Err(outdated) => {
                        self.forget();
                        return Err(Error::of(ErrorKind::Conflict, "place", outdated));
                    }
                }
            }
        }
        Ok(placed)
    }

    /// Nothing of this was placed.
    fn take_back(&mut self, tenant: &TenantRef, placed: &Placement) {
        if placed.keys().any(|id| self.index.unassign(tenant, id).is_err()) {
            self.forget();
        }
    }

    /// The index has put on these nodes what now runs there, if the transaction is committed.
    fn placed(&mut self, filled: Filled<'_>) {
        for (node, running) in filled {
            if let Some(shown) = self.shown.get_mut(node) {
                shown.running = Arc::new(running);
            }
            self.due.insert(node.clone());
        }
    }
}

impl TenantManager {
    /// As [`stage_place_by`](Self::stage_place_by), decided by `cluster` without a look at every node. The packing and the
    /// seed are those of `cluster`; with that seed, the answers are the same.
    ///
    /// The store decides, as ever: the transaction demands that each node it uses, and what runs there, is as it was in
    /// `view`; that the same tenants have nodes to themselves; and where a rule looks at other nodes, that no other
    /// workload of the tenant was placed meanwhile. Each node is checked once more before anything is staged, so
    /// that a `cluster` from which a change was kept does not put a workload where `view` says that it cannot be.
    ///
    /// # Errors
    /// As [`stage_place_by`](Self::stage_place_by); [`ErrorKind::Conflict`] if a change was kept from `cluster`, with
    /// [`StaleNode`](crate::placement::StaleNode) as detail if that shows at a node: it begins anew, so decide again. Nothing is
    /// staged then.
    pub fn stage_place_with(
        &self,
        cluster: &mut ClusterMirror,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workloads: &[WorkloadRequest],
        policy: &PlacementPolicy,
    ) -> Result<Placement> {
        let chain = admitting(view, txn, ctx, workloads)?;
        all_new(view, txn, ctx, workloads)?;
        cluster.catch_up(view, txn)?;
        let request = PlacementRequest::new(ctx.tenant(), is_isolated(&chain), workloads);
        let placed = cluster.place(&request.with_policy(policy.clone()))?;
        let at = |one: &WorkloadRequest| Some((one.clone(), placed.get(&one.id)?.clone()));
        let decided: Vec<_> = workloads.iter().filter_map(at).collect();
        let staged = assign_admitted(view, txn, ctx, &chain, &decided, wide_radius(policy));
        let (placed, filled) = staged.inspect_err(|_| cluster.forget())?;
        cluster.placed(filled);
        Ok(placed)
    }
}
