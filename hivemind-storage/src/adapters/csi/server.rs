//! Any provider as a CSI driver.

mod busy;
mod fields;
mod fit;
mod groups;
mod identity;
mod lists;
mod node;
mod options;
mod publish;
mod refusal;
mod route;
mod serve;
mod snapshots;
#[cfg(test)]
mod tests;
mod volumes;

use std::sync::Arc;

use tonic::Status;

use self::busy::Busy;
pub use self::options::CsiServerOptions;
use super::convert::Map;
use super::names;
use crate::{Capability, NodeStorage, SnapshotRef, StorageProvider, VolumeRef};

/// A CSI driver: any [`StorageProvider`], any [`NodeStorage`], or both, over a unix socket.
///
/// It remembers nothing. Ids carry our name beside the provider's handle, and names become ours by a fixed rule, so
/// that a restarted driver, or a second one, answers as the first would. All that it makes belongs to the tenant of its
/// options; volumes of others do not exist for its callers.
///
/// A call on a volume that has one going on is answered `ABORTED`, as is one that the provider has not finished: callers
/// repeat it. A call whose caller hangs up goes on.
///
/// An `:authority` that is the path of the socket, which gRPC clients of 2022 and older send, is refused by HTTP/2
/// below us (`PROTOCOL_ERROR`, hyperium/h2#487): such a client must be told to send `localhost`.
///
/// ```no_run
/// use std::sync::Arc;
/// use hivemind_core::{Generation, TenantRef};
/// use hivemind_storage::{CsiServer, CsiServerOptions, MemoryProvider};
///
/// # async fn run() -> hivemind_core::Result<()> {
/// # let (name, tenant) = ("memory".parse().unwrap(), "acme".parse().unwrap());
/// let tenant = TenantRef::new(tenant, Generation::from_u64(1));
/// let options = CsiServerOptions::new("memory.csi.example.com", "1.0.0", tenant)?;
/// let server = CsiServer::new(options).with_provider(Arc::new(MemoryProvider::new(name)));
/// server.serve("/run/csi.sock", std::future::pending()).await // within tokio
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CsiServer {
    options: CsiServerOptions,
    provider: Option<Arc<dyn StorageProvider>>,
    node: Option<Arc<dyn NodeStorage>>,
    busy: Busy,
}

impl CsiServer {
    /// A driver that tells who it is, and no more.
    pub fn new(options: CsiServerOptions) -> Self {
        Self { options, provider: None, node: None, busy: Busy::default() }
    }

    /// With the controller services, over this provider.
    #[must_use]
    pub fn with_provider(mut self, provider: Arc<dyn StorageProvider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// With the node service, of the node that it runs on.
    #[must_use]
    pub fn with_node(mut self, node: Arc<dyn NodeStorage>) -> Self {
        self.node = Some(node);
        self
    }

    /// The provider, if this is a driver with a controller.
    fn provider(&self) -> Result<&Arc<dyn StorageProvider>, Status> {
        self.provider.as_ref().ok_or_else(|| Status::unimplemented("this driver has no controller"))
    }

    /// The provider, if it can do that.
    fn provider_with(&self, capability: Capability) -> Result<&Arc<dyn StorageProvider>, Status> {
        let provider = self.provider()?;
        if provider.capabilities().has(capability) {
            return Ok(provider);
        }
        Err(Status::unimplemented(format!("this driver has no capability {capability}")))
    }

    /// The volume of an id; one that is not of our making does not exist.
    fn volume(&self, id: &str, context: Map) -> Result<VolumeRef, Status> {
        let found = names::parse_volume_id(&self.options.tenant, id);
        found.map(|volume| volume.with_context(context)).ok_or_else(|| missing("volume", id))
    }

    fn snapshot(&self, id: &str) -> Result<SnapshotRef, Status> {
        names::parse_snapshot_id(&self.options.tenant, id).ok_or_else(|| missing("snapshot", id))
    }
}

fn missing(what: &str, id: &str) -> Status {
    Status::not_found(format!("there is no {what} {id}"))
}
