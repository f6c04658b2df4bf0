//! The values themselves: a few atomics each. Where threads get into each other's way, there come to be more of them.

use std::cell::Cell as ThreadCell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use hivemind_core::{CounterCell, GaugeCell, HistogramCell};

/// How many places a value has at most that several threads add to. A power of two.
const PLACES: usize = 8;

/// A place that shares no line of a cache with another.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// The place of this thread.
fn place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: ThreadCell<Option<usize>> = const { ThreadCell::new(None) };
    }
    MINE.with(|mine| {
        mine.get().unwrap_or_else(|| {
            let next = NEXT.fetch_add(1, Ordering::Relaxed) % PLACES;
            mine.set(Some(next));
            next
        })
    })
}

/// One value, and more of them once two threads have met at it (as Java's `LongAdder`): most values never need them.
#[derive(Debug)]
struct Places<T> {
    first: T,
    others: OnceLock<Box<[Apart<T>; PLACES]>>,
}

impl<T: Default> Default for Places<T> {
    fn default() -> Self {
        Self { first: T::default(), others: OnceLock::new() }
    }
}

impl<T: Default> Places<T> {
    /// Tries `change` on the one value while there is no other, and makes more if somebody else was there.
    fn change(&self, attempt: impl Fn(&T) -> bool, surely: impl Fn(&T)) {
        let others = match self.others.get() {
            Some(others) => others,
            None if attempt(&self.first) => return,
            None => self.others.get_or_init(Box::default),
        };
        if let Some(mine) = others.get(place()) {
            surely(&mine.0);
        }
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        let others = self.others.get().into_iter().flat_map(|others| others.iter());
        [&self.first].into_iter().chain(others.map(|one| &one.0))
    }
}

#[derive(Debug, Default)]
pub(super) struct CounterValue(Places<AtomicU64>);

impl CounterValue {
    pub(super) fn value(&self) -> u64 {
        self.0.all().fold(0, |sum, one| sum.wrapping_add(one.load(Ordering::Relaxed)))
    }
}

/// Adds, if nobody else does so at this moment.
fn alone(value: &AtomicU64, n: u64) -> bool {
    let before = value.load(Ordering::Relaxed);
    let after = before.wrapping_add(n);
    value.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

impl CounterCell for CounterValue {
    fn add(&self, n: u64) {
        self.0.change(
            |first| alone(first, n),
            |mine| {
                mine.fetch_add(n, Ordering::Relaxed);
            },
        );
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

/// What a histogram counts: one number for each bound, one for what is above the last, not cumulative; and the sum.
#[derive(Debug)]
struct Buckets {
    counts: Box<[AtomicU64]>,
    sum: GaugeValue,
}

impl Buckets {
    fn new(bounds: &[f64]) -> Self {
        Self {
            counts: (0..=bounds.len()).map(|_| AtomicU64::default()).collect(),
            sum: GaugeValue::default(),
        }
    }

    fn add(&self, bucket: usize, value: f64) {
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
            self.sum.add(value);
        }
    }
}

#[derive(Debug)]
pub(super) struct HistogramValue {
    bounds: Arc<[f64]>,
    first: Buckets,
    others: OnceLock<Box<[Apart<Buckets>]>>,
}

impl HistogramValue {
    pub(super) fn new(bounds: &Arc<[f64]>) -> Self {
        Self { bounds: bounds.clone(), first: Buckets::new(bounds), others: OnceLock::new() }
    }

    fn all(&self) -> impl Iterator<Item = &Buckets> {
        let others = self.others.get().into_iter().flat_map(|others| others.iter());
        [&self.first].into_iter().chain(others.map(|one| &one.0))
    }

    /// Upper bound and cumulative count of each bucket, without `+Inf`; then the count and sum of all.
    pub(super) fn buckets(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let count = |bucket: usize| {
            let counts = self.all().filter_map(|one| one.counts.get(bucket));
            counts.fold(0_u64, |sum, one| sum.wrapping_add(one.load(Ordering::Relaxed)))
        };
        let mut total = 0_u64;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (bucket, bound) in self.bounds.iter().enumerate() {
            total = total.wrapping_add(count(bucket));
            buckets.push((*bound, total));
        }
        let sum = self.all().map(|one| one.sum.value()).sum();
        (buckets, total.wrapping_add(count(self.bounds.len())), sum)
    }
}

impl HistogramCell for HistogramValue {
    /// A value that is not a number is dropped: it would poison the sum for ever.
    fn observe(&self, value: f64) {
        if value.is_nan() {
            return;
        }
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let others = match self.others.get() {
            Some(others) => others,
            None if self.first.counts.get(bucket).is_some_and(|count| alone(count, 1)) => {
                return self.first.sum.add(value);
            }
            None => {
                self.others.get_or_init(|| (0..PLACES).map(|_| Apart(Buckets::new(&self.bounds))).collect())
            }
        };
        if let Some(mine) = others.get(place()) {
            mine.0.add(bucket, value);
        }
    }
}

/// One series.
#[derive(Debug, Clone)]
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
}

/// Counts above 2^53 lose their last digits, as everywhere in Prometheus.
#[allow(clippy::cast_precision_loss, reason = "Prometheus' values are floats")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads that meet lose nothing, whatever place they have.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "threads are what is tested")]
    fn nothing_is_lost_where_threads_meet() {
        let counter = CounterValue::default();
        let histogram = HistogramValue::new(&Arc::from([1.0, 2.0]));
        std::thread::scope(|scope| {
            for thread in 0..12 {
                let (counter, histogram) = (&counter, &histogram);
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        counter.add(2);
                        histogram.observe(f64::from(thread % 3) + 0.5);
                    }
                });
            }
        });
        assert_eq!(counter.value(), 240_000);
        let (buckets, count, sum) = histogram.buckets();
        assert_eq!((buckets, count), (vec![(1.0, 40_000), (2.0, 80_000)], 120_000));
        assert!((sum - 180_000.0).abs() < 1e-6, "{sum}");
    }

    #[test]
    fn each_place_counts() {
        let counter = CounterValue::default();
        counter.add(1);
        assert!(counter.0.others.get().is_none(), "who is alone needs one place");
        let others = counter.0.others.get_or_init(Box::default);
        others.iter().for_each(|one| one.0.store(10, Ordering::Relaxed));
        counter.add(1);
        assert_eq!(counter.value(), 82);
    }
}
