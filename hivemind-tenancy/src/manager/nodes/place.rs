//! Placing workloads on nodes, and taking them away.

use std::collections::BTreeMap;

use hivemind_core::store::{Guard, Snapshot, Txn};
use hivemind_core::{
    Error, ErrorKind, NodeId, Result, Stamped, TenantContext, TenantRef, WorkloadId, encode,
};

use super::super::TenantManager;
use super::displace::stage_disruption;
use super::isolation::{Levels, expect_isolation};
use crate::placement::{
    Ask, Cluster, Exclusion, Filter, Fit, NodeAllocations, NodeLabels, Placement, PlacementPolicy, Ready,
    StaleNode, Taints, Unplaceable, WorkloadRequest,
};
use crate::placement::{
    PlacementFence, PlacementRecord, allocations, fence_key, fences, nodes, placement_key, placements,
};
use crate::tenant::{VerbClass, all_allow};
use crate::{Node, PlacementRequest, Tenant, place};

/// What is read of a node.
type Seen = (Stamped<Node>, Stamped<NodeAllocations>);

/// The most bytes of the record of one workload. All that run on a node are one value of the store: nobody may fill it
/// with a few, so that the node is of no use to others.
const WORKLOAD_BYTES: usize = 4096;

/// Fails if one of `workloads` is named twice, runs somewhere already, or is too long to be recorded.
pub(super) fn all_new(
    view: &Snapshot,
    txn: &Txn,
    ctx: &TenantContext,
    workloads: &[WorkloadRequest],
) -> Result<()> {
    let names: std::collections::BTreeSet<_> = workloads.iter().map(|workload| &workload.id).collect();
    if names.len() != workloads.len() {
        return Err(Error::invalid("place", "two workloads have the same name"));
    }
    for workload in workloads {
        let bytes = encode(&NodeAllocations::of_one(ctx.tenant(), workload))?.len();
        if bytes > WORKLOAD_BYTES {
            let message = format!(
                "the labels and rules of workload {} take {bytes} bytes, of {WORKLOAD_BYTES}: give it fewer",
                workload.id
            );
            return Err(Error::invalid("place", message));
        }
    }
    for id in names {
        if let Some(found) = placements()?.get(view, txn, &placement_key(ctx.tenant(), id)?)? {
            let message = format!("workload {id} of tenant {} runs on {}", ctx.tenant().id, found.node);
            return Err(Error::new(ErrorKind::AlreadyExists, "place", message));
        }
    }
    Ok(())
}

/// Whether `workload` ran before this transaction, and used as much or more.
fn ran_as_large(view: &Snapshot, ctx: &TenantContext, workload: &WorkloadRequest) -> Result<bool> {
    let before = Txn::new();
    let Some(record) = placements()?.get(view, &before, &placement_key(ctx.tenant(), &workload.id)?)? else {
        return Ok(false);
    };
    let running = allocations()?.get(view, &before, &allocations()?.key([record.node.as_str()])?)?;
    let old = running.as_ref().and_then(|here| here.workloads.get(ctx.tenant())?.get(&workload.id));
    Ok(old.is_some_and(|old| workload.resources.fits_in(&old.resources)))
}

/// The tenant, and those above it, if they let these workloads in. What ran before this transaction and is placed
/// again, no larger, was admitted before: its tenant need only keep it.
pub(super) fn admitting(
    view: &Snapshot,
    txn: &Txn,
    ctx: &TenantContext,
    workloads: &[WorkloadRequest],
) -> Result<Vec<Stamped<Tenant>>> {
    let chain = Tenant::chain(view, txn, ctx)?;
    let mut class = VerbClass::Keep;
    for workload in workloads {
        if !ran_as_large(view, ctx, workload)? {
            class = VerbClass::Admit;
        }
    }
    all_allow(&chain, ctx.tenant(), class)?;
    Ok(chain)
}

