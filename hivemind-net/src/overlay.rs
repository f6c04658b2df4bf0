//! The network of a tenant, as desired state: which devices, addresses, routes and neighbours each node needs.

mod hash;
mod vni;

pub use vni::{InvalidVni, InvalidVniPool, Vni, VniLease, VniPool, VniRegistry, VnisExhausted};
