//! The metrics of one process: counters, gauges and histograms by name, tenant and labels.

mod cell;
mod expose;
mod name;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use hivemind_core::{Counter, Gauge, Histogram, Metric, NoopRecorder, Recorder, TenantId};

use self::cell::{Cell, CounterValue, GaugeValue, HistogramValue};
use self::name::{is_label_name, is_metric_name};

/// Upper bounds that suit durations in seconds, as in Prometheus' client libraries.
pub const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The label that marks the one series that takes what is over a tenant's limit.
const OVERFLOW: &str = "overflow";
/// The label that names the tenant.
const TENANT: &str = "tenant";
const DROPPED: &str = "hivemind_observe_dropped_total";

type SeriesLabels = BTreeMap<String, String>;

/// How a registry is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RegistryOptions {
    /// The most series one tenant may have in one metric; what comes later goes to one series labelled
    /// `overflow="true"`.
    pub series_per_tenant: usize,
    /// The upper bounds of histogram buckets, ascending and finite; `+Inf` is added.
    pub buckets: Vec<f64>,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self { series_per_tenant: 1000, buckets: DEFAULT_BUCKETS.to_vec() }
    }
}

impl RegistryOptions {
    /// Another limit on the series of a tenant in one metric.
    #[must_use]
    pub fn with_series_per_tenant(mut self, series: usize) -> Self {
        self.series_per_tenant = series;
        self
    }

    /// Other bucket bounds; they are sorted, and what is not finite is left out.
    #[must_use]
    pub fn with_buckets(mut self, buckets: impl IntoIterator<Item = f64>) -> Self {
        self.buckets = buckets.into_iter().filter(|bound| bound.is_finite()).collect();
        self.buckets.sort_by(f64::total_cmp);
        self.buckets.dedup();
        self
    }
}

/// The value of one series at one moment. A histogram is its `_count` and `_sum`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// The metric's name.
    pub metric: String,
    /// The labels, `tenant` among them.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// `metric` with `labels` has `value`.
    pub fn new(metric: impl Into<String>, labels: BTreeMap<String, String>, value: f64) -> Self {
        Self { metric: metric.into(), labels, value }
    }
}

/// All metrics of one process. Clones share them.
///
/// What cannot be recorded (a bad name, a metric used as two types) is dropped and counted in
/// `hivemind_observe_dropped_total`: measuring never fails.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    options: Arc<RegistryOptions>,
    families: Arc<RwLock<BTreeMap<String, Family>>>,
}

#[derive(Debug)]
struct Family {
    help: String,
    series: BTreeMap<SeriesLabels, Cell>,
    per_tenant: BTreeMap<Option<String>, usize>,
}

impl Registry {
    /// An empty registry with the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty registry.
    pub fn with_options(options: RegistryOptions) -> Self {
        Self { options: Arc::new(options), ..Self::default() }
    }

    /// Every metric in Prometheus' text format, version 0.0.4, in the order of names and labels.
    pub fn expose(&self) -> String {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        for (name, family) in families.iter() {
            expose::family(&mut out, name, &family.help, &family.series);
        }
        out
    }

    /// The value of every series now, in the order of names and labels.
    pub fn samples(&self) -> Vec<Sample> {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let mut samples = Vec::new();
        for (name, family) in families.iter() {
            for (labels, cell) in &family.series {
                for (suffix, value) in cell.totals() {
                    samples.push(Sample::new(format!("{name}{suffix}"), labels.clone(), value));
                }
            }
        }
        samples
    }

    /// The cell of a series, made by `fresh` if there is none; `None` if it cannot be recorded.
    fn cell<T>(
        &self,
        metric: &Metric,
        tenant: Option<&TenantId>,
        labels: &[(&str, &str)],
        fresh: impl Fn() -> Cell,
        typed: impl Fn(&Cell) -> Option<Arc<T>>,
    ) -> Option<Arc<T>> {
        let labels = series_labels(metric, tenant, labels)?;
        {
            let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(cell) = families.get(metric.name).and_then(|family| family.series.get(&labels)) {
                return typed(cell);
            }
        }
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(metric.name.to_owned()).or_insert_with(|| Family {
            help: metric.help.to_owned(),
            series: BTreeMap::new(),
            per_tenant: BTreeMap::new(),
        });
        // One metric has one type: a first series of another type decides.
        if family.series.values().next().is_some_and(|first| typed(first).is_none()) {
            return None;
        }
        let labels = family.admit(labels, self.options.series_per_tenant);
        typed(family.series.entry(labels).or_insert_with(fresh))
    }

    fn or_dropped<T>(&self, cell: Option<Arc<T>>) -> Option<Arc<T>> {
        if cell.is_none() {
            let dropped = Metric::new(DROPPED, "Measurements that could not be recorded.");
            if let Some(count) =
                self.cell(&dropped, None, &[], || Cell::Counter(Arc::default()), Cell::counter)
            {
                hivemind_core::CounterCell::add(&*count, 1);
            }
        }
        cell
    }
}

impl Family {
    /// The labels under which a new series is kept: its own, or those of its tenant's overflow.
    fn admit(&mut self, labels: SeriesLabels, limit: usize) -> SeriesLabels {
        if self.series.contains_key(&labels) {
            return labels;
        }
        let tenant = labels.get(TENANT).cloned();
        let count = self.per_tenant.entry(tenant.clone()).or_default();
        if *count < limit {
            *count += 1;
            return labels;
        }
        let mut overflow = SeriesLabels::from([(OVERFLOW.to_owned(), "true".to_owned())]);
        overflow.extend(tenant.map(|tenant| (TENANT.to_owned(), tenant)));
        overflow
    }
}

/// The full label set, if every name is valid and none is taken twice.
fn series_labels(
    metric: &Metric,
    tenant: Option<&TenantId>,
    labels: &[(&str, &str)],
) -> Option<SeriesLabels> {
    if !is_metric_name(metric.name) {
        return None;
    }
    let mut all = SeriesLabels::new();
    for (name, value) in labels {
        let reserved = matches!(*name, TENANT | OVERFLOW | "le" | "quantile");
        if reserved || !is_label_name(name) || all.insert((*name).to_owned(), (*value).to_owned()).is_some() {
            return None;
        }
    }
    all.extend(tenant.map(|tenant| (TENANT.to_owned(), tenant.to_string())));
    Some(all)
}

impl Recorder for Registry {
    fn counter(&self, metric: &Metric, tenant: Option<&TenantId>, labels: &[(&str, &str)]) -> Counter {
        let cell = self.cell(metric, tenant, labels, || Cell::Counter(Arc::default()), Cell::counter);
        match self.or_dropped::<CounterValue>(cell) {
            Some(cell) => cell,
            None => Arc::new(NoopRecorder::new()),
        }
    }

    fn gauge(&self, metric: &Metric, tenant: Option<&TenantId>, labels: &[(&str, &str)]) -> Gauge {
        let cell = self.cell(metric, tenant, labels, || Cell::Gauge(Arc::default()), Cell::gauge);
        match self.or_dropped::<GaugeValue>(cell) {
            Some(cell) => cell,
            None => Arc::new(NoopRecorder::new()),
        }
    }

    fn histogram(&self, metric: &Metric, tenant: Option<&TenantId>, labels: &[(&str, &str)]) -> Histogram {
        let fresh = || Cell::Histogram(Arc::new(HistogramValue::new(&self.options.buckets)));
        let cell = self.cell(metric, tenant, labels, fresh, Cell::histogram);
        match self.or_dropped::<HistogramValue>(cell) {
            Some(cell) => cell,
            None => Arc::new(NoopRecorder::new()),
        }
    }
}
