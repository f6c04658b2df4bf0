//! Addresses and names for a cluster: dual-stack address management per tenant, and service discovery.
//!
//! The store decides that an address has one owner; the allocator only proposes. IPv4 and IPv6 come together or not at
//! all, and two tenants may use the same addresses side by side. A host's own scheduler needs nothing else of the
//! suite:
//!
//! ```
//! use std::sync::Arc;
//! use hivemind_core::{block_on, Generation, MemoryStore, Principal, SystemClock, TenantContext, TenantRef};
//! use hivemind_net::{IpamManager, NetworkConfig};
//!
//! # block_on(async {
//! let ipam = IpamManager::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock::new()));
//! let acme = TenantRef::new("acme".parse()?, Generation::from_u64(1));
//! let scheduler = Principal::System("scheduler".parse()?);
//! let ctx = |request: &str| -> Result<_, hivemind_core::InvalidName> {
//!     Ok(TenantContext::new(acme.clone(), scheduler.clone(), request.parse()?))
//! };
//!
//! let config = NetworkConfig::dual_stack("10.1.0.0/16".parse()?, "fd00:1::/64".parse()?)?;
//! ipam.create_pool(&ctx("req-1")?, config).await?;
//!
//! let leases = ipam.assign(&ctx("req-2")?, &[("web-1".parse()?, "node-1".parse()?)]).await?;
//! let web = &leases["web-1"];
//! assert_eq!(web.v4, Some("10.1.0.2".parse()?));
//! assert_eq!(web.v6, Some("fd00:1::2".parse()?));
//!
//! ipam.release(&ctx("req-3")?, &leases).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

pub mod adapters;
pub mod addr;
pub mod config;
#[cfg(feature = "testkit")]
pub mod conformance;
pub mod dataplane;
pub mod ipam;
pub mod manager;
pub mod overlay;
pub mod policy;
pub mod ports;
mod records;
mod service;
mod slab;

use hivemind_core::store::Prefix;
use hivemind_core::{Collection, Error, ErrorKind, Result, Stored};

pub use adapters::memory::MemoryDataplane;
pub use config::NetworkConfig;
pub use manager::{AddressRequest, IpamManager};
pub use overlay::OverlayNetwork;
pub use policy::NetworkPolicy;
pub use ports::dataplane::{Dataplane, DataplaneExt};
pub use records::Lease;
pub use service::{Answer, RecordType, Service, ServiceEndpoint, ServiceRegistry};

/// The collection of `T` at `net/<name>`.
fn collection<T: Stored>(name: &str) -> Result<Collection<T>> {
    let prefix = Prefix::new(["net", name]).map_err(|e| Error::of(ErrorKind::Internal, "net", e))?;
    Ok(Collection::new(prefix))
}

/// Everything this crate keeps in the store.
///
/// # Errors
/// None in practice; the prefix is constant.
pub fn prefix() -> Result<Prefix> {
    Prefix::new(["net"]).map_err(|e| Error::of(ErrorKind::Internal, "net", e))
}
