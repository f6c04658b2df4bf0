//! Proves implementations of this crate's ports.

pub mod dataplane;
