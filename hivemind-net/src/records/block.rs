//! Up to 256 addresses that lie together. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hivemind_core::{Stored, Timestamp, WorkloadId};
use serde::{Deserialize, Serialize};

use crate::addr::{Cidr, address_number};
use crate::ipam::{Layout, Space};

/// The part of a subnet whose addresses are in one record: so the record stays small, and the store decides that an
/// address has one owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    pub(crate) cidr: Cidr,
    pub(crate) subnet: Cidr,
    pub(crate) leases: BTreeMap<IpAddr, WorkloadId>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) cooling: BTreeMap<IpAddr, Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<IpAddr>,
    turn: u64,
}

impl Stored for Block {
    const KIND: &'static str = "address block";
}

impl Block {
    /// How many bits tell the addresses of a block apart.
    const BITS: u8 = 8;

    /// The block of a subnet that has an address.
    pub(crate) fn around(subnet: Cidr, number: u128) -> Option<Cidr> {
        let len = subnet.family().bits().saturating_sub(Self::BITS).max(subnet.prefix_len());
        Cidr::containing(subnet.family(), number, len).filter(|block| subnet.covers(*block))
    }

    /// The decisions on the block's addresses, as of this record.
    pub(crate) fn space(cidr: Cidr, layout: Layout, found: Option<&Self>) -> Space {
        let layout = layout.within(cidr.range());
        let Some(block) = found else { return Space::new(cidr.family(), layout) };
        let owners = block.leases.iter().map(|(address, owner)| (address_number(*address), owner.clone()));
        let cooling = block.cooling.iter().map(|(address, until)| (address_number(*address), *until));
        let last = block.last.map(address_number);
        Space::restore(cidr.family(), layout, owners, cooling, (last, block.turn))
    }

    /// The record of decisions.
    pub(crate) fn of(cidr: Cidr, subnet: Cidr, space: &Space) -> Self {
        let family = cidr.family();
        let leases = space.owned().into_iter().filter_map(|(n, owner)| Some((family.address(n)?, owner)));
        let cooling = space.cooling().filter_map(|(until, n)| Some((family.address(n)?, until)));
        let (last, turn) = space.cursor();
        let last = last.and_then(|last| family.address(last));
        Self { cidr, subnet, leases: leases.collect(), cooling: cooling.collect(), last, turn }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.cooling.is_empty()
    }
}
