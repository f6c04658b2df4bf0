//! The metrics of one process: counters, gauges and histograms by name, tenant and labels.

mod cell;
mod expose;
mod families;
mod name;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hivemind_core::{Counter, Gauge, Histogram, Metric, NoopRecorder, Recorder, TenantId};

use self::cell::{Cell, CounterValue, GaugeValue, HistogramValue};
use self::families::{Families, Wanted};

/// Upper bounds that suit durations in seconds, as in Prometheus' client libraries.
pub const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The label that marks the one series that takes what is over a tenant's limit.
const OVERFLOW: &str = "overflow";
/// The label that names the tenant.
const TENANT: &str = "tenant";
const DROPPED: &str = "hivemind_observe_dropped_total";

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
    pub metric: Arc<str>,
    /// The labels, `tenant` among them.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// `metric` with `labels` has `value`.
    pub fn new(metric: impl Into<Arc<str>>, labels: BTreeMap<String, String>, value: f64) -> Self {
        Self { metric: metric.into(), labels: Arc::new(labels), value }
    }
}

/// A tenant that has more series in a metric than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OverLimit {
    /// The metric.
    pub metric: String,
    /// Whose series they are; nobody's are the host's own.
    pub tenant: Option<TenantId>,
    /// The label with most values: mostly the one that should not be one.
    pub label: Option<String>,
}

/// All metrics of one process. Clones share them.
///
/// What cannot be recorded (a bad name, a metric used as two types, labels of more than 4 KiB) is dropped and counted in
/// `hivemind_observe_dropped_total`: measuring never fails.
#[derive(Debug, Clone)]
pub struct Registry {
    series_per_tenant: usize,
    buckets: Arc<[f64]>,
    families: Arc<RwLock<Families>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::with_options(RegistryOptions::default())
    }
}

impl Registry {
    /// An empty registry with the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty registry.
    pub fn with_options(options: RegistryOptions) -> Self {
        let RegistryOptions { series_per_tenant, buckets } = options;
        Self { series_per_tenant, buckets: buckets.into(), families: Arc::default() }
    }

    /// Every metric in Prometheus' text format, version 0.0.4, in the order of names and labels.
    pub fn expose(&self) -> String {
        let families = self.read();
        let mut out = String::new();
        for (name, family) in &families.all {
            expose::family(&mut out, name, family);
        }
        out
    }

    /// The value of every series now, in the order of names and labels.
    pub fn samples(&self) -> Vec<Sample> {
        let families = self.read();
        let mut samples = Vec::new();
        families.all.values().for_each(|family| family.samples(&mut samples));
        samples
    }

    /// Forgets the series of a tenant, or with `None` of the host, that have all of `labels`: once a container is gone, so are
    /// its series, and there is room for others. Whoever still holds one of them measures for nobody; who looks it up
    /// begins anew. Tells how many there were.
    ///
    /// ```
    /// use hivemind_core::{Metric, Recorder};
    /// use hivemind_observe::Registry;
    ///
    /// const USED: Metric = Metric::new("memory_bytes", "Memory of a container.");
    /// let (registry, acme) = (Registry::new(), "acme".parse()?);
    /// registry.gauge(&USED, Some(&acme), &[("container", "web-1")]).set(1e6);
    /// registry.gauge(&USED, Some(&acme), &[("container", "web-2")]).set(2e6);
    /// assert_eq!(registry.forget(Some(&acme), &[("container", "web-1")]), 1);
    /// assert!(registry.expose().ends_with("memory_bytes{container=\"web-2\",tenant=\"acme\"} 2000000\n"));
    /// # Ok::<(), hivemind_core::InvalidName>(())
    /// ```
    pub fn forget(&self, tenant: Option<&TenantId>, labels: &[(&str, &str)]) -> usize {
        self.write().forget(tenant, labels)
    }

    /// Who has more series than allowed, in the order of metrics and tenants; each of them has one labelled
    /// `overflow="true"`, which takes the rest and loses nothing.
    pub fn over_limit(&self) -> Vec<OverLimit> {
        let families = self.read();
        let over = families.over_limit();
        over.map(|(metric, tenant, label)| OverLimit {
            metric: metric.to_owned(),
            tenant: tenant.cloned(),
            label,
        })
        .collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Families> {
        self.families.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Families> {
        self.families.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cell of a series, made by `fresh` if there is none; `None` if it cannot be recorded.
    fn cell<T>(
        &self,
        wanted: Wanted<'_>,
        fresh: impl FnOnce() -> Cell,
        typed: impl Fn(&Cell) -> Option<Arc<T>>,
    ) -> Option<Arc<T>> {
        if let Some(found) = self.read().find(wanted, self.series_per_tenant) {
            return typed(&found.cell);
        }
        let made = self.write().find_or_make(wanted, self.series_per_tenant, fresh);
        made.and_then(|series| typed(&series.cell))
    }

    fn or_dropped<T>(&self, cell: Option<Arc<T>>) -> Option<Arc<T>> {
        if cell.is_none() {
            let metric = &Metric::new(DROPPED, "Measurements that could not be recorded.");
            let dropped = Wanted { metric, tenant: None, labels: &[] };
            if let Some(count) = self.cell(dropped, || Cell::Counter(Arc::default()), Cell::counter) {
                hivemind_core::CounterCell::add(&*count, 1);
            }
        }
        cell
    }
}

impl Recorder for Registry {
    fn counter(&self, metric: &Metric, tenant: Option<&TenantId>, labels: &[(&str, &str)]) -> Counter {
        let wanted = Wanted { metric, tenant, labels };
        let cell = self.cell(wanted, || Cell::Counter(Arc::default()), Cell::counter);
        match self.or_dropped::<CounterValue>(cell) {
            Some(cell) => cell,
            None => Arc::new(NoopRecorder::new()),
        }
    }

    fn gauge(&self, metric: &Metric, tenant: Option<&TenantId>, labels: &[(&str, &str)]) -> Gauge {
        let wanted = Wanted { metric, tenant, labels };
        let cell = self.cell(wanted, || Cell::Gauge(Arc::default()), Cell::gauge);
        match self.or_dropped::<GaugeValue>(cell) {
            Some(cell) => cell,
            None => Arc::new(NoopRecorder::new()),
        }
    }

    fn histogram(&self, metric: &Metric, tenant: Option<&TenantId>, labels: &[(&str, &str)]) -> Histogram {
        let fresh = || Cell::Histogram(Arc::new(HistogramValue::new(&self.buckets)));
        let cell = self.cell(Wanted { metric, tenant, labels }, fresh, Cell::histogram);
        match self.or_dropped::<HistogramValue>(cell) {
            Some(cell) => cell,
            None => Arc::new(NoopRecorder::new()),
        }
    }
}
