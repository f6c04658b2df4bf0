//! Where the records are. No I/O, no clock, no async.

use hivemind_core::store::{Key, Prefix};
use hivemind_core::{Collection, NodeId, PoolName, Result, TenantContext, WorkloadId};

use super::{Block, Holder, Index, Node, Pools, Region};
use crate::addr::{Cidr, IpFamily};
use crate::collection;

pub(crate) fn pools() -> Result<Collection<Pools>> {
    collection("pools")
}

pub(crate) fn indexes() -> Result<Collection<Index>> {
    collection("indexes")
}

pub(crate) fn regions() -> Result<Collection<Region>> {
    collection("regions")
}

pub(crate) fn nodes() -> Result<Collection<Node>> {
    collection("nodes")
}

pub(crate) fn blocks() -> Result<Collection<Block>> {
    collection("blocks")
}

pub(crate) fn holders() -> Result<Collection<Holder>> {
    collection("holders")
}

/// The keys of one tenant. Numbers have all their digits, so that keys sort like numbers.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    tenant: String,
}

/// A network as a part of a key.
fn segment(cidr: Cidr) -> String {
    format!("{:032x}-{:03}", cidr.first(), cidr.prefix_len())
}

impl Keys {
    pub(crate) fn of(ctx: &TenantContext) -> Self {
        Self { tenant: ctx.tenant().to_string() }
    }

    pub(crate) fn pools(&self) -> Result<Key> {
        pools()?.key([&self.tenant])
    }

    pub(crate) fn index(&self, pool: &PoolName, family: IpFamily) -> Result<Key> {
        indexes()?.key([&self.tenant, pool.as_str(), family.name()])
    }

    pub(crate) fn region(&self, pool: &PoolName, family: IpFamily, number: u128) -> Result<Key> {
        regions()?.key([&self.tenant, pool.as_str(), family.name(), &format!("{number:032x}")])
    }

    pub(crate) fn regions(&self, pool: &PoolName, family: IpFamily) -> Result<Prefix> {
        regions()?.below([&self.tenant, pool.as_str(), family.name()])
    }

    pub(crate) fn node(&self, node: &NodeId) -> Result<Key> {
        nodes()?.key([&self.tenant, node.as_str()])
    }

    pub(crate) fn nodes(&self) -> Result<Prefix> {
        nodes()?.below([&self.tenant])
    }

    pub(crate) fn block(&self, subnet: Cidr, block: Cidr) -> Result<Key> {
        blocks()?.key([&self.tenant, subnet.family().name(), &segment(subnet), &segment(block)])
    }

    pub(crate) fn blocks_of(&self, subnet: Cidr) -> Result<Prefix> {
        blocks()?.below([&self.tenant, subnet.family().name(), &segment(subnet)])
    }

    pub(crate) fn blocks(&self) -> Result<Prefix> {
        blocks()?.below([&self.tenant])
    }

    pub(crate) fn holder(&self, workload: &WorkloadId) -> Result<Key> {
        holders()?.key([&self.tenant, workload.as_str()])
    }

    pub(crate) fn holders(&self) -> Result<Prefix> {
        holders()?.below([&self.tenant])
    }
}
