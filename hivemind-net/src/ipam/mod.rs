//! Who has which address: the pure engine. No I/O, no clock, no async.
//!
//! [`FreeRanges`] says what there is, [`FreeBits`] finds a free one of it, [`FreePrefixes`] a free network; an [`Allocator`] gives
//! out addresses of both families, together or not at all, and knows owners and a quarantine. All are values that a caller
//! keeps where it likes: the [`IpamManager`](crate::IpamManager) keeps each block of 256 addresses in the store, and decides
//! on it as an [`Allocator`] would.

mod addresses;
mod allocator;
mod bits;
mod block_space;
mod cooling;
mod free;
mod holders;
mod layout;
mod leases;
mod mix;
mod prefixes;
mod profile;
mod refusal;
mod strategy;
mod table;

pub use self::addresses::{Fill, Wish};
pub(crate) use self::allocator::same_as_asked;
pub use self::allocator::{Allocator, AllocatorState, Ask, Pair};
pub use self::bits::FreeBits;
pub(crate) use self::block_space::{BlockSpace, BlockState};
pub use self::free::FreeRanges;
pub use self::layout::Layout;
pub(crate) use self::mix::{hash, mix};
pub use self::prefixes::FreePrefixes;
pub use self::profile::Profile;
pub use self::refusal::Refusal;
pub(crate) use self::strategy::Start;
pub use self::strategy::Strategy;
