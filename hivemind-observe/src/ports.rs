//! What the host or an adapter implements.

mod notifier;
mod span_exporter;

#[cfg(feature = "mock")]
pub use notifier::MockNotifier;
pub use notifier::Notifier;
#[cfg(feature = "mock")]
pub use span_exporter::MockSpanExporter;
pub use span_exporter::SpanExporter;
