//! What every [`SpanExporter`] does.
//!
//! ```
//! use std::sync::Arc;
//! use hivemind_core::block_on;
//! use hivemind_observe::MemorySpans;
//! use hivemind_observe::conformance::span_exporter::{Fixture, run_all};
//!
//! let report = block_on(run_all(|| {
//!     let spans = Arc::new(MemorySpans::new(10_000));
//!     let kept = spans.clone();
//!     Fixture::new(spans, move || kept.spans().iter().map(|one| one.span.trace).collect())
//! }));
//! report.assert_passed();
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::conformance::{Failure, Report};
use hivemind_core::{ManualClock, SeededIds, TraceContext};

use crate::SpanExporter;
use crate::trace::{Attributes, SpanData, SpanKind, Tracer, TracerOptions, Value};

type Arrived = Box<dyn Fn() -> Vec<TraceContext> + Send + Sync>;

/// An exporter, and what has arrived by it.
pub struct Fixture {
    exporter: Arc<dyn SpanExporter>,
    arrived: Arrived,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("exporter", &self.exporter).finish_non_exhaustive()
    }
}

impl Fixture {
    /// `exporter`, of which `arrived` tells each span that has arrived, once for each time.
    pub fn new(
        exporter: Arc<dyn SpanExporter>,
        arrived: impl Fn() -> Vec<TraceContext> + Send + Sync + 'static,
    ) -> Self {
        Self { exporter, arrived: Box::new(arrived) }
    }

    fn has(&self, what: &str, spans: &[SpanData], times: usize) -> Result<(), Failure> {
        let arrived = (self.arrived)();
        for span in spans {
            let found = arrived.iter().filter(|one| **one == span.span.trace).count();
            if found != times {
                let name = &span.name;
                return Err(Failure::new(format!(
                    "{what}: span {name:?} arrived {found} times, not {times}"
                )));
            }
        }
        Ok(())
    }
}

/// Runs every case, each on a fresh fixture from `make`.
pub async fn run_all(make: impl Fn() -> Fixture) -> Report {
    let mut report = Report::default();
    let outcomes = [
        ("nothing_is_taken", nothing_is_taken(make()).await),
        ("each_span_arrives_once", each_span_arrives_once(make()).await),
        ("whatever_a_span_says_is_taken", whatever_a_span_says_is_taken(make()).await),
        ("a_batch_that_comes_again_is_taken", a_batch_that_comes_again_is_taken(make()).await),
    ];
    for (name, outcome) in outcomes {
        match outcome {
            Ok(()) => report.passed.push(name),
            Err(why) => report.failed.push((name, why)),
        }
    }
    report
}

fn process() -> Attributes {
    Attributes::new().with("service.name", "conformance")
}

/// Some spans, in one trace.
fn spans(count: usize) -> Vec<SpanData> {
    let clock = Arc::new(ManualClock::default());
    let tracer = Tracer::new(clock.clone(), &SeededIds::new(7), TracerOptions::default());
    let root = tracer.host_span(None, "root");
    for number in 0..count {
        let span = tracer.host_span(Some(root.context()), format!("span {number}")).with("number", number);
        clock.advance(Duration::from_millis(1));
        span.end();
    }
    tracer.take(count)
}

/// An empty batch is none.
pub async fn nothing_is_taken(fixture: Fixture) -> Result<(), Failure> {
    fixture.exporter.export(&process(), &[]).await?;
    let arrived = (fixture.arrived)();
    if arrived.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("{} spans came of none", arrived.len())))
    }
}

/// In several batches, also of one span.
pub async fn each_span_arrives_once(fixture: Fixture) -> Result<(), Failure> {
    let all = spans(700);
    let (one, rest) = all.split_at(1);
    for batch in [one].into_iter().chain(rest.chunks(512)) {
        fixture.exporter.export(&process(), batch).await?;
    }
    fixture.has("three batches", &all, 1)
}

/// Numbers that are none, texts of anything, nothing at all, and each kind of a span.
pub async fn whatever_a_span_says_is_taken(fixture: Fixture) -> Result<(), Failure> {
    let clock = Arc::new(ManualClock::default());
    let tracer = Tracer::new(clock.clone(), &SeededIds::new(7), TracerOptions::default());
    let kinds =
        [SpanKind::Internal, SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer];
    for (kind, name) in kinds.into_iter().zip(["", "a\nb", "\u{0}", "\"\\\u{1f980}", "plain"]) {
        let odd = Attributes::new()
            .with("", "")
            .with("not a number", f64::NAN)
            .with("endless", vec![f64::INFINITY, f64::NEG_INFINITY, f64::MAX])
            .with("least", i64::MIN)
            .with("nested", Value::List(vec![Value::List(vec![true.into()]), "\r\n\t".into()]));
        let other = tracer.host_span(None, "other");
        let mut span =
            tracer.host_span(None, name).with_kind(kind).with_link(other.context().clone(), odd.clone());
        span.event(name, odd.clone());
        odd.iter().for_each(|(key, value)| span.set(key.to_owned(), value.clone()));
        span.fail(name);
    }
    let all = tracer.take(usize::MAX);
    fixture.exporter.export(&Attributes::new(), &all).await?;
    fixture.has("odd spans", &all, 1)
}

/// After a lost answer a batch comes again.
pub async fn a_batch_that_comes_again_is_taken(fixture: Fixture) -> Result<(), Failure> {
    let all = spans(3);
    fixture.exporter.export(&process(), &all).await?;
    fixture.exporter.export(&process(), &all).await?;
    let once = fixture.has("the same batch twice", &all, 1);
    once.or_else(|_| fixture.has("the same batch twice", &all, 2))
}
