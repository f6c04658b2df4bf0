//! Suites that show whether an adapter keeps the contract of its port.

pub mod dataplane;
pub mod underlay_encryption;
