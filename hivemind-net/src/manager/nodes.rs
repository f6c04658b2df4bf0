//! Nodes: their subnets, their loss, and their return.

use std::time::Duration;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    Error, ErrorKind, NodeId, PoolName, Result, Retry, TenantContext, Timestamp, WorkloadId,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::session::Session;
use super::{IpamManager, release};
use crate::NetworkConfig;
use crate::addr::Cidr;
use crate::ipam::Refusal;
use crate::records::{Holder, Node, Pools, blocks, holders};

/// The most leases that one call of [`IpamManager::stage_reclaim`] or [`IpamManager::stage_sweep`] takes back: so that
/// it fits a transaction.
pub(super) const BATCH: usize = 24;

/// What a node has of a tenant's pools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeState {
    /// IPv4 subnets, in order.
    pub v4: Vec<Ipv4Net>,
    /// IPv6 subnets, in order.
    pub v6: Vec<Ipv6Net>,
    /// Goes up whenever the node is declared lost.
    pub epoch: u64,
    /// Since when it is lost.
    pub lost: Option<Timestamp>,
}

impl From<&Node> for NodeState {
    fn from(node: &Node) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for subnet in node.subnets.keys() {
            match IpNet::from(*subnet) {
                IpNet::V4(net) => v4.push(net),
                IpNet::V6(net) => v6.push(net),
            }
        }
        Self { v4, v6, epoch: node.epoch, lost: node.lost }
    }
}

/// What was taken back of a lost node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reclaimed {
    /// Workloads that lost their lease.
    pub workloads: Vec<WorkloadId>,
    /// Subnets that are free again.
    pub freed: Vec<IpNet>,
    /// Subnets that are nobody's until their last address is given back or has rested.
    pub orphaned: Vec<IpNet>,
    /// Whether there is more to take back: commit, and call again.
    pub more: bool,
}

impl IpamManager {
    /// Stages a subnet of each family of a pool for the node, to stay there even when it is empty, until its network is
    /// drained. A node that has them gets the same again; what is being drained does not count.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] if no subnet is left, [`ErrorKind::NotFound`] if there is no such pool,
    /// [`ErrorKind::Denied`] if the node is lost.
    pub fn stage_node_subnets(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        (pool, node): (&PoolName, &NodeId),
    ) -> Result<NodeState> {
        self.stage(view, txn, ctx, |session| node_subnets(session, ctx, (pool, node)))
    }

    /// Stages that a node is lost: it is given nothing more, and its epoch goes up, so that what it asks for in the
    /// belief to be alive is refused. Its subnets and leases stay, until they are [reclaimed](Self::stage_reclaim).
    ///
    /// # Errors
    /// None but those of the records.
    pub fn stage_node_lost(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        node: &NodeId,
    ) -> Result<NodeState> {
        self.stage(view, txn, ctx, |session| {
            let found = session.node(node)?;
            let mut changed = found.as_ref().map(|found| (*found.value).clone()).unwrap_or_default();
            if changed.lost.is_none() {
                changed.lost = Some(session.now);
                changed.epoch = changed.epoch.saturating_add(1);
                session.put_node(node, found.as_ref(), &changed)?;
            }
            Ok(NodeState::from(&changed))
        })
    }

    /// Stages that a lost node is back, with whatever it had that was not reclaimed. Asks from now on carry its epoch.
    ///
    /// # Errors
    /// None but those of the records.
    pub fn stage_node_back(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        node: &NodeId,
    ) -> Result<NodeState> {
        self.stage(view, txn, ctx, |session| {
            let Some(found) = session.node(node)? else { return Ok(NodeState::default()) };
            let mut changed = (*found.value).clone();
            if changed.lost.take().is_some() {
                session.put_node(node, Some(&found), &changed)?;
            }
            Ok(NodeState::from(&changed))
        })
    }

