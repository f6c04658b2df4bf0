//! What is wrong with a plan, all of it at once. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hivemind_core::TenantRef;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{AddressPlan, AddressUse, PlanEntry, Vrf};
use crate::addr::precedence;

/// One thing that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanProblem {
    /// Two users of one address that see each other.
    #[error("{inner} overlaps {outer}: move one of them")]
    Overlap {
        /// The smaller one, or either.
        inner: PlanEntry,
        /// The one that contains it.
        outer: PlanEntry,
    },
    /// A prefix that is not written as a network.
    #[error("{entry} has host bits set: its network is {}", entry.prefix.trunc())]
    HostBits {
        /// As given.
        entry: PlanEntry,
    },
    /// A prefix in which no IPv4 address can be written.
    #[error(
        "{entry} cannot hold IPv4 addresses: give an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits of which bits \
             64 to 71 are zero (RFC 6052)"
    )]
    Nat64 {
        /// As given.
        entry: PlanEntry,
    },
}

/// A plan that cannot work, with all reasons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct InvalidPlan {
    /// What is wrong, one by one.
    pub problems: Vec<PlanProblem>,
}

impl fmt::Display for InvalidPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// Something that works otherwise than one might think.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanWarning {
    /// Tenants with IPv6 alone cannot pull an image, ask a metadata service, or call anything that has IPv4 alone.
    NoWayToIpv4 {
        /// The tenants without an IPv4 pool.
        tenants: BTreeSet<TenantRef>,
        /// Whether there is no NAT64 prefix.
        nat64_missing: bool,
        /// Whether the resolver makes no AAAA records (DNS64).
        dns64_missing: bool,
    },
    /// Tenants whose workloads have no address of the version that services have.
    ServicesOutOfReach {
        /// The tenants that share no IP version with the services.
        tenants: BTreeSet<TenantRef>,
    },
    /// Unique local addresses beside IPv4: name resolution puts IPv4 first (RFC 6724, section 2.1).
    Ipv4Preferred {
        /// The tenants whose IPv6 pools are all unique local, and who have IPv4 too.
        tenants: BTreeSet<TenantRef>,
    },
}

fn names(tenants: &BTreeSet<TenantRef>) -> String {
    let mut names: Vec<_> = tenants.iter().take(5).map(|tenant| tenant.id.as_str()).collect();
    if tenants.len() > names.len() {
        names.push("...");
    }
    names.join(", ")
}

impl fmt::Display for PlanWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWayToIpv4 { tenants, nat64_missing, dns64_missing } => {
                let give = match (nat64_missing, dns64_missing) {
                    (true, true) => "a NAT64 prefix and DNS64",
                    (true, false) => "a NAT64 prefix",
                    _ => "DNS64",
                };
                write!(
                    f,
                    "tenants with IPv6 alone ({}) reach nothing that has IPv4 alone: add {give}",
                    names(tenants)
                )
            }
            Self::ServicesOutOfReach { tenants } => {
                let names = names(tenants);
                write!(f, "services have no address of an IP version that these tenants have: {names}")
            }
            Self::Ipv4Preferred { tenants } => {
                let names = names(tenants);
                write!(f, "clients prefer IPv4 to the unique local addresses of: {names}")
            }
        }
    }
}

/// What nobody may plan with: seen from everywhere.
fn reserved() -> impl Iterator<Item = PlanEntry> {
    let v4 = |a, b, len| Ipv4Net::new(Ipv4Addr::new(a, b, 0, 0), len).ok().map(IpNet::from);
    let v6 =
        |high, low, len| Ipv6Net::new(Ipv6Addr::new(high, 0, 0, 0, 0, low, 0, 0), len).ok().map(IpNet::from);
    [
        (v4(0, 0, 8), "this network, RFC 791"),
        (v4(127, 0, 8), "loopback"),
        (v4(169, 254, 16), "link-local"),
        (v4(224, 0, 4), "multicast"),
        (v4(240, 0, 4), "reserved, RFC 1112"),
        // ::/96 holds the unspecified and the loopback address.
        (v6(0, 0, 96), "loopback"),
        (v6(0, 0xffff, 96), "IPv4-mapped"),
        (v6(0xfe80, 0, 10), "link-local"),
        (v6(0xff00, 0, 8), "multicast"),
    ]
    .into_iter()
    .filter_map(|(prefix, what)| {
        Some(PlanEntry { vrf: Vrf::Shared, prefix: prefix?, used_for: AddressUse::Other(what.to_owned()) })
    })
}

fn is_nat64(prefix: IpNet) -> bool {
    let IpNet::V6(prefix) = prefix else { return false };
    let [_, _, _, _, _, _, _, _, reserved, ..] = prefix.network().octets();
    matches!(prefix.prefix_len(), 32 | 40 | 48 | 56 | 64 | 96) && reserved == 0
}

/// Whether clients that have IPv4 too do not use it.
fn loses_to_v4(prefix: &IpNet) -> bool {
    precedence(prefix.network()) < precedence(Ipv4Addr::UNSPECIFIED.into())
}

