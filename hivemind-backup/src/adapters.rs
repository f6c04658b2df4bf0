//! Where backups are kept: memory, and a directory.

mod fs;
mod memory;
mod worker;

pub use fs::FsBackups;
pub use memory::MemoryBackups;
