//! What a storage system implements: the side of the control plane, and the side of each node.

mod beyond;
mod capability;
mod node;
mod provider;
mod requests;
mod secrets;

pub use beyond::Beyond;
pub use capability::{Capabilities, Capability};
pub use node::{NodeCapability, NodeStorage};
#[cfg(feature = "mock")]
pub use provider::MockStorageProvider;
pub use provider::StorageProvider;
pub use requests::{
    AttachVolume, CapacityQuery, CreateGroupSnapshot, CreateSnapshot, CreateVolume, DetachVolume,
    ExpandOnNode, PublishVolume, StageVolume, VolumeSource,
};
pub use secrets::{SecretPurpose, SecretQuery, SecretSource};
