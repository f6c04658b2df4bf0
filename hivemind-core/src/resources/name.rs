//! What a resource is called.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ByteSize, Count, InvalidQuantity, MilliCpu};
use crate::labels::LabelKey;

/// The name of a resource: `cpu`, `memory`, `storage`, or a custom one such as `nvidia.com/gpu`.
///
/// Custom names follow the grammar of label keys, as in Kubernetes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum ResourceName {
    /// Processing power, counted in thousandths of a core.
    Cpu,
    /// Memory, counted in bytes.
    Memory,
    /// Storage, counted in bytes.
    Storage,
    /// Anything else, counted in whole numbers.
    Custom(CustomName),
}

/// The name of a custom resource; made by parsing a [`ResourceName`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomName(Arc<str>);

impl fmt::Debug for CustomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is not the name of a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("resource name {0:?} is not cpu, memory, storage, or a name such as containers or nvidia.com/gpu")]
pub struct InvalidResourceName(String);

impl ResourceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Storage => "storage",
            Self::Custom(name) => &name.0,
        }
    }

    /// `amount` base units of this resource, for people: `250m`, `2Gi`, `3`.
    pub fn print(&self, amount: u64) -> String {
        match self {
            Self::Cpu => MilliCpu(amount).to_string(),
            Self::Memory | Self::Storage => ByteSize(amount).to_string(),
            Self::Custom(_) => Count(amount).to_string(),
        }
    }

    /// Base units of this resource, from a quantity as text.
    pub(super) fn parse(&self, text: &str) -> Result<u64, InvalidQuantity> {
        match self {
            Self::Cpu => text.parse::<MilliCpu>().map(|cpu| cpu.0),
            Self::Memory | Self::Storage => text.parse::<ByteSize>().map(|size| size.0),
            Self::Custom(_) => text.parse::<Count>().map(|count| count.0),
        }
    }
}

impl FromStr for ResourceName {
    type Err = InvalidResourceName;
    fn from_str(text: &str) -> Result<Self, InvalidResourceName> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "memory" => Ok(Self::Memory),
            "storage" => Ok(Self::Storage),
            custom if LabelKey::new(custom).is_ok() => Ok(Self::Custom(CustomName(custom.into()))),
            other => Err(InvalidResourceName(other.chars().take(64).collect())),
        }
    }
}

impl TryFrom<String> for ResourceName {
    type Error = InvalidResourceName;
    fn try_from(text: String) -> Result<Self, InvalidResourceName> {
        text.parse()
    }
}

impl From<ResourceName> for String {
    fn from(name: ResourceName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResourceName({self})")
    }
}
