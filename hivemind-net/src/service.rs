//! Services by name, seen by their own tenant only.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{
    Collection, Error, ErrorKind, Namespace, Result, ServiceName, Stored, TenantContext, WorkloadId,
};
use serde::{Deserialize, Serialize};

use crate::Lease;
use crate::addr::IpFamily;
use crate::dataplane::services::Backend;

/// How long an answer may be kept by whoever asked.
const TTL: Duration = Duration::from_secs(5);
/// The longest name, in bytes, without the trailing dot (RFC 1035, section 2.3.4).
const MAX_NAME_LEN: usize = 253;

/// The addresses of one workload behind a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceEndpoint {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl From<&Lease> for ServiceEndpoint {
    fn from(lease: &Lease) -> Self {
        Self { v4: lease.v4, v6: lease.v6 }
    }
}

/// A service: a name for several workloads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Service {
    /// The workloads behind it.
    pub endpoints: BTreeMap<WorkloadId, ServiceEndpoint>,
}

impl Stored for Service {
    const KIND: &'static str = "service";
}

impl Service {
    /// A service of these workloads.
    pub fn new(endpoints: impl IntoIterator<Item = (WorkloadId, ServiceEndpoint)>) -> Self {
        Self { endpoints: endpoints.into_iter().collect() }
    }

    /// The addresses of one IP version, each with `port`: who answers under a
    /// [virtual address](crate::dataplane::services::VirtualServices).
    pub fn backends(&self, family: IpFamily, port: NonZeroU16) -> impl Iterator<Item = Backend> {
        let address = move |endpoint: &ServiceEndpoint| match family {
            IpFamily::V4 => endpoint.v4.map(IpAddr::from),
            IpFamily::V6 => endpoint.v6.map(IpAddr::from),
        };
        self.endpoints.values().filter_map(address).map(move |address| Backend::new(address, port))
    }
}

/// What is asked of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses (RFC 3596).
    Aaaa,
}

/// What a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It has these addresses, in order.
    Records {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// How long the answer may be kept.
        ttl: Duration,
    },
    /// It exists, and has no address of that family (RFC 2308, NODATA).
    NoData,
    /// It does not exist, as far as this tenant may know (RFC 2308, NXDOMAIN).
    NxDomain,
}

impl Answer {
    /// The addresses, if there are any.
    pub fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Records { addresses, .. } => addresses,
            Self::NoData | Self::NxDomain => &[],
        }
    }
}

/// Services of every tenant, under `<service>.<namespace>.<tenant>.svc.<domain>`.
#[derive(Debug, Clone)]
pub struct ServiceRegistry {
    domain: String,
}

fn services() -> Result<Collection<Service>> {
    crate::collection("services")
}

fn key(ctx: &TenantContext, namespace: &Namespace, name: &ServiceName) -> Result<Key> {
    services()?.key([&ctx.tenant().to_string(), namespace.as_str(), name.as_str()])
}

impl ServiceRegistry {
    /// Services below `domain`, such as `cluster.local`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is no domain name of DNS labels.
    pub fn new(domain: &str) -> Result<Self> {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        for label in domain.split('.') {
            ServiceName::new(label).map_err(|e| Error::of(ErrorKind::Invalid, "domain", e))?;
        }
        Ok(Self { domain })
    }

    /// The full name of a service of the tenant.
    pub fn full_name(&self, ctx: &TenantContext, namespace: &Namespace, name: &ServiceName) -> String {
        format!("{name}.{namespace}.{}.svc.{}", ctx.tenant().id, self.domain)
    }

    /// Stages a new service.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the name is taken in that namespace.
    pub fn stage_register(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        namespace: &Namespace,
        name: &ServiceName,
        service: &Service,
    ) -> Result<()> {
        services()?.create(view, txn, key(ctx, namespace, name)?, service)
    }

    /// Stages other endpoints of a service.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such service.
    pub fn stage_update(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        namespace: &Namespace,
        name: &ServiceName,
        service: &Service,
    ) -> Result<()> {
        let old = services()?.require(view, txn, &key(ctx, namespace, name)?)?;
        services()?.update(txn, &old, service)
    }

    /// Stages the removal of a service.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such service.
    pub fn stage_deregister(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        namespace: &Namespace,
        name: &ServiceName,
    ) -> Result<()> {
        let old = services()?.require(view, txn, &key(ctx, namespace, name)?)?;
        services()?.delete(txn, &old)
    }

    /// Answers the tenant's question for `name`: the full name, or `<service>.<namespace>` for short.
    ///
    /// Case and one trailing dot do not matter. Whatever belongs to another tenant does not exist. The addresses are
    /// in ascending order; whoever wants to spread load rotates them.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn resolve(
        &self,
        view: &Snapshot,
        ctx: &TenantContext,
        name: &str,
        kind: RecordType,
    ) -> Result<Answer> {
        let Some((namespace, service)) = self.parse(ctx, name) else { return Ok(Answer::NxDomain) };
        let Some(found) = services()?.get(view, &Txn::new(), &key(ctx, &namespace, &service)?)? else {
            return Ok(Answer::NxDomain);
        };
        let address = |endpoint: &ServiceEndpoint| match kind {
            RecordType::A => endpoint.v4.map(IpAddr::from),
            RecordType::Aaaa => endpoint.v6.map(IpAddr::from),
        };
        let mut addresses: Vec<_> = found.endpoints.values().filter_map(address).collect();
        addresses.sort();
        if addresses.is_empty() {
            return Ok(Answer::NoData);
        }
        Ok(Answer::Records { addresses, ttl: TTL })
    }

    fn parse(&self, ctx: &TenantContext, name: &str) -> Option<(Namespace, ServiceName)> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.len() > MAX_NAME_LEN {
            return None;
        }
        let name = name.to_ascii_lowercase();
        let suffix = format!(".{}.svc.{}", ctx.tenant().id, self.domain);
        let short = name.strip_suffix(&suffix).unwrap_or(&name);
        let (service, namespace) = short.split_once('.')?;
        Some((namespace.parse().ok()?, service.parse().ok()?))
    }
}