/// Of those seen from one place, each that lies in another, with the smallest one that contains it.
fn overlaps<'a>(mut seen: Vec<&'a PlanEntry>) -> Vec<(&'a PlanEntry, &'a PlanEntry)> {
    seen.sort_by_key(|entry| (entry.prefix.network(), entry.prefix.prefix_len()));
    let mut open: Vec<&'a PlanEntry> = Vec::new();
    let mut found = Vec::new();
    for entry in seen {
        while open.pop_if(|outer| !outer.prefix.contains(&entry.prefix)).is_some() {}
        found.extend(open.last().map(|outer| (entry, *outer)));
        open.push(entry);
    }
    found
}

impl AddressPlan {
    /// Checks that no two users of one address see each other, and that every prefix can be what it is for.
    ///
    /// The warnings say what works otherwise than one might think.
    ///
    /// # Errors
    /// [`InvalidPlan`] with every problem at once.
    pub fn validate(&self) -> Result<Vec<PlanWarning>, InvalidPlan> {
        let mut problems = Vec::new();
        for entry in &self.entries {
            if entry.prefix.trunc() != entry.prefix {
                problems.push(PlanProblem::HostBits { entry: entry.clone() });
            }
            if entry.used_for == AddressUse::Nat64 && !is_nat64(entry.prefix) {
                problems.push(PlanProblem::Nat64 { entry: entry.clone() });
            }
        }
        problems.extend(self.all_overlaps());
        if problems.is_empty() { Ok(self.warnings()) } else { Err(InvalidPlan { problems }) }
    }

    fn all_overlaps(&self) -> Vec<PlanProblem> {
        let all: Vec<_> = self.entries.iter().map(truncated).chain(reserved()).collect();
        let mut by_vrf: BTreeMap<&Vrf, Vec<&PlanEntry>> = BTreeMap::new();
        for entry in &all {
            by_vrf.entry(&entry.vrf).or_default().push(entry);
        }
        let shared = by_vrf.remove(&Vrf::Shared).unwrap_or_default();
        let mut found = overlaps(shared.clone());
        for of_tenant in by_vrf.into_values() {
            let among = overlaps(of_tenant.into_iter().chain(shared.iter().copied()).collect());
            let both_shared = |(inner, outer): &(&PlanEntry, &PlanEntry)| {
                inner.vrf == Vrf::Shared && outer.vrf == Vrf::Shared
            };
            found.extend(among.into_iter().filter(|pair| !both_shared(pair)));
        }
        let problem = |(inner, outer): (&PlanEntry, &PlanEntry)| PlanProblem::Overlap {
            inner: inner.clone(),
            outer: outer.clone(),
        };
        found.into_iter().map(problem).collect()
    }

    /// The pools of each tenant.
    fn pools(&self) -> BTreeMap<&TenantRef, Vec<IpNet>> {
        let mut pools: BTreeMap<&TenantRef, Vec<IpNet>> = BTreeMap::new();
        for entry in &self.entries {
            if let (Vrf::Tenant(tenant), AddressUse::TenantPool) = (&entry.vrf, &entry.used_for) {
                pools.entry(tenant).or_default().push(entry.prefix);
            }
        }
        pools
    }

    fn warnings(&self) -> Vec<PlanWarning> {
        let is_v4 = |prefix: &IpNet| matches!(prefix.addr(), IpAddr::V4(_));
        let (mut v6_only, mut out_of_reach, mut v4_preferred) =
            <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
        let services: Vec<_> =
            self.entries.iter().filter(|entry| entry.used_for == AddressUse::Services).collect();
        for (tenant, pools) in self.pools() {
            let (v4, v6): (Vec<_>, Vec<_>) = pools.into_iter().partition(is_v4);
            if v4.is_empty() {
                v6_only.insert(tenant.clone());
            } else if !v6.is_empty() && v6.iter().all(loses_to_v4) {
                v4_preferred.insert(tenant.clone());
            }
            let reaches =
                |entry: &&PlanEntry| if is_v4(&entry.prefix) { !v4.is_empty() } else { !v6.is_empty() };
            if !services.is_empty() && !services.iter().any(reaches) {
                out_of_reach.insert(tenant.clone());
            }
        }
        let nat64_missing = !self.entries.iter().any(|entry| entry.used_for == AddressUse::Nat64);
        let dns64_missing = !self.dns64;
        let mut warnings = Vec::new();
        if !v6_only.is_empty() && (nat64_missing || dns64_missing) {
            warnings.push(PlanWarning::NoWayToIpv4 { tenants: v6_only, nat64_missing, dns64_missing });
        }
        if !out_of_reach.is_empty() {
            warnings.push(PlanWarning::ServicesOutOfReach { tenants: out_of_reach });
        }
        if !v4_preferred.is_empty() {
            warnings.push(PlanWarning::Ipv4Preferred { tenants: v4_preferred });
        }
        warnings
    }
}

fn truncated(entry: &PlanEntry) -> PlanEntry {
    PlanEntry { prefix: entry.prefix.trunc(), ..entry.clone() }
}
