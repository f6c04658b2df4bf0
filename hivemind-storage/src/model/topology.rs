//! Where a volume can be reached from. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A place, by its segments, such as `zone=z1` and `rack=r7` (CSI's `Topology`).
///
/// A volume that is in a place can be reached from every node that has all of its segments.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Topology(BTreeMap<String, String>);

impl Topology {
    /// Everywhere.
    pub fn everywhere() -> Self {
        Self::default()
    }

    /// With one more segment.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// The segments.
    pub fn segments(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Whether it names no place at all.
    pub fn is_everywhere(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether whoever is at `node` is in this place: it has every segment of it.
    pub fn covers(&self, node: &Self) -> bool {
        self.0.iter().all(|(key, value)| node.0.get(key) == Some(value))
    }
}

impl FromIterator<(String, String)> for Topology {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("everywhere");
        }
        for (nth, (key, value)) in self.0.iter().enumerate() {
            write!(f, "{}{key}={value}", if nth == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// From where a new volume must, and from where it should be reachable (CSI's `TopologyRequirement`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct TopologyRequirement {
    /// From at least one of these; empty for no demand.
    pub requisite: Vec<Topology>,
    /// Of those, the first that can be served is best; each is a requisite one, too, if there are any.
    pub preferred: Vec<Topology>,
}

impl TopologyRequirement {
    /// From one of `requisite`, best the first of `preferred` that can be served.
    pub fn new(requisite: Vec<Topology>, preferred: Vec<Topology>) -> Self {
        Self { requisite, preferred }
    }

    /// Whether nothing is demanded.
    pub fn is_empty(&self) -> bool {
        self.requisite.is_empty() && self.preferred.is_empty()
    }
}
