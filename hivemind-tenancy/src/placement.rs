//! Which node runs what. The engine is [`place`]; staging is on the [`TenantManager`](crate::TenantManager).

mod engine;
mod node;

pub use self::engine::{Packing, PlacementRequest, Rejection, Unplaceable, Unplaced, WorkloadRequest, place};
pub use self::node::{Node, NodeAllocations, NodeState, PlacedWorkload};
pub(crate) use self::node::{allocations, nodes};
