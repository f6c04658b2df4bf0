//! What the host itself keeps: which app runs what, where.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::{ByteSize, Resources};
use hivemind_core::store::{Key, Prefix, Snapshot, Txn};
use hivemind_core::{
    AppId, ClaimId, Collection, Error, ErrorKind, NodeId, Result, ServiceName, Stamped, Stored, TenantRef,
    WorkloadId,
};
use hivemind_net::Lease;
use serde::{Deserialize, Serialize};

/// A deployed app. One record, so that a request stays small however many workloads it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Its name.
    pub name: AppId,
    /// What it runs.
    pub workloads: BTreeMap<WorkloadId, Workload>,
    /// Its volumes.
    pub claims: BTreeMap<ClaimId, ByteSize>,
}

/// A container of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Of which service.
    pub service: ServiceName,
    /// Where.
    pub node: NodeId,
    /// Its addresses.
    pub lease: Lease,
    /// What it uses.
    pub resources: Resources,
    /// The volumes it mounts.
    pub claims: BTreeSet<ClaimId>,
}

impl Stored for App {
    const KIND: &'static str = "app";
}

pub(super) fn apps() -> Result<Collection<App>> {
    let prefix = Prefix::new(["host", "apps"]).map_err(|e| Error::of(ErrorKind::Internal, "apps", e))?;
    Ok(Collection::new(prefix))
}

pub(super) fn key(tenant: &TenantRef, app: &AppId) -> Result<Key> {
    apps()?.key([&tenant.to_string(), app.as_str()])
}

/// Every app of a tenant, in the order of names.
pub(super) fn of_tenant(view: &Snapshot, tenant: &TenantRef) -> Result<Vec<Stamped<App>>> {
    apps()?.list(view, &Txn::new(), &apps()?.below([tenant.to_string()])?)
}
