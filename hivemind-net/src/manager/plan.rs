//! The plan's operations by name: each commits by itself.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use hivemind_core::{Error, ErrorKind, NodeId, PoolName, Result, TenantContext, Timestamp, WorkloadId};
use ipnet::Ipv6Net;

use super::{IpamManager, NodeState, Observation, Reclaimed, Reconciled, Swept, nodes};
use crate::addr::{Cidr, IpFamily};
use crate::{Lease, NetworkConfig};

fn no_family(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "ipam", format!("the pool has no {what}: add a network of the family"))
}

impl IpamManager {
    /// A subnet of each family of the pool for a node.
    ///
    /// # Errors
    /// As [`stage_node_subnets`](Self::stage_node_subnets), and those of the store.
    pub async fn allocate_node_subnets(
        &self,
        ctx: &TenantContext,
        pool: &PoolName,
        node: &NodeId,
    ) -> Result<NodeState> {
        let decide = |view: &_, txn: &mut _| self.stage_node_subnets(view, txn, ctx, (pool, node));
        self.commit(ctx, &format!("node-subnets:{pool}:{node}"), decide).await
    }

    /// A node's IPv6 subnet; its IPv4 subnet comes with it, if the pool has IPv4.
    ///
    /// # Errors
    /// As [`allocate_node_subnets`](Self::allocate_node_subnets); [`ErrorKind::Unsupported`] if the pool has no IPv6.
    pub async fn allocate_ipv6_node_subnet(
        &self,
        ctx: &TenantContext,
        pool: &PoolName,
        node: &NodeId,
    ) -> Result<Ipv6Net> {
        let decide = |view: &_, txn: &mut _| {
            self.stage(view, txn, ctx, |session| {
                nodes::node_subnets(session, ctx, (pool, node))?;
                // Of this pool, and not one that is being drained: the node may have others.
                let pools = session.pools_of(ctx)?;
                let Some(config) = pools.pools.get(pool) else { return Ok(None) };
                let Some(family) = config.family(IpFamily::V6) else { return Ok(None) };
                let own = session.own_subnets(config, family, node)?;
                Ok(own.first().copied().and_then(Cidr::v6))
            })
        };
        let subnet = self.commit(ctx, &format!("node-subnet-v6:{pool}:{node}"), decide).await?;
        subnet.ok_or_else(|| no_family("IPv6"))
    }

    /// A container's IPv6 address; its IPv4 address comes with it, if the pool has IPv4.
    ///
    /// # Errors
    /// As [`stage_assign`](Self::stage_assign), and those of the store; [`ErrorKind::Unsupported`] if the pool has no
    /// IPv6.
    pub async fn allocate_container_ipv6(
        &self,
        ctx: &TenantContext,
        node: &NodeId,
        container: &WorkloadId,
    ) -> Result<Ipv6Addr> {
        let wanted = [(container.clone(), node.clone())];
        let decide = |view: &_, txn: &mut _| self.stage_assign(view, txn, ctx, &wanted);
        let leases = self.commit(ctx, &format!("assign:{container}"), decide).await?;
        leases.get(container).and_then(|lease| lease.v6).ok_or_else(|| no_family("IPv6"))
    }

    /// A container's IPv4 address; its IPv6 address comes with it, if the pool has IPv6.
    ///
    /// # Errors
    /// As [`allocate_container_ipv6`](Self::allocate_container_ipv6).
    pub async fn allocate_container_ip(
        &self,
        ctx: &TenantContext,
        node: &NodeId,
        container: &WorkloadId,
    ) -> Result<Ipv4Addr> {
        let wanted = [(container.clone(), node.clone())];
        let decide = |view: &_, txn: &mut _| self.stage_assign(view, txn, ctx, &wanted);
        let leases = self.commit(ctx, &format!("assign:{container}"), decide).await?;
        leases.get(container).and_then(|lease| lease.v4).ok_or_else(|| no_family("IPv4"))
    }

    /// Takes a container's addresses back, of both families.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it has none, and those of the store.
    pub async fn release_container_ip(&self, ctx: &TenantContext, container: &WorkloadId) -> Result<()> {
        let decide = |view: &_, txn: &mut _| {
            let leases: BTreeMap<_, _> = self.leases(view, txn, ctx, [container])?;
            let missing =
                || Error::not_found("release", format!("there is no lease of workload {container}"));
            let lease = leases.get(container).ok_or_else(missing)?;
            self.stage_release(view, txn, ctx, [(container, lease)])
        };
        self.commit(ctx, &format!("release:{container}"), decide).await
    }

    /// Changes a pool.
    ///
    /// # Errors
    /// As [`stage_update_pool`](Self::stage_update_pool), and those of the store.
    pub async fn update_pool(&self, ctx: &TenantContext, config: &NetworkConfig) -> Result<()> {
        let decide = |view: &_, txn: &mut _| self.stage_update_pool(view, txn, ctx, config);
        self.commit(ctx, &format!("update-pool:{}", config.name()), decide).await
    }

