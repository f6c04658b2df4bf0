//! Begins spans and takes them back when they have ended.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hivemind_core::{
    Clock, Counter, IdSource, IdSourceExt, Metric, NoopRecorder, Recorder, SequenceIds, TenantContext,
    TenantId, TraceContext,
};

use super::queue::SpanQueue;
use super::sampling::{Budgets, Sampler};
use super::{
    Attributes, LeftOut, Name, Sampling, SpanContext, SpanData, SpanEvent, SpanKind, SpanLink, SpanStatus,
    Value,
};

const ENDED: Metric = Metric::new("hivemind_observe_spans_total", "Spans that were recorded and have ended.");
const DROPPED: Metric = Metric::new(
    "hivemind_observe_spans_dropped_total",
    "Spans that were recorded and not exported, by reason.",
);

/// How much one span may hold; what is over is counted in its [`LeftOut`], and texts are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpanLimits {
    /// Attributes of a span, and of each of its events and links.
    pub attributes: usize,
    /// Events.
    pub events: usize,
    /// Links.
    pub links: usize,
    /// Bytes of all texts that it was given, wherever they are, and eight for each value of a list; what is over is cut.
    pub text: usize,
}

impl Default for SpanLimits {
    /// OpenTelemetry's defaults, and 16 KiB of text: a full queue takes no more than about 256 MiB.
    fn default() -> Self {
        Self { attributes: 128, events: 128, links: 128, text: 16 << 10 }
    }
}

/// How a tracer is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TracerOptions {
    /// Which of the traces that begin here are recorded. One that began elsewhere goes on as it began.
    pub sampling: Sampling,
    /// The same for single tenants.
    pub tenants: BTreeMap<TenantId, Sampling>,
    /// How much one span may hold.
    pub limits: SpanLimits,
    /// How many ended spans wait at most. When it is full, a tenant with more than a fair share of it loses the newest.
    pub waiting: usize,
    /// Where it counts what ended and what was dropped.
    pub recorder: Arc<dyn Recorder>,
}

impl Default for TracerOptions {
    /// All traces, and 16,384 spans that wait.
    fn default() -> Self {
        Self {
            sampling: Sampling::ALL,
            tenants: BTreeMap::new(),
            limits: SpanLimits::default(),
            waiting: 16 << 10,
            recorder: Arc::new(NoopRecorder::new()),
        }
    }
}

impl TracerOptions {
    /// Which of the traces that begin here are recorded.
    #[must_use]
    pub fn with_sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Which of the traces of one tenant that begin here are recorded.
    #[must_use]
    pub fn with_tenant(mut self, tenant: TenantId, sampling: Sampling) -> Self {
        self.tenants.insert(tenant, sampling);
        self
    }

