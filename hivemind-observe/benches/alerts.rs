//! How long it takes to evaluate alerts.
//!
//! `cargo bench -p hivemind-observe --bench alerts`. 100,000 alerts that fire and go on, of 100 rules; and 1,000 rules over 10,000
//! series of 100 metrics, each of which is about one of a hundred tenants, and of which none holds.
#![allow(clippy::unwrap_used, reason = "a bench measures")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use hivemind_core::Timestamp;
use hivemind_observe::{AlertEngine, AlertRule, AlertState, Comparison, Sample};

fn samples(metrics: usize, series: usize) -> Vec<Sample> {
    let of = |metric: usize| {
        (0..series).map(move |number| {
            let labels = [("node", format!("node-{}", number / 7)), ("tenant", format!("t{number}"))];
            let labels = labels.map(|(name, value)| (name.to_owned(), value));
            Sample::new(format!("metric_{metric}"), labels.into(), 95.0)
        })
    };
    (0..metrics).flat_map(of).collect()
}

fn rule(number: usize, metric: usize, threshold: f64) -> AlertRule {
    let name = format!("rule-{number}").parse().unwrap();
    AlertRule::new(name, format!("metric_{metric}"), Comparison::Above, threshold).unwrap()
}

fn alerts(c: &mut Criterion) {
    let mut second = 0;
    let mut bench = |name: &str, engine: &AlertEngine, samples: &[Sample]| {
        let mut state = AlertState::default();
        c.bench_function(name, |b| {
            b.iter(|| {
                second += 1;
                engine.evaluate(&mut state, Timestamp::from_secs(second), black_box(samples))
            });
        });
    };
    let lasting = |number| rule(number, number, 90.0).keep_firing_for(Duration::from_secs(60));
    bench("100,000 alerts go on firing", &AlertEngine::new((0..100).map(lasting)), &samples(100, 1000));
    let quiet = |number| rule(number, number % 100, 99.0).matching("tenant", format!("t{}", number / 10));
    bench("1,000 rules over 10,000 series", &AlertEngine::new((0..1000).map(quiet)), &samples(100, 100));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = alerts
}
criterion_main!(benches);
