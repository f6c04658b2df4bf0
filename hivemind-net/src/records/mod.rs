//! What address management keeps in the store. No I/O, no clock, no async.
//!
//! A tenant's pools are one record, so that whoever gives an address out guards them. The addresses themselves are in
//! blocks of at most 256, so records stay small and two nodes' requests touch different ones. A workload has one
//! record, its holder: two requests that give the same workload addresses meet there. Which node has which subnet is in
//! regions of 256 subnets, and an index of the regions with room finds one in a few look-ups at any number of nodes. How
//! far observations have been told is one record for each node with leases, so that to see all well writes no lease.

mod block;
mod by_place;
mod holder;
mod json;
mod keys;
mod node;
mod pools;
mod region;
mod watermark;

pub(crate) use self::block::Block;
use self::by_place::ByPlace;
pub(crate) use self::holder::Holder;
pub use self::holder::Lease;
pub(crate) use self::keys::{Keys, blocks, holders, indexes, nodes, pools, regions, watermarks};
pub(crate) use self::node::Node;
pub(crate) use self::pools::Pools;
pub(crate) use self::region::{Index, Region, SubnetNumber};
pub(crate) use self::watermark::Watermark;
