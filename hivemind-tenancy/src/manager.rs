//! The shell: loads a snapshot, stages by the pure parts, commits.

mod access;
mod nodes;
mod quota;
mod recorded;
mod tenants;

use std::sync::Arc;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Clock, IdSource, Once, Result, StateStore, TenantContext, transact};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::nodes::{ClusterMirror, NodeRemoval, Removal};
pub use self::quota::StillExpired;
pub use self::tenants::{DrainPlan, Eviction, TenantUpdate};

/// Administers tenants, roles and nodes. Clones share the ports.
///
/// Each operation exists twice: `stage_*` decides on a snapshot within the host's transaction, the `async` one
/// commits by itself, exactly once per request id.
#[derive(Debug, Clone)]
pub struct TenantManager {
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
}

impl TenantManager {
    /// A manager on these ports.
    pub fn new(store: Arc<dyn StateStore>, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) -> Self {
        Self { store, clock, ids }
    }

    /// Decides on a fresh snapshot and commits, exactly once per request of `ctx` and `operation`.
    async fn commit<T>(
        &self,
        ctx: &TenantContext,
        operation: &str,
        decide: impl FnMut(&Snapshot, &mut Txn) -> Result<T> + Send,
    ) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send,
    {
        let once = Once::new(ctx, operation, self.clock.now())?;
        Ok(transact(&*self.store, &once, &[crate::prefix()?], decide).await?.value)
    }
}
