//! Suites that show whether an adapter keeps the contract of its port.

pub mod underlay_encryption;
