//! Keys of forwarding entries. No I/O, no clock, no async.

use serde::{Deserialize, Serialize};

use super::{LinkName, Mac};

/// A destination MAC as a VXLAN link knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RemoteMac {
    /// The VXLAN link.
    pub dev: LinkName,
    /// The destination.
    pub mac: Mac,
}

impl RemoteMac {
    /// `mac` as `dev` knows it.
    pub fn new(dev: LinkName, mac: Mac) -> Self {
        Self { dev, mac }
    }
}

/// A MAC as a bridge knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BridgeMac {
    /// The bridge.
    pub bridge: LinkName,
    /// The station behind one of its ports.
    pub mac: Mac,
}

impl BridgeMac {
    /// `mac` as `bridge` knows it.
    pub fn new(bridge: LinkName, mac: Mac) -> Self {
        Self { bridge, mac }
    }
}
