//! A recorder that records nothing.

use std::sync::Arc;

use crate::{Counter, CounterCell, Gauge, GaugeCell, Histogram, HistogramCell, Metric, Recorder, TenantId};

/// Drops every measurement: for hosts that do not want metrics.
#[derive(Debug, Default, Clone, Copy)]
#[non_exhaustive]
pub struct NoopRecorder;

impl NoopRecorder {
    /// Drops every measurement.
    pub fn new() -> Self {
        Self
    }
}

impl CounterCell for NoopRecorder {
    fn add(&self, _: u64) {}
}

impl GaugeCell for NoopRecorder {
    fn set(&self, _: f64) {}
}

impl HistogramCell for NoopRecorder {
    fn observe(&self, _: f64) {}
}

impl Recorder for NoopRecorder {
    fn counter(&self, _: &Metric, _: Option<&TenantId>, _: &[(&str, &str)]) -> Counter {
        Arc::new(*self)
    }

    fn gauge(&self, _: &Metric, _: Option<&TenantId>, _: &[(&str, &str)]) -> Gauge {
        Arc::new(*self)
    }

    fn histogram(&self, _: &Metric, _: Option<&TenantId>, _: &[(&str, &str)]) -> Histogram {
        Arc::new(*self)
    }
}
