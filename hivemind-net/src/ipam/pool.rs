//! A tenant's pools, cut into node subnets. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use hivemind_core::{Collection, Result, Stored};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::subnet::Span;
use crate::NetworkConfig;

/// Which subnets of a pool are taken: all before `next`, but for those given back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    next: u64,
    freed: BTreeSet<u64>,
}

impl Taken {
    /// The number of a free subnet of `total`; one that was given back comes last, when all others are taken.
    fn take(&mut self, total: u64) -> Option<u64> {
        if self.next < total {
            let number = self.next;
            self.next += 1;
            return Some(number);
        }
        self.freed.pop_first()
    }

    fn give_back(&mut self, number: u64) -> bool {
        number < self.next && self.freed.insert(number)
    }

    fn count(&self) -> u64 {
        self.next - u64::try_from(self.freed.len()).unwrap_or(self.next)
    }
}

/// The pools of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub(crate) config: NetworkConfig,
    v4: Taken,
    v6: Taken,
}

impl Stored for Pool {
    const KIND: &'static str = "address pool";
}

pub(crate) fn pools() -> Result<Collection<Pool>> {
    crate::collection("pools")
}

/// The subnets a node got together, with their numbers in the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnets {
    pub(crate) v4: Option<(u64, Ipv4Net)>,
    pub(crate) v6: Option<(u64, Ipv6Net)>,
}

/// No address is free. Detail of an [`Exhausted`](hivemind_core::ErrorKind::Exhausted) error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "pool {pool} of tenant {tenant} is exhausted: all {subnets} node subnets of /{node_prefix} are taken; \
     release workloads, or give the tenant a larger pool or smaller node subnets"
)]
#[non_exhaustive]
pub struct PoolExhausted {
    /// Whose.
    pub tenant: String,
    /// Which pool.
    pub pool: String,
    /// How many node subnets it has.
    pub subnets: u64,
    /// Their prefix length.
    pub node_prefix: u8,
}

/// How full a tenant's pools are, in node subnets and in addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PoolUsage {
    /// IPv4 node subnets that are taken.
    pub v4_subnets: u64,
    /// IPv4 node subnets there are.
    pub v4_subnets_total: u64,
    /// IPv4 addresses that workloads have.
    pub v4_addresses: u64,
    /// IPv6 node subnets that are taken.
    pub v6_subnets: u64,
    /// IPv6 node subnets there are; at most `u64::MAX`.
    pub v6_subnets_total: u64,
    /// IPv6 addresses that workloads have.
    pub v6_addresses: u64,
}

pub(super) fn span_v4(net: Ipv4Net) -> Span {
    Span { first: u128::from(u32::from(net.network())), host_bits: 32 - net.prefix_len() }
}

pub(super) fn span_v6(net: Ipv6Net) -> Span {
    Span { first: u128::from(net.network()), host_bits: 128 - net.prefix_len() }
}

pub(super) fn address_v4(number: u128) -> Option<Ipv4Addr> {
    u32::try_from(number).ok().map(Ipv4Addr::from)
}

fn subnet_v4(pool: Ipv4Net, node: u8, number: u64) -> Option<Ipv4Net> {
    let span = span_v4(pool).subnet(number, 32 - node)?;
    Ipv4Net::new(address_v4(span.first)?, node).ok()
}

fn subnet_v6(pool: Ipv6Net, node: u8, number: u64) -> Option<Ipv6Net> {
    let span = span_v6(pool).subnet(number, 128 - node)?;
    Ipv6Net::new(Ipv6Addr::from(span.first), node).ok()
}

impl Pool {
    pub(crate) fn new(config: NetworkConfig) -> Self {
        Self { config, v4: Taken::default(), v6: Taken::default() }
    }

    fn totals(&self) -> (u64, u64) {
        let v4 = self.config.v4().map_or(0, |(pool, node)| span_v4(pool).subnets(32 - node));
        let v6 = self.config.v6().map_or(0, |(pool, node)| span_v6(pool).subnets(128 - node));
        (v4, v6)
    }

    /// A subnet of each family that the tenant has; both or, by not keeping the changed pool, none.
    pub(crate) fn take(&mut self, tenant: &str) -> std::result::Result<Subnets, PoolExhausted> {
        let (total_v4, total_v6) = self.totals();
        let exhausted = |pool: String, subnets, node_prefix| PoolExhausted {
            tenant: tenant.to_owned(),
            pool,
            subnets,
            node_prefix,
        };
        let mut subnets = Subnets { v4: None, v6: None };
        if let Some((pool, node)) = self.config.v4() {
            let number = self.v4.take(total_v4);
            subnets.v4 = number.and_then(|number| Some((number, subnet_v4(pool, node, number)?)));
            if subnets.v4.is_none() {
                return Err(exhausted(pool.to_string(), total_v4, node));
            }
        }
        if let Some((pool, node)) = self.config.v6() {
            let number = self.v6.take(total_v6);
            subnets.v6 = number.and_then(|number| Some((number, subnet_v6(pool, node, number)?)));
            if subnets.v6.is_none() {
                return Err(exhausted(pool.to_string(), total_v6, node));
            }
        }
        Ok(subnets)
    }

    /// Takes subnets back; `false` if one was not taken.
    pub(crate) fn give_back(&mut self, v4: Option<u64>, v6: Option<u64>) -> bool {
        v4.is_none_or(|number| self.v4.give_back(number)) & v6.is_none_or(|number| self.v6.give_back(number))
    }

    /// How full it is, leaving addresses aside.
    pub(crate) fn usage(&self) -> PoolUsage {
        let (v4_subnets_total, v6_subnets_total) = self.totals();
        PoolUsage {
            v4_subnets: self.v4.count(),
            v4_subnets_total,
            v6_subnets: self.v6.count(),
            v6_subnets_total,
            ..PoolUsage::default()
        }
    }
}
