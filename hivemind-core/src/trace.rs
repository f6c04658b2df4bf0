//! W3C trace context, as carried with each request (<https://www.w3.org/TR/trace-context/>, level 2).

mod state;

use std::fmt;
use std::str::FromStr;

pub use self::state::{InvalidTraceState, TraceState};

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
const HEX: &[u8; 16] = b"0123456789abcdef";

impl TraceContext {
    /// How many characters the header has.
    pub const LENGTH: usize = 55;

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

    /// The same, recorded or not.
    #[must_use]
    pub fn with_sampled(self, sampled: bool) -> Self {
        self.with(SAMPLED, sampled)
    }

    /// Whether at least the last 7 bytes of the trace id are random, so that they can decide what is sampled.
    pub fn random(self) -> bool {
        self.flags & RANDOM != 0
    }

    /// The same, with a trace id that is said to be random or not.
    #[must_use]
    pub fn with_random(self, random: bool) -> Self {
        self.with(RANDOM, random)
    }

    fn with(self, flag: u8, on: bool) -> Self {
        Self { flags: if on { self.flags | flag } else { self.flags & !flag }, ..self }
    }

    /// The header's text, written into `buffer`.
    ///
    /// ```
    /// use hivemind_core::TraceContext;
    ///
    /// let trace = TraceContext::new(0x4bf9, 0xf067, true).ok_or("zero")?;
    /// let text = trace.encode(&mut [0; TraceContext::LENGTH]).to_owned();
    /// assert_eq!(text, "00-00000000000000000000000000004bf9-000000000000f067-01");
    /// # Ok::<(), &str>(())
    /// ```
    pub fn encode(self, buffer: &mut [u8; Self::LENGTH]) -> &str {
        *buffer = [b'-'; Self::LENGTH];
        let parts =
            [(0, 2, 0), (3, 32, self.trace_id), (36, 16, self.parent_id.into()), (53, 2, self.flags.into())];
        for (from, width, mut number) in parts {
            for digit in buffer.iter_mut().skip(from).take(width).rev() {
                *digit = HEX.get((number & 0xf) as usize).copied().unwrap_or_default();
                number >>= 4;
            }
        }
        std::str::from_utf8(buffer).unwrap_or_default()
    }

    /// The context to hand on: the same trace under a new span. A zero `span_id` keeps the caller's.
    #[must_use]
    pub fn child(self, span_id: u64) -> Self {
        Self { parent_id: if span_id == 0 { self.parent_id } else { span_id }, ..self }
    }
}

/// Lowercase hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(value))
    })
}

fn parse(text: &str) -> Option<TraceContext> {
    let (fields, rest) = text.as_bytes().split_at_checked(TraceContext::LENGTH)?;
    let part = |from: usize, width: usize| hex(fields.get(from..from + width)?);
    let (version, trace_id, parent_id, flags) = (part(0, 2)?, part(3, 32)?, part(36, 16)?, part(53, 2)?);
    let divided = [2, 35, 52].into_iter().all(|at| fields.get(at) == Some(&b'-'));
    let known_shape = match version {
        0xff => false,
        0x00 => rest.is_empty(),
        // A future version may append fields, which are passed over.
        _ => matches!(rest.first(), None | Some(b'-')),
    };
    if !divided || !known_shape || trace_id == 0 || parent_id == 0 {
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
        f.pad(self.encode(&mut [0; Self::LENGTH]))
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
    fn flags_are_set_and_written_and_read() {
        let random: TraceContext = GOOD.replace("-01", "-02").parse().unwrap();
        assert!(random.random() && !random.sampled());
        let both = random.with_sampled(true);
        assert_eq!(both.to_string(), GOOD.replace("-01", "-03"));
        assert_eq!(both.with_random(false).to_string(), GOOD);
        assert_eq!(both.with_sampled(false).with_sampled(false), random);
    }

    #[test]
    fn a_child_stays_in_the_trace() {
        let parent: TraceContext = GOOD.parse().unwrap();
        let child = parent.child(7);
        assert_eq!((child.trace_id(), child.parent_id(), child.sampled()), (parent.trace_id(), 7, true));
        assert_eq!(parent.child(0), parent);
    }
}
