//! The providers of a cluster, by name: made from configuration, probed, with what is believed of their health.

mod budget;
mod config;
#[cfg(feature = "csi")]
mod csi;
mod limits;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hivemind_core::{Error, ErrorKind, ProviderName, Result, Timestamp};

pub use self::budget::{Budget, BudgetedProvider, ProviderApi};
#[cfg(all(feature = "local", target_os = "linux"))]
pub use self::config::LocalFactory;
pub use self::config::{ProviderConfig, ProviderFactory};
#[cfg(feature = "csi")]
pub use self::csi::{CsiFactory, discover_sockets};
pub use self::limits::{CallLimit, CallLimits, Overdue};
use crate::{HealthThresholds, StorageProvider, VolumeCondition, VolumeHealth};

/// The providers of a cluster, by name. The first one added is the default.
#[derive(Debug, Clone, Default)]
pub struct ProviderRegistry {
    providers: BTreeMap<ProviderName, Arc<dyn StorageProvider>>,
    default: Option<ProviderName>,
    thresholds: HealthThresholds,
    limits: BTreeMap<ProviderName, CallLimits>,
    /// What is believed of each; clones share it.
    health: Arc<Mutex<BTreeMap<ProviderName, VolumeHealth>>>,
}

impl ProviderRegistry {
    /// No providers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The providers of `configs`, all or none, each made by the first of `factories` that makes its type.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a type that no factory makes; [`ErrorKind::AlreadyExists`] for a name that is
    /// there twice; those of the factory, with the name of the provider.
    pub async fn connect(factories: &[Arc<dyn ProviderFactory>], configs: &[ProviderConfig]) -> Result<Self> {
        let mut registry = Self::new();
        for config in configs {
            let found = factories.iter().find(|factory| factory.makes(&config.provider_type));
            let Some(factory) = found else {
                let message = format!(
                    "provider {} is of type {:?}, which nothing here makes: add a factory for it",
                    config.name, config.provider_type
                );
                return Err(Error::new(ErrorKind::Unsupported, "add provider", message));
            };
            let made = factory.connect(config).await.map_err(|e| {
                let message = format!("provider {}: {}", config.name, e.message());
                Error::new(e.kind(), "add provider", message).with_retry(e.retry()).with_source(e)
            })?;
            registry.limits.insert(made.name().clone(), config.limits.clone());
            registry.add(made)?;
        }
        Ok(registry)
    }

    /// Believes a provider, or a volume of one, to be ill, or well, after so many answers in a row.
    #[must_use]
    pub fn with_thresholds(mut self, thresholds: HealthThresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    pub(crate) fn thresholds(&self) -> &HealthThresholds {
        &self.thresholds
    }

    /// Adds a provider under its name.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the name is taken.
    pub fn add(&mut self, provider: Arc<dyn StorageProvider>) -> Result<()> {
        let name = provider.name().clone();
        if self.providers.contains_key(&name) {
            let message = format!("there is a provider {name} already");
            return Err(Error::new(ErrorKind::AlreadyExists, "add provider", message));
        }
        self.default.get_or_insert_with(|| name.clone());
        self.providers.insert(name, provider);
        Ok(())
    }

    /// How long calls of `provider` may take, and how many go on at once.
    #[must_use]
    pub fn with_limits(mut self, provider: ProviderName, limits: CallLimits) -> Self {
        self.limits.insert(provider, limits);
        self
    }

    /// How long calls of a provider may take, and how many go on at once: as by default, unless it was said.
    pub fn limits(&self, name: &ProviderName) -> CallLimits {
        self.limits.get(name).cloned().unwrap_or_default()
    }

    /// The provider of that name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] lists the providers there are.
    pub fn provider(&self, name: &ProviderName) -> Result<&Arc<dyn StorageProvider>> {
        let known = || self.providers.keys().map(ProviderName::as_str).collect::<Vec<_>>().join(", ");
        let missing =
            || Error::not_found("provider", format!("there is no provider {name}; there are: {}", known()));
        self.providers.get(name).ok_or_else(missing)
    }

    /// The names, the default one first.
    pub fn names(&self) -> Vec<ProviderName> {
        let others = self.providers.keys().filter(|name| Some(*name) != self.default.as_ref());
        self.default.iter().chain(others).cloned().collect()
    }

    /// Every provider, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn StorageProvider>> {
        self.providers.values()
    }

    /// Asks every provider, one after the other, whether it can be used, and returns those of which something else is
    /// believed since. Call it every few seconds, with a limit on the time of each call where the provider has none.
    pub async fn probe(&self, now: Timestamp) -> Vec<ProviderName> {
        let mut changed = Vec::new();
        for (name, provider) in &self.providers {
            let seen = match provider.probe().await {
                Ok(()) => VolumeCondition::Normal,
                Err(e) => VolumeCondition::Abnormal(e.to_string()),
            };
            if self.believed().entry(name.clone()).or_default().observe(&seen, &self.thresholds, now) {
                changed.push(name.clone());
            }
        }
        changed
    }

    /// What is believed of a provider: nothing before it was [probed](Self::probe).
    pub fn health(&self, name: &ProviderName) -> VolumeHealth {
        self.believed().get(name).cloned().unwrap_or_default()
    }

    fn believed(&self) -> MutexGuard<'_, BTreeMap<ProviderName, VolumeHealth>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
