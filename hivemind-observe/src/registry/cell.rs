//! The values themselves: a few atomics each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hivemind_core::{CounterCell, GaugeCell, HistogramCell};

#[derive(Debug, Default)]
pub(super) struct CounterValue(AtomicU64);

impl CounterValue {
    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl CounterCell for CounterValue {
    fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}

/// A float, as its bits.
#[derive(Debug, Default)]
pub(super) struct GaugeValue(AtomicU64);

impl GaugeValue {
    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn add(&self, more: f64) {
        let sum = |bits| Some((f64::from_bits(bits) + more).to_bits());
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }
}

impl GaugeCell for GaugeValue {
    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct HistogramValue {
    bounds: Vec<f64>,
    /// One per bound, and one for what is above the last; not cumulative.
    counts: Vec<AtomicU64>,
    sum: GaugeValue,
}

impl HistogramValue {
    pub(super) fn new(bounds: &[f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::default()).collect();
        Self { bounds: bounds.to_vec(), counts, sum: GaugeValue::default() }
    }

    /// Upper bound and cumulative count of each bucket, without `+Inf`; then the count and sum of all.
    pub(super) fn buckets(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut total = 0;
        let mut counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for bound in &self.bounds {
            total += counts.next().unwrap_or_default();
            buckets.push((*bound, total));
        }
        (buckets, total + counts.next().unwrap_or_default(), self.sum.value())
    }
}

impl HistogramCell for HistogramValue {
    /// A value that is not a number is dropped: it would poison the sum for ever.
    fn observe(&self, value: f64) {
        if value.is_nan() {
            return;
        }
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
            self.sum.add(value);
        }
    }
}

/// One series.
#[derive(Debug)]
pub(super) enum Cell {
    Counter(Arc<CounterValue>),
    Gauge(Arc<GaugeValue>),
    Histogram(Arc<HistogramValue>),
}

impl Cell {
    pub(super) fn counter(&self) -> Option<Arc<CounterValue>> {
        match self {
            Self::Counter(cell) => Some(Arc::clone(cell)),
            _ => None,
        }
    }

    pub(super) fn gauge(&self) -> Option<Arc<GaugeValue>> {
        match self {
            Self::Gauge(cell) => Some(Arc::clone(cell)),
            _ => None,
        }
    }

    pub(super) fn histogram(&self) -> Option<Arc<HistogramValue>> {
        match self {
            Self::Histogram(cell) => Some(Arc::clone(cell)),
            _ => None,
        }
    }

    /// The type, as `# TYPE` names it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }

    /// The value, by suffix of the metric's name. Counts above 2^53 lose their last digits, as everywhere in
    /// Prometheus.
    pub(super) fn totals(&self) -> Vec<(&'static str, f64)> {
        match self {
            Self::Counter(cell) => vec![("", float(cell.value()))],
            Self::Gauge(cell) => vec![("", cell.value())],
            Self::Histogram(cell) => {
                let (_, count, sum) = cell.buckets();
                vec![("_count", float(count)), ("_sum", sum)]
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus' values are floats")]
fn float(count: u64) -> f64 {
    count as f64
}