    /// How much one span may hold.
    #[must_use]
    pub fn with_limits(mut self, limits: SpanLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How many ended spans wait at most.
    #[must_use]
    pub fn with_waiting(mut self, spans: usize) -> Self {
        self.waiting = spans;
        self
    }

    /// Where it counts.
    #[must_use]
    pub fn with_recorder(mut self, recorder: Arc<dyn Recorder>) -> Self {
        self.recorder = recorder;
        self
    }
}

/// Begins spans. Clones are the same tracer.
#[derive(Clone)]
pub struct Tracer(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    ids: SequenceIds,
    sampler: Sampler,
    budgets: Mutex<Budgets>,
    limits: SpanLimits,
    queue: Mutex<SpanQueue>,
    recorder: Arc<dyn Recorder>,
    ended: Counter,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tracer {
    /// A tracer whose ids begin where `ids` says: give it [`SystemIds`](hivemind_core::SystemIds) but in tests.
    pub fn new(clock: Arc<dyn Clock>, ids: &dyn IdSource, options: TracerOptions) -> Self {
        let TracerOptions { sampling, tenants, limits, waiting, recorder } = options;
        let ended = recorder.counter(&ENDED, None, &[]);
        Self(Arc::new(Inner {
            clock,
            ids: SequenceIds::new(ids),
            sampler: Sampler::new(sampling, tenants),
            budgets: Mutex::default(),
            limits,
            queue: Mutex::new(SpanQueue::new(waiting)),
            recorder,
            ended,
        }))
    }

    /// Begins a span of the context's tenant, in the context's trace; or a new trace, if it has none.
    pub fn span(&self, ctx: &TenantContext, name: impl Into<Name>) -> Span {
        let parent = ctx.trace().map(|trace| (trace, ctx.trace_state()));
        let span = match parent {
            Some((trace, state)) => SpanContext { trace: self.child(trace), state: state.clone() },
            None => self.root(Some(&ctx.tenant().id)),
        };
        self.begin(span, ctx.trace(), Some(&ctx.tenant().id), name.into())
    }

    /// Begins a span of the host's own, which is no tenant's: within `parent`, or a new trace.
    pub fn host_span(&self, parent: Option<&SpanContext>, name: impl Into<Name>) -> Span {
        let span = match parent {
            Some(parent) => SpanContext { trace: self.child(parent.trace), state: parent.state.clone() },
            None => self.root(None),
        };
        self.begin(span, parent.map(|parent| parent.trace), None, name.into())
    }

    /// How many ended spans wait for an [`ExportLoop`](crate::ExportLoop).
    pub fn waiting(&self) -> usize {
        lock(&self.0.queue).len()
    }

    fn child(&self, parent: TraceContext) -> TraceContext {
        parent.child(self.span_id())
    }

    fn span_id(&self) -> u64 {
        // Zero is no id; it comes once in 2^64.
        std::iter::repeat_with(|| self.0.ids.next_u64()).find(|id| *id != 0).unwrap_or_default()
    }

    fn root(&self, tenant: Option<&TenantId>) -> SpanContext {
        let inner = &*self.0;
        let within = |per_second| {
            let now = inner.clock.now();
            lock(&inner.budgets).take(tenant, per_second, now)
        };
        loop {
            let trace_id = inner.ids.next_u128();
            let Some(trace) = TraceContext::new(trace_id, self.span_id(), false) else { continue };
            let sampled = inner.sampler.decide(tenant, trace_id, within);
            return trace.with_random(true).with_sampled(sampled).into();
        }
    }

    fn begin(
        &self,
        span: SpanContext,
        parent: Option<TraceContext>,
        tenant: Option<&TenantId>,
        name: Name,
    ) -> Span {
        let recording = span.trace.sampled().then(|| {
            let parent = parent.map(TraceContext::parent_id);
            let mut limits = self.0.limits;
            let name = cut_name(name, &mut limits);
            let mut data = SpanData::begin(span.clone(), parent, name, self.0.clock.now());
            data.tenant = tenant.cloned();
            Recording { data: Box::new(data), limits, tracer: self.clone() }
        });
        Span { context: span, recording }
    }

    fn end(&self, mut data: Box<SpanData>) {
        data.end = self.0.clock.now().max(data.start);
        self.0.ended.add(1);
        // Counted after the lock is given back: a recorder is somebody else's code.
        let dropped = lock(&self.0.queue).push(data);
        if let Some(dropped) = dropped {
            self.count_dropped([&*dropped], "queue_full");
        }
    }

    pub(crate) fn take(&self, most: usize) -> Vec<SpanData> {
        lock(&self.0.queue).take(most)
    }

    pub(crate) fn count_dropped<'a>(&self, spans: impl IntoIterator<Item = &'a SpanData>, reason: &str) {
        for span in spans {
            self.0.recorder.counter(&DROPPED, span.tenant.as_ref(), &[("reason", reason)]).add(1);
        }
    }
}

/// A span that is going on. It ends when it is dropped, if not before.
///
/// If its trace is not recorded, it still carries the trace, and all else does nothing.
#[derive(Debug)]
#[must_use = "a span that is dropped at once tells nothing"]
pub struct Span {
    context: SpanContext,
    recording: Option<Recording>,
}

#[derive(Debug)]
struct Recording {
    data: Box<SpanData>,
    limits: SpanLimits,
    tracer: Tracer,
}

impl Span {
    /// The span, as other processes are told of it: see [`inject_context`](super::inject_context).
    pub fn context(&self) -> &SpanContext {
        &self.context
    }

