//! What the host or an adapter implements.

pub mod dataplane;
