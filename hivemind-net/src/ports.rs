//! What the host or an adapter implements.

pub mod dataplane;
pub mod underlay_encryption;
