//! What a span tells once it has ended, in OpenTelemetry's terms
//! (<https://opentelemetry.io/docs/specs/otel/trace/api/>). No I/O, no clock, no async.

use std::borrow::Cow;
use std::fmt;

use hivemind_core::{TenantId, Timestamp, TraceContext, TraceState};

/// A span, as other processes know it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the two headers of the specification")]
pub struct SpanContext {
    /// The trace, and the span in it.
    pub trace: TraceContext,
    /// What tracing systems hand on.
    pub state: TraceState,
}

impl From<TraceContext> for SpanContext {
    fn from(trace: TraceContext) -> Self {
        Self { trace, state: TraceState::default() }
    }
}

/// What a span is to the other end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpanKind {
    /// Within a process.
    #[default]
    Internal,
    /// Answers a request.
    Server,
    /// Waits for an answer.
    Client,
    /// Hands something over for later.
    Producer,
    /// Takes what was handed over.
    Consumer,
}

/// How what a span is about ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpanStatus {
    /// Nobody said.
    #[default]
    Unset,
    /// Well, as somebody made sure.
    Ok,
    /// With an error, in words.
    Error(String),
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any number.
    Float(f64),
    /// A text.
    Text(Cow<'static, str>),
    /// Several.
    List(Vec<Self>),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<usize> for Value {
    /// What is too large becomes the largest there is.
    fn from(value: usize) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&'static str> for Value {
    fn from(value: &'static str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

/// The name of a span, an attribute or an event: mostly known when the program is written.
pub type Name = Cow<'static, str>;

/// Names with values; of two with one name the later counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(Vec<(Name, Value)>);

impl Attributes {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// And this one.
    #[must_use]
    pub fn with(mut self, name: impl Into<Name>, value: impl Into<Value>) -> Self {
        self.put(name.into(), value.into(), usize::MAX);
        self
    }

    /// Takes one, if its name is there or fewer than `most` are; tells whether it did.
    pub(super) fn put(&mut self, name: Name, value: Value, most: usize) -> bool {
        let room = self.0.len() < most;
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None if room => self.0.push((name, value)),
            None => return false,
        }
        true
    }

    pub(super) fn change_each(&mut self, mut with: impl FnMut(Name, Value) -> (Name, Value)) {
        self.0 = std::mem::take(&mut self.0).into_iter().map(|(name, value)| with(name, value)).collect();
    }

    /// Leaves `most`; tells how many it left out.
    pub(super) fn cut_to(&mut self, most: usize) -> u32 {
        let over = self.0.len().saturating_sub(most);
        self.0.truncate(most);
        u32::try_from(over).unwrap_or(u32::MAX)
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Something that happened within a span.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SpanEvent {
    /// What.
    pub name: Name,
    /// When.
    pub at: Timestamp,
    /// What there is to say.
    pub attributes: Attributes,
}

impl SpanEvent {
    pub(super) fn new(name: Name, at: Timestamp, attributes: Attributes) -> Self {
        Self { name, at, attributes }
    }
}

/// Another span that has to do with this one, of any trace.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SpanLink {
    /// Which.
    pub span: SpanContext,
    /// What there is to say.
    pub attributes: Attributes,
}

impl SpanLink {
    pub(super) fn new(span: SpanContext, attributes: Attributes) -> Self {
        Self { span, attributes }
    }
}

/// How much a span left out, because it was over its limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// Attributes, also of events and links.
    pub attributes: u32,
    /// Events.
    pub events: u32,
    /// Links.
    pub links: u32,
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SpanData {
    /// The span itself.
    pub span: SpanContext,
    /// The span that it is part of, in the same trace.
    pub parent: Option<u64>,
    /// Whose it is. It is no attribute, so that no code of a tenant can set it.
    pub tenant: Option<TenantId>,
    /// What was done.
    pub name: Name,
    /// What it is to the other end.
    pub kind: SpanKind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended; never before it began.
    pub end: Timestamp,
    /// What there is to say.
    pub attributes: Attributes,
    /// What happened within, in order.
    pub events: Vec<SpanEvent>,
    /// What it has to do with.
    pub links: Vec<SpanLink>,
    /// How it ended.
    pub status: SpanStatus,
    /// What it left out.
    pub left_out: LeftOut,
}

impl SpanData {
    pub(super) fn begin(span: SpanContext, parent: Option<u64>, name: Name, start: Timestamp) -> Self {
        Self {
            span,
            parent,
            tenant: None,
            name,
            kind: SpanKind::default(),
            start,
            end: start,
            attributes: Attributes::new(),
            events: Vec::new(),
            links: Vec::new(),
            status: SpanStatus::default(),
            left_out: LeftOut::default(),
        }
    }
}

impl fmt::Display for SpanData {
    /// One line for people: what, whose, how long, and how it ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(tenant) = &self.tenant {
            write!(f, " of {tenant}")?;
        }
        write!(f, ", {:?}", self.end.since(self.start))?;
        match &self.status {
            SpanStatus::Error(why) => write!(f, ", failed: {why}"),
            SpanStatus::Ok | SpanStatus::Unset => Ok(()),
        }
    }
}
