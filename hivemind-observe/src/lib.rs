//! Eyes for a cluster: metrics with tenant labels, Prometheus text exposition, alerts.
//!
//! The [`Registry`] takes measurements through `hivemind-core`'s [`Recorder`](hivemind_core::Recorder) port, so every
//! crate of the suite records into it, and the host does too. [`AlertEngine`] is a pure state machine on whatever
//! clock it is given; [`AlertManager`] keeps its state in the store, so that a restart neither forgets a pending alert
//! nor fires one twice.
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

mod alert;
mod manager;
mod registry;

pub use alert::{
    AlertEngine, AlertPhase, AlertRule, AlertState, AlertTotals, Comparison, InvalidRule, Transition,
};
pub use manager::AlertManager;
pub use registry::{DEFAULT_BUCKETS, Registry, RegistryOptions, Sample};
