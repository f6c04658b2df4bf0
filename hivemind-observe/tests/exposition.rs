//! What Prometheus reads.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;

use hivemind_core::{Metric, Recorder, TenantId};
use hivemind_observe::{Registry, RegistryOptions};
use proptest::prelude::*;

const WORK: Metric = Metric::new("work_total", "Work \\ that was\ndone.");
const LOAD: Metric = Metric::new("load", "Load.");
const WAIT: Metric = Metric::new("wait_seconds", "Waiting.");

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

#[test]
fn every_type_is_exposed_in_order() {
    let registry = Registry::with_options(RegistryOptions::default().with_buckets([1.0, 0.5, f64::INFINITY]));
    registry.gauge(&LOAD, None, &[]).set(f64::NAN);
    registry.gauge(&LOAD, None, &[("cpu", "0")]).set(f64::NEG_INFINITY);
    registry.counter(&WORK, Some(&acme()), &[]).add(3);
    let wait = registry.histogram(&WAIT, None, &[]);
    for seconds in [0.5, 0.75, 2.0, f64::NAN] {
        wait.observe(seconds);
    }
    assert_eq!(
        registry.expose(),
        r#"# HELP load Load.
# TYPE load gauge
load NaN
load{cpu="0"} -Inf
# HELP wait_seconds Waiting.
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.5"} 1
wait_seconds_bucket{le="1"} 2
wait_seconds_bucket{le="+Inf"} 3
wait_seconds_sum 3.25
wait_seconds_count 3
# HELP work_total Work \\ that was\ndone.
# TYPE work_total counter
work_total{tenant="acme"} 3
"#
    );
}

#[test]
fn the_same_series_is_the_same_cell() {
    let registry = Registry::new();
    registry.counter(&WORK, None, &[("a", "1"), ("b", "2")]).add(1);
    registry.clone().counter(&WORK, None, &[("b", "2"), ("a", "1")]).add(1);
    assert_eq!(registry.samples().iter().map(|sample| sample.value).collect::<Vec<_>>(), [2.0]);
}

#[test]
fn what_cannot_be_recorded_is_counted() {
    let registry = Registry::new();
    registry.counter(&WORK, None, &[]).add(1);
    registry.gauge(&WORK, None, &[("another", "type")]).set(1.0);
    registry.counter(&Metric::new("bad-name", ""), None, &[]).add(1);
    registry.counter(&WORK, None, &[("tenant", "forged")]).add(1);
    registry.counter(&WORK, None, &[("a", "1"), ("a", "2")]).add(1);
    registry.counter(&WORK, None, &[("__name__", "x")]).add(1);
    registry.counter(&WORK, None, &[("a", &"x".repeat(1 << 20))]).add(1);
    let text = registry.expose();
    assert!(text.contains("hivemind_observe_dropped_total 6\n"), "{text}");
    assert!(text.contains("\nwork_total 1\n") && !text.contains("forged"), "{text}");
}

#[test]
fn one_tenant_cannot_fill_the_registry() {
    let registry = Registry::with_options(RegistryOptions::default().with_series_per_tenant(2));
    for path in ["a", "b", "c", "d", "a"] {
        registry.counter(&WORK, Some(&acme()), &[("path", path)]).add(1);
    }
    registry.counter(&WORK, None, &[("path", "c")]).add(1);
    let lines: Vec<_> =
        registry.expose().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            r#"work_total{overflow="true",tenant="acme"} 2"#,
            r#"work_total{path="a",tenant="acme"} 2"#,
            r#"work_total{path="b",tenant="acme"} 1"#,
            r#"work_total{path="c"} 1"#,
        ]
    );
}

