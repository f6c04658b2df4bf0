//! Up to 256 addresses that lie together. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hivemind_core::{Stored, Timestamp, WorkloadId};
use serde::{Deserialize, Serialize};

use crate::addr::{Cidr, address_number};
use crate::ipam::{Layout, Space};

/// The part of a subnet whose addresses are in one record: so the record stays small, and the store decides that an
/// address has one owner.
///
/// An address is kept as its place in the block: a record of 256 is read and written with each of its leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    pub(crate) cidr: Cidr,
    pub(crate) subnet: Cidr,
    leases: BTreeMap<u8, WorkloadId>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    cooling: BTreeMap<u8, Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<u8>,
    turn: u64,
}

impl Stored for Block {
    const KIND: &'static str = "address block";
    const VERSION: u32 = 2;

    /// The first version had whole addresses.
    fn upgrade(from: u32, mut body: serde_json::Value) -> Option<serde_json::Value> {
        if from != 1 {
            return None;
        }
        let cidr: Cidr = serde_json::from_value(body.get("cidr")?.clone()).ok()?;
        let place = |address: &str| place(cidr, address_number(address.parse().ok()?));
        for field in ["leases", "cooling"] {
            let Some(old) = body.get_mut(field).and_then(|field| field.as_object_mut()) else { continue };
            let new = std::mem::take(old).into_iter();
            *old = new
                .map(|(address, value)| Some((place(&address)?.to_string(), value)))
                .collect::<Option<_>>()?;
        }
        if let Some(last) = body.get_mut("last").filter(|last| !last.is_null()) {
            *last = place(last.as_str()?)?.into();
        }
        Some(body)
    }
}

/// Where in the block a number is.
fn place(cidr: Cidr, number: u128) -> Option<u8> {
    u8::try_from(number.checked_sub(cidr.first())?).ok()
}

impl Block {
    /// How many bits tell the addresses of a block apart.
    const BITS: u8 = 8;

    /// The block of a subnet that has an address.
    pub(crate) fn around(subnet: Cidr, number: u128) -> Option<Cidr> {
        let len = subnet.family().bits().saturating_sub(Self::BITS).max(subnet.prefix_len());
        Cidr::containing(subnet.family(), number, len).filter(|block| subnet.covers(*block))
    }

    fn number(cidr: Cidr, place: u8) -> u128 {
        cidr.first().saturating_add(u128::from(place))
    }

    fn address(&self, place: u8) -> Option<IpAddr> {
        self.cidr.family().address(Self::number(self.cidr, place))
    }

    /// The decisions on the block's addresses, as of this record.
    pub(crate) fn space(cidr: Cidr, layout: Layout, found: Option<&Self>) -> Space {
        let layout = layout.within(cidr.range());
        let Some(block) = found else { return Space::new(cidr.family(), layout) };
        let owners = block.leases.iter().map(|(place, owner)| (Self::number(cidr, *place), owner.clone()));
        let cooling = block.cooling.iter().map(|(place, until)| (Self::number(cidr, *place), *until));
        let last = block.last.map(|place| Self::number(cidr, place));
        Space::restore(cidr.family(), layout, owners, cooling, (last, block.turn))
    }

    /// The record of decisions.
    pub(crate) fn of(cidr: Cidr, subnet: Cidr, space: &Space) -> Self {
        let leases = space.owners().filter_map(|(n, owner)| Some((place(cidr, n)?, owner.clone())));
        let cooling = space.cooling().filter_map(|(until, n)| Some((place(cidr, n)?, until)));
        let (last, turn) = space.cursor();
        let last = last.and_then(|last| place(cidr, last));
        Self { cidr, subnet, leases: leases.collect(), cooling: cooling.collect(), last, turn }
    }

    /// Who has which address, in order.
    pub(crate) fn leases(&self) -> impl Iterator<Item = (IpAddr, &WorkloadId)> {
        self.leases.iter().filter_map(|(place, owner)| Some((self.address(*place)?, owner)))
    }

    /// How many addresses workloads have.
    pub(crate) fn held(&self) -> usize {
        self.leases.len()
    }

    /// Until when each of those that rest does so.
    pub(crate) fn resting(&self) -> impl Iterator<Item = Timestamp> + Clone {
        self.cooling.values().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.cooling.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use hivemind_core::store::Key;
    use hivemind_core::{decode, encode};

    use super::*;

    const FIRST: &str = r#"{"schema":1,"body":{"cidr":"fd00::ff00/120","subnet":"fd00::/64","leases":{"fd00::ff02":"w1","fd00::ffff":"w2"},"cooling":{"fd00::ff07":9000000000},"last":"fd00::ffff","turn":3}}"#;
    const SECOND: &str = r#"{"schema":2,"body":{"cidr":"fd00::ff00/120","subnet":"fd00::/64","leases":{"2":"w1","255":"w2"},"cooling":{"7":9000000000},"last":255,"turn":3}}"#;

    fn read(text: &str) -> hivemind_core::Result<Block> {
        decode(&Key::new(["net", "blocks", "b"]).unwrap(), text.as_bytes())
    }

    #[test]
    fn every_version_of_the_record_is_read_and_the_newest_is_written() {
        let block = read(SECOND).unwrap();
        assert_eq!(read(FIRST).unwrap(), block);
        assert_eq!(std::str::from_utf8(&encode(&block).unwrap()).unwrap(), SECOND);
        let leases: Vec<_> = block.leases().map(|(address, owner)| format!("{address} {owner}")).collect();
        assert_eq!(leases, ["fd00::ff02 w1", "fd00::ffff w2"]);
        assert_eq!(block.resting().collect::<Vec<_>>(), [Timestamp::from_secs(9)]);
        let space = Block::space(block.cidr, Layout::new(), Some(&block));
        assert_eq!(Block::of(block.cidr, block.subnet, &space), block);
    }

    #[test]
    fn a_first_version_with_an_address_of_another_block_is_refused() {
        for wrong in ["fd00::fe02", "fd00::1:0", "10.0.0.1", "w1"] {
            assert!(read(&FIRST.replacen("fd00::ff02", wrong, 1)).is_err(), "{wrong}");
        }
        assert!(read(&FIRST.replace("fd00::ff00/120", "nowhere")).is_err());
    }
}
