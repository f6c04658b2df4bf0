//! All series of a registry: in order for whoever reads them, and by a hash for whoever measures. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hivemind_core::{Metric, TenantId};

use super::cell::{Cell, float};
use super::expose;
use super::name::{is_label_name, is_metric_name};
use super::{OVERFLOW, Sample, TENANT};

type Labels = BTreeMap<String, String>;

/// More bytes of labels no series has: whoever measures puts what a tenant says into them.
const MOST_TEXT: usize = 4096;

/// One series: what it is called, and its value.
#[derive(Debug)]
pub(super) struct Series {
    tenant: Option<TenantId>,
    /// All of them, the tenant among them.
    labels: Arc<Labels>,
    /// The same, as they are exposed.
    pub(super) text: Box<str>,
    pub(super) cell: Cell,
}

/// All series of one metric.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) help: String,
    pub(super) series: BTreeMap<Arc<Labels>, Arc<Series>>,
    /// The metric's name, and that name with `_count` and with `_sum`.
    names: [Arc<str>; 3],
    per_tenant: BTreeMap<Option<TenantId>, usize>,
}

/// A series, where it is looked for.
#[derive(Debug)]
struct Indexed {
    hash: u64,
    metric: Arc<str>,
    series: Arc<Series>,
}

#[derive(Debug, Default)]
pub(super) struct Families {
    pub(super) all: BTreeMap<Arc<str>, Family>,
    index: HashTable<Indexed>,
    hasher: RandomState,
}

/// What somebody measures. Labels come in any order.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) metric: &'a Metric,
    pub(super) tenant: Option<&'a TenantId>,
    pub(super) labels: &'a [(&'a str, &'a str)],
}

impl Wanted<'_> {
    fn hash(self, hasher: &RandomState) -> u64 {
        // A sum, since labels come in any order.
        let labels = self.labels.iter().map(|label| hasher.hash_one(label));
        let name = hasher.hash_one((self.metric.name, self.tenant.map(TenantId::as_str)));
        labels.fold(name, u64::wrapping_add)
    }

    fn is(self, series: &Series) -> bool {
        let count = self.labels.len() + usize::from(self.tenant.is_some());
        series.labels.len() == count
            && series.tenant.as_ref() == self.tenant
            && self
                .labels
                .iter()
                .all(|(name, value)| series.labels.get(*name).is_some_and(|own| own == value))
    }

    /// The full label set, if every name is valid, none is taken twice, and they are not too long.
    fn labels(self) -> Option<Labels> {
        if !is_metric_name(self.metric.name) {
            return None;
        }
        let text: usize = self.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        if text > MOST_TEXT {
            return None;
        }
        let mut all = Labels::new();
        for (name, value) in self.labels {
            let reserved = matches!(*name, TENANT | OVERFLOW | "le" | "quantile");
            if reserved
                || !is_label_name(name)
                || all.insert((*name).to_owned(), (*value).to_owned()).is_some()
            {
                return None;
            }
        }
        all.extend(self.tenant.map(|tenant| (TENANT.to_owned(), tenant.to_string())));
        Some(all)
    }
}

impl Families {
    /// The series, if there is one of its own, or if its tenant has so many that it goes to the tenant's overflow.
    pub(super) fn find(&self, wanted: Wanted<'_>, limit: usize) -> Option<&Arc<Series>> {
        let hash = wanted.hash(&self.hasher);
        let is =
            |one: &Indexed| one.hash == hash && *one.metric == *wanted.metric.name && wanted.is(&one.series);
        if let Some(found) = self.index.find(hash, is) {
            return Some(&found.series);
        }
        let family = self.all.get(wanted.metric.name)?;
        // A wrong name is refused by whoever makes series.
        let full = family.per_tenant.get(&wanted.tenant.cloned()).is_some_and(|count| *count >= limit);
        if full && wanted.labels().is_some() { family.series.get(&overflow(wanted.tenant)) } else { None }
    }

