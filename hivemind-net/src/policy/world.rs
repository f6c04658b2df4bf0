//! All that a verdict depends on: workloads, policies, grants and domain names. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound;
use std::sync::Arc;

use hivemind_core::{Namespace, NodeId, TenantRef, WorkloadId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::addr::IpFamily;

use super::{ClusterPolicy, DnsName, Grant, NetworkPolicy, PolicyName, Profile};

/// Names a workload in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs, reason = "a tenant and a workload of it")]
pub struct EndpointKey {
    /// Whose it is.
    pub tenant: TenantRef,
    /// Which of the tenant's workloads.
    pub id: WorkloadId,
}

/// A workload as the network knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    id: WorkloadId,
    node: NodeId,
    profile: Arc<Profile>,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Endpoint {
    /// The workload `id` on `node`, without an address.
    pub fn new(id: WorkloadId, node: NodeId, profile: impl Into<Arc<Profile>>) -> Self {
        Self { id, node, profile: profile.into(), v4: None, v6: None }
    }

    /// With an address, in place of one of its family.
    #[must_use]
    pub fn at(mut self, address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4 = Some(v4),
            IpAddr::V6(v6) => self.v6 = Some(v6),
        }
        self
    }

    /// Its name in the cluster.
    pub fn key(&self) -> EndpointKey {
        EndpointKey { tenant: self.profile.tenant().clone(), id: self.id.clone() }
    }

    /// Which of its tenant's workloads it is.
    pub(super) fn id(&self) -> &WorkloadId {
        &self.id
    }

    /// Where it runs.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// What policies can tell of it.
    pub fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// Its address of `family`.
    pub fn address(&self, family: IpFamily) -> Option<IpAddr> {
        match family {
            IpFamily::V4 => self.v4.map(IpAddr::V4),
            IpFamily::V6 => self.v6.map(IpAddr::V6),
        }
    }

    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        IpFamily::BOTH.into_iter().filter_map(|family| self.address(family))
    }
}

/// Names a policy or a grant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PolicyRef {
    /// A policy of the cluster.
    Cluster(PolicyName),
    /// A policy of a namespace of a tenant.
    Network(TenantRef, Namespace, PolicyName),
    /// A grant of a tenant.
    Grant(TenantRef, PolicyName),
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(name) => write!(f, "cluster policy {name}"),
            Self::Network(tenant, namespace, name) => write!(f, "policy {namespace}/{name} of {}", tenant.id),
            Self::Grant(tenant, name) => write!(f, "grant {name} of {}", tenant.id),
        }
    }
}

/// Anything that says what may pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AnyPolicy {
    /// A policy of the cluster.
    Cluster(ClusterPolicy),
    /// A policy of a namespace of a tenant.
    Network(NetworkPolicy),
    /// A grant of a tenant.
    Grant(Grant),
}

impl AnyPolicy {
    /// Whose it is; `None` if it is the cluster's.
    pub(super) fn tenant(&self) -> Option<&TenantRef> {
        match self {
            Self::Cluster(_) => None,
            Self::Network(policy) => Some(policy.tenant()),
            Self::Grant(grant) => Some(grant.by()),
        }
    }

    /// Its name.
    pub fn key(&self) -> PolicyRef {
        match self {
            Self::Cluster(policy) => PolicyRef::Cluster(policy.name().clone()),
            Self::Network(policy) => policy.key(),
            Self::Grant(grant) => PolicyRef::Grant(grant.by().clone(), grant.name().clone()),
        }
    }
}

impl NetworkPolicy {
    pub(super) fn key(&self) -> PolicyRef {
        PolicyRef::Network(self.tenant().clone(), self.namespace().clone(), self.name().clone())
    }
}

/// One change of a [`World`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "a change is made, taken apart and gone")]
pub enum Change {
    /// A workload is new, or has changed.
    Endpoint(Endpoint),
    /// A workload is gone.
    NoEndpoint(EndpointKey),
    /// A policy or grant is new, or has changed.
    Policy(AnyPolicy),
    /// A policy or grant is gone.
    NoPolicy(PolicyRef),
    /// An address has just these domain names for a tenant.
    Names(TenantRef, IpAddr, BTreeSet<DnsName>),
}

/// All that a verdict depends on. This is the input of the evaluator, [`World::reach`], which defines what policies
/// mean; [`Engine`](super::Engine) answers the same from tables.
#[derive(Debug, Clone, Default)]
pub struct World {
    workloads: BTreeMap<TenantRef, Workloads>,
    policies: BTreeMap<PolicyRef, Arc<AnyPolicy>>,
    names: BTreeMap<(TenantRef, IpAddr), BTreeSet<DnsName>>,
}

/// The workloads of a tenant.
#[derive(Debug, Clone, Default)]
struct Workloads {
    all: BTreeMap<WorkloadId, Endpoint>,
    by_address: BTreeMap<IpAddr, BTreeSet<WorkloadId>>,
}

impl Workloads {
    fn put(&mut self, endpoint: Endpoint) {
        self.forget(endpoint.id());
        for address in endpoint.addresses() {
            self.by_address.entry(address).or_default().insert(endpoint.id.clone());
        }
        self.all.insert(endpoint.id.clone(), endpoint);
    }

