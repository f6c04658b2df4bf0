//! Data planes: in memory always, the kernel's behind the feature `linux`.

#[cfg(all(feature = "linux", target_os = "linux"))]
pub mod linux;
pub mod memory;
pub mod memory_encryption;
