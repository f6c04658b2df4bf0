//! How far a tenant is kept apart: a level, and what it means in each dimension. No I/O, no clock, no async.

use std::fmt;

use serde::{Deserialize, Serialize};

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

impl IsolationSettings {
    /// Kept apart wherever this or `other` is.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            network_isolation: self.network_isolation || other.network_isolation,
            storage_isolation: self.storage_isolation || other.storage_isolation,
            compute_isolation: self.compute_isolation || other.compute_isolation,
            resource_guarantees: self.resource_guarantees || other.resource_guarantees,
        }
    }

    /// The dimensions in which `floor` keeps apart and this does not. Promised resources keep nobody apart, so they do
    /// not count.
    pub fn weaker_than(&self, floor: &Self) -> Vec<&'static str> {
        let dimensions = [
            ("network", self.network_isolation, floor.network_isolation),
            ("storage", self.storage_isolation, floor.storage_isolation),
            ("compute", self.compute_isolation, floor.compute_isolation),
        ];
        dimensions.into_iter().filter(|(_, own, floor)| *floor && !own).map(|(name, _, _)| name).collect()
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