/// Where other workloads of the tenant run must still be as it was seen, if a rule looks at that (`wide`). From the first
/// such rule of a tenant on, all requests that place its workloads meet here; before, only that one does.
fn stage_fence(view: &Snapshot, txn: &mut Txn, tenant: &TenantRef, wide: bool) -> Result<()> {
    let key = fence_key(tenant)?;
    match fences()?.get(view, txn, &key)? {
        Some(old) => fences()?.update(txn, &old, &PlacementFence { placed: old.placed.wrapping_add(1) }),
        None if wide => fences()?.create(view, txn, key, &PlacementFence { placed: 1 }),
        None => txn.guard(&key, Guard::Absent),
    }
}

/// What runs on the nodes that are used, with what comes.
pub(super) type Filled<'a> = BTreeMap<&'a NodeId, NodeAllocations>;

/// What `node` has with `workload` too.
fn fill<'a>(
    filled: &mut Filled<'a>,
    (node, seen): (&'a NodeId, &Seen),
    ctx: &TenantContext,
    workload: &WorkloadRequest,
    isolated: bool,
) -> Result<()> {
    let here = filled.entry(node).or_insert_with(|| (*seen.1.value).clone());
    let mut placed = workload.placed();
    placed.since = ctx.at();
    here.add(ctx.tenant(), &workload.id, placed, isolated)
}

/// Stages that what was `placed` fills nodes so, which are still as they were `seen`.
fn record(
    view: &Snapshot,
    txn: &mut Txn,
    chain: &[Stamped<Tenant>],
    placed: &Placement,
    seen: &BTreeMap<&NodeId, &Seen>,
    filled: &Filled<'_>,
) -> Result<()> {
    let tenant = own(chain)?;
    for (node, new) in filled {
        let Some((node, running)) = seen.get(node) else { continue };
        // The node must still be as it was when this commits: ready, with these labels.
        nodes()?.expect(txn, node)?;
        allocations()?.update(txn, running, new)?;
    }
    for (workload, node) in placed {
        let key = placement_key(&tenant.tenant, workload)?;
        placements()?.create(view, txn, key, &PlacementRecord { node: node.clone() })?;
    }
    expect_isolation(view, txn)?;
    // Whether the tenant is isolated, and lets workloads in, must still be so, too.
    chain.iter().try_for_each(|one| crate::tenant::tenants()?.expect(txn, one))
}

/// Whether the tenant has nodes of its own: it has if one above it has.
pub(super) fn is_isolated(chain: &[Stamped<Tenant>]) -> bool {
    chain.iter().any(|one| one.isolation_level.settings().compute_isolation)
}

/// The tenant itself.
fn own(chain: &[Stamped<Tenant>]) -> Result<&Stamped<Tenant>> {
    chain.first().ok_or_else(|| Error::internal("place", "a chain without the tenant itself"))
}

/// Why the only node of `cluster` cannot take the workload of `ask`, by these filters.
pub(super) fn refusal_by(
    filters: &[&dyn Filter],
    ask: Ask<'_>,
    cluster: &Cluster<'_>,
) -> Option<crate::placement::Rejection> {
    let seat = cluster.seats().first()?;
    filters.iter().find_map(|filter| filter.prepare(ask, cluster)(seat))
}

/// The same, by all that is on the node itself.
fn refusal(ask: Ask<'_>, cluster: &Cluster<'_>) -> Option<crate::placement::Rejection> {
    refusal_by(&[&Ready, &Exclusion, &NodeLabels, &Taints, &Fit], ask, cluster)
}

