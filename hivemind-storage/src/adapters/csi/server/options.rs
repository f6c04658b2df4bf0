//! What a CSI driver of ours is told.

use std::collections::BTreeSet;

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, Result, TenantRef};

use crate::NodeHandle;

/// How a [`CsiServer`](crate::CsiServer) presents itself, and for whom it works.
#[derive(Debug, Clone)]
pub struct CsiServerOptions {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) tenant: TenantRef,
    pub(super) nodes: Option<BTreeSet<NodeHandle>>,
    pub(super) default_size: ByteSize,
    pub(super) mutable: Option<BTreeSet<String>>,
}

impl CsiServerOptions {
    /// The driver `name`, such as `disk.csi.example.com`, of that version, for `tenant`.
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) if the name is not a domain name of at most 63 bytes, or the
    /// version is empty.
    pub fn new(name: impl Into<String>, version: impl Into<String>, tenant: TenantRef) -> Result<Self> {
        let (name, version) = (name.into(), version.into());
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let inside = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
        if name.len() > 63 || !inside || !edge(name.chars().next()) || !edge(name.chars().next_back()) {
            let message = format!("{name:?} is no name of a driver: give a domain name of 1 to 63 bytes");
            return Err(Error::invalid("csi", message));
        }
        if version.is_empty() {
            return Err(Error::invalid("csi", "the version of the driver is empty: give one, such as 1.0.0"));
        }
        let default_size = ByteSize::from_gib(1);
        Ok(Self { name, version, tenant, nodes: None, default_size, mutable: None })
    }

    /// Knowing all nodes: publishing to another one is `NOT_FOUND`. Without it the provider decides.
    #[must_use]
    pub fn with_nodes(mut self, nodes: impl IntoIterator<Item = NodeHandle>) -> Self {
        self.nodes = Some(nodes.into_iter().collect());
        self
    }

    /// Knowing all parameters that may change: others are `INVALID_ARGUMENT`. Without it the provider decides.
    #[must_use]
    pub fn with_mutable_parameters<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.mutable = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// How large a volume is whose size the caller leaves to the driver: 1 GiB unless it is said here.
    #[must_use]
    pub fn with_default_size(mut self, size: ByteSize) -> Self {
        self.default_size = size;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_has_a_domain_name_and_a_version() {
        let long = "a".repeat(64);
        for wrong in ["", "-a", "a.", "a_b", "ä", &long] {
            let refused = CsiServerOptions::new(wrong, "1", TenantRef::system());
            assert!(refused.is_err_and(|e| e.message().contains("domain name")), "{wrong:?}");
        }
        assert!(CsiServerOptions::new("a.b", "", TenantRef::system()).is_err());
        assert!(CsiServerOptions::new("Disk-1.csi.example.com", "1", TenantRef::system()).is_ok());
    }
}
