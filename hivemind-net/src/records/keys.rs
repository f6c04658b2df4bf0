//! Where the records are. No I/O, no clock, no async.

use std::sync::OnceLock;

use hivemind_core::store::{Key, Prefix};
use hivemind_core::{Collection, NodeId, PoolName, Result, TenantContext, WorkloadId};

use super::{Block, Holder, Index, Node, Pools, Region, Watermark};
use crate::addr::{Cidr, IpFamily};
use crate::collection;

/// Each collection is made once: a decision uses it for every record that it looks at.
macro_rules! collections {
    ($($name:ident: $T:ty, $at:literal;)*) => {$(
        pub(crate) fn $name() -> Result<&'static Collection<$T>> {
            static MADE: OnceLock<Collection<$T>> = OnceLock::new();
            match MADE.get() {
                Some(made) => Ok(made),
                None => {
                    let made = collection($at)?;
                    Ok(MADE.get_or_init(|| made))
                }
            }
        }
    )*};
}

collections! {
    pools: Pools, "pools";
    indexes: Index, "indexes";
    regions: Region, "regions";
    nodes: Node, "nodes";
    blocks: Block, "blocks";
    holders: Holder, "holders";
    watermarks: Watermark, "watermarks";
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

    /// The watermark of a node; of all nodes if `None`.
    pub(crate) fn watermark(&self, node: Option<&NodeId>) -> Result<Key> {
        match node {
            Some(node) => watermarks()?.key([&self.tenant, "node", node.as_str()]),
            None => watermarks()?.key([&self.tenant, "all"]),
        }
    }

    pub(crate) fn watermarks(&self) -> Result<Prefix> {
        watermarks()?.below([&self.tenant])
    }

    pub(crate) fn node_watermarks(&self) -> Result<Prefix> {
        watermarks()?.below([&self.tenant, "node"])
    }
}
