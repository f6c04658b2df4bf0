//! Settings that do not protect as they seem to. No I/O, no clock, no async.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{IsolationLevel, IsolationSettings};

/// Something about custom settings that their author may not have meant. It is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Finding {
    /// Nodes of its own, and storage shared with others.
    ComputeWithoutStorage,
    /// Nodes of its own, and a network shared with others.
    ComputeWithoutNetwork,
    /// Storage of its own, and a network shared with others.
    StorageWithoutNetwork,
    /// Nothing is isolated.
    NothingIsolated,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ComputeWithoutStorage => {
                "compute is isolated and storage is shared: the data lies beside that of others; isolate storage too"
            }
            Self::ComputeWithoutNetwork => {
                "compute is isolated and the network is shared: others reach the nodes; isolate the network too"
            }
            Self::StorageWithoutNetwork => {
                "storage is isolated and the network is shared: the data passes where others are; isolate the network too"
            }
            Self::NothingIsolated => "nothing is isolated: use the level soft if that is meant",
        })
    }
}

impl IsolationSettings {
    /// What the author of these settings may not have meant, in order of declaration.
    pub fn findings(&self) -> Vec<Finding> {
        let (compute, storage, network) =
            (self.compute_isolation, self.storage_isolation, self.network_isolation);
        let all = [
            (compute && !storage, Finding::ComputeWithoutStorage),
            (compute && !network, Finding::ComputeWithoutNetwork),
            (storage && !network, Finding::StorageWithoutNetwork),
            (!compute && !storage && !network, Finding::NothingIsolated),
        ];
        all.into_iter().filter(|(holds, _)| *holds).map(|(_, finding)| finding).collect()
    }
}

impl IsolationLevel {
    /// What the author of custom settings may not have meant. The other levels mean what they say.
    pub fn findings(&self) -> Vec<Finding> {
        match self {
            Self::Custom(settings) => settings.findings(),
            _ => Vec::new(),
        }
    }
}
