//! Metrics, as the crates of the suite record them. Not a registry: that is `hivemind-observe`.

use std::fmt;
use std::sync::Arc;

use crate::TenantId;

/// What a metric is: its name and help text, in Prometheus' terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name, such as `hivemind_store_commits_total`.
    pub name: &'static str,
    /// One sentence for people.
    pub help: &'static str,
}

impl Metric {
    /// A metric called `name`.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help }
    }
}

/// Something that only goes up.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait CounterCell: fmt::Debug + Send + Sync + 'static {
    /// Counts `n` more.
    fn add(&self, n: u64);
}

/// Something that goes up and down.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait GaugeCell: fmt::Debug + Send + Sync + 'static {
    /// The value now.
    fn set(&self, value: f64);
}

/// A distribution.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait HistogramCell: fmt::Debug + Send + Sync + 'static {
    /// One observation.
    fn observe(&self, value: f64);
}

/// A handle to one counter: keep it, look it up once.
pub type Counter = Arc<dyn CounterCell>;
/// A handle to one gauge.
pub type Gauge = Arc<dyn GaugeCell>;
/// A handle to one histogram.
pub type Histogram = Arc<dyn HistogramCell>;

/// Takes measurements.
///
/// # Contract
///
/// Never fails and never blocks for long: what cannot be recorded is dropped and counted by the adapter. The same
/// metric, tenant and labels give the same cell. `tenant` becomes the label `tenant`. Adapters:
/// [`NoopRecorder`](crate::NoopRecorder) and `hivemind-observe`'s registry.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Recorder: fmt::Debug + Send + Sync + 'static {
    /// The counter of `metric` with these labels.
    #[cfg_attr(feature = "mock", mockall::concretize)]
    fn counter(&self, metric: &Metric, tenant: Option<&TenantId>, labels: &[(&str, &str)]) -> Counter;
    /// The gauge of `metric` with these labels.
    #[cfg_attr(feature = "mock", mockall::concretize)]
    fn gauge(&self, metric: &Metric, tenant: Option<&TenantId>, labels: &[(&str, &str)]) -> Gauge;
    /// The histogram of `metric` with these labels.
    #[cfg_attr(feature = "mock", mockall::concretize)]
    fn histogram(&self, metric: &Metric, tenant: Option<&TenantId>, labels: &[(&str, &str)]) -> Histogram;
}
