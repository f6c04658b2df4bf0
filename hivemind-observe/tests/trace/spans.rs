//! What spans say, and what they leave out.

use std::sync::Arc;
use std::time::Duration;

use hivemind_core::{
    Generation, ManualClock, Principal, SeededIds, TenantContext, TenantRef, Timestamp, TraceState, block_on,
};
use hivemind_observe::trace::{
    Attributes, Sampling, SpanData, SpanKind, SpanLimits, SpanStatus, Tracer, TracerOptions, Value,
};
use hivemind_observe::{ExportLoop, MemorySpans, Registry};

pub(crate) fn ctx(tenant: &str) -> TenantContext {
    let tenant = TenantRef::new(tenant.parse().unwrap(), Generation::from_u64(1));
    TenantContext::new(tenant, Principal::System("test".parse().unwrap()), "req-1".parse().unwrap())
}

pub(crate) struct Here {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) tracer: Tracer,
}

impl Here {
    pub(crate) fn new(options: TracerOptions) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1000)));
        let tracer = Tracer::new(clock.clone(), &SeededIds::new(3), options);
        Self { clock, tracer }
    }

    /// The spans that have ended, in their order.
    fn ended(&self) -> Vec<SpanData> {
        let spans = Arc::new(MemorySpans::new(10_000));
        let all = ExportLoop::new(self.tracer.clone(), self.clock.clone(), spans.clone());
        let sent = block_on(all.drain()).unwrap();
        assert_eq!((sent, self.tracer.waiting()), (spans.spans().len(), 0));
        spans.take()
    }
}

#[test]
fn a_span_tells_what_whose_and_how_long() {
    let here = Here::new(TracerOptions::default());
    let state: TraceState = "rojo=1".parse().unwrap();
    let mut outer =
        here.tracer.span(&ctx("acme"), "deploy").with_kind(SpanKind::Server).with("replicas", 3_u32);
    here.clock.advance(Duration::from_millis(5));
    let within = outer.within(ctx("acme")).with_trace_state(state.clone());
    let mut inner = here.tracer.span(&within, "place").with_link(outer.context().clone(), Attributes::new());
    inner.event("full", Attributes::new().with("node", "n1"));
    inner.set("tries", 1_u32);
    inner.set("tries", 2_u32);
    inner.fail("no node");
    here.clock.advance(Duration::from_millis(5));
    inner.end();
    outer.fail("no node");
    outer.ok();
    outer.fail("too late to say so");
    drop(outer);

    let [inner, outer] = here.ended().try_into().unwrap();
    assert_eq!((&*outer.name, outer.kind, outer.parent), ("deploy", SpanKind::Server, None));
    assert_eq!(outer.end.since(outer.start), Duration::from_millis(10));
    assert_eq!(
        (outer.status.clone(), inner.status),
        (SpanStatus::Ok, SpanStatus::Error("no node".to_owned()))
    );
    assert_eq!(inner.parent, Some(outer.span.trace.parent_id()));
    assert_eq!(inner.span.trace.trace_id(), outer.span.trace.trace_id());
    assert_eq!((inner.span.state, inner.tenant), (state, Some("acme".parse().unwrap())));
    assert_eq!((inner.attributes.get("tries"), inner.attributes.len()), (Some(&Value::Int(2)), 1));
    assert_eq!(inner.events[0].at, Timestamp::from_secs(1000).after(Duration::from_millis(5)));
    assert_eq!(inner.events[0].attributes.get("node"), Some(&"n1".into()));
    assert_eq!(inner.links[0].span, outer.span);
    assert!(outer.span.trace.random() && outer.span.trace.sampled());
}

