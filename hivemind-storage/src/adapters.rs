//! Storage systems behind the port.

mod memory;

pub use memory::{MemoryChange, MemoryJournal, MemoryProvider};