    /// Stages that what a lost node had is taken back, in batches: the leases of workloads that are still there by the
    /// records, then its subnets. A workload that has moved away keeps its addresses.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the node is not lost, or not for `grace` yet.
    pub fn stage_reclaim(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        node: &NodeId,
        grace: Duration,
    ) -> Result<Reclaimed> {
        self.stage(view, txn, ctx, |session| {
            let pools = session.pools(ctx)?;
            let state = session.node(node)?;
            let lost = state.as_ref().and_then(|node| node.lost);
            if lost.is_none_or(|since| session.now.since(since) < grace) {
                let message = match lost {
                    Some(since) => format!("node {node} is lost since {since}, not for {grace:?} yet: wait"),
                    None => format!("node {node} is not lost: declare it lost first"),
                };
                let early = Error::new(ErrorKind::Conflict, "reclaim", message);
                return Err(early.with_retry(if lost.is_some() { Retry::Later } else { Retry::AfterChange }));
            }
            if let Some(state) = &state {
                crate::records::nodes()?.expect(&mut session.txn, state)?;
            }
            let mut done = Reclaimed::default();
            let prefix = session.keys.holders()?;
            let all = holders()?.list(session.view, &session.txn, &prefix)?;
            let mut here = all.iter().filter(|holder| holder.node == *node && !moved(&holder.value));
            for holder in here.by_ref().take(BATCH) {
                release::drop_lease(session, &pools, holder)?;
                done.workloads.push(holder.workload.clone());
            }
            done.more = here.next().is_some();
            if !done.more {
                reclaim_subnets(session, &pools, node, &mut done)?;
                if !all.iter().any(|holder| holder.node == *node && moved(&holder.value)) {
                    session.forget_watermark(node)?;
                }
            }
            Ok(done)
        })
    }

    /// What a node has.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn node_state(&self, view: &Snapshot, ctx: &TenantContext, node: &NodeId) -> Result<NodeState> {
        let session = Session::new(view, &Txn::new(), ctx, self.now(ctx));
        Ok(session.node(node)?.map(|node| NodeState::from(&*node.value)).unwrap_or_default())
    }
}

/// A workload on its way to another node is as good as there; one whose addresses are kept is nowhere.
fn moved(holder: &Holder) -> bool {
    holder.moving.is_some() || holder.kept_until.is_some()
}

/// Gives the node a subnet of each family of the pool, unless it has one that is not being drained.
pub(super) fn node_subnets(
    session: &mut Session<'_>,
    ctx: &TenantContext,
    (pool, node): (&PoolName, &NodeId),
) -> Result<NodeState> {
    let pools = session.pools(ctx)?;
    let missing = || Error::not_found("node subnets", format!("there is no pool {pool}"));
    let config = pools.pools.get(pool).ok_or_else(missing)?;
    let state = session.node(node)?;
    if let Some(since) = state.as_ref().and_then(|node| node.lost) {
        let epoch = state.map_or(0, |node| node.epoch);
        let lost = super::NodeLost { node: node.clone(), since, epoch };
        return Err(Error::of(ErrorKind::Denied, "node subnets", lost));
    }
    for family in config.giving() {
        let has = !session.own_subnets(config, family, node)?.is_empty();
        if !has && session.take_subnet(config, family, node, true)?.is_none() {
            let held = super::pools::taken(session, config, family.family())?.len();
            let held = u64::try_from(held).unwrap_or(u64::MAX);
            return Err(Refusal::Exhausted { family: family.family(), held }.into_error("node subnets"));
        }
    }
    pin(session, config, node)?;
    Ok(session.node(node)?.map(|node| NodeState::from(&*node.value)).unwrap_or_default())
}

fn pin(session: &mut Session<'_>, config: &NetworkConfig, node: &NodeId) -> Result<()> {
    let Some(found) = session.node(node)? else { return Ok(()) };
    let mut changed = (*found.value).clone();
    for family in config.families() {
        // The first of each family: what came later came for want of room.
        let first = session.own_subnets(config, family, node)?.first().copied();
        if let Some(subnet) = first.and_then(|first| changed.subnets.get_mut(&first)) {
            subnet.pinned = true;
        }
    }
    if changed == *found.value {
        return crate::records::nodes()?.expect(&mut session.txn, &found);
    }
    session.put_node(node, Some(&found), &changed)
}

/// Whether nobody has an address of a subnet, and none rests; what this request has released rests.
pub(super) fn is_empty(session: &mut Session<'_>, subnet: Cidr) -> Result<bool> {
    if session.touched(subnet) {
        return Ok(false);
    }
    let prefix = session.keys.blocks_of(subnet)?;
    Ok(blocks()?.list(session.view, &session.txn, &prefix)?.is_empty())
}

fn reclaim_subnets(
    session: &mut Session<'_>,
    pools: &Pools,
    node: &NodeId,
    done: &mut Reclaimed,
) -> Result<()> {
    let Some(state) = session.node(node)? else { return Ok(()) };
    for (at, (subnet, of)) in state.subnets.iter().enumerate() {
        if at >= BATCH {
            done.more = true;
            break;
        }
        let Some(config) = pools.pools.get(&of.pool) else { continue };
        let empty = is_empty(session, *subnet)?;
        session.drop_subnet(config, *subnet, empty)?;
        let list = if empty { &mut done.freed } else { &mut done.orphaned };
        list.push(IpNet::from(*subnet));
    }
    Ok(())
}
