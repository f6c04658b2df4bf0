//! Traces across processes: W3C Trace Context, level 2 (<https://www.w3.org/TR/trace-context-2/>), and Baggage
//! (<https://www.w3.org/TR/baggage/>), in HTTP headers, message headers or an environment.
//! No I/O, no clock, no async.

use hivemind_core::{InvalidTraceParent, InvalidTraceState, TraceContext, TraceState};

use super::{Baggage, InvalidBaggage, SpanContext};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

/// What came with a request. Without a span the receiver begins a new trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extracted {
    /// The caller's span.
    pub span: Option<SpanContext>,
    /// What applications hand on.
    pub baggage: Baggage,
    /// What was wrong with the rest. It is nothing to fail a request for.
    pub problems: Vec<PropagationProblem>,
}

/// Something that came with a request and was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PropagationProblem {
    /// The `traceparent` is wrong: a new trace begins.
    #[error(transparent)]
    TraceParent(#[from] InvalidTraceParent),
    /// There are several `traceparent`s: none counts, and a new trace begins.
    #[error("several traceparents came with one request: none of them counts")]
    SeveralTraceParents,
    /// The `tracestate` is wrong: the trace goes on without.
    #[error(transparent)]
    TraceState(#[from] InvalidTraceState),
    /// The baggage is wrong, and left behind.
    #[error(transparent)]
    Baggage(#[from] InvalidBaggage),
}

/// Reads the headers of a request, in their order; names in capitals or not, so that an environment's variables
/// (`TRACEPARENT`) are headers too. At the edge of what you trust, drop `span` to begin a trace of your own.
///
/// ```
/// use hivemind_observe::trace::extract_context;
///
/// let headers = [
///     ("Host", "api.example"),
///     ("TraceParent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
///     ("tracestate", "rojo=1"),
///     ("tracestate", "congo=2"),
///     ("baggage", "user=ada%20l"),
/// ];
/// let came = extract_context(headers);
/// let span = came.span.ok_or("a trace")?;
/// assert!(span.trace.sampled());
/// assert_eq!(span.state.to_string(), "rojo=1,congo=2");
/// assert_eq!(came.baggage.get("user"), Some("ada l"));
/// # Ok::<(), &str>(())
/// ```
pub fn extract_context<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Extracted {
    let (mut parents, mut states, mut baggage) = (Parents::None, Lines::default(), Lines::default());
    for (name, value) in headers {
        if name.eq_ignore_ascii_case(TRACEPARENT) {
            parents = if matches!(parents, Parents::None) { Parents::One(value) } else { Parents::Several };
        } else if name.eq_ignore_ascii_case(TRACESTATE) {
            states.push(value);
        } else if name.eq_ignore_ascii_case(BAGGAGE) {
            baggage.push(value);
        }
    }
    let mut came = Extracted::default();
    match Baggage::of_lines(baggage.iter()) {
        Ok(baggage) => came.baggage = baggage,
        Err(problem) => came.problems.push(problem.into()),
    }
    match parents {
        Parents::None => {}
        Parents::Several => came.problems.push(PropagationProblem::SeveralTraceParents),
        Parents::One(text) => match text.trim_matches([' ', '\t']).parse::<TraceContext>() {
            Err(problem) => came.problems.push(problem.into()),
            Ok(trace) => {
                let state = TraceState::of_lines(states.iter()).unwrap_or_else(|problem| {
                    came.problems.push(problem.into());
                    TraceState::default()
                });
                came.span = Some(SpanContext { trace, state });
            }
        },
    }
    came
}

enum Parents<'a> {
    None,
    One(&'a str),
    Several,
}

/// The lines of one header: mostly one, for which nothing is allocated.
#[derive(Default)]
struct Lines<'a> {
    first: Option<&'a str>,
    more: Vec<&'a str>,
}

impl<'a> Lines<'a> {
    fn push(&mut self, line: &'a str) {
        match self.first {
            None => self.first = Some(line),
            Some(_) => self.more.push(line),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &'a str> {
        self.first.into_iter().chain(self.more.iter().copied())
    }
}

/// Hands each header of a request that `span` makes to `set`: its name, in small letters, and its value. For a
/// container's environment, write the names in capitals.
///
/// ```
/// use std::collections::BTreeMap;
/// use hivemind_core::TraceContext;
/// use hivemind_observe::trace::{Baggage, SpanContext, inject_context};
///
/// let span = SpanContext::from(TraceContext::new(0x4bf9, 0xf067, true).ok_or("zero")?);
/// let mut env = BTreeMap::new();
/// inject_context(&span, &Baggage::default(), |name, value| {
///     env.insert(name.to_ascii_uppercase(), value.to_owned());
/// });
/// assert_eq!(env["TRACEPARENT"], "00-00000000000000000000000000004bf9-000000000000f067-01");
/// assert_eq!(env.len(), 1);
/// # Ok::<(), &str>(())
/// ```
pub fn inject_context(span: &SpanContext, baggage: &Baggage, mut set: impl FnMut(&'static str, &str)) {
    set(TRACEPARENT, span.trace.encode(&mut [0; TraceContext::LENGTH]));
    if !span.state.is_empty() {
        set(TRACESTATE, &span.state.to_string());
    }
    if !baggage.is_empty() {
        set(BAGGAGE, &baggage.to_string());
    }
}
