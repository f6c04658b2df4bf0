//! How far tenants are kept apart: levels, what they demand of a cluster, and whether the cluster does it.
//! No I/O, no clock, no async.

mod level;

pub use self::level::{IsolationLevel, IsolationSettings};
