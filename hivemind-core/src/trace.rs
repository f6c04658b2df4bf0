//! W3C trace context, as carried with each request (<https://www.w3.org/TR/trace-context/>, level 2).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which trace a request belongs to: the parsed `traceparent` header.
///
/// ```
/// use hivemind_core::TraceContext;
///
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let trace: TraceContext = header.parse()?;
/// assert!(trace.sampled());
/// assert_eq!(trace.to_string(), header);
/// # Ok::<(), hivemind_core::InvalidTraceParent>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceContext {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
}

const SAMPLED: u8 = 0x01;
const RANDOM: u8 = 0x02;

impl TraceContext {
    /// A context from its parts; `None` if an id is zero, which the specification forbids.
    pub fn new(trace_id: u128, parent_id: u64, sampled: bool) -> Option<Self> {
        (trace_id != 0 && parent_id != 0).then_some(Self { trace_id, parent_id, flags: u8::from(sampled) })
    }

    /// The 16-byte trace id, never zero.
    pub fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// The 8-byte id of the caller's span, never zero.
    pub fn parent_id(self) -> u64 {
        self.parent_id
    }

    /// Whether the caller records this trace.
    pub fn sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The context to hand on: the same trace under a new span. A zero `span_id` keeps the caller's.
    #[must_use]
    pub fn child(self, span_id: u64) -> Self {
        Self { parent_id: if span_id == 0 { self.parent_id } else { span_id }, ..self }
    }
}

/// Exactly `width` lowercase hexadecimal digits.
fn hex(text: &str, width: usize) -> Option<u128> {
    let digits = text.len() == width && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

fn parse(text: &str) -> Option<TraceContext> {
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2)?;
    let trace_id = hex(parts.next()?, 32)?;
    let parent_id = hex(parts.next()?, 16)?;
    let flags = hex(parts.next()?, 2)?;
    let known_shape = match version {
        0xff => false,
        0x00 => parts.next().is_none(),
        // A future version may append fields, which are passed over.
        _ => true,
    };
    if !known_shape || trace_id == 0 || parent_id == 0 {
        return None;
    }
    let flags = u8::try_from(flags).ok()? & (SAMPLED | RANDOM);
    Some(TraceContext { trace_id, parent_id: u64::try_from(parent_id).ok()?, flags })
}

impl FromStr for TraceContext {
    type Err = InvalidTraceParent;
    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        parse(text).ok_or_else(|| InvalidTraceParent(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for TraceContext {
    type Error = InvalidTraceParent;
    fn try_from(text: String) -> Result<Self, InvalidTraceParent> {
        text.parse()
    }
}

impl From<TraceContext> for String {
    fn from(trace: TraceContext) -> Self {
        trace.to_string()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
    }
}

/// A text is not a `traceparent`. By the specification the receiver then starts a new trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a traceparent: version, 32-digit trace id, 16-digit parent id, 2-digit flags, by '-'")]
pub struct InvalidTraceParent(String);

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn refuses_what_the_specification_refuses() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-001",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(bad.parse::<TraceContext>().is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_a_future_version_and_writes_its_own() {
        let future = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09-what-ever";
        assert_eq!(future.parse::<TraceContext>().unwrap().to_string(), GOOD);
    }

    #[test]
    fn a_child_stays_in_the_trace() {
        let parent: TraceContext = GOOD.parse().unwrap();
        let child = parent.child(7);
        assert_eq!((child.trace_id(), child.parent_id(), child.sampled()), (parent.trace_id(), 7, true));
        assert_eq!(parent.child(0), parent);
    }
}
