//! Who has which address: the pure engine. No I/O, no clock, no async.
//!
//! [`FreeRanges`] finds a free address, [`FreePrefixes`] a free network; more is built on both.

mod block;
mod free;
#[allow(dead_code, reason = "the engine that uses it follows")]
mod mix;
mod pool;
mod prefixes;
#[allow(dead_code, reason = "the engine that uses it follows")]
mod strategy;
mod subnet;

pub(crate) use self::block::{Block, Holder, blocks, holders};
pub use self::block::{BlockRef, Lease};
pub(crate) use self::pool::{Pool, pools};
pub use self::pool::{PoolExhausted, PoolUsage};

pub use self::free::FreeRanges;
pub use self::prefixes::FreePrefixes;
pub use self::strategy::Strategy;
