//! What stands behind the ports.

mod memory_notifier;
mod memory_spans;
mod otlp_lines;

pub use memory_notifier::MemoryNotifier;
pub use memory_spans::MemorySpans;
pub use otlp_lines::OtlpLines;
