//! What is asked for, and why it is refused. No I/O, no clock, no async.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hivemind_core::labels::Labels;
use hivemind_core::{Error, ErrorKind, NodeId, PoolName, RequestId, Retry, Timestamp, WorkloadId};

use crate::addr::IpFamily;
use crate::ipam::{Ask, Refusal};

/// Addresses for one workload on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressRequest {
    /// For whom.
    pub workload: WorkloadId,
    /// Where it will run.
    pub node: NodeId,
    /// The node's labels, by which pools choose their nodes.
    pub labels: Labels,
    /// The node's epoch as the asker knows it: refused if the node was declared lost since.
    pub epoch: Option<u64>,
    /// From this pool, and no other.
    pub pool: Option<PoolName>,
    /// This IPv4 address, and no other.
    pub v4: Option<Ipv4Addr>,
    /// This IPv6 address, and no other.
    pub v6: Option<Ipv6Addr>,
    /// Whether an address may be used again before it has rested, when nothing else is left.
    pub emergency: bool,
}

impl AddressRequest {
    /// Any addresses.
    pub fn new(workload: WorkloadId, node: NodeId) -> Self {
        let (labels, epoch, pool) = (Labels::new(), None, None);
        Self { workload, node, labels, epoch, pool, v4: None, v6: None, emergency: false }
    }

    /// With the labels of the node.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// As of this epoch of the node.
    #[must_use]
    pub fn with_epoch(mut self, epoch: u64) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// From this pool, and no other.
    #[must_use]
    pub fn with_pool(mut self, pool: PoolName) -> Self {
        self.pool = Some(pool);
        self
    }

    /// This address, and no other.
    #[must_use]
    pub fn with_address(mut self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.v4 = Some(v4),
            IpAddr::V6(v6) => self.v6 = Some(v6),
        }
        self
    }

    /// Allows the use of an address before it has rested, when nothing else is left.
    #[must_use]
    pub fn with_emergency(mut self) -> Self {
        self.emergency = true;
        self
    }

    pub(super) fn address(&self, family: IpFamily) -> Option<IpAddr> {
        match family {
            IpFamily::V4 => self.v4.map(IpAddr::from),
            IpFamily::V6 => self.v6.map(IpAddr::from),
        }
    }

    pub(super) fn ask(&self, request: RequestId) -> Ask {
        let mut ask = Ask::new(self.workload.clone(), request);
        (ask.v4, ask.v6) = (self.v4, self.v6);
        ask
    }
}

impl From<(WorkloadId, NodeId)> for AddressRequest {
    fn from((workload, node): (WorkloadId, NodeId)) -> Self {
        Self::new(workload, node)
    }
}

/// Why a pool gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotFrom {
    /// The request names another pool.
    #[error("the request names another pool")]
    NotNamed,
    /// The node's labels do not match.
    #[error("it is for nodes that match {0}")]
    OtherNodes(String),
    /// It was asked, and refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// There are no addresses for a workload; each pool says why. Detail of the error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no addresses for workload {workload} on node {node}: {}", .pools.iter()
    .map(|(pool, why)| format!("pool {pool}: {why}")).collect::<Vec<_>>().join("; "))]
#[non_exhaustive]
pub struct NoAddress {
    /// For whom.
    pub workload: WorkloadId,
    /// Where.
    pub node: NodeId,
    /// Every pool of the tenant, in the order in which they were tried, and why it gave nothing.
    pub pools: Vec<(PoolName, NotFrom)>,
}

impl NoAddress {
    pub(super) fn new(request: &AddressRequest, pools: Vec<(PoolName, NotFrom)>) -> Self {
        Self { workload: request.workload.clone(), node: request.node.clone(), pools }
    }

    /// When an address is free that only rests now; `None` if somebody must make room first.
    pub fn retry_after(&self) -> Option<Duration> {
        let refusals = self.pools.iter().filter_map(|(_, why)| match why {
            NotFrom::Refused(refusal) => refusal.retry_after(),
            _ => None,
        });
        refusals.min()
    }

    pub(super) fn into_error(self) -> Error {
        let refused = |kind: fn(&Refusal) -> bool| {
            self.pools.iter().any(|(_, why)| matches!(why, NotFrom::Refused(refusal) if kind(refusal)))
        };
        let full = |r: &Refusal| matches!(r, Refusal::Exhausted { .. } | Refusal::OnlyCooling { .. });
        let kind = if refused(full) {
            ErrorKind::Exhausted
        } else if refused(|r| matches!(r, Refusal::Taken { .. } | Refusal::Cooling { .. })) {
            ErrorKind::AlreadyExists
        } else {
            ErrorKind::Invalid
        };
        let retry = if self.retry_after().is_some() { Retry::Later } else { Retry::AfterChange };
        Error::of(kind, "assign", self).with_retry(retry)
    }
}

/// The node was declared lost, so nothing is given out there. Detail of a
/// [`Denied`](hivemind_core::ErrorKind::Denied) error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {node} was declared lost at {since}, epoch {epoch}: let it return first, or choose another node"
)]
#[non_exhaustive]
pub struct NodeLost {
    /// The node.
    pub node: NodeId,
    /// Since when.
    pub since: Timestamp,
    /// Its epoch now.
    pub epoch: u64,
}

/// The asker's knowledge of the node is from before it was declared lost. Detail of a
/// [`Denied`](hivemind_core::ErrorKind::Denied) error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node {node} is at epoch {epoch}, not {given}: it was declared lost since; read its state again")]
#[non_exhaustive]
pub struct Fenced {
    /// The node.
    pub node: NodeId,
    /// The epoch given.
    pub given: u64,
    /// The node's epoch now.
    pub epoch: u64,
}
