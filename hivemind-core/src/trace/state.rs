//! What tracing systems hand on beside a trace's ids: the `tracestate` of W3C Trace Context, level 2
//! (<https://www.w3.org/TR/trace-context-2/#tracestate-header>). No I/O, no clock, no async.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Members of tracing systems, that which changed last first.
///
/// ```
/// use hivemind_core::TraceState;
///
/// let state: TraceState = "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE".parse()?;
/// assert_eq!(state.get("congo"), Some("t61rcWkgMzE"));
/// let state = state.with("congo", "ucfJifl5GOE")?;
/// assert_eq!(state.to_string(), "congo=ucfJifl5GOE,rojo=00f067aa0ba902b7");
/// # Ok::<(), hivemind_core::InvalidTraceState>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceState {
    /// Keys and values in order, no key twice; nothing is allocated for none.
    members: Vec<(Box<str>, Box<str>)>,
}

/// Why a text is no `tracestate`. By the specification the receiver then drops the whole list and keeps the trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTraceState {
    /// A key that is none.
    #[error(
        "tracestate key {0:?}: 1 to 256 of a-z, 0-9, '_', '-', '*', '/' and '@', beginning with a letter or digit"
    )]
    Key(String),
    /// A value that is none.
    #[error(
        "tracestate value of {0:?}: 1 to 256 printable ASCII characters but ',' and '=', not ending with a space"
    )]
    Value(String),
    /// A member without a value.
    #[error("tracestate member {0:?}: write key=value")]
    NoValue(String),
    /// Too many members.
    #[error("a tracestate has at most {} members", TraceState::MOST)]
    TooMany,
}

/// At most so many characters of what is wrong are told.
const TOLD: usize = 80;

fn told(text: &str) -> String {
    text.chars().take(TOLD).collect()
}

fn is_key(text: &str) -> bool {
    let first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let other = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    text.len() <= 256 && text.as_bytes().first().is_some_and(first) && text.bytes().all(other)
}

fn is_value(text: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    (1..=256).contains(&text.len()) && text.bytes().all(allowed) && !text.ends_with(' ')
}

impl TraceState {
    /// The most members there can be.
    pub const MOST: usize = 32;

    /// Reads the header's lines, which are one list in their order. Of members with one key the first counts.
    ///
    /// # Errors
    /// [`InvalidTraceState`]: one of them is wrong, or there are too many.
    pub fn of_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidTraceState> {
        let mut state = Self::default();
        let mut count = 0;
        for member in lines.into_iter().flat_map(|line| line.split(',')) {
            // Leading and trailing blanks are not the value's; those inside it are.
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let (key, value) =
                member.split_once('=').ok_or_else(|| InvalidTraceState::NoValue(told(member)))?;
            checked(key, value)?;
            count += 1;
            if count > Self::MOST {
                return Err(InvalidTraceState::TooMany);
            }
            if state.get(key).is_none() {
                state.members.push((key.into(), value.into()));
            }
        }
        Ok(state)
    }

    /// The value of a system's member.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// With a member that is new or changed, and so the first. Of too many the last goes.
    ///
    /// # Errors
    /// [`InvalidTraceState`]: the key or the value is wrong.
    pub fn with(mut self, key: &str, value: &str) -> Result<Self, InvalidTraceState> {
        checked(key, value)?;
        self.members.retain(|(found, _)| **found != *key);
        self.members.insert(0, (key.into(), value.into()));
        self.members.truncate(Self::MOST);
        Ok(self)
    }

    /// Without a member.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.members.retain(|(found, _)| **found != *key);
        self
    }

    /// Cut so that the header has at most `bytes`, by whole members: those over 128 characters go first, then the last.
    #[must_use]
    pub fn cut_to(mut self, bytes: usize) -> Self {
        const LONG: usize = 128;
        let length = |(key, value): &(Box<str>, Box<str>)| key.len() + 1 + value.len();
        while self.header_len() > bytes {
            let at = self.members.iter().rposition(|member| length(member) > LONG);
            match at {
                Some(at) => drop(self.members.remove(at)),
                None => drop(self.members.pop()),
            }
        }
        self
    }

    fn header_len(&self) -> usize {
        let members: usize = self.members.iter().map(|(key, value)| key.len() + 1 + value.len()).sum();
        members + self.members.len().saturating_sub(1)
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members.iter().map(|(key, value)| (&**key, &**value))
    }
}

fn checked(key: &str, value: &str) -> Result<(), InvalidTraceState> {
    if !is_key(key) {
        return Err(InvalidTraceState::Key(told(key)));
    }
    if !is_value(value) {
        return Err(InvalidTraceState::Value(told(key)));
    }
    Ok(())
}

impl FromStr for TraceState {
    type Err = InvalidTraceState;
    fn from_str(text: &str) -> Result<Self, InvalidTraceState> {
        Self::of_lines([text])
    }
}

impl TryFrom<String> for TraceState {
    type Error = InvalidTraceState;
    fn try_from(text: String) -> Result<Self, InvalidTraceState> {
        text.parse()
    }
}

impl From<TraceState> for String {
    fn from(state: TraceState) -> Self {
        state.to_string()
    }
}

impl fmt::Display for TraceState {
    /// As in the header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes: no panic, and what was read is written so that it is read again.
        #[test]
        fn any_text_is_read_or_refused(lines in vec("[ -~\t]{0,40}|([a-c]{1,2}=[x-z ]{1,3}, ?){0,40}", 0..4)) {
            if let Ok(state) = TraceState::of_lines(lines.iter().map(String::as_str)) {
                prop_assert!(state.members.len() <= TraceState::MOST);
                prop_assert_eq!(state.to_string().len(), state.header_len());
                prop_assert_eq!(state.to_string().parse::<TraceState>(), Ok(state));
            }
        }

        /// Beside a list of pairs in which the changed one goes first.
        #[test]
        fn changes_are_those_of_a_list(steps in vec(("[a-e]", proptest::option::of("[x-z]")), 0..12)) {
            let (mut state, mut model) = (TraceState::default(), Vec::<(String, String)>::new());
            for (key, value) in steps {
                model.retain(|(other, _)| *other != key);
                state = match value {
                    Some(value) => {
                        model.insert(0, (key.clone(), value.clone()));
                        state.with(&key, &value).unwrap()
                    }
                    None => state.without(&key),
                };
                let members: Vec<_> = state.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
                prop_assert_eq!(&members, &model);
            }
        }
    }

    #[test]
    fn a_member_too_many_pushes_the_last_out() {
        let full: String = (0..32).map(|n| format!("k{n}=v,")).collect();
        let state: TraceState = full.parse().unwrap();
        let state = state.with("new", "v").unwrap();
        assert_eq!((state.iter().count(), state.get("k31"), state.get("k30")), (32, None, Some("v")));
        assert_eq!(state.iter().next(), Some(("new", "v")));
        assert_eq!(format!("{full}k32=v").parse::<TraceState>(), Err(InvalidTraceState::TooMany));
    }

    #[test]
    fn what_is_too_long_is_cut_by_whole_members_and_the_long_ones_first() {
        let long = "x".repeat(130);
        let state: TraceState = format!("a=1,b={long},c=3,d=4").parse().unwrap();
        assert_eq!(state.clone().cut_to(200).to_string().len(), 144);
        assert_eq!(state.clone().cut_to(143).to_string(), "a=1,c=3,d=4");
        assert_eq!(state.clone().cut_to(10).to_string(), "a=1,c=3");
        assert_eq!(state.cut_to(2).to_string(), "");
    }
}
