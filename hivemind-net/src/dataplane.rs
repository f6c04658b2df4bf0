//! The data plane: what the kernel of one machine shall hold, what it holds, and the way from one to the other.
//!
//! [`KernelState`] is a plain value: namespaces with their links, addresses, routes, neighbours, forwarding entries,
//! sysctls and rule tables. Nothing in it is left to chance (every MAC and MTU is given), so that equal states are equal
//! kernels. [`diff()`] says which changes lead from one to another.

mod apply;
mod check;
mod connection;
mod diff;
pub(crate) mod lost;
mod op;
pub mod rules;
pub mod services;
pub mod state;
mod walk;

pub use apply::Refused;
pub use check::InvalidState;
pub use connection::Connection;
pub use diff::diff;
pub use op::{Action, Op};
pub use state::KernelState;
pub use walk::{Cluster, Fate};
