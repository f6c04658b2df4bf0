//! What a node has of a tenant's pools. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::{PoolName, Stored, Timestamp};
use serde::{Deserialize, Serialize};

use crate::addr::{Cidr, IpFamily};

/// The subnets of a node. Whoever gives out an address of the node's guards this record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Goes up whenever the node is declared lost: what it asks for with an older one is refused.
    pub(crate) epoch: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lost: Option<Timestamp>,
    pub(crate) subnets: BTreeMap<Cidr, NodeSubnet>,
}

/// One subnet of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeSubnet {
    pub(crate) pool: PoolName,
    /// Whether it stays when it is empty, because it was asked for by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) pinned: bool,
}

impl Stored for Node {
    const KIND: &'static str = "node's subnets";
}

impl Node {
    /// The subnets of one pool and family, in order.
    pub(crate) fn of<'a>(&'a self, pool: &'a PoolName, family: IpFamily) -> impl Iterator<Item = Cidr> + 'a {
        let here =
            move |(cidr, subnet): &(&Cidr, &NodeSubnet)| cidr.family() == family && subnet.pool == *pool;
        self.subnets.iter().filter(here).map(|(cidr, _)| *cidr)
    }

    pub(crate) fn add(&mut self, subnet: Cidr, pool: &PoolName, pinned: bool) {
        self.subnets.insert(subnet, NodeSubnet { pool: pool.clone(), pinned });
    }
}
