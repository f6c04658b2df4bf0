//! Suites that prove an adapter right: ours and anybody's alike.
//!
//! One module per port. Each case is named and can be run alone. Declared outside semantic versioning: a suite grows
//! with what adapters get wrong.

mod report;
pub mod state_store;

pub use report::{Failure, Report};
