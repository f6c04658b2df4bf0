//! The pools of a tenant. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::{PoolName, Stored};
use serde::{Deserialize, Serialize};

use crate::NetworkConfig;
use crate::addr::Cidr;

/// All pools of a tenant, so that no two of them can ever overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pools {
    pub(crate) pools: BTreeMap<PoolName, NetworkConfig>,
}

impl Stored for Pools {
    const KIND: &'static str = "address pools";
}

impl Pools {
    /// The pool that has an address, as a number, and the node subnet it is in.
    pub(crate) fn subnet_of(&self, host: Cidr) -> Option<(&NetworkConfig, Cidr)> {
        self.pools.values().find_map(|config| {
            let subnet = config.family(host.family())?.subnet_of(host.first())?;
            Some((config, subnet))
        })
    }
}
