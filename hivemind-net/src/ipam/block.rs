//! A node's subnet, and who has which address of it. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hivemind_core::{Collection, NodeId, Result, Stored, WorkloadId};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::pool::{Subnets, address_v4, span_v4, span_v6};
use super::subnet::Span;

/// The most leases of a block, so that its record stays small; then the node gets another block.
const LEASES: usize = 256;

/// Which block of a node: where a lease is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BlockRef {
    /// The node the block belongs to. A workload that moves away keeps its address, in this block.
    pub node: NodeId,
    /// Which of the node's blocks.
    pub index: u64,
}

/// The addresses of a workload: both families of its tenant, together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lease {
    /// IPv4, if the tenant has it.
    pub v4: Option<Ipv4Addr>,
    /// IPv6, if the tenant has it.
    pub v6: Option<Ipv6Addr>,
    /// Where the lease is kept: needed to release it.
    pub block: BlockRef,
}

impl Lease {
    /// The addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::from).into_iter().chain(self.v6.map(IpAddr::from))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Pair {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// A subnet of each family that a node has for one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    pub(crate) at: BlockRef,
    v4: Option<(u64, Ipv4Net)>,
    v6: Option<(u64, Ipv6Net)>,
    leases: BTreeMap<WorkloadId, Pair>,
    /// The last address given out, from which the search for the next one goes on, so that an address that was
    /// released lately is given out late.
    last_v4: Option<Ipv4Addr>,
    last_v6: Option<Ipv6Addr>,
}

impl Stored for Block {
    const KIND: &'static str = "address block";
}

/// Where the lease of a workload is kept. One record per workload, so that two requests that give the same workload
/// an address on different nodes cannot both succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) block: BlockRef,
}

impl Stored for Holder {
    const KIND: &'static str = "lease holder";
}

pub(crate) fn holders() -> Result<Collection<Holder>> {
    crate::collection("holders")
}

pub(crate) fn blocks() -> Result<Collection<Block>> {
    crate::collection("blocks")
}

/// The first free address after `last`, going round once.
fn free(span: Span, broadcast: bool, last: Option<u128>, used: &BTreeSet<u128>) -> Option<u128> {
    let (low, high) = span.usable(broadcast);
    let start =
        last.and_then(|last| last.checked_add(1)).filter(|next| (low..=high).contains(next)).unwrap_or(low);
    // At most one candidate more than there are used ones is looked at in each half.
    let in_half = |mut candidate: u128, end: u128| loop {
        if candidate > end {
            return None;
        }
        if !used.contains(&candidate) {
            return Some(candidate);
        }
        candidate = candidate.checked_add(1)?;
    };
    if low > high {
        return None;
    }
    in_half(start, high).or_else(|| if start > low { in_half(low, start - 1) } else { None })
}

impl Block {
    pub(crate) fn new(at: BlockRef, subnets: Subnets) -> Self {
        let Subnets { v4, v6 } = subnets;
        Self { at, v4, v6, leases: BTreeMap::new(), last_v4: None, last_v6: None }
    }

    /// The lease of `workload`, if it is kept here.
    pub(crate) fn lease(&self, workload: &WorkloadId) -> Option<Lease> {
        self.leases.get(workload).map(|pair| Lease { v4: pair.v4, v6: pair.v6, block: self.at.clone() })
    }

    /// Every workload with a lease here, in the order of names.
    pub(crate) fn leases(&self) -> impl Iterator<Item = (&WorkloadId, Lease)> {
        let of = |pair: &Pair| Lease { v4: pair.v4, v6: pair.v6, block: self.at.clone() };
        self.leases.iter().map(move |(workload, pair)| (workload, of(pair)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    pub(crate) fn subnet_numbers(&self) -> (Option<u64>, Option<u64>) {
        (self.v4.map(|(number, _)| number), self.v6.map(|(number, _)| number))
    }

    pub(crate) fn subnets(&self) -> (Option<Ipv4Net>, Option<Ipv6Net>) {
        (self.v4.map(|(_, net)| net), self.v6.map(|(_, net)| net))
    }

    /// An address of each family for `workload`, or `None` if one family has none left; then nothing changes.
    pub(crate) fn assign(&mut self, workload: &WorkloadId) -> Option<Lease> {
        if self.leases.len() >= LEASES {
            return None;
        }
        let v4 = match self.v4 {
            None => None,
            Some((_, net)) => {
                let used = self
                    .leases
                    .values()
                    .filter_map(|pair| pair.v4)
                    .map(|a| u128::from(u32::from(a)))
                    .collect();
                let last = self.last_v4.map(|a| u128::from(u32::from(a)));
                Some(address_v4(free(span_v4(net), true, last, &used)?)?)
            }
        };
        let v6 = match self.v6 {
            None => None,
            Some((_, net)) => {
                let used = self.leases.values().filter_map(|pair| pair.v6).map(u128::from).collect();
                Some(Ipv6Addr::from(free(span_v6(net), false, self.last_v6.map(u128::from), &used)?))
            }
        };
        self.last_v4 = v4.or(self.last_v4);
        self.last_v6 = v6.or(self.last_v6);
        self.leases.insert(workload.clone(), Pair { v4, v6 });
        Some(Lease { v4, v6, block: self.at.clone() })
    }

    /// Gives the addresses of `workload` back; `false` if it has none here.
    pub(crate) fn release(&mut self, workload: &WorkloadId) -> bool {
        self.leases.remove(workload).is_some()
    }
}
