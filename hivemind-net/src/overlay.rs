//! The network of a tenant, as desired state: which devices, addresses, routes and neighbours each node needs.

mod hash;
mod mtu;
mod names;
mod plan;
mod vni;

pub use mtu::{InvalidMtu, MAX_MTU, MIN_MTU_V4, MIN_MTU_V6, UnderlayFamily, inner_mtu};
pub use names::{gateway_mac, link_local, vtep_mac, workload_mac};
pub use plan::{AddressPlan, AddressUse, InvalidPlan, Masquerade, PlanEntry, PlanProblem, PlanWarning, Vrf};
pub use vni::{InvalidVni, InvalidVniPool, Vni, VniLease, VniPool, VniRegistry, VnisExhausted};
