//! VXLAN network identifiers: 24 bits that keep the tenants of a cluster apart on the wire.
//!
//! The store decides that a VNI has one tenant: its record is named by the number. The pool only proposes, starting at
//! a place that the tenant's name decides, so that two replicas rarely propose the same.

mod pool;
mod record;
mod registry;

pub use pool::{InvalidVni, InvalidVniPool, Vni, VniPool};
pub use record::{VniLease, VniUsage, VnisExhausted};
pub use registry::VniRegistry;
