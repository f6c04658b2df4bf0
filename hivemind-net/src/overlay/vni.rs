//! VXLAN network identifiers: 24 bits that keep the tenants of a cluster apart on the wire.
//!
//! The store decides that a VNI has one tenant: its record is named by the number. The pool only proposes, starting at
//! a place that the tenant's name decides, so that two replicas rarely propose the same.
//!
//! A VNI that was released goes to another tenant only when no node has a tunnel end with it. Time alone does not tell: a
//! node that was cut off for longer than any rest goes on with what it had, and would be in the next tenant's network. So
//! the registry knows on which nodes a VNI may be: it is put on a node before the node hears of it
//! ([`stage_on_node`](VniRegistry::stage_on_node)), and taken off when the node has confirmed that it is down
//! ([`stage_off_node`](VniRegistry::stage_off_node)), or can send nothing any more
//! ([`stage_node_fenced`](VniRegistry::stage_node_fenced)). The rest is for frames that are on their way.
//!
//! What hosts do without the registry, or wrongly, is caught behind it: MACs of tunnel ends and names of routing namespaces
//! derive from the tenant and its generation too, so that entries of the tenant before match nothing of the next one.
//! That alone would not do: whoever has the VNI could still send to all, or to a MAC that it has seen.

mod pool;
mod record;
mod registry;

pub use pool::{InvalidVni, InvalidVniPool, Vni, VniPool};
pub use record::{VniLease, VniUsage, VnisExhausted};
pub use registry::VniRegistry;
