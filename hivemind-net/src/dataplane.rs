//! The data plane: what the kernel of one machine shall hold, what it holds, and the way from one to the other.
//!
//! [`KernelState`] is a plain value: namespaces with their links, addresses, routes, neighbours, forwarding entries,
//! sysctls and rule tables. Nothing in it is left to chance (every MAC and MTU is given), so that equal states are equal
//! kernels.

pub mod rules;
pub mod state;

pub use state::KernelState;