    /// The series, made by `fresh` if there is none; `None` if it cannot be recorded, by its name or its type.
    pub(super) fn find_or_make(
        &mut self,
        wanted: Wanted<'_>,
        limit: usize,
        fresh: impl FnOnce() -> Cell,
    ) -> Option<Arc<Series>> {
        if let Some(found) = self.find(wanted, limit) {
            return Some(found.clone());
        }
        let own = wanted.labels()?;
        let cell = fresh();
        let metric: Arc<str> = wanted.metric.name.into();
        let family =
            self.all.entry(metric.clone()).or_insert_with(|| Family::new(&metric, wanted.metric.help));
        // One metric has one type: a first series of another type decides.
        if family.series.values().next().is_some_and(|first| first.cell.kind() != cell.kind()) {
            return None;
        }
        let count = family.per_tenant.entry(wanted.tenant.cloned()).or_default();
        let within = *count < limit;
        *count += usize::from(within);
        let labels = Arc::new(if within { own } else { overflow(wanted.tenant) });
        let text = expose::labels(&labels).into();
        let series = Arc::new(Series { tenant: wanted.tenant.cloned(), labels: labels.clone(), text, cell });
        family.series.insert(labels, series.clone());
        if within {
            let hash = wanted.hash(&self.hasher);
            let indexed = Indexed { hash, metric, series: series.clone() };
            self.index.insert_unique(hash, indexed, |one| one.hash);
        }
        Some(series)
    }

    /// Forgets the series of a tenant, or of nobody, that have these labels; tells how many there were.
    pub(super) fn forget(&mut self, tenant: Option<&TenantId>, labels: &[(&str, &str)]) -> usize {
        let goes = |series: &Series| {
            series.tenant.as_ref() == tenant
                && labels.iter().all(|(name, value)| series.labels.get(*name).is_some_and(|own| own == value))
        };
        let mut gone = 0;
        for family in self.all.values_mut() {
            let before = family.series.len();
            let mut own = 0;
            family.series.retain(|_, series| {
                let goes = goes(series);
                own += usize::from(goes && !series.labels.contains_key(OVERFLOW));
                !goes
            });
            gone += before - family.series.len();
            if let Some(count) = family.per_tenant.get_mut(&tenant.cloned()) {
                *count = count.saturating_sub(own);
            }
            family.per_tenant.retain(|_, count| *count > 0);
        }
        self.all.retain(|_, family| !family.series.is_empty());
        self.index.retain(|one| !goes(&one.series));
        gone
    }

    /// For each metric and tenant that is over its limit, the label that has most values.
    pub(super) fn over_limit(&self) -> impl Iterator<Item = (&str, Option<&TenantId>, Option<String>)> {
        self.all.iter().flat_map(|(metric, family)| {
            let over = family.series.values().filter(|series| series.labels.contains_key(OVERFLOW));
            over.map(move |series| {
                (&**metric, series.tenant.as_ref(), family.widest_label(series.tenant.as_ref()))
            })
        })
    }
}

fn overflow(tenant: Option<&TenantId>) -> Labels {
    let mut labels = Labels::from([(OVERFLOW.to_owned(), "true".to_owned())]);
    labels.extend(tenant.map(|tenant| (TENANT.to_owned(), tenant.to_string())));
    labels
}

impl Family {
    fn new(name: &Arc<str>, help: &str) -> Self {
        let with = |suffix: &str| format!("{name}{suffix}").into();
        Self {
            help: help.to_owned(),
            series: BTreeMap::new(),
            names: [name.clone(), with("_count"), with("_sum")],
            per_tenant: BTreeMap::new(),
        }
    }

    /// The values of all series now.
    pub(super) fn samples(&self, out: &mut Vec<Sample>) {
        let [name, name_of_count, name_of_sum] = &self.names;
        for series in self.series.values() {
            let mut put = |name: &Arc<str>, value| {
                out.push(Sample { metric: name.clone(), labels: series.labels.clone(), value });
            };
            match &series.cell {
                Cell::Counter(cell) => put(name, float(cell.value())),
                Cell::Gauge(cell) => put(name, cell.value()),
                Cell::Histogram(cell) => {
                    let (_, count, sum) = cell.buckets();
                    put(name_of_count, float(count));
                    put(name_of_sum, sum);
                }
            }
        }
    }

    /// The label with most values among a tenant's series.
    fn widest_label(&self, tenant: Option<&TenantId>) -> Option<String> {
        let mut values = BTreeMap::<&str, std::collections::BTreeSet<&str>>::new();
        for series in self.series.values().filter(|series| series.tenant.as_ref() == tenant) {
            for (name, value) in &*series.labels {
                values.entry(name).or_default().insert(value);
            }
        }
        let widest = values.into_iter().max_by_key(|(_, values)| values.len())?;
        Some(widest.0.to_owned())
    }
}
