//! The prefixes that policies name, and which is the longest for an address. No I/O, no clock, no async.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use foldhash::fast::FixedState;
use ipnet::IpNet;

use crate::slab::Slab;

use super::super::DnsName;
use super::index::Few;

#[derive(Debug, Clone)]
pub(super) struct Prefix {
    pub(super) net: IpNet,
    /// How many policies name it, and one for its domain names.
    refs: usize,
    /// The domain names of its one address.
    pub(super) names: BTreeSet<DnsName>,
    /// The numbers of the peers that have it.
    pub(super) peers: Few,
}

/// A table for each length that there is, the longest last.
type Lengths = Vec<(u8, HashMap<u128, u32, FixedState>)>;

/// Hash tables by length, asked from the longest on: the cost is the number of different lengths.
#[derive(Debug, Clone, Default)]
pub(super) struct Prefixes {
    all: Slab<Prefix>,
    v4: Lengths,
    v6: Lengths,
}

/// The address as the upper bits of a number.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn upper(bits: u128, length: u8) -> u128 {
    bits & !u128::MAX.checked_shr(u32::from(length)).unwrap_or(0)
}

impl Prefixes {
    fn lengths(&self, address: IpAddr) -> &Lengths {
        if address.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    pub(super) fn find(&self, net: IpNet) -> Option<u32> {
        let lengths = self.lengths(net.addr());
        let at = lengths.binary_search_by_key(&net.prefix_len(), |(length, _)| *length).ok()?;
        lengths.get(at)?.1.get(&bits(net.network())).copied()
    }

    /// One more use of `net`; tells its number, and whether it is new.
    pub(super) fn acquire(&mut self, net: IpNet) -> (u32, bool) {
        if let Some(number) = self.find(net)
            && let Some(found) = self.all.get_mut(number)
        {
            found.refs += 1;
            return (number, false);
        }
        let number = self.all.insert(Prefix { net, refs: 1, names: BTreeSet::new(), peers: Few::default() });
        let lengths = if net.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let length = net.prefix_len();
        let at = match lengths.binary_search_by_key(&length, |(length, _)| *length) {
            Ok(at) => at,
            Err(at) => {
                lengths.insert(at, (length, HashMap::default()));
                at
            }
        };
        if let Some((_, table)) = lengths.get_mut(at) {
            table.insert(bits(net.network()), number);
        }
        (number, true)
    }

    /// One use less; tells its number, and whether it was the last, and the prefix is to be dropped.
    pub(super) fn release(&mut self, net: IpNet) -> Option<(u32, bool)> {
        let number = self.find(net)?;
        let found = self.all.get_mut(number)?;
        found.refs = found.refs.saturating_sub(1);
        Some((number, found.refs == 0))
    }

    /// It is no longer found; what it has is kept until [`Prefixes::drop`].
    pub(super) fn hide(&mut self, number: u32) {
        let Some(net) = self.all.get(number).map(|prefix| prefix.net) else { return };
        let lengths = if net.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let Ok(at) = lengths.binary_search_by_key(&net.prefix_len(), |(length, _)| *length) else { return };
        let Some((_, table)) = lengths.get_mut(at) else { return };
        table.remove(&bits(net.network()));
        if table.is_empty() {
            lengths.remove(at);
        }
    }

    pub(super) fn drop(&mut self, number: u32) {
        self.all.remove(number);
    }

    pub(super) fn get(&self, number: u32) -> Option<&Prefix> {
        self.all.get(number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Prefix> {
        self.all.get_mut(number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Prefix)> {
        self.all.iter()
    }

    /// The longest prefix that `address` is in.
    pub(super) fn longest(&self, address: IpAddr) -> Option<u32> {
        self.longest_below(address, u8::MAX)
    }

    /// The longest prefix shorter than `length` that `address` is in.
    pub(super) fn longest_below(&self, address: IpAddr, length: u8) -> Option<u32> {
        let bits = bits(address);
        let lengths = self.lengths(address);
        let shorter = lengths.get(..lengths.partition_point(|(found, _)| *found < length));
        shorter
            .unwrap_or_default()
            .iter()
            .rev()
            .find_map(|(length, table)| table.get(&upper(bits, *length)).copied())
    }
}
