//! Who holds which addresses. No I/O, no clock, no async.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hivemind_core::{NodeId, PoolName, RequestId, Stored, Timestamp, WorkloadId};
use serde::{Deserialize, Serialize};

use crate::addr::IpFamily;
use crate::ipam::Pair;

/// The addresses of a workload: both families of its pool, together. The handle by which they are given back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lease {
    /// IPv4, if the pool has it.
    pub v4: Option<Ipv4Addr>,
    /// IPv6, if the pool has it.
    pub v6: Option<Ipv6Addr>,
    /// Which pool they are of.
    pub pool: PoolName,
    /// The request that got them. So the handle of an earlier life of the workload releases nothing of a later one.
    pub request: RequestId,
    /// Whether one is used before it had rested, as an emergency.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub early: bool,
}

impl Lease {
    /// The addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::from).into_iter().chain(self.v6.map(IpAddr::from))
    }

    /// The address of one family.
    pub fn address(&self, family: IpFamily) -> Option<IpAddr> {
        self.pair().address(family)
    }

    pub(crate) fn pair(&self) -> Pair {
        Pair { v4: self.v4, v6: self.v6, early: self.early }
    }
}

/// The lease of a workload, and what is known about it. One record per workload, so that two requests that give the
/// same workload addresses cannot both succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) workload: WorkloadId,
    pub(crate) lease: Lease,
    /// Where the workload is.
    pub(crate) node: NodeId,
    /// Since when it has the lease on this node, or when it was last known there: only what was begun later can miss it.
    pub(crate) at: Timestamp,
    /// Where it is moving to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) moving: Option<NodeId>,
    /// Until when the addresses are kept for it though it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept_until: Option<Timestamp>,
    /// The first observation newer than the lease that did not show the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) missed: Option<Timestamp>,
}

impl Stored for Holder {
    const KIND: &'static str = "lease holder";
}
