//! Spans go out: also after failures, in the end, and when somebody gives up half-way.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use hivemind_core::testkit::Sim;
use hivemind_core::{Error, ErrorKind, Result, Retry, async_trait, block_on};
use hivemind_observe::trace::{Attributes, SpanData, Tracer, TracerOptions};
use hivemind_observe::{ExportLoop, ExportOptions, MemorySpans, OtlpLines, Registry, SpanExporter};

use crate::spans::{Here, ctx};

/// Does next what it is told.
#[derive(Debug, Default)]
struct Told {
    next: Mutex<Vec<Answer>>,
    taken: MemorySpansOf,
    calls: AtomicU32,
}

#[derive(Debug)]
struct MemorySpansOf(MemorySpans);

impl Default for MemorySpansOf {
    fn default() -> Self {
        Self(MemorySpans::new(10_000))
    }
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Busy,
    Never,
    Hangs,
}

#[async_trait]
impl SpanExporter for Told {
    async fn export(&self, resource: &Attributes, spans: &[SpanData]) -> Result<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let next = self.next.lock().unwrap().pop();
        let error = |retry| Error::new(ErrorKind::Unavailable, "export", "told so").with_retry(retry);
        match next {
            None => self.taken.0.export(resource, spans).await,
            Some(Answer::Busy) => Err(error(Retry::Later)),
            Some(Answer::Never) => Err(error(Retry::Never)),
            Some(Answer::Hangs) => std::future::pending().await,
        }
    }
}