#[test]
fn what_is_over_a_limit_is_counted_and_what_is_too_long_is_cut() {
    let mut limits = SpanLimits::default();
    (limits.attributes, limits.events, limits.links, limits.text) = (2, 1, 1, 40);
    let here = Here::new(TracerOptions::default().with_limits(limits));
    let three = || Attributes::new().with("a", "1").with("b", "2".to_owned()).with("c", "3");
    // Six bytes of its text, two of the links' and the events', and 13 and 14 of the list's: five are left.
    let text = "abc\u{fc}x".to_owned();
    let mut span = here.tracer.host_span(None, "s").with("a", 1_u32).with("b", text).with("c", 3_u32);
    let other = span.context().clone();
    span = span.with_link(other.clone(), three()).with_link(other, three());
    span.set("a", vec!["short".to_owned(), "longer".to_owned()]);
    span.event("one", three());
    span.event("two", three());
    span.fail("becau\u{fc}e");
    span.end();

    let [span] = here.ended().try_into().unwrap();
    assert_eq!(span.attributes.get("b"), Some(&"abc\u{fc}x".into()));
    assert_eq!(span.attributes.get("a"), Some(&vec!["short", "longer"].into()));
    assert_eq!((span.attributes.len(), span.events.len(), span.links.len()), (2, 1, 1));
    let left_out = span.left_out;
    assert_eq!((left_out.attributes, left_out.events, left_out.links), (3, 1, 1));
    // A character of two bytes is not cut in half; what stands in the program takes no room.
    assert_eq!(span.status, SpanStatus::Error("becau".to_owned()));
}

/// `pitfall_11` of observability: whatever a tenant has spans say, one takes a bounded amount.
#[test]
fn pitfall_11_a_span_takes_no_more_than_its_room() {
    let here = Here::new(TracerOptions::default());
    let long = "x".repeat(1 << 20);
    let mut span = here.tracer.span(&ctx("acme"), long.clone()).with(long.clone(), long.clone());
    span.event(long.clone(), Attributes::new().with(long.clone(), vec![1_i64; 1 << 20]));
    span.fail(&long);
    span.end();
    let [span] = here.ended().try_into().unwrap();
    assert!(hivemind_observe::trace::otlp_json(&Attributes::new(), &[span]).len() < 100_000);
}

#[test]
fn a_trace_is_recorded_whole_or_not_at_all() {
    let half = Sampling::share(0.5).unwrap();
    let here = Here::new(TracerOptions::default().with_sampling(half));
    let mut recorded = 0;
    for _ in 0..1000 {
        let outer = here.tracer.span(&ctx("acme"), "outer");
        let mut inner = here.tracer.span(&outer.within(ctx("acme")), "inner").with("a", 1_u32);
        inner.event("e", Attributes::new());
        assert_eq!(inner.is_recorded(), outer.is_recorded());
        assert_eq!(inner.context().trace.sampled(), outer.is_recorded());
        recorded += usize::from(outer.is_recorded());
    }
    assert!((400..600).contains(&recorded), "{recorded}");
    assert_eq!(here.ended().len(), 2 * recorded);
}

#[test]
fn a_trace_that_began_elsewhere_goes_on_as_it_began() {
    let here = Here::new(TracerOptions::default().with_sampling(Sampling::NONE));
    let parent = here.tracer.span(&ctx("acme"), "root").context().trace;
    assert!(!parent.sampled());
    assert!(here.tracer.span(&ctx("acme").with_trace(parent.with_sampled(true)), "a").is_recorded());
    let all = Here::new(TracerOptions::default());
    assert!(!all.tracer.span(&ctx("acme").with_trace(parent), "a").is_recorded());
}

/// `pitfall_11` of observability: telemetry that nobody reads keeps memory bounded; `pitfall_10`: and a tenant that floods
/// takes nothing from others.
#[test]
fn pitfall_10_and_11_spans_that_nobody_takes_are_bounded_and_shared() {
    let registry = Registry::new();
    let recorder = Arc::new(registry.clone());
    let here = Here::new(TracerOptions::default().with_waiting(100).with_recorder(recorder));
    here.tracer.span(&ctx("quiet"), "first").end();
    for _ in 0..100_000 {
        here.tracer.span(&ctx("loud"), "flood").end();
    }
    here.tracer.span(&ctx("quiet"), "last").end();
    assert_eq!(here.tracer.waiting(), 100);
    let quiet = here.ended().into_iter().filter(|span| span.tenant.as_ref().unwrap().as_str() == "quiet");
    assert_eq!(quiet.map(|span| span.name).collect::<Vec<_>>(), ["first", "last"]);
    let text = registry.expose();
    let dropped = r#"hivemind_observe_spans_dropped_total{reason="queue_full",tenant="loud"} 99902"#;
    assert!(text.contains(dropped) && text.contains("hivemind_observe_spans_total 100002"), "{text}");
    assert!(!text.contains(r#"tenant="quiet""#), "{text}");
}
