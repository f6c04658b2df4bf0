//! Eyes for a cluster: metrics with tenant labels, Prometheus text exposition, alerts, traces.
//!
//! The [`Registry`] takes measurements through `hivemind-core`'s [`Recorder`](hivemind_core::Recorder) port, so every
//! crate of the suite records into it, and the host does too. [`AlertEngine`] is a pure state machine on whatever
//! clock it is given; [`AlertManager`] keeps its state in the store, so that a restart neither forgets a pending alert
//! nor fires one twice; [`notify`] says who is told of it, and sees to it that they are. [`trace`] has spans, which carry the tenant and the trace of each request across processes.
//!
//! ```
//! use hivemind_core::{Metric, Recorder};
//! use hivemind_observe::Registry;
//!
//! const JOBS: Metric = Metric::new("jobs_total", "Jobs that were run.");
//!
//! let registry = Registry::new();
//! let done = registry.counter(&JOBS, Some(&"acme".parse()?), &[("result", "done")]);
//! done.add(2); // Keep the handle: adding is one atomic instruction.
//!
//! let text = registry.expose();
//! assert!(text.ends_with("jobs_total{result=\"done\",tenant=\"acme\"} 2\n"));
//! # Ok::<(), hivemind_core::InvalidName>(())
//! ```

mod adapters;
mod alert;
#[cfg(feature = "testkit")]
pub mod conformance;
mod manager;
pub mod notify;
mod ports;
mod registry;
pub mod trace;
mod weight;

pub use adapters::{MemoryNotifier, MemorySpans, OtlpLines};
pub use alert::{
    AlertEngine, AlertPhase, AlertRule, AlertState, AlertTotals, Comparison, InvalidRule, Transition,
    WhenUnknown,
};
pub use manager::{AlertManager, ExportLoop, ExportOptions, NotifyLoop, Ticked};
#[cfg(feature = "mock")]
pub use ports::{MockNotifier, MockSpanExporter};
pub use ports::{Notifier, SpanExporter};
pub use registry::{DEFAULT_BUCKETS, OverLimit, Registry, RegistryOptions, Sample};