impl Told {
    fn answers(&self, answers: &[Answer]) {
        self.next.lock().unwrap().extend(answers.iter().rev());
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn names(&self) -> Vec<String> {
        self.taken.0.spans().iter().map(|span| span.name.to_string()).collect()
    }
}

struct Setting {
    here: Here,
    told: Arc<Told>,
    export: ExportLoop,
    registry: Registry,
}

fn setting(options: ExportOptions) -> Setting {
    let registry = Registry::new();
    let here = Here::new(TracerOptions::default().with_recorder(Arc::new(registry.clone())));
    let told = Arc::new(Told::default());
    let export = ExportLoop::with_options(here.tracer.clone(), here.clock.clone(), told.clone(), options);
    Setting { here, told, export, registry }
}

impl Setting {
    fn spans(&self, names: &[&'static str]) {
        for name in names {
            self.here.tracer.span(&ctx("acme"), *name).end();
        }
    }
}

#[test]
fn a_batch_that_failed_is_tried_again_later_and_later_and_none_overtakes_it() {
    let all = setting(ExportOptions::default().with_batch(2));
    all.spans(&["a", "b", "c"]);
    all.told.answers(&[Answer::Busy, Answer::Busy]);
    assert!(block_on(all.export.tick()).is_err());
    assert_eq!((block_on(all.export.tick()).unwrap(), all.told.calls()), (0, 1), "not yet");
    all.here.clock.advance(Duration::from_secs(1));
    assert!(block_on(all.export.tick()).is_err());
    all.here.clock.advance(Duration::from_secs(1));
    assert_eq!((block_on(all.export.tick()).unwrap(), all.told.calls()), (0, 2), "twice as long");
    all.here.clock.advance(Duration::from_secs(1));
    assert_eq!(block_on(all.export.tick()).unwrap(), 2);
    assert_eq!(block_on(all.export.tick()).unwrap(), 1);
    assert_eq!(block_on(all.export.tick()).unwrap(), 0);
    assert_eq!(all.told.names(), ["a", "b", "c"]);
}

#[test]
fn what_cannot_be_sent_is_dropped_and_counted() {
    let all = setting(ExportOptions::default().with_batch(1).with_attempts(3));
    all.spans(&["refused", "given up", "sent"]);
    all.told.answers(&[Answer::Never, Answer::Busy, Answer::Busy, Answer::Busy]);
    for _ in 0..4 {
        assert!(block_on(all.export.tick()).is_err());
        all.here.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(block_on(all.export.drain()).unwrap(), 1);
    assert_eq!(all.told.names(), ["sent"]);
    let text = all.registry.expose();
    for reason in ["refused", "given_up"] {
        let line = format!("hivemind_observe_spans_dropped_total{{reason=\"{reason}\",tenant=\"acme\"}} 1");
        assert!(text.contains(&line), "{text}");
    }
}

/// `pitfall_12` of observability: an exporter that hangs, at the end too.
#[test]
fn pitfall_12_who_waits_no_longer_loses_nothing() {
    let all = setting(ExportOptions::default());
    all.spans(&["a", "b"]);
    all.told.answers(&[Answer::Hangs]);
    {
        let mut drain = pin!(all.export.drain());
        let mut context = Context::from_waker(Waker::noop());
        assert!(drain.as_mut().poll(&mut context).is_pending());
        // Meanwhile another has nothing to do.
        assert_eq!(block_on(all.export.tick()).unwrap(), 0);
        // And whoever wants everything sent hears that it is not.
        assert_eq!(block_on(all.export.drain()).unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!(block_on(all.export.tick()).unwrap(), 0, "it waits as after a failure");
    assert_eq!(block_on(all.export.drain()).unwrap(), 2);
    assert_eq!(all.told.names(), ["a", "b"]);
}

#[test]
fn it_runs_until_it_is_stopped_and_sends_what_is_left() {
    let sim = Sim::new(1);
    let (clock, runtime) = (sim.clock(), sim.runtime());
    let tracer = Tracer::new(clock.clone(), &*sim.ids(), TracerOptions::default());
    let told = Arc::new(Told::default());
    told.answers(&[Answer::Busy]);
    let export = ExportLoop::new(tracer.clone(), clock, told.clone());
    tracer.host_span(None, "early").end();
    let sent_before_the_end = sim.run(async {
        let sent = Mutex::new(Vec::new());
        let stop = async {
            runtime.sleep(Duration::from_secs(3)).await;
            *sent.lock().unwrap() = told.names();
            tracer.host_span(None, "late").end();
        };
        export.run(&*runtime, Duration::from_millis(100), stop).await;
        sent.into_inner().unwrap()
    });
    assert_eq!(sent_before_the_end.unwrap(), ["early"]);
    assert_eq!((told.names(), told.calls()), (vec!["early".to_owned(), "late".to_owned()], 3));
}

#[test]
fn lines_are_whole_after_a_failure() {
    /// Fails in the middle of the second line.
    #[derive(Clone, Default)]
    struct Breaks(Arc<Mutex<(Vec<u8>, u32)>>);
    impl std::io::Write for Breaks {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut state = self.0.lock().unwrap();
            state.1 += 1;
            match state.1 {
                2 => {
                    state.0.extend_from_slice(&bytes[..bytes.len() / 2]);
                    Ok(bytes.len() / 2)
                }
                3 => Err(std::io::Error::other("disk full")),
                _ => {
                    state.0.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let all = setting(ExportOptions::default());
    let out = Breaks::default();
    let lines = OtlpLines::new(out.clone()).unwrap();
    let mut outcomes = Vec::new();
    for name in ["one", "two", "two", "three"] {
        all.spans(&[name]);
        let spans = MemorySpans::new(1);
        let taken = Arc::new(spans);
        let export = ExportLoop::new(all.here.tracer.clone(), all.here.clock.clone(), taken.clone());
        block_on(export.drain()).unwrap();
        outcomes.push(block_on(lines.export(&Attributes::new(), &taken.take())).is_ok());
    }
    let text = String::from_utf8(out.0.lock().unwrap().0.clone()).unwrap();
    let whole: Vec<_> =
        text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).collect();
    assert_eq!((outcomes, whole.len()), (vec![true, false, true, true], 3), "{text}");
    assert!(text.ends_with('\n'));
}
