//! What a tenant is. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hivemind_core::labels::Labels;
use hivemind_core::resources::{ByteSize, Count, MilliCpu, ResourceName};
use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{
    Collection, Namespace, Result, Stamped, Stored, TenantContext, TenantId, TenantRef, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::Subject;

/// How far a tenant is kept apart from others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum IsolationLevel {
    /// Nodes, network and storage of its own.
    Hard,
    /// Shared with others, within quotas.
    #[default]
    Soft,
    /// A network of its own, shared nodes and storage.
    NetworkOnly,
    /// As the settings say.
    Custom(IsolationSettings),
}

/// What isolation means, dimension by dimension.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IsolationSettings {
    /// A network that no other tenant is on.
    pub network_isolation: bool,
    /// Storage that no other tenant shares.
    pub storage_isolation: bool,
    /// Nodes that no other tenant's workloads run on.
    pub compute_isolation: bool,
    /// Resources within the quota are promised, not only capped.
    pub resource_guarantees: bool,
}

impl IsolationSettings {
    /// With or without a network of its own.
    #[must_use]
    pub fn with_network_isolation(mut self, isolated: bool) -> Self {
        self.network_isolation = isolated;
        self
    }

    /// With or without storage of its own.
    #[must_use]
    pub fn with_storage_isolation(mut self, isolated: bool) -> Self {
        self.storage_isolation = isolated;
        self
    }

    /// With or without nodes of its own.
    #[must_use]
    pub fn with_compute_isolation(mut self, isolated: bool) -> Self {
        self.compute_isolation = isolated;
        self
    }

    /// With or without promised resources.
    #[must_use]
    pub fn with_resource_guarantees(mut self, guaranteed: bool) -> Self {
        self.resource_guarantees = guaranteed;
        self
    }
}

impl IsolationLevel {
    /// What the level means; enforcement reads this and nothing else.
    pub fn settings(&self) -> IsolationSettings {
        let shared = IsolationSettings::default();
        match self {
            Self::Hard => IsolationSettings {
                network_isolation: true,
                storage_isolation: true,
                compute_isolation: true,
                resource_guarantees: true,
            },
            Self::Soft => shared.with_resource_guarantees(true),
            Self::NetworkOnly => shared.with_network_isolation(true),
            Self::Custom(settings) => *settings,
        }
    }
}

impl fmt::Display for IsolationLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
            Self::NetworkOnly => "network-only",
            Self::Custom(_) => "custom",
        })
    }
}

/// How much a tenant may use; `None` means no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ResourceQuotas {
    /// Processing power.
    pub cpu_limit: Option<MilliCpu>,
    /// Memory.
    pub memory_limit: Option<ByteSize>,
    /// Storage.
    pub storage_limit: Option<ByteSize>,
    /// Containers, counted as the resource `containers`.
    pub max_containers: Option<Count>,
    /// Services, counted as the resource `services`.
    pub max_services: Option<Count>,
    /// Limits on other resources by name, in base units.
    pub other: BTreeMap<ResourceName, u64>,
}

impl ResourceQuotas {
    /// With a limit on processing power.
    #[must_use]
    pub fn with_cpu_limit(mut self, limit: MilliCpu) -> Self {
        self.cpu_limit = Some(limit);
        self
    }

    /// With a limit on memory.
    #[must_use]
    pub fn with_memory_limit(mut self, limit: ByteSize) -> Self {
        self.memory_limit = Some(limit);
        self
    }

    /// With a limit on storage.
    #[must_use]
    pub fn with_storage_limit(mut self, limit: ByteSize) -> Self {
        self.storage_limit = Some(limit);
        self
    }

    /// With a limit on containers.
    #[must_use]
    pub fn with_max_containers(mut self, limit: u64) -> Self {
        self.max_containers = Some(Count::new(limit));
        self
    }

    /// With a limit on services.
    #[must_use]
    pub fn with_max_services(mut self, limit: u64) -> Self {
        self.max_services = Some(Count::new(limit));
        self
    }

    /// With a limit of `amount` base units on `resource`.
    #[must_use]
    pub fn with_other(mut self, resource: ResourceName, amount: u64) -> Self {
        self.other.insert(resource, amount);
        self
    }

