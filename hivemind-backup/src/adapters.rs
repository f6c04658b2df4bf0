//! Where backups are kept: memory, and a directory.

mod fs;
mod memory;

pub use fs::FsBackups;
pub use memory::MemoryBackups;
