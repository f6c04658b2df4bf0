//! Who has which address: the pure engine. No I/O, no clock, no async.
//!
//! [`FreeRanges`] finds a free address, [`FreePrefixes`] a free network; more is built on both.

mod allocator;
mod block;
mod cooling;
mod free;
mod layout;
mod mix;
mod pool;
mod prefixes;
mod profile;
mod refusal;
mod space;
mod strategy;
mod subnet;

pub(crate) use self::block::{Block, Holder, blocks, holders};
pub use self::block::{BlockRef, Lease};
pub(crate) use self::pool::{Pool, pools};
pub use self::pool::{PoolExhausted, PoolUsage};

pub use self::allocator::{Allocator, AllocatorState, Ask, Pair};
pub use self::free::FreeRanges;
pub use self::layout::Layout;
pub use self::prefixes::FreePrefixes;
pub use self::profile::Profile;
pub use self::refusal::Refusal;
pub use self::space::{Fill, Space, Wish};
pub use self::strategy::Strategy;
