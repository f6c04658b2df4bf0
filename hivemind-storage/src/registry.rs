//! The providers of a cluster, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use hivemind_core::{Error, ErrorKind, ProviderName, Result};

use crate::StorageProvider;

/// The providers of a cluster, by name. The first one added is the default.
#[derive(Debug, Clone, Default)]
pub struct ProviderRegistry {
    providers: BTreeMap<ProviderName, Arc<dyn StorageProvider>>,
    default: Option<ProviderName>,
}

impl ProviderRegistry {
    /// No providers.
    pub fn new() -> Self {
        Self::default()
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
}
