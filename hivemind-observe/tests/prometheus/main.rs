//! What is exposed, read by Prometheus itself: its checker, and a server that scrapes.
//!
//! Without `prometheus` on the path the tests say loudly that they are skipped; with `CI` set they fail.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::print_stderr, reason = "what is skipped is said loudly")]

mod server;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use hivemind_core::{Metric, Recorder, TenantId};
use hivemind_observe::{Registry, RegistryOptions};

use self::server::{Prometheus, eventually, is_installed, serve};

const JOBS: Metric = Metric::new("check_jobs_total", "Jobs that were run, \\ and \"what\nnot\".");
const LOAD: Metric = Metric::new("check_load_ratio", "Load.");
const WAIT: Metric = Metric::new("check_wait_seconds", "Waiting.");

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

/// Each type, each odd value, and label values that try to be something else.
fn registry() -> Registry {
    let registry = Registry::with_options(RegistryOptions::default().with_series_per_tenant(9));
    for (number, odd) in
        (0..).zip(["", "\"", "\\", "\n", "a\",b=\"c", "}\ncheck_forged 1\n", "\u{fc}\u{1f980}", "\\n"])
    {
        registry.counter(&JOBS, Some(&acme()), &[("name", odd), ("kind", "odd")]).add(number);
    }
    for number in 0..20 {
        registry.counter(&JOBS, Some(&acme()), &[("name", &format!("job-{number}"))]).add(1 << 40);
    }
    for (cpu, load) in
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.25, 1e300, 5e-324].into_iter().enumerate()
    {
        registry.gauge(&LOAD, None, &[("cpu", &cpu.to_string())]).set(load);
    }
    let wait = registry.histogram(&WAIT, Some(&acme()), &[]);
    [0.001, 0.3, 0.3, 7.0, 1e9, f64::NAN].into_iter().for_each(|seconds| wait.observe(seconds));
    registry
}

type Series = BTreeMap<BTreeMap<String, String>, String>;

/// What Prometheus has of it now: label sets with values, as Prometheus writes them.
fn seen(prometheus: &Prometheus, query: &str) -> Series {
    let answer = prometheus.query(query);
    assert_eq!(answer["status"], "success", "{answer}");
    let series = answer["data"]["result"].as_array().unwrap().iter().map(|one| {
        let labels = one["metric"].as_object().unwrap().iter();
        let own = labels.filter(|(name, _)| !matches!(name.as_str(), "job" | "instance"));
        let labels = own.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        (labels, one["value"][1].as_str().unwrap().to_owned())
    });
    series.collect()
}

/// The same, as the registry has it. A label without a value is none, for Prometheus.
fn expected(registry: &Registry) -> Series {
    let samples = registry.samples().into_iter().filter(|sample| sample.metric.starts_with("check_"));
    samples
        .map(|sample| {
            let mut labels = (*sample.labels).clone();
            labels.retain(|_, value| !value.is_empty());
            labels.insert("__name__".to_owned(), sample.metric.to_string());
            (labels, value(sample.value))
        })
        .collect()
}

/// A value as Prometheus' API writes it.
fn value(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// Numbers may be written in several ways.
fn same(one: &Series, other: &Series) -> bool {
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    let equal = |one: &str, other: &str| match (number(one), number(other)) {
        (Some(one), Some(other)) => one.total_cmp(&other).is_eq(),
        _ => one == other,
    };
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|((labels, value), (others, other))| labels == others && equal(value, other))
}

#[test]
fn the_checker_finds_nothing_wrong() {
    if !is_installed() {
        return;
    }
    let mut checker = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    checker.stdin.take().unwrap().write_all(registry().expose().as_bytes()).unwrap();
    let output = checker.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}");
}

/// `pitfall_09` of observability: what is forgotten is gone with the next scrape, not minutes later.
#[test]
fn pitfall_09_prometheus_sees_what_is_there_and_no_longer_what_is_gone() {
    if !is_installed() {
        return;
    }
    let registry = registry();
    let pages = Arc::new(registry.clone());
    let prometheus = Prometheus::scraping(serve(move || pages.expose()));
    let all = r#"{__name__=~"check_.+",__name__!~".+_bucket"}"#;
    eventually("everything is read", || same(&seen(&prometheus, all), &expected(&registry)));
    assert!(seen(&prometheus, "check_forged").is_empty());
    let text = registry.expose();
    let buckets = seen(&prometheus, "check_wait_seconds_bucket");
    assert_eq!(buckets.len(), 12);
    for (labels, count) in buckets {
        let line = format!("check_wait_seconds_bucket{{tenant=\"acme\",le=\"{}\"}} {count}\n", labels["le"]);
        assert!(text.contains(&line), "{line}");
    }

    registry.counter(&JOBS, Some(&acme()), &[("name", "job-0")]).add(7);
    assert_eq!(registry.forget(Some(&acme()), &[("kind", "odd")]), 8);
    eventually("what is gone is gone", || same(&seen(&prometheus, all), &expected(&registry)));
}
