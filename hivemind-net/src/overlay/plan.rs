//! All users of address space beside each other: what must not overlap, and what leaves the cluster under another name.

mod check;
mod masquerade;
mod model;

pub use check::{InvalidPlan, PlanProblem, PlanWarning};
pub use masquerade::Masquerade;
pub use model::{AddressPlan, AddressUse, PlanEntry, Vrf};
