//! Which packets leave the cluster under another name. No I/O, no clock, no async.

use std::net::Ipv4Addr;

use hivemind_core::TenantRef;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AddressPlan, AddressUse, PlanEntry, Vrf};

/// Packets from `sources` to anywhere but `inside` leave with the address of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Masquerade {
    /// The tenant's pools that the world has no way back to, in order.
    pub sources: Vec<IpNet>,
    /// Where the tenant's own addresses are known, in order.
    pub inside: Vec<IpNet>,
}

/// Whether the world outside has no way back to these addresses.
fn is_private(prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(v4) => {
            let first = v4.network();
            let [a, b, ..] = first.octets();
            // RFC 1918, RFC 6598 (shared), RFC 2544 (benchmarks), RFC 5737 (documentation).
            let shared = a == 100 && b & 0xc0 == 64;
            let benchmarks = first & Ipv4Addr::new(255, 254, 0, 0) == Ipv4Addr::new(198, 18, 0, 0);
            first.is_private() || shared || benchmarks || first.is_documentation()
        }
        IpNet::V6(v6) => v6.network().is_unique_local(),
    }
}

impl AddressPlan {
    /// What of `tenant`'s traffic is masqueraded where it leaves the cluster.
    ///
    /// Pools of globally routed addresses never are. If tenants' packets are `encapsulated` between nodes, the nodes'
    /// own links know no way back to them and count as outside; with direct routing they do. A NAT64 prefix leads outside.
    pub fn masquerade(&self, tenant: &TenantRef, encapsulated: bool) -> Masquerade {
        let seen = |entry: &&PlanEntry| match &entry.vrf {
            Vrf::Shared => true,
            Vrf::Tenant(other) => other == tenant,
        };
        let mut found = Masquerade::default();
        for entry in self.entries.iter().filter(seen) {
            let prefix = entry.prefix.trunc();
            match entry.used_for {
                AddressUse::TenantPool if is_private(&prefix) => {
                    found.sources.push(prefix);
                    found.inside.push(prefix);
                }
                AddressUse::NodeLinks if encapsulated => {}
                // Who translates to IPv4 is outside, and knows no more of a tenant than the rest of the world.
                AddressUse::Nat64 => {}
                AddressUse::Other(_) => {}
                _ => found.inside.push(prefix),
            }
        }
        found.sources.sort_unstable();
        found.inside.sort_unstable();
        found
    }
}
