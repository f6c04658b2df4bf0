//! What a tenant's isolation demands, in words that whoever enforces it can act on. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::fmt;

use hivemind_core::TenantRef;
use serde::{Deserialize, Serialize};

use super::IsolationSettings;
use crate::Tenant;

/// The key of the label and of the taint (no schedule, no execute) on a node that is one tenant's own.
pub const DEDICATED_KEY: &str = "hivemind.dev/dedicated-to";

/// Which nodes a tenant's workloads run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NodeIntent {
    /// Any that is nobody's own, beside others.
    Shared,
    /// Only those with a label and a taint [`DEDICATED_KEY`] of the value `mark`; nobody else runs there.
    Dedicated {
        /// The value.
        mark: String,
    },
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums, reason = "there are two")]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Who reaches a tenant's workloads over the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NetworkIntent {
    /// Whoever the tenant's own policies let in.
    Shared,
    /// Other tenants are kept out by default, in both families, but for those named.
    Isolated {
        /// Whom an explicit share lets in.
        admitted: BTreeSet<TenantRef>,
    },
}

/// A place for one tenant's data alone, and the key it is encrypted with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OwnPlace {
    /// Its name: a pool, a class, a repository. Also a DNS label.
    pub name: String,
    /// The name of the tenant's key: a [`KeyId`](hivemind_core::KeyId).
    pub key: String,
}

/// Where a tenant's volumes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StorageIntent {
    /// In any pool that is nobody's own.
    Shared,
    /// In a pool of its own, encrypted with its own key.
    Dedicated(OwnPlace),
}

/// Whose series, logs and traces a tenant sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ObserveIntent {
    /// These and no others, whatever is asked for.
    pub tenants: BTreeSet<TenantRef>,
}

/// What a tenant's backups hold, and where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupIntent {
    /// Whose state they hold: this tenant's and nothing else.
    pub scope: TenantRef,
    /// The repository of its own; `None` for a shared one.
    pub own: Option<OwnPlace>,
}

/// Everything that a tenant's isolation demands of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Intents {
    /// Whose.
    pub tenant: TenantRef,
    /// What it was compiled from.
    pub isolation: IsolationSettings,
    /// Nodes.
    pub node: NodeIntent,
    /// Network.
    pub network: NetworkIntent,
    /// Volumes.
    pub storage: StorageIntent,
    /// Series, logs and traces.
    pub observe: ObserveIntent,
    /// Backups.
    pub backup: BackupIntent,
}

/// The value of label and taint [`DEDICATED_KEY`] of a tenant's own nodes, and the name of whatever else is its own.
pub(crate) fn mark(tenant: &TenantRef) -> String {
    format!("t-{}", tenant.generation)
}

impl Intents {
    /// What `isolation` demands for `tenant`.
    ///
    /// What is the tenant's own is named after its generation, so that a tenant created anew finds nothing of the old
    /// one, and a long name fits.
    pub fn new(tenant: TenantRef, isolation: IsolationSettings) -> Self {
        let own = mark(&tenant);
        let place = OwnPlace { name: own.clone(), key: own.clone() };
        Self {
            node: match isolation.compute_isolation {
                true => NodeIntent::Dedicated { mark: own },
                false => NodeIntent::Shared,
            },
            network: match isolation.network_isolation {
                true => NetworkIntent::Isolated { admitted: BTreeSet::new() },
                false => NetworkIntent::Shared,
            },
            storage: match isolation.storage_isolation {
                true => StorageIntent::Dedicated(place.clone()),
                false => StorageIntent::Shared,
            },
            observe: ObserveIntent { tenants: BTreeSet::from([tenant.clone()]) },
            backup: BackupIntent { scope: tenant.clone(), own: isolation.storage_isolation.then_some(place) },
            tenant,
            isolation,
        }
    }

    /// `peer` is let in from the network, by an explicit share. Nothing changes where all are let in.
    #[must_use]
    pub fn admitting(mut self, peer: TenantRef) -> Self {
        if let NetworkIntent::Isolated { admitted } = &mut self.network {
            admitted.insert(peer);
        }
        self
    }
}

/// What the isolation of `tenant` demands, with that of the tenants `above` it: it is kept apart wherever one of them
/// is.
///
/// ```
/// use hivemind_core::{Generation, TenantRef};
/// use hivemind_tenancy::IsolationLevel;
/// use hivemind_tenancy::isolation::{Intents, NodeIntent};
///
/// let acme = TenantRef::new("acme".parse()?, Generation::from_u64(255));
/// let intents = Intents::new(acme, IsolationLevel::Hard.settings());
/// assert_eq!(intents.node, NodeIntent::Dedicated { mark: "t-00000000000000ff".to_owned() });
/// # Ok::<(), hivemind_core::InvalidName>(())
/// ```
pub fn compile<'a>(tenant: &Tenant, above: impl IntoIterator<Item = &'a Tenant>) -> Intents {
    let own = tenant.isolation_level.settings();
    let all = above.into_iter().fold(own, |all, one| all.and(&one.isolation_level.settings()));
    // What is promised to a tenant above is not promised to this one.
    let effective = all.with_resource_guarantees(own.resource_guarantees);
    Intents::new(tenant.tenant.clone(), effective)
}
