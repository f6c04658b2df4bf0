//! What a host says of its own records. No I/O, no clock, no async.

use std::fmt;

use hivemind_core::labels::Labels;
use hivemind_core::store::{Key, Prefix, Record};
use hivemind_core::{ResourceKind, Result, TenantRef};
use serde::{Deserialize, Serialize};

/// A record as the rules of an adoption see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AdoptableResource {
    /// Of what kind.
    pub kind: ResourceKind,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Whose it is already. What has a tenant is left alone, whatever the rules say.
    pub tenant: Option<TenantRef>,
}

impl AdoptableResource {
    /// A resource without labels and without a tenant.
    pub fn new(kind: ResourceKind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into(), labels: Labels::new(), tenant: None }
    }

    /// With labels.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// Of a tenant.
    #[must_use]
    pub fn of(mut self, tenant: TenantRef) -> Self {
        self.tenant = Some(tenant);
        self
    }
}

/// A record that is to take the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdoptedRecord {
    /// Where it is; the same key if only the value changes.
    pub key: Key,
    /// What it holds.
    pub value: Vec<u8>,
}

impl AdoptedRecord {
    /// `value` at `key`.
    pub fn new(key: Key, value: impl Into<Vec<u8>>) -> Self {
        Self { key, value: value.into() }
    }
}

/// A host's records that can become a tenant's.
///
/// # Contract
///
/// Pure: the same record gives the same answer. What [`adopt`](Self::adopt) makes, [`describe`](Self::describe) says to
/// be the tenant's; two records never become one.
pub trait Adoptable: fmt::Debug + Send + Sync {
    /// Where the records are, with and without a tenant.
    fn prefix(&self) -> Prefix;

    /// What `record` is; `None` if it is nothing that a tenant could have.
    ///
    /// # Errors
    /// Says why it cannot be read. It is reported and left alone.
    fn describe(&self, record: &Record) -> Result<Option<AdoptableResource>>;

    /// `record` as `tenant`'s own.
    ///
    /// # Errors
    /// Says why it cannot be. It is reported and left alone.
    fn adopt(&self, record: &Record, tenant: &TenantRef) -> Result<AdoptedRecord>;
}
