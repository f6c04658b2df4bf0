//! Up to 256 addresses that lie together. No I/O, no clock, no async.

use std::net::IpAddr;

use hivemind_core::{Stored, Timestamp, WorkloadId};
use serde::{Deserialize, Serialize};

use super::{ByPlace, json};
use crate::addr::{Cidr, address_number};
use crate::ipam::{BlockSpace, BlockState, Layout};

/// The part of a subnet whose addresses are in one record: so the record stays small, and the store decides that an
/// address has one owner.
///
/// An address is kept as its place in the block: a record of 256 is read and written with each of its leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    pub(crate) cidr: Cidr,
    pub(crate) subnet: Cidr,
    leases: ByPlace<WorkloadId>,
    #[serde(default, skip_serializing_if = "ByPlace::is_empty")]
    cooling: ByPlace<Timestamp>,
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

    /// By hand: all of a block is written with each of its leases.
    fn write(&self, to: &mut Vec<u8>) -> serde_json::Result<()> {
        json::raw(to, r#"{"cidr":"#);
        json::cidr(to, self.cidr);
        json::raw(to, r#","subnet":"#);
        json::cidr(to, self.subnet);
        json::raw(to, r#","leases":"#);
        self.leases.write(to, |to, owner| json::name(to, owner.as_str()));
        if !self.cooling.is_empty() {
            json::raw(to, r#","cooling":"#);
            self.cooling.write(to, |to, until| json::timestamp(to, *until));
        }
        if let Some(last) = self.last {
            json::raw(to, r#","last":"#);
            json::byte(to, last);
        }
        json::raw(to, r#","turn":"#);
        json::number(to, self.turn.into());
        to.push(b'}');
        Ok(())
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
    pub(crate) fn space(cidr: Cidr, layout: &Layout, found: Option<&Self>) -> BlockSpace {
        let state = found.map(|block| BlockState {
            owners: block.leases.as_slice().to_vec(),
            cooling: block.cooling.as_slice().to_vec(),
            last: block.last,
            turn: block.turn,
        });
        BlockSpace::restore(cidr, layout, state.unwrap_or_default())
    }

    /// The record of decisions.
    pub(crate) fn of(subnet: Cidr, space: BlockSpace) -> Self {
        let cidr = space.cidr();
        let BlockState { owners, cooling, last, turn } = space.into_state();
        let (leases, cooling) = (ByPlace::of(owners), ByPlace::of(cooling));
        Self { cidr, subnet, leases, cooling, last, turn }
    }

    /// Who has which address, in order.
    pub(crate) fn leases(&self) -> impl Iterator<Item = (IpAddr, &WorkloadId)> {
        self.leases.iter().filter_map(|(place, owner)| Some((self.address(place)?, owner)))
    }

    /// How many addresses workloads have.
    pub(crate) fn held(&self) -> usize {
        self.leases.len()
    }

    /// Until when each of those that rest does so.
    pub(crate) fn resting(&self) -> impl Iterator<Item = Timestamp> + Clone {
        self.cooling.iter().map(|(_, until)| *until)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.cooling.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use hivemind_core::store::Key;
    use hivemind_core::{decode, encode};
    use proptest::prelude::*;

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
        let space = Block::space(block.cidr, &Layout::new(), Some(&block));
        assert_eq!(Block::of(block.subnet, space), block);
    }

    proptest! {
        #[test]
        fn what_is_written_by_hand_is_what_serde_writes(
            leases in prop::collection::btree_map(any::<u8>(), "[a-z]{1,9}", 0..20),
            cooling in prop::collection::btree_map(any::<u8>(), any::<u64>(), 0..4),
            (last, turn) in any::<(Option<u8>, u64)>(),
            v4: bool,
        ) {
            let (cidr, subnet) = if v4 { ("10.1.2.0/24", "10.1.0.0/16") } else { ("fd00::100/120", "fd00::/64") };
            let leases = leases.into_iter().map(|(place, owner)| (place, owner.parse().unwrap())).collect();
            let leases = ByPlace::of(leases);
            let cooling = cooling.into_iter().map(|(place, until)| (place, Timestamp::from_nanos(until))).collect();
            let cooling = ByPlace::of(cooling);
            let (cidr, subnet) = (cidr.parse().unwrap(), subnet.parse().unwrap());
            let block = Block { cidr, subnet, leases, cooling, last, turn };
            let body = serde_json::to_string(&block).unwrap();
            let expected = format!(r#"{{"schema":2,"body":{body}}}"#);
            let written = encode(&block).unwrap();
            prop_assert_eq!(std::str::from_utf8(&written).unwrap(), expected.as_str());
            prop_assert_eq!(read(&expected).unwrap(), block);
        }
    }

    #[test]
    fn a_first_version_with_an_address_of_another_block_is_refused() {
        for wrong in ["fd00::fe02", "fd00::1:0", "10.0.0.1", "w1"] {
            assert!(read(&FIRST.replacen("fd00::ff02", wrong, 1)).is_err(), "{wrong}");
        }
        assert!(read(&FIRST.replace("fd00::ff00/120", "nowhere")).is_err());
    }
}
