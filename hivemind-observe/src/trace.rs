//! Traces: what was done for a request, by whom, for how long; across processes.
//!
//! A [`Tracer`] begins spans for a [`TenantContext`](hivemind_core::TenantContext), which carries the trace: nothing
//! depends on the thread or the task that runs. Spans that have ended wait in a bounded queue, which an [`ExportLoop`](crate::ExportLoop) empties into a
//! [`SpanExporter`](crate::SpanExporter).
//!
//! ```
//! use std::sync::Arc;
//! use hivemind_core::{Generation, ManualClock, Principal, SeededIds, TenantContext, TenantRef, block_on};
//! use hivemind_observe::trace::{Tracer, TracerOptions};
//! use hivemind_observe::{ExportLoop, MemorySpans};
//!
//! let clock = Arc::new(ManualClock::default());
//! let tracer = Tracer::new(clock.clone(), &SeededIds::new(1), TracerOptions::default());
//!
//! let acme = TenantRef::new("acme".parse()?, Generation::from_u64(1));
//! let ctx = TenantContext::new(acme, Principal::System("api".parse()?), "req-1".parse()?);
//! let mut deploy = tracer.span(&ctx, "deploy").with("app", "shop");
//! tracer.span(&deploy.within(ctx), "place").end();
//! deploy.fail("no node is left");
//! deploy.end();
//!
//! let spans = Arc::new(MemorySpans::new(100));
//! block_on(ExportLoop::new(tracer, clock, spans.clone()).drain())?;
//! let lines: Vec<_> = spans.spans().iter().map(ToString::to_string).collect();
//! assert_eq!(lines, ["place of acme, 0ns", "deploy of acme, 0ns, failed: no node is left"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod baggage;
mod otlp;
mod propagate;
mod queue;
mod sampling;
mod span;
mod tracer;

pub use baggage::{Baggage, InvalidBaggage};
pub use otlp::otlp_json;
pub use propagate::{Extracted, PropagationProblem, extract_context, inject_context};
pub use sampling::{InvalidSampling, Sampling};
pub use span::{
    Attributes, LeftOut, Name, SpanContext, SpanData, SpanEvent, SpanKind, SpanLink, SpanStatus, Value,
};
pub use tracer::{Span, SpanLimits, Tracer, TracerOptions};
