//! What the host or an adapter implements.

mod span_exporter;

#[cfg(feature = "mock")]
pub use span_exporter::MockSpanExporter;
pub use span_exporter::SpanExporter;