/// Stages each workload on the node named beside it, if it still fits there, after [`admitting`] and [`all_new`] let
/// them in; tells what then runs on each of the nodes.
pub(super) fn assign_admitted<'a>(
    view: &Snapshot,
    txn: &mut Txn,
    ctx: &TenantContext,
    chain: &[Stamped<Tenant>],
    decided: &'a [(WorkloadRequest, NodeId)],
    wide: bool,
) -> Result<(Placement, Filled<'a>)> {
    let isolated = is_isolated(chain);
    let mut seen: BTreeMap<&NodeId, Seen> = BTreeMap::new();
    let (mut filled, mut levels) = (Filled::new(), Levels::default());
    for (workload, id) in decided {
        if !seen.contains_key(id) {
            seen.insert(id, super::node_now(view, txn, id, &mut levels)?);
        }
        let Some(known) = seen.get(id) else { continue };
        let mut ask = Ask::new(ctx.tenant(), workload);
        ask.isolated = isolated;
        let here = filled.get(id).unwrap_or(&*known.1.value);
        if let Some(reason) = refusal(ask, &Cluster::new(&[(&*known.0.value, here)])) {
            let stale = StaleNode { workload: workload.id.clone(), node: id.clone(), reason };
            return Err(Error::of(ErrorKind::Conflict, "assign", stale));
        }
        fill(&mut filled, (id, known), ctx, workload, isolated)?;
    }
    let placed = decided.iter().map(|(workload, node)| (workload.id.clone(), node.clone())).collect();
    let seen = seen.iter().map(|(id, pair)| (*id, pair)).collect();
    record(view, txn, chain, &placed, &seen, &filled)?;
    let wide = wide || decided.iter().any(|(workload, _)| workload.looks_beyond_its_node());
    stage_fence(view, txn, ctx.tenant(), wide)?;
    Ok((placed, filled))
}

/// Whether the policy looks at more than one node.
pub(super) fn wide_radius(policy: &PlacementPolicy) -> bool {
    policy.blast_radius.as_ref().is_some_and(|radius| radius.topology.is_wide())
        || policy.domain_share.as_ref().is_some_and(|share| share.topology.is_wide())
}

impl TenantManager {
    /// Stages a node for each of `workloads`, all or none; returns which.
    ///
    /// Two requests that place the same workload at the same time meet at its record, and two that use the last room
    /// of a node at the node's: one commits, the other gets a conflict and decides again. So do all requests
    /// of one tenant from its first one on with a rule that looks at more than one node: affinity, anti-affinity or
    /// spread by labels, a blast radius or a share of a place. Only that very first one does not see a request without
    /// such a rule that commits between its decision and its commit.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if two have one name, or one takes more than 4 KiB with its labels, tolerations and
    /// affinity to other workloads; [`ErrorKind::Exhausted`] with [`Unplaceable`] as detail if one fits nowhere, [`ErrorKind::AlreadyExists`] if one
    /// runs somewhere already, [`ErrorKind::NotFound`] if the tenant is gone, [`ErrorKind::Conflict`] while its state or
    /// that of a tenant above lets nothing new in. What [`stage_unplace`](Self::stage_unplace) took away in the same
    /// transaction is not new. Nothing is staged then.
    pub fn stage_place(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workloads: &[WorkloadRequest],
    ) -> Result<Placement> {
        self.stage_place_by(view, txn, ctx, workloads, &PlacementPolicy::default())
    }

    /// As [`stage_place`](Self::stage_place), in the way that `policy` says.
    ///
    /// # Errors
    /// As [`stage_place`](Self::stage_place).
    pub fn stage_place_by(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workloads: &[WorkloadRequest],
        policy: &PlacementPolicy,
    ) -> Result<Placement> {
        let decided = self.try_place(view, txn, ctx, workloads, policy)?;
        decided.map_err(|e| Error::of(ErrorKind::Exhausted, "place", e))
    }

    /// As [`stage_place_by`](Self::stage_place_by), with the reasons apart from errors.
    pub(super) fn try_place(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workloads: &[WorkloadRequest],
        policy: &PlacementPolicy,
    ) -> Result<Result<Placement, Unplaceable>> {
        let chain = admitting(view, txn, ctx, workloads)?;
        all_new(view, txn, ctx, workloads)?;
        let isolated = is_isolated(&chain);
        let cluster = self.nodes(view, txn)?;
        let pairs: Vec<_> = cluster.iter().map(|(node, running)| (&*node.value, &*running.value)).collect();
        let request = PlacementRequest::new(ctx.tenant(), isolated, workloads).with_policy(policy.clone());
        let placed = match place(&request, &pairs) {
            Ok(placed) => placed,
            Err(why) => return Ok(Err(why)),
        };
        let seen: BTreeMap<_, _> = cluster.iter().map(|pair| (&pair.0.id, pair)).collect();
        let mut filled = Filled::new();
        for workload in workloads {
            let at = placed.get(&workload.id).and_then(|node| seen.get_key_value(node));
            let unknown =
                || Error::internal("place", format!("{} was placed on an unknown node", workload.id));
            let (node, seen) = at.ok_or_else(unknown)?;
            fill(&mut filled, (*node, *seen), ctx, workload, isolated)?;
        }
        record(view, txn, &chain, &placed, &seen, &filled)?;
        let wide = wide_radius(policy) || workloads.iter().any(WorkloadRequest::looks_beyond_its_node);
        stage_fence(view, txn, ctx.tenant(), wide)?;
        Ok(Ok(placed))
    }

