//! One way in which a cluster does not keep tenants apart. No I/O, no clock, no async.

use std::fmt;

use hivemind_core::{NodeId, TenantRef, VolumeId};
use serde::{Deserialize, Serialize};

use super::{DEDICATED_KEY, IpFamily};

/// One way in which a cluster does not do what isolation demands: what, where, and what to do.
///
/// In order of declaration: nodes, network, storage, observation, backups.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Violation {
    /// Two tenants are on one node that may not be.
    SharedNode {
        /// One of them, the first in order.
        tenant: TenantRef,
        /// The node.
        node: NodeId,
        /// The other.
        with: TenantRef,
    },
    /// A tenant that has nodes of its own is on one without its label or its taint.
    UnmarkedNode {
        /// Which tenant.
        tenant: TenantRef,
        /// The node.
        node: NodeId,
        /// `label` or `taint`.
        missing: String,
        /// The value it must have.
        mark: String,
    },
    /// A node that is one tenant's own runs another's workloads.
    ForeignOnDedicated {
        /// Whose node it is.
        tenant: TenantRef,
        /// The node.
        node: NodeId,
        /// Who is there.
        with: TenantRef,
    },
    /// Other tenants are not kept out of a tenant's network.
    OpenNetwork {
        /// Which tenant.
        tenant: TenantRef,
        /// In which family.
        family: IpFamily,
    },
    /// Another tenant is let into a tenant's network without a share.
    ForeignAdmitted {
        /// Which tenant.
        tenant: TenantRef,
        /// Who is let in.
        with: TenantRef,
    },
    /// A volume is not in its tenant's own pool.
    SharedPool {
        /// Which tenant.
        tenant: TenantRef,
        /// The volume.
        volume: VolumeId,
        /// Where it is.
        pool: String,
    },
    /// A volume is not encrypted with its tenant's own key.
    ForeignKey {
        /// Which tenant.
        tenant: TenantRef,
        /// The volume.
        volume: VolumeId,
    },
    /// Another tenant's volume is in a tenant's own pool.
    ForeignInPool {
        /// Whose pool.
        tenant: TenantRef,
        /// Whose volume.
        with: TenantRef,
        /// The volume.
        volume: VolumeId,
    },
    /// A tenant sees another's series and logs.
    Overseen {
        /// Who is seen.
        tenant: TenantRef,
        /// Who sees.
        by: TenantRef,
    },
    /// A tenant's backups are not in its own repository.
    SharedRepository {
        /// Which tenant.
        tenant: TenantRef,
        /// Where they are.
        repository: String,
    },
    /// A tenant's backups are not encrypted with its own key.
    ForeignBackupKey {
        /// Which tenant.
        tenant: TenantRef,
    },
    /// Another tenant's backups are in a tenant's own repository.
    ForeignInRepository {
        /// Whose repository.
        tenant: TenantRef,
        /// Whose backups.
        with: TenantRef,
    },
}

impl Violation {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::SharedNode { tenant, with, .. } => {
                format!("move the workloads of tenant {} or of tenant {} to another node", tenant.id, with.id)
            }
            Self::UnmarkedNode { node, missing, mark, .. } => {
                format!(
                    "put the {missing} {DEDICATED_KEY}={mark} on node {node}, or move the workloads to one that has it"
                )
            }
            Self::ForeignOnDedicated { node, with, .. } => {
                format!("move the workloads of tenant {} away from node {node}", with.id)
            }
            Self::OpenNetwork { tenant, family } => {
                format!(
                    "put a policy in force that denies {family} from other tenants to tenant {}",
                    tenant.id
                )
            }
            Self::ForeignAdmitted { tenant, with } => {
                format!(
                    "remove the policy that lets tenant {} in, or have tenant {} share with it",
                    with.id, tenant.id
                )
            }
            Self::SharedPool { volume, .. } => format!("move volume {volume} to the tenant's own pool"),
            Self::ForeignKey { volume, .. } => format!("encrypt volume {volume} with the tenant's own key"),
            Self::ForeignInPool { with, volume, .. } => {
                format!("move volume {volume} of tenant {} to another pool", with.id)
            }
            Self::Overseen { tenant, by } => {
                format!("filter what tenant {} sees: without tenant {}", by.id, tenant.id)
            }
            Self::SharedRepository { tenant, .. } => {
                format!("move the backups of tenant {} to its own repository", tenant.id)
            }
            Self::ForeignBackupKey { tenant } => {
                format!("encrypt the backups of tenant {} with its own key", tenant.id)
            }
            Self::ForeignInRepository { with, .. } => {
                format!("move the backups of tenant {} to another repository", with.id)
            }
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SharedNode { tenant, node, with } => {
                write!(f, "tenants {} and {} are both on node {node}", tenant.id, with.id)?;
            }
            Self::UnmarkedNode { tenant, node, missing, .. } => {
                write!(f, "tenant {} is on node {node}, which has not its {missing}", tenant.id)?;
            }
            Self::ForeignOnDedicated { tenant, node, with } => {
                write!(f, "node {node} is tenant {}'s own, and tenant {} is there", tenant.id, with.id)?;
            }
            Self::OpenNetwork { tenant, family } => {
                write!(f, "other tenants reach tenant {} over {family}", tenant.id)?;
            }
            Self::ForeignAdmitted { tenant, with } => {
                write!(f, "tenant {} is let into the network of tenant {}", with.id, tenant.id)?;
            }
            Self::SharedPool { tenant, volume, pool } => {
                write!(f, "volume {volume} of tenant {} is in pool {pool}", tenant.id)?;
            }
            Self::ForeignKey { tenant, volume } => {
                write!(f, "volume {volume} of tenant {} is not encrypted with its key", tenant.id)?;
            }
            Self::ForeignInPool { tenant, with, volume } => {
                write!(f, "volume {volume} of tenant {} is in the pool of tenant {}", with.id, tenant.id)?;
            }
            Self::Overseen { tenant, by } => {
                write!(f, "tenant {} sees series and logs of tenant {}", by.id, tenant.id)?;
            }
            Self::SharedRepository { tenant, repository } => {
                write!(f, "backups of tenant {} are in repository {repository}", tenant.id)?;
            }
            Self::ForeignBackupKey { tenant } => {
                write!(f, "backups of tenant {} are not encrypted with its key", tenant.id)?;
            }
            Self::ForeignInRepository { tenant, with } => {
                write!(f, "backups of tenant {} are in the repository of tenant {}", with.id, tenant.id)?;
            }
        }
        write!(f, ": {}", self.remedy())
    }
}
