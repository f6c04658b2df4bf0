//! The networks of one family. No I/O, no clock, no async.

use std::collections::BTreeMap;

use super::InvalidConfig;
use crate::addr::{Cidr, IpFamily};

/// The most networks of one family.
const MOST: usize = 64;

/// The networks of one family in a pool, and how much of them a node gets at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyConfig {
    family: IpFamily,
    /// Each network, and whether it is being drained.
    cidrs: BTreeMap<Cidr, bool>,
    node_prefix: u8,
}

/// Nodes get subnets of this length, unless told otherwise: 64 IPv4 addresses; of a large IPv6 network a /64, the usual
/// subnet, of a small one 65,536 addresses.
fn usual_node_prefix(pool: Cidr) -> u8 {
    let usual = match pool.family() {
        IpFamily::V4 => 26,
        IpFamily::V6 if pool.prefix_len() <= 56 => 64,
        IpFamily::V6 => 112,
    };
    usual.max(pool.prefix_len())
}

impl FamilyConfig {
    pub(super) fn new(family: IpFamily, pool: Cidr) -> Result<Self, InvalidConfig> {
        Self::checked(family, BTreeMap::from([(pool, false)]), Some(usual_node_prefix(pool)))
    }

    /// Checks the networks, each by itself and against each other.
    pub(super) fn checked(
        family: IpFamily,
        cidrs: BTreeMap<Cidr, bool>,
        node_prefix: Option<u8>,
    ) -> Result<Self, InvalidConfig> {
        if cidrs.len() > MOST {
            return Err(InvalidConfig::TooMany { what: "networks", found: cidrs.len(), most: MOST });
        }
        let longest =
            cidrs.keys().max_by_key(|cidr| cidr.prefix_len()).copied().ok_or(InvalidConfig::NoPool)?;
        let node_prefix = node_prefix.unwrap_or_else(|| usual_node_prefix(longest));
        let mut before: Option<Cidr> = None;
        for pool in cidrs.keys().copied() {
            if pool.family() != family {
                return Err(InvalidConfig::WrongFamily { pool, expected: family });
            }
            if let Some(what) = special(pool) {
                return Err(InvalidConfig::NotForHosts { pool, what });
            }
            // In order of their first addresses, one that overlaps any other overlaps the one before.
            if let Some(one) = before.filter(|one| one.overlaps(pool)) {
                return Err(InvalidConfig::Overlap { one, other: pool });
            }
            let (shortest, longest) = (pool.prefix_len(), family.bits());
            if !(shortest..=longest).contains(&node_prefix) {
                return Err(InvalidConfig::NodePrefix { pool, node: node_prefix, shortest, longest });
            }
            before = Some(pool);
        }
        Ok(Self { family, cidrs, node_prefix })
    }

    /// The family.
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// The prefix length of a node's subnet.
    pub fn node_prefix(&self) -> u8 {
        self.node_prefix
    }

    /// The networks, in order.
    pub fn cidrs(&self) -> impl ExactSizeIterator<Item = Cidr> + '_ {
        self.cidrs.keys().copied()
    }

    /// Whether nothing new comes from this network.
    pub fn is_draining(&self, cidr: Cidr) -> bool {
        self.cidrs.get(&cidr).copied().unwrap_or_default()
    }

    /// The networks from which something new may come.
    pub fn active(&self) -> impl Iterator<Item = Cidr> + '_ {
        self.cidrs.iter().filter(|(_, draining)| !**draining).map(|(cidr, _)| *cidr)
    }

    /// The network that has this address, as a number.
    pub fn cidr_of(&self, number: u128) -> Option<Cidr> {
        self.cidrs().find(|cidr| cidr.contains(number))
    }

    /// The node subnet that has this address, as a number.
    pub fn subnet_of(&self, number: u128) -> Option<Cidr> {
        self.cidr_of(number)?;
        Cidr::containing(self.family, number, self.node_prefix)
    }

    pub(super) fn all(&self) -> &BTreeMap<Cidr, bool> {
        &self.cidrs
    }
}

/// What a network is for, if not for hosts.
fn special(pool: Cidr) -> Option<&'static str> {
    let table: &[(IpFamily, u128, u8, &str)] = &[
        (IpFamily::V4, 127 << 24, 8, "loopback"),
        (IpFamily::V4, 224 << 24, 4, "multicast"),
        (IpFamily::V4, 0xa9fe_0000, 16, "link-local"),
        (IpFamily::V4, 0, 8, "\"this network\""),
        (IpFamily::V6, 0xff << 120, 8, "multicast"),
        (IpFamily::V6, 0xfe80 << 112, 10, "link-local"),
        (IpFamily::V6, 1, 128, "loopback"),
        (IpFamily::V6, 0, 128, "unspecified"),
        (IpFamily::V6, 0xffff << 32, 96, "IPv4 in IPv6 form"),
    ];
    let of = |(family, number, len, what): &(IpFamily, u128, u8, &'static str)| {
        Cidr::containing(*family, *number, *len).is_some_and(|special| special.covers(pool)).then_some(*what)
    };
    table.iter().find_map(of)
}
