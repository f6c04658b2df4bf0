//! Who has which address: the pure engine. No I/O, no clock, no async.
//!
//! [`FreeRanges`] finds a free address, [`FreePrefixes`] a free network; more is built on both.

mod allocator;
mod cooling;
mod free;
mod layout;
mod mix;
mod prefixes;
mod profile;
mod refusal;
mod space;
mod strategy;

pub(crate) use self::allocator::same_as_asked;
pub use self::allocator::{Allocator, AllocatorState, Ask, Pair};
pub use self::free::FreeRanges;
pub use self::layout::Layout;
pub(crate) use self::mix::{hash, mix};
pub use self::prefixes::FreePrefixes;
pub use self::profile::Profile;
pub use self::refusal::Refusal;
pub use self::space::{Fill, Space, Wish};
pub(crate) use self::strategy::Start;
pub use self::strategy::Strategy;
