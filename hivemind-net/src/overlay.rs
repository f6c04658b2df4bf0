//! The network of a tenant, as desired state: which devices, addresses, routes and neighbours each node needs.

mod compile;
mod egress;
mod error;
mod grants;
mod hash;
mod model;
mod mtu;
mod names;
mod network;
mod node;
mod peering;
mod plan;
mod tenant;
mod touched;
mod vni;

pub use egress::Transit;
pub use error::InvalidOverlay;
pub(crate) use hash::stable as stable_hash;
pub use model::{Encapsulation, OverlayChange, OverlayConfig, OverlayNode, OverlayWorkload, TenantNetwork};
pub use mtu::{InvalidMtu, MAX_MTU, MIN_MTU, UnderlayFamily, inner_mtu};
pub use names::{gateway_mac, link_local, vtep_mac, workload_mac};
pub use network::{NodeChange, OverlayNetwork};
pub use node::{NotEnforced, OverlayState};
pub use peering::Peering;
pub use plan::{AddressPlan, AddressUse, InvalidPlan, Masquerade, PlanEntry, PlanProblem, PlanWarning, Vrf};
pub use vni::{InvalidVni, InvalidVniPool, Vni, VniLease, VniPool, VniRegistry, VniUsage, VnisExhausted};