/// `pitfall_10` of observability: the totals are right in the overflow, the label is named, and who calms has room again.
#[test]
fn pitfall_10_who_is_over_the_limit_is_named_and_recovers() {
    let registry = Registry::with_options(RegistryOptions::default().with_series_per_tenant(10));
    let measure = |request: usize| {
        let labels = [("request", request.to_string()), ("status", (200 + request % 2).to_string())];
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        registry.counter(&WORK, Some(&acme()), &labels).add(1);
    };
    (0..1000).for_each(measure);
    let over = registry.over_limit();
    assert_eq!(over.len(), 1);
    assert_eq!((over[0].metric.as_str(), over[0].tenant.clone()), ("work_total", Some(acme())));
    assert_eq!(over[0].label.as_deref(), Some("request"));
    let total = || registry.samples().iter().map(|sample| sample.value).sum::<f64>();
    assert_eq!((total(), registry.samples().len()), (1000.0, 11));

    assert_eq!(registry.forget(Some(&acme()), &[("status", "200")]), 5);
    (2000..2005).for_each(measure);
    assert!(registry.expose().contains(r#"request="2003""#));
    assert_eq!(registry.forget(Some(&acme()), &[]), 11);
    assert_eq!((registry.expose().as_str(), registry.over_limit().len()), ("", 0));
}

/// A reader of label sets, written from the format's description.
fn read_labels(line: &str) -> BTreeMap<String, String> {
    let (_, rest) = line.split_once('{').unwrap();
    let mut chars = rest.chars();
    let mut labels = BTreeMap::new();
    loop {
        let name: String = chars.by_ref().take_while(|c| *c != '=').collect();
        assert_eq!(chars.next(), Some('"'));
        let mut value = String::new();
        loop {
            match chars.next().unwrap() {
                '"' => break,
                '\\' => value.push(match chars.next().unwrap() {
                    'n' => '\n',
                    escaped => escaped,
                }),
                c => value.push(c),
            }
        }
        labels.insert(name, value);
        match chars.next() {
            Some(',') => {}
            other => {
                assert_eq!(other, Some('}'));
                return labels;
            }
        }
    }
}

proptest! {
    /// No label value can forge a label, a line or a metric.
    #[test]
    fn any_label_value_reads_back(value in ".*", other in "[\"\\\\\n{},=a]{0,12}") {
        let registry = Registry::new();
        registry.counter(&LOAD, None, &[("a", &value), ("b", &other)]).add(1);
        let text = registry.expose();
        let lines: Vec<_> = text.split('\n').filter(|line| !line.is_empty() && !line.starts_with("# ")).collect();
        prop_assert_eq!(lines.len(), 1);
        let labels = read_labels(lines[0]);
        prop_assert_eq!(labels, BTreeMap::from([("a".into(), value), ("b".into(), other)]));
    }

    /// Beside a map in which each label set has its count, and what is over the limit goes to the tenant's own.
    #[test]
    fn series_are_those_of_a_plain_map(
        steps in prop::collection::vec((0_u8..3, "[ab]", "[xyz]", prop::option::weighted(0.8, 1_u64..5)), 0..80),
    ) {
        type Key = (Option<TenantId>, BTreeMap<String, String>);
        let registry = Registry::with_options(RegistryOptions::default().with_series_per_tenant(3));
        let mut model = BTreeMap::<Key, u64>::new();
        for (tenant, name, value, add) in steps {
            let tenant: Option<TenantId> = (tenant > 0).then(|| format!("t{tenant}").parse().unwrap());
            let labels = BTreeMap::from([(name.clone(), value.clone())]);
            let label = [(name.as_str(), value.as_str())];
            let Some(add) = add else {
                let before = model.len();
                model.retain(|(owner, own), _| *owner != tenant || own.get(&name) != Some(&value));
                prop_assert_eq!(registry.forget(tenant.as_ref(), &label), before - model.len());
                continue;
            };
            registry.counter(&WORK, tenant.as_ref(), &label).add(add);
            let overflow = BTreeMap::from([("overflow".to_owned(), "true".to_owned())]);
            let own = model.keys().filter(|(owner, own)| *owner == tenant && *own != overflow).count();
            let key = (tenant.clone(), labels);
            let key = if model.contains_key(&key) || own < 3 { key } else { (tenant, overflow) };
            *model.entry(key).or_default() += add;
        }
        let mut expected: Vec<_> = model
            .into_iter()
            .map(|((tenant, mut labels), count)| {
                labels.extend(tenant.map(|tenant| ("tenant".to_owned(), tenant.to_string())));
                (labels, count as f64)
            })
            .collect();
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        let samples = registry.samples();
        let found: Vec<_> = samples.iter().map(|one| ((*one.labels).clone(), one.value)).collect();
        prop_assert_eq!(found, expected);
    }

    /// The buckets are cumulative and the last one is the count, whatever is observed.
    #[test]
    fn buckets_count_like_a_naive_model(values in prop::collection::vec(-1.0f64..12.0, 0..50)) {
        let registry = Registry::new();
        let cell = registry.histogram(&WAIT, None, &[]);
        values.iter().for_each(|value| cell.observe(*value));
        for line in registry.expose().lines().filter(|line| line.contains("_bucket")) {
            let bound = &read_labels(line)["le"];
            let bound: f64 = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            let count: usize = line.rsplit(' ').next().unwrap().parse().unwrap();
            prop_assert_eq!(count, values.iter().filter(|value| **value <= bound).count());
        }
    }
}