    /// The limit on `resource` in base units; `None` means no limit.
    pub fn limit(&self, resource: &ResourceName) -> Option<u64> {
        let named = match resource.as_str() {
            "cpu" => self.cpu_limit.map(MilliCpu::as_millis),
            "memory" => self.memory_limit.map(ByteSize::as_bytes),
            "storage" => self.storage_limit.map(ByteSize::as_bytes),
            "containers" => self.max_containers.map(Count::as_u64),
            "services" => self.max_services.map(Count::as_u64),
            _ => None,
        };
        // Both may be given for one resource: the smaller counts.
        match (named, self.other.get(resource).copied()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// What to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TenantSpec {
    /// The id, unique in the cluster.
    pub id: TenantId,
    /// The name for people; the id if empty.
    #[serde(default)]
    pub name: String,
    /// How far it is kept apart.
    #[serde(default)]
    pub isolation_level: IsolationLevel,
    /// How much it may use.
    #[serde(default)]
    pub resource_quotas: ResourceQuotas,
    /// Its namespaces.
    #[serde(default)]
    pub namespaces: BTreeSet<Namespace>,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
    /// The tenant it is part of; none for a root.
    #[serde(default)]
    pub parent: Option<TenantRef>,
    /// Who administers it.
    #[serde(default)]
    pub owners: BTreeSet<Subject>,
}

impl TenantSpec {
    /// A soft tenant without limits.
    pub fn new(id: TenantId) -> Self {
        Self {
            name: id.to_string(),
            id,
            isolation_level: IsolationLevel::default(),
            resource_quotas: ResourceQuotas::default(),
            namespaces: BTreeSet::new(),
            labels: Labels::new(),
            parent: None,
            owners: BTreeSet::new(),
        }
    }

    /// As a part of `parent`.
    #[must_use]
    pub fn below(mut self, parent: TenantRef) -> Self {
        self.parent = Some(parent);
        self
    }

    /// With an isolation level.
    #[must_use]
    pub fn with_isolation(mut self, level: IsolationLevel) -> Self {
        self.isolation_level = level;
        self
    }

    /// With quotas.
    #[must_use]
    pub fn with_quotas(mut self, quotas: ResourceQuotas) -> Self {
        self.resource_quotas = quotas;
        self
    }

    /// With a name for people.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

/// Where a tenant is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TenantState {
    /// Being set up: its things may be prepared, nothing is admitted yet.
    Pending,
    /// In use.
    #[default]
    Active,
    /// Nothing new is admitted.
    Suspended {
        /// When what runs is to be gone; `None` lets it run.
        #[serde(default)]
        drain_by: Option<Timestamp>,
    },
    /// Being deleted: nothing new is admitted, and what is there goes away.
    Terminating {
        /// Since when.
        since: Timestamp,
    },
}

impl TenantState {
    /// Whether new work is admitted.
    pub fn admits_work(&self) -> bool {
        matches!(self, Self::Active)
    }
}

impl fmt::Display for TenantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Suspended { drain_by: None } => "suspended",
            Self::Suspended { drain_by: Some(_) } => "draining",
            Self::Terminating { .. } => "terminating",
        })
    }
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tenant {
    /// Which tenant, of which generation.
    pub tenant: TenantRef,
    /// The name for people.
    pub name: String,
    /// How far it is kept apart.
    pub isolation_level: IsolationLevel,
    /// How much it may use.
    pub resource_quotas: ResourceQuotas,
    /// Its namespaces.
    pub namespaces: BTreeSet<Namespace>,
    /// Its labels.
    pub labels: Labels,
    /// The tenant it is part of; none for a root.
    #[serde(default)]
    pub parent: Option<TenantRef>,
    /// Who administers it.
    #[serde(default)]
    pub owners: BTreeSet<Subject>,
    /// Where it is in its life.
    #[serde(default)]
    pub state: TenantState,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Stored for Tenant {
    const KIND: &'static str = "tenant";
}

pub(crate) fn tenants() -> Result<Collection<Tenant>> {
    crate::collection("tenants")
}

pub(crate) fn key(id: &TenantId) -> Result<Key> {
    tenants()?.key([id.as_str()])
}

impl Tenant {
    /// The tenant of `ctx`, of its generation, by the state that `txn` will have made of `view`.
    ///
    /// # Errors
    /// [`NotFound`](hivemind_core::ErrorKind::NotFound) if it is gone, or has been created anew since.
    pub fn of(view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Stamped<Self>> {
        let id = &ctx.tenant().id;
        let missing = || hivemind_core::Error::not_found("tenant", format!("there is no tenant {id}"));
        let found = tenants()?.get(view, txn, &key(id)?)?.ok_or_else(missing)?;
        if found.tenant == *ctx.tenant() {
            return Ok(found);
        }
        let message = format!("tenant {id} of generation {} is gone", ctx.tenant().generation);
        Err(hivemind_core::Error::not_found("tenant", message))
    }
    /// The tenant of `ctx` and every tenant above it: itself first, the root of its tree last.
    ///
    /// # Errors
    /// As [`of`](Self::of); [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if a tenant above is missing, or above
    /// itself.
    pub fn chain(view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Vec<Stamped<Self>>> {
        let mut chain = vec![Self::of(view, txn, ctx)?];
        while let Some(above) = chain.last().and_then(|last| last.parent.clone()) {
            let corrupt = |what: &str| {
                let message = format!("tenant {} is below {}, which {what}", ctx.tenant().id, above.id);
                hivemind_core::Error::new(hivemind_core::ErrorKind::Corrupt, "tenant", message)
            };
            if chain.iter().any(|below| below.tenant == above) {
                return Err(corrupt("is below itself"));
            }
            let found = tenants()?.get(view, txn, &key(&above.id)?)?;
            let found = found.filter(|found| found.tenant == above).ok_or_else(|| corrupt("is gone"))?;
            chain.push(found);
        }
        Ok(chain)
    }
}