    /// Where each of `batches` would go, one after the other, if it were placed now; nothing is staged.
    ///
    /// # Errors
    /// As [`stage_place`](Self::stage_place), but that a batch does not fit is an answer.
    pub fn what_if(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        batches: &[Vec<WorkloadRequest>],
        policy: &PlacementPolicy,
    ) -> Result<Vec<Result<Placement, Unplaceable>>> {
        // A batch that does not fit stages nothing, so the next one finds the state before it.
        let mut scratch = txn.clone();
        batches.iter().map(|batch| self.try_place(view, &mut scratch, ctx, batch, policy)).collect()
    }

    /// Stages what was decided elsewhere, such as by a [`ClusterIndex`](crate::ClusterIndex): each workload on the node
    /// named beside it, if it still fits there. Any number of schedulers may decide at once; only nodes that are used
    /// are read.
    ///
    /// What is checked is the node itself: ready, labels, taints, exclusion, room. Rules about other nodes, such as
    /// spread, hold by the state that the scheduler knew: it must be no older than `view`. From then on they are guarded
    /// as by [`stage_place`](Self::stage_place).
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] with [`StaleNode`] as detail if a node is no longer possible: decide again. Otherwise as
    /// [`stage_place`](Self::stage_place); nothing is staged then.
    pub fn stage_assign(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        decided: &[(WorkloadRequest, NodeId)],
    ) -> Result<Placement> {
        self.assign(view, txn, ctx, decided, false)
    }

    /// As [`stage_assign`](Self::stage_assign); `wide` if a rule of the host looks at more than one node.
    pub(super) fn assign(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        decided: &[(WorkloadRequest, NodeId)],
        wide: bool,
    ) -> Result<Placement> {
        let workloads: Vec<_> = decided.iter().map(|(workload, _)| workload.clone()).collect();
        let chain = admitting(view, txn, ctx, &workloads)?;
        all_new(view, txn, ctx, &workloads)?;
        Ok(assign_admitted(view, txn, ctx, &chain, decided, wide)?.0)
    }

    /// Stages that workloads of the tenant no longer run where they did; each exactly once.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if one does not run there.
    pub fn stage_unplace<'a>(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workloads: impl IntoIterator<Item = (&'a WorkloadId, &'a NodeId)>,
    ) -> Result<()> {
        for (workload, node) in workloads {
            let old = allocations()?.require(view, txn, &allocations()?.key([node.as_str()])?)?;
            let mut new = (*old.value).clone();
            new.remove(ctx.tenant(), workload)?;
            allocations()?.update(txn, &old, &new)?;
            if let Some(record) = placements()?.get(view, txn, &placement_key(ctx.tenant(), workload)?)? {
                placements()?.delete(txn, &record)?;
            }
        }
        stage_disruption(view, txn, ctx.tenant())
    }

    /// Stages that a workload is on its way out: it keeps its room until [`stage_unplace`](Self::stage_unplace), and no
    /// longer counts where live workloads are counted.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it does not run there.
    pub fn stage_terminate(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workload: &WorkloadId,
        node: &NodeId,
    ) -> Result<()> {
        let old = allocations()?.require(view, txn, &allocations()?.key([node.as_str()])?)?;
        let mut new = (*old.value).clone();
        let found = new.workloads.get_mut(ctx.tenant()).and_then(|theirs| theirs.get_mut(workload));
        let missing = || format!("tenant {} runs no {workload} on {node}", ctx.tenant().id);
        found.ok_or_else(|| Error::not_found("terminate", missing()))?.terminating = true;
        allocations()?.update(txn, &old, &new)?;
        stage_disruption(view, txn, ctx.tenant())
    }
}
