//! Who uses which addresses, and who sees whom. No I/O, no clock, no async.

use std::fmt;

use hivemind_core::TenantRef;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What a prefix is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AddressUse {
    /// A tenant's workloads.
    TenantPool,
    /// The nodes themselves: the networks that they are linked by.
    NodeLinks,
    /// Addresses of services.
    Services,
    /// Between a tenant's router and the node that it is on, for traffic that leaves the cluster.
    Transit,
    /// IPv4 addresses written as IPv6 ones (RFC 6052).
    Nat64,
    /// Something else that is there: the text says what.
    Other(String),
}

impl fmt::Display for AddressUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TenantPool => "workloads",
            Self::NodeLinks => "the nodes' links",
            Self::Services => "services",
            Self::Transit => "transit",
            Self::Nat64 => "NAT64",
            Self::Other(what) => what,
        })
    }
}

/// From where a prefix is seen: two that are seen from one place must not overlap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Vrf {
    /// From everywhere.
    Shared,
    /// From within one tenant's network.
    Tenant(TenantRef),
}

/// One prefix of a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlanEntry {
    /// From where it is seen.
    pub vrf: Vrf,
    /// The addresses.
    pub prefix: IpNet,
    /// What they are for.
    pub used_for: AddressUse,
}

impl fmt::Display for PlanEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.vrf {
            Vrf::Shared => write!(f, "{} ({})", self.prefix, self.used_for),
            Vrf::Tenant(tenant) => write!(f, "{} ({} of tenant {})", self.prefix, self.used_for, tenant.id),
        }
    }
}

/// All users of address space in one cluster.
///
/// Tenants may use equal addresses: each is seen from its own network alone. Everything else is seen from everywhere,
/// what the internet's standards reserve (loopback, link-local, multicast and the like) included.
///
/// ```
/// use hivemind_core::{Generation, TenantRef};
/// use hivemind_net::overlay::AddressPlan;
///
/// let tenant = |id: &str| Ok::<_, hivemind_core::InvalidName>(TenantRef::new(id.parse()?, Generation::from_u64(1)));
/// let plan = AddressPlan::new()
///     .with_nodes("2001:db8:1::/64".parse()?)
///     .with_services("fd00:5::/112".parse()?)
///     .with_pool(tenant("red")?, "fd00:1::/56".parse()?)
///     .with_pool(tenant("blue")?, "fd00:1::/56".parse()?);
/// let warnings = plan.validate()?;
/// assert!(warnings[0].to_string().contains("reach nothing that has IPv4 alone"));
///
/// let wrong = plan.with_pool(tenant("red")?, "fd00:5::/64".parse()?).validate().unwrap_err();
/// assert_eq!(
///     wrong.to_string(),
///     "fd00:5::/112 (services) overlaps fd00:5::/64 (workloads of tenant red): move one of them"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPlan {
    pub(super) entries: Vec<PlanEntry>,
    /// Whether the tenants' resolver makes AAAA records of A records (RFC 6147).
    #[serde(default)]
    pub(super) dns64: bool,
}

impl AddressPlan {
    /// A plan in which nobody uses anything.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, vrf: Vrf, prefix: IpNet, used_for: AddressUse) -> Self {
        self.entries.push(PlanEntry { vrf, prefix, used_for });
        self
    }

    /// The same, with a pool for a tenant's workloads.
    #[must_use]
    pub fn with_pool(self, tenant: TenantRef, prefix: IpNet) -> Self {
        self.with(Vrf::Tenant(tenant), prefix, AddressUse::TenantPool)
    }

    /// The same, with a network that nodes are linked by.
    #[must_use]
    pub fn with_nodes(self, prefix: IpNet) -> Self {
        self.with(Vrf::Shared, prefix, AddressUse::NodeLinks)
    }

    /// The same, with addresses for services.
    #[must_use]
    pub fn with_services(self, prefix: IpNet) -> Self {
        self.with(Vrf::Shared, prefix, AddressUse::Services)
    }

    /// The same, with addresses between tenants' routers and their nodes.
    #[must_use]
    pub fn with_transit(self, prefix: IpNet) -> Self {
        self.with(Vrf::Shared, prefix, AddressUse::Transit)
    }

    /// The same, with a prefix under which IPv4 is reached from IPv6 (RFC 6052).
    #[must_use]
    pub fn with_nat64(self, prefix: IpNet) -> Self {
        self.with(Vrf::Shared, prefix, AddressUse::Nat64)
    }

    /// The same, with a prefix that is used by `what`, seen from everywhere.
    #[must_use]
    pub fn with_other(self, prefix: IpNet, what: impl Into<String>) -> Self {
        self.with(Vrf::Shared, prefix, AddressUse::Other(what.into()))
    }

    /// The same, with a resolver that makes AAAA records of A records (RFC 6147).
    #[must_use]
    pub fn with_dns64(mut self) -> Self {
        self.dns64 = true;
        self
    }

    /// What was put into it, in that order.
    pub fn entries(&self) -> &[PlanEntry] {
        &self.entries
    }
}