    /// The circumstances of what is done within this span.
    #[must_use]
    pub fn within(&self, ctx: TenantContext) -> TenantContext {
        ctx.with_trace(self.context.trace).with_trace_state(self.context.state.clone())
    }

    /// Whether anybody will see what it says: ask before you compute what is costly.
    pub fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    /// What it is to the other end.
    pub fn with_kind(mut self, kind: SpanKind) -> Self {
        self.record(|data, _| data.kind = kind);
        self
    }

    /// And this attribute.
    pub fn with(mut self, name: impl Into<Name>, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// And this link.
    pub fn with_link(mut self, span: SpanContext, attributes: Attributes) -> Self {
        self.record(|data, limits| {
            if data.links.len() < limits.links {
                let attributes = limited(attributes, limits, &mut data.left_out);
                data.links.push(SpanLink::new(span, attributes));
            } else {
                data.left_out.links += 1;
            }
        });
        self
    }

    /// Says something about it; what was said by this name counts no longer.
    pub fn set(&mut self, name: impl Into<Name>, value: impl Into<Value>) {
        self.record(|data, limits| {
            let (name, value) = (cut_name(name.into(), limits), cut(value.into(), limits));
            if !data.attributes.put(name, value, limits.attributes) {
                data.left_out.attributes += 1;
            }
        });
    }

    /// Something happened.
    pub fn event(&mut self, name: impl Into<Name>, attributes: Attributes) {
        let Some(now) = self.recording.as_ref().map(|one| one.tracer.0.clock.now()) else { return };
        self.record(|data, limits| {
            if data.events.len() < limits.events {
                let attributes = limited(attributes, limits, &mut data.left_out);
                let name = cut_name(name.into(), limits);
                data.events.push(SpanEvent::new(name, now, attributes));
            } else {
                data.left_out.events += 1;
            }
        });
    }

    /// It ends well, as somebody made sure; an error is no longer one.
    pub fn ok(&mut self) {
        self.record(|data, _| data.status = SpanStatus::Ok);
    }

    /// It ends with an error, unless it was said that it ends well.
    pub fn fail(&mut self, why: impl fmt::Display) {
        self.record(|data, limits| {
            if data.status != SpanStatus::Ok {
                data.status = SpanStatus::Error(cut_text(why.to_string(), limits));
            }
        });
    }

    /// Ends it.
    pub fn end(self) {}

    /// Says something; the limit of texts is what is left of it.
    fn record(&mut self, with: impl FnOnce(&mut SpanData, &mut SpanLimits)) {
        if let Some(recording) = &mut self.recording {
            with(&mut recording.data, &mut recording.limits);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(Recording { data, tracer, .. }) = self.recording.take() {
            tracer.end(data);
        }
    }
}

fn limited(mut attributes: Attributes, limits: &mut SpanLimits, left_out: &mut LeftOut) -> Attributes {
    left_out.attributes += attributes.cut_to(limits.attributes);
    attributes.change_each(|name, value| (cut_name(name, limits), cut(value, limits)));
    attributes
}

fn cut(value: Value, limits: &mut SpanLimits) -> Value {
    const VALUE: usize = 8;
    match value {
        Value::Text(text) => Value::Text(cut_name(text, limits)),
        Value::List(values) => {
            let mut kept = Vec::new();
            for one in values {
                let Some(left) = limits.text.checked_sub(VALUE) else { break };
                limits.text = left;
                kept.push(cut(one, limits));
            }
            Value::List(kept)
        }
        other => other,
    }
}

/// What stands in the program takes no room.
fn cut_name(name: Name, limits: &mut SpanLimits) -> Name {
    match name {
        Name::Borrowed(known) => Name::Borrowed(known),
        Name::Owned(made) => Name::Owned(cut_text(made, limits)),
    }
}

/// As many bytes as there is room for, and no half character.
fn cut_text(mut text: String, limits: &mut SpanLimits) -> String {
    if text.len() > limits.text {
        let end = (0..=limits.text).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.shrink_to_fit();
        limits.text = 0;
    }
    limits.text = limits.text.saturating_sub(text.len());
    text
}
