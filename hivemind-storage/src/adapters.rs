//! Storage systems behind the ports.

#[cfg(feature = "csi")]
mod csi;
mod fixed_secrets;
#[cfg(all(feature = "local", target_os = "linux"))]
mod local;
mod memory;

#[cfg(feature = "csi")]
pub use csi::{CsiNode, CsiOptions, CsiProvider, CsiServer, CsiServerOptions, PluginInfo};
pub use fixed_secrets::FixedSecrets;
#[cfg(all(feature = "local", target_os = "linux"))]
pub use local::{LocalBackend, LocalNode, LocalProvider};
pub use memory::{
    MemoryChange, MemoryGroup, MemoryHold, MemoryJournal, MemoryNode, MemoryProvider, MemorySnapshot,
    MemoryVolume,
};
