//! Providers as data.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hivemind_core::{Error, ProviderName, Result};
use serde::{Deserialize, Serialize};

use super::CallLimits;
use crate::{StorageProvider, StorageProviderType};

/// A provider, as it is configured.
///
/// ```
/// use hivemind_storage::{ProviderConfig, StorageProviderType};
///
/// let config: ProviderConfig = serde_json::from_str(
///     r#"{"name": "fast", "type": "local", "settings": {"pool": "/var/lib/hivemind/fast"}}"#,
/// )?;
/// assert_eq!(config.provider_type, StorageProviderType::Local);
/// assert_eq!(config.setting("pool")?, "/var/lib/hivemind/fast");
/// let missing = config.setting("endpoint").unwrap_err();
/// assert_eq!(missing.message(), "provider fast has no setting endpoint; it has: pool");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ProviderConfig {
    /// Its name.
    pub name: ProviderName,
    /// What it speaks to.
    #[serde(rename = "type")]
    pub provider_type: StorageProviderType,
    /// Where it is, and what else its factory wants to know. No secrets: say where those are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// How long its calls may take, and how many go on at once.
    #[serde(default, skip_serializing_if = "CallLimits::is_default")]
    pub limits: CallLimits,
}

impl ProviderConfig {
    /// A provider of this type, without settings.
    pub fn new(name: ProviderName, provider_type: StorageProviderType) -> Self {
        Self { name, provider_type, settings: BTreeMap::new(), limits: CallLimits::default() }
    }

    /// With these limits.
    #[must_use]
    pub fn with_limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }

    /// With a setting.
    #[must_use]
    pub fn with(mut self, setting: &str, value: impl Into<String>) -> Self {
        self.settings.insert(setting.to_owned(), value.into());
        self
    }

    /// A setting that must be there.
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) lists the settings there are.
    pub fn setting(&self, name: &str) -> Result<&str> {
        let known = || self.settings.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let missing = || {
            let known = if self.settings.is_empty() { "none".to_owned() } else { known() };
            Error::invalid(
                "add provider",
                format!("provider {} has no setting {name}; it has: {known}", self.name),
            )
        };
        self.settings.get(name).map(String::as_str).ok_or_else(missing)
    }

    /// Refuses settings that are not among `known`: a misspelt one is not silently left out.
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) names the first of them, and those that are known.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        match self.settings.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(other) => {
                let message =
                    format!("provider {} has a setting {other}; there are: {}", self.name, known.join(", "));
                Err(Error::invalid("add provider", message))
            }
        }
    }
}

/// Makes providers of what is configured.
#[async_trait]
pub trait ProviderFactory: fmt::Debug + Send + Sync {
    /// Whether it makes providers of this type.
    fn makes(&self, wanted: &StorageProviderType) -> bool;

    /// The provider of `config`, ready to be used.
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) for settings that are missing or not understood; those of whatever
    /// it speaks to.
    async fn connect(&self, config: &ProviderConfig) -> Result<Arc<dyn StorageProvider>>;
}

/// Makes a [`LocalProvider`](crate::LocalProvider) of `pool`, a directory of this node, of which the last `reserve` percent
/// are never promised; none, unless it is said.
#[cfg(all(feature = "local", target_os = "linux"))]
#[derive(Debug, Clone)]
pub struct LocalFactory {
    node: crate::NodeInfo,
}

#[cfg(all(feature = "local", target_os = "linux"))]
impl LocalFactory {
    /// For pools on `node`.
    pub fn new(node: crate::NodeInfo) -> Self {
        Self { node }
    }
}

#[cfg(all(feature = "local", target_os = "linux"))]
#[async_trait]
impl ProviderFactory for LocalFactory {
    fn makes(&self, wanted: &StorageProviderType) -> bool {
        *wanted == StorageProviderType::Local
    }

    async fn connect(&self, config: &ProviderConfig) -> Result<Arc<dyn StorageProvider>> {
        config.only(&["pool", "reserve"])?;
        let pool = config.setting("pool")?;
        let reserve = match config.settings.get("reserve") {
            None => 0,
            Some(text) => text.parse().map_err(|_| {
                let message = format!("provider {} has reserve {text:?}: give it in percent", config.name);
                Error::invalid("add provider", message)
            })?,
        };
        let provider = crate::LocalProvider::open(config.name.clone(), self.node.clone(), pool)?;
        Ok(Arc::new(provider.with_reserve(reserve)?))
    }
}