    fn forget(&mut self, id: &WorkloadId) {
        let Some(gone) = self.all.remove(id) else { return };
        for address in gone.addresses() {
            if let Some(owners) = self.by_address.get_mut(&address) {
                owners.remove(id);
                if owners.is_empty() {
                    self.by_address.remove(&address);
                }
            }
        }
    }

    /// Of each address, those that claim it, in the order of their names.
    fn claims(
        &self,
        (first, last): (IpAddr, IpAddr),
    ) -> impl Iterator<Item = (IpAddr, impl Iterator<Item = &Endpoint>)> {
        let claims = self.by_address.range(first..=last);
        claims.map(|(address, owners)| (*address, owners.iter().filter_map(|id| self.all.get(id))))
    }
}

impl World {
    /// Without anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Endpoint(endpoint) => {
                let tenant = endpoint.profile().tenant().clone();
                self.workloads.entry(tenant).or_default().put(endpoint);
            }
            Change::NoEndpoint(key) => {
                let Some(workloads) = self.workloads.get_mut(&key.tenant) else { return };
                workloads.forget(&key.id);
                if workloads.all.is_empty() {
                    self.workloads.remove(&key.tenant);
                }
            }
            Change::Policy(policy) => self.put_policy(Arc::new(policy)),
            Change::NoPolicy(key) => {
                self.policies.remove(&key);
            }
            Change::Names(tenant, address, names) => {
                let key = (tenant, address.to_canonical());
                if names.is_empty() {
                    self.names.remove(&key);
                } else {
                    self.names.insert(key, names);
                }
            }
        }
    }

    pub(super) fn put_policy(&mut self, policy: Arc<AnyPolicy>) {
        self.policies.insert(policy.key(), policy);
    }

    pub(super) fn shared_policies(&self) -> impl Iterator<Item = &Arc<AnyPolicy>> {
        self.policies.values()
    }

    /// The workload `key`.
    pub fn endpoint(&self, key: &EndpointKey) -> Option<&Endpoint> {
        self.workloads.get(&key.tenant)?.all.get(&key.id)
    }

    /// The workload of `tenant` that has `address`; if several claim it, the one whose name comes first.
    pub fn at(&self, tenant: &TenantRef, address: IpAddr) -> Option<&Endpoint> {
        let workloads = self.workloads.get(tenant)?;
        workloads.all.get(workloads.by_address.get(&address.to_canonical())?.first()?)
    }

    /// The addresses of `tenant`'s workloads from `first` to `last`, each with those that claim it, in the order of their
    /// names.
    pub(super) fn claims(
        &self,
        tenant: &TenantRef,
        range: (IpAddr, IpAddr),
    ) -> impl Iterator<Item = (IpAddr, impl Iterator<Item = &Endpoint>)> {
        self.workloads.get(tenant).into_iter().flat_map(move |workloads| workloads.claims(range))
    }

    /// The addresses of `tenant`'s workloads that are in none of `nets`, in order; what is in one is passed over at once.
    pub(super) fn addresses_outside(
        &self,
        tenant: &TenantRef,
        nets: &BTreeSet<IpNet>,
    ) -> impl Iterator<Item = IpAddr> {
        let workloads = self.workloads.get(tenant);
        let mut from = Bound::Included(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        std::iter::from_fn(move || {
            loop {
                let (address, _) = workloads?.by_address.range((from, Bound::Unbounded)).next()?;
                let net = nets.iter().find(|net| net.contains(address));
                from = Bound::Excluded(net.map_or(*address, IpNet::broadcast));
                if net.is_none() {
                    return Some(*address);
                }
            }
        })
    }

    /// Every workload, in the order of their names.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.workloads.values().flat_map(|workloads| workloads.all.values())
    }

    /// Every tenant with workloads.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &TenantRef> {
        self.workloads.keys()
    }

    /// The workloads of `tenant`, in the order of their names.
    pub fn endpoints_of(&self, tenant: &TenantRef) -> impl Iterator<Item = &Endpoint> {
        self.workloads.get(tenant).into_iter().flat_map(|workloads| workloads.all.values())
    }

    /// Every policy and grant, in the order of their names.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = &AnyPolicy> {
        self.policies.values().map(|policy| &**policy)
    }

    /// The policy `key`.
    pub fn policy(&self, key: &PolicyRef) -> Option<&AnyPolicy> {
        self.policies.get(key).map(|policy| &**policy)
    }

    /// The domain names that `address` has at present for `tenant`.
    pub fn names(&self, tenant: &TenantRef, address: IpAddr) -> Option<&BTreeSet<DnsName>> {
        self.names.get(&(tenant.clone(), address.to_canonical()))
    }

    /// Every address with domain names, with its tenant, in order.
    pub fn all_names(&self) -> impl ExactSizeIterator<Item = (&TenantRef, IpAddr, &BTreeSet<DnsName>)> {
        self.names.iter().map(|((tenant, address), names)| (tenant, *address, names))
    }

    /// The changes that make this world of an empty one.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        let policies = self.policies().cloned().map(Change::Policy);
        let names =
            self.names.iter().map(|((tenant, address), names)| (tenant.clone(), *address, names.clone()));
        let names = names.map(|(tenant, address, names)| Change::Names(tenant, address, names));
        policies.chain(names).chain(self.endpoints().cloned().map(Change::Endpoint))
    }
}

impl FromIterator<Change> for World {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> Self {
        let mut world = Self::new();
        changes.into_iter().for_each(|change| world.apply(change));
        world
    }
}
