//! Secrets that are the same for every volume.

use std::collections::BTreeMap;

use async_trait::async_trait;
use hivemind_core::Result;

use crate::{SecretPurpose, SecretQuery, SecretSource, Secrets};

/// The same secrets for every tenant and volume, by what they are for: where a storage system has one account.
///
/// ```
/// use hivemind_core::SecretBytes;
/// use hivemind_storage::{FixedSecrets, SecretPurpose, Secrets};
///
/// let account = Secrets::none().with("password", SecretBytes::new(b"hunter2".to_vec()));
/// let secrets = FixedSecrets::new().with(SecretPurpose::Provision, account);
/// assert!(!format!("{secrets:?}").contains("hunter2"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct FixedSecrets(BTreeMap<SecretPurpose, Secrets>);

impl FixedSecrets {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// These for every purpose.
    pub fn everywhere(secrets: &Secrets) -> Self {
        Self(SecretPurpose::ALL.map(|purpose| (purpose, secrets.clone())).into())
    }

    /// These for calls of that purpose.
    #[must_use]
    pub fn with(mut self, purpose: SecretPurpose, secrets: Secrets) -> Self {
        self.0.insert(purpose, secrets);
        self
    }
}

#[async_trait]
impl SecretSource for FixedSecrets {
    async fn secrets(&self, query: &SecretQuery) -> Result<Secrets> {
        Ok(self.0.get(&query.purpose).cloned().unwrap_or_default())
    }
}
