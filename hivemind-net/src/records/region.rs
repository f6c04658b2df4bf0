//! Which node has which subnet: 256 subnets a record, and where there is room. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::{NodeId, Stored};
use serde::{Deserialize, Serialize};

use super::{ByPlace, json};
use crate::NetworkConfig;
use crate::addr::Cidr;
use crate::config::FamilyConfig;
use crate::ipam::FreeRanges;

/// How many subnets a region has.
const REGION: u128 = 256;

/// The number of a subnet among all of its length, whatever network of the pool it is in: so a pool grows without any
/// number changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SubnetNumber {
    pub(crate) region: u128,
    pub(crate) slot: u8,
}

impl SubnetNumber {
    pub(crate) fn of(subnet: Cidr) -> Self {
        // A shift by 128 is that of the only subnet there is.
        let number = subnet.first().checked_shr(u32::from(subnet.host_bits())).unwrap_or_default();
        let [slot, ..] = number.to_le_bytes();
        Self { region: number / REGION, slot }
    }

    pub(crate) fn subnet(self, config: &FamilyConfig) -> Option<Cidr> {
        let number = self.region.checked_mul(REGION)?.checked_add(u128::from(self.slot))?;
        let host_bits = config.family().bits().saturating_sub(config.node_prefix());
        let first = match number {
            0 => 0,
            _ => number.checked_shl(u32::from(host_bits))?,
        };
        Cidr::containing(config.family(), first, config.node_prefix())
    }
}

/// The subnets of a region that are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Region {
    pub(crate) number: u128,
    /// By which node; `None` if the node is gone and somebody still has an address there.
    pub(crate) taken: ByPlace<Option<NodeId>>,
    /// Where the search goes on, so that a subnet that was given back is taken late.
    pub(crate) next: u8,
}

impl Stored for Region {
    const KIND: &'static str = "region of subnets";

    /// By hand: all of a region is written with each subnet that a node gets.
    fn write(&self, to: &mut Vec<u8>) -> serde_json::Result<()> {
        json::raw(to, r#"{"number":"#);
        json::number(to, self.number);
        json::raw(to, r#","taken":"#);
        self.taken.write(to, |to, node| match node {
            Some(node) => json::name(to, node.as_str()),
            None => json::raw(to, "null"),
        });
        json::raw(to, r#","next":"#);
        json::byte(to, self.next);
        to.push(b'}');
        Ok(())
    }
}

impl Region {
    pub(crate) fn new(number: u128) -> Self {
        Self { number, taken: ByPlace::default(), next: 0 }
    }

    /// A free subnet in a network that is not being drained, of which something is given out.
    pub(crate) fn free(&self, config: &NetworkConfig, family: &FamilyConfig) -> Option<(u8, Cidr)> {
        (0..=u8::MAX).map(|offset| self.next.wrapping_add(offset)).find_map(|slot| {
            if self.taken.contains(slot) {
                return None;
            }
            let subnet = SubnetNumber { region: self.number, slot }.subnet(family)?;
            let active = family.active().any(|cidr| cidr.covers(subnet));
            (active && config.gives_out_of(subnet)).then_some((slot, subnet))
        })
    }

    /// Every subnet taken, and by whom.
    pub(crate) fn subnets<'a>(
        &'a self,
        config: &'a FamilyConfig,
    ) -> impl Iterator<Item = (Cidr, Option<&'a NodeId>)> {
        self.taken.iter().filter_map(|(slot, node)| {
            let subnet = SubnetNumber { region: self.number, slot }.subnet(config)?;
            Some((subnet, node.as_ref()))
        })
    }
}

/// Where there is room for subnets, in one family of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    /// Regions of which nothing is taken: they have no record.
    pub(crate) fresh: FreeRanges,
    /// Regions that have a record and room.
    pub(crate) open: BTreeSet<u128>,
}

impl Stored for Index {
    const KIND: &'static str = "index of subnets";
}

impl Index {
    /// The index of a pool of which these regions have a record.
    pub(crate) fn of<'a>(
        config: &NetworkConfig,
        family: &FamilyConfig,
        regions: impl IntoIterator<Item = &'a Region>,
    ) -> Self {
        let mut index = Self::default();
        let regions_of = |cidr: Cidr| {
            let first = Cidr::containing(cidr.family(), cidr.first(), family.node_prefix())?;
            let last = Cidr::containing(cidr.family(), cidr.last(), family.node_prefix())?;
            Some((SubnetNumber::of(first).region, SubnetNumber::of(last).region))
        };
        for (first, last) in family.active().filter_map(regions_of) {
            index.fresh.insert(first, last);
        }
        // Regions that lie in one range as a whole are never looked at, however many they are.
        let kept = config.excluded().iter().chain(config.reserved());
        let kept = kept.filter(|range| range.family() == family.family()).flat_map(|range| range.cidrs());
        let whole = kept.filter(|cidr| u16::from(cidr.prefix_len()) + 8 <= u16::from(family.node_prefix()));
        for (first, last) in whole.filter_map(regions_of) {
            index.fresh.remove(first, last);
        }
        for region in regions {
            index.fresh.take(region.number);
            if region.free(config, family).is_some() {
                index.open.insert(region.number);
            }
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use hivemind_core::encode;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_by_hand_is_what_serde_writes(
            (number, next) in any::<(u128, u8)>(),
            taken in prop::collection::btree_map(any::<u8>(), prop::option::of("[a-z]{1,9}"), 0..20),
        ) {
            let node = |name: String| name.parse().unwrap();
            let taken = taken.into_iter().map(|(slot, name)| (slot, name.map(node))).collect();
            let region = Region { number, taken: ByPlace::of(taken), next };
            let body = serde_json::to_string(&region).unwrap();
            let expected = format!(r#"{{"schema":1,"body":{body}}}"#);
            let written = encode(&region).unwrap();
            prop_assert_eq!(std::str::from_utf8(&written).unwrap(), expected);
        }
    }
}
