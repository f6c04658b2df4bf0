//! Where spans go.

use std::fmt;

use hivemind_core::{Result, async_trait};

use crate::trace::{Attributes, SpanData};

/// Takes spans that have ended.
///
/// # Contract
///
/// A batch is taken whole or not at all. After an error it may come again, so what is told apart by trace and span id may
/// arrive twice. An error says by [`retry`](hivemind_core::Error::retry) whether that can help. A call that is dropped
/// half-way counts as an error. It must not begin spans of the tracer whose spans it takes. Adapters:
/// [`MemorySpans`](crate::MemorySpans) and [`OtlpLines`](crate::OtlpLines); the suite is `conformance::span_exporter`
/// (feature `testkit`).
#[async_trait]
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait SpanExporter: fmt::Debug + Send + Sync + 'static {
    /// Sends `spans`, which come from `resource`: what OpenTelemetry calls the attributes of the process.
    async fn export(&self, resource: &Attributes, spans: &[SpanData]) -> Result<()>;
}
