//! The limits of a tenant. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::resources::{ByteSize, Count, MilliCpu, ResourceName};
use serde::{Deserialize, Serialize};

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

    /// Every limit, in base units, in the order of names.
    pub fn limits(&self) -> BTreeMap<ResourceName, u64> {
        let named = ["cpu", "memory", "storage", "containers", "services"];
        let names = named.iter().filter_map(|name| name.parse::<ResourceName>().ok());
        let names = names.chain(self.other.keys().cloned());
        names.filter_map(|name| self.limit(&name).map(|limit| (name, limit))).collect()
    }
}
