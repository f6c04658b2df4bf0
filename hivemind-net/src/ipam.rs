//! Who has which address. The engine; staging is on the [`IpamManager`](crate::IpamManager).

mod block;
mod pool;
mod subnet;

pub(crate) use self::block::{Block, Holder, blocks, holders};
pub use self::block::{BlockRef, Lease};
pub(crate) use self::pool::{Pool, pools};
pub use self::pool::{PoolExhausted, PoolUsage};