    /// Forgets one batch of what is left of a tenant that is gone for good; each batch has a request of its own.
    ///
    /// # Errors
    /// As [`stage_forget`](Self::stage_forget), and those of the store.
    pub async fn forget(&self, ctx: &TenantContext) -> Result<bool> {
        self.commit(ctx, "forget", |view, txn| self.stage_forget(view, txn, ctx)).await
    }

    /// Removes a pool.
    ///
    /// # Errors
    /// As [`stage_delete_pool`](Self::stage_delete_pool), and those of the store.
    pub async fn delete_pool(&self, ctx: &TenantContext, pool: &PoolName) -> Result<()> {
        let decide = |view: &_, txn: &mut _| self.stage_delete_pool(view, txn, ctx, pool);
        self.commit(ctx, &format!("delete-pool:{pool}"), decide).await
    }

    /// Keeps a workload's addresses for it.
    ///
    /// # Errors
    /// As [`stage_keep`](Self::stage_keep), and those of the store.
    pub async fn keep(
        &self,
        ctx: &TenantContext,
        (workload, lease): (&WorkloadId, &Lease),
        until: Timestamp,
    ) -> Result<()> {
        let decide = |view: &_, txn: &mut _| self.stage_keep(view, txn, ctx, (workload, lease), until);
        self.commit(ctx, &format!("keep:{workload}"), decide).await
    }

    /// Begins a move.
    ///
    /// # Errors
    /// As [`stage_transfer`](Self::stage_transfer), and those of the store.
    pub async fn transfer(
        &self,
        ctx: &TenantContext,
        workload: &WorkloadId,
        (from, to): (&NodeId, &NodeId),
    ) -> Result<()> {
        let decide = |view: &_, txn: &mut _| self.stage_transfer(view, txn, ctx, workload, (from, to));
        self.commit(ctx, &format!("transfer:{workload}"), decide).await
    }

    /// Ends a move.
    ///
    /// # Errors
    /// As [`stage_transferred`](Self::stage_transferred), and those of the store.
    pub async fn transferred(&self, ctx: &TenantContext, workload: &WorkloadId, to: &NodeId) -> Result<()> {
        let decide = |view: &_, txn: &mut _| self.stage_transferred(view, txn, ctx, workload, to);
        self.commit(ctx, &format!("transferred:{workload}"), decide).await
    }

    /// Gives a move up.
    ///
    /// # Errors
    /// As [`stage_transfer_back`](Self::stage_transfer_back), and those of the store.
    pub async fn transfer_back(&self, ctx: &TenantContext, workload: &WorkloadId) -> Result<()> {
        let decide = |view: &_, txn: &mut _| self.stage_transfer_back(view, txn, ctx, workload);
        self.commit(ctx, &format!("transfer-back:{workload}"), decide).await
    }

    /// Declares a node lost.
    ///
    /// # Errors
    /// As [`stage_node_lost`](Self::stage_node_lost), and those of the store.
    pub async fn node_lost(&self, ctx: &TenantContext, node: &NodeId) -> Result<NodeState> {
        let decide = |view: &_, txn: &mut _| self.stage_node_lost(view, txn, ctx, node);
        self.commit(ctx, &format!("node-lost:{node}"), decide).await
    }

    /// Lets a lost node return.
    ///
    /// # Errors
    /// As [`stage_node_back`](Self::stage_node_back), and those of the store.
    pub async fn node_back(&self, ctx: &TenantContext, node: &NodeId) -> Result<NodeState> {
        let decide = |view: &_, txn: &mut _| self.stage_node_back(view, txn, ctx, node);
        self.commit(ctx, &format!("node-back:{node}"), decide).await
    }

    /// Takes one batch of a lost node's leases and subnets back; each batch has a request of its own.
    ///
    /// # Errors
    /// As [`stage_reclaim`](Self::stage_reclaim), and those of the store.
    pub async fn reclaim(
        &self,
        ctx: &TenantContext,
        node: &NodeId,
        grace: std::time::Duration,
    ) -> Result<Reclaimed> {
        let decide = |view: &_, txn: &mut _| self.stage_reclaim(view, txn, ctx, node, grace);
        self.commit(ctx, &format!("reclaim:{node}"), decide).await
    }

    /// Tells what was observed; each call has a request of its own.
    ///
    /// # Errors
    /// As [`stage_reconcile`](Self::stage_reconcile), and those of the store.
    pub async fn reconcile(&self, ctx: &TenantContext, seen: &Observation) -> Result<Reconciled> {
        self.commit(ctx, "reconcile", |view, txn| self.stage_reconcile(view, txn, ctx, seen)).await
    }

    /// One batch of what time has freed; each has a request of its own.
    ///
    /// # Errors
    /// As [`stage_sweep`](Self::stage_sweep), and those of the store.
    pub async fn sweep(&self, ctx: &TenantContext) -> Result<Swept> {
        self.commit(ctx, "sweep", |view, txn| self.stage_sweep(view, txn, ctx)).await
    }
}
