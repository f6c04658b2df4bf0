//! What applications hand on with a trace: W3C Baggage (<https://www.w3.org/TR/baggage/>). It goes to whoever is asked, so
//! nothing secret belongs there. No I/O, no clock, no async.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// Names with values, each with properties that nobody has agreed on.
///
/// ```
/// use hivemind_observe::trace::Baggage;
///
/// let baggage: Baggage = "tenant=acme, plan=gold%2Fpro;until=2027".parse()?;
/// assert_eq!(baggage.get("plan"), Some("gold/pro"));
/// let baggage = baggage.with("user", "ada l")?.without("tenant");
/// assert_eq!(baggage.to_string(), "plan=gold/pro;until=2027,user=ada%20l");
/// # Ok::<(), hivemind_observe::trace::InvalidBaggage>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baggage {
    members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    name: Box<str>,
    /// Decoded.
    value: Box<str>,
    /// As they came, from the first `;` on.
    properties: Box<str>,
}

/// Why a text is no baggage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBaggage {
    /// A name that is none.
    #[error("baggage name {0:?}: letters, digits and any of !#$%&'*+-.^_`|~")]
    Name(String),
    /// A value with what has to be encoded.
    #[error("baggage value of {0:?}: write blanks, quotes, ',', ';', '\\' and all that is not ASCII as %XX")]
    Value(String),
    /// A property that is none.
    #[error("baggage property of {0:?}: write name or name=value, as of members")]
    Property(String),
    /// A member without a value.
    #[error("baggage member {0:?}: write name=value")]
    NoValue(String),
    /// More than a receiver has to hand on.
    #[error("baggage has at most {} members and {} bytes", Baggage::MOST, Baggage::MOST_BYTES)]
    TooMuch,
}

/// What is encoded in values: `baggage-octet` of the specification excludes it, or it is the sign of encoding.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b',').add(b';').add(b'\\').add(b'%');

fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_encoded(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !b"\",;\\".contains(&byte))
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn told(text: &str) -> String {
    text.chars().take(80).collect()
}

impl Member {
    fn read(text: &str) -> Result<Self, InvalidBaggage> {
        let (pair, properties) = text.split_at(text.find(';').unwrap_or(text.len()));
        let (name, value) = pair.split_once('=').ok_or_else(|| InvalidBaggage::NoValue(told(text)))?;
        let (name, value) = (trim(name), trim(value));
        if !is_token(name) {
            return Err(InvalidBaggage::Name(told(name)));
        }
        if !is_encoded(value) {
            return Err(InvalidBaggage::Value(told(name)));
        }
        for property in properties.split(';').skip(1) {
            let (key, value) = property.split_once('=').unwrap_or((property, ""));
            if !is_token(trim(key)) || !is_encoded(trim(value)) {
                return Err(InvalidBaggage::Property(told(name)));
            }
        }
        // By the specification, bytes that are no UTF-8 become replacement characters.
        let value = percent_decode_str(value).decode_utf8_lossy();
        Ok(Self { name: name.into(), value: value.as_ref().into(), properties: properties.into() })
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}{}", self.name, utf8_percent_encode(&self.value, ENCODED), self.properties)
    }
}

impl Baggage {
    /// The most members there can be.
    pub const MOST: usize = 64;
    /// The most bytes that the header can have.
    pub const MOST_BYTES: usize = 8192;

    /// Reads the header's lines, which are one list. Of members with one name the last counts.
    ///
    /// # Errors
    /// [`InvalidBaggage`]: one of them is wrong, or there are too many.
    pub fn of_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidBaggage> {
        let mut baggage = Self::default();
        let mut bytes = 0;
        for line in lines {
            bytes += line.len() + 1;
            if bytes > Self::MOST_BYTES + 1 {
                return Err(InvalidBaggage::TooMuch);
            }
            for text in line.split(',').map(trim).filter(|text| !text.is_empty()) {
                baggage.put(Member::read(text)?)?;
            }
        }
        baggage.checked()
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// With a name that is new or has another value, without properties.
    ///
    /// # Errors
    /// [`InvalidBaggage`]: the name is wrong, or it is too much.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, InvalidBaggage> {
        if !is_token(name) {
            return Err(InvalidBaggage::Name(told(name)));
        }
        self.put(Member { name: name.into(), value: value.into(), properties: "".into() })?;
        self.checked()
    }

    /// Without a name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.members.retain(|member| *member.name != *name);
        self
    }

    fn put(&mut self, member: Member) -> Result<(), InvalidBaggage> {
        let full = self.members.len() == Self::MOST;
        match self.members.iter_mut().find(|known| known.name == member.name) {
            Some(known) => *known = member,
            None if full => return Err(InvalidBaggage::TooMuch),
            None => self.members.push(member),
        }
        Ok(())
    }

    /// Itself, if a receiver has to hand it on.
    fn checked(self) -> Result<Self, InvalidBaggage> {
        // A byte of a value takes three at most, so what is small need not be written to see that it is.
        let most: usize =
            self.members.iter().map(|m| m.name.len() + 3 * m.value.len() + m.properties.len() + 2).sum();
        let fits = most <= Self::MOST_BYTES || self.to_string().len() <= Self::MOST_BYTES;
        if fits { Ok(self) } else { Err(InvalidBaggage::TooMuch) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members.iter().map(|member| (&*member.name, &*member.value))
    }
}

impl FromStr for Baggage {
    type Err = InvalidBaggage;
    fn from_str(text: &str) -> Result<Self, InvalidBaggage> {
        Self::of_lines([text])
    }
}

impl fmt::Display for Baggage {
    /// As in the header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, member) in self.members.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{member}")?;
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
        fn any_text_is_read_or_refused(lines in vec("[ -~\t]{0,40}|([a-c]{1,2}=[x-z%0-9]{0,4}(;p=1)?, ?){0,9}", 0..4)) {
            if let Ok(baggage) = Baggage::of_lines(lines.iter().map(String::as_str)) {
                prop_assert_eq!(baggage.to_string().parse::<Baggage>(), Ok(baggage));
            }
        }

        /// Any value at all is handed on as it is.
        #[test]
        fn values_come_back_whatever_they_are(value in any::<String>()) {
            let baggage = Baggage::default().with("name", &value).unwrap();
            let back: Baggage = baggage.to_string().parse().unwrap();
            prop_assert_eq!(back.get("name"), Some(value.as_str()));
            prop_assert!(is_encoded(baggage.to_string().split_once('=').unwrap().1));
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        use InvalidBaggage::{Name, NoValue, Property, Value};
        for (text, problem) in [
            ("a b=1", Name("a b".to_owned())),
            ("=1", Name(String::new())),
            ("a=\"1\"", Value("a".to_owned())),
            ("a=1 2", Value("a".to_owned())),
            ("a=\u{fc}", Value("a".to_owned())),
            ("a=1;", Property("a".to_owned())),
            ("a=1;b c", Property("a".to_owned())),
            ("a", NoValue("a".to_owned())),
        ] {
            assert_eq!(text.parse::<Baggage>(), Err(problem), "{text}");
        }
        let accepted: Baggage = "a =\t1 ; p ;q = 2,,b=%e4%b8%ad%ff,c=,a=3".parse().unwrap();
        let members: Vec<_> = accepted.iter().collect();
        assert_eq!(members, [("a", "3"), ("b", "\u{4e2d}\u{fffd}"), ("c", "")]);
    }

    #[test]
    fn there_is_no_more_than_a_receiver_has_to_hand_on() {
        let members = |count: usize| (0..count).map(|n| format!("k{n}=v,")).collect::<String>();
        assert_eq!(members(64).parse::<Baggage>().unwrap().iter().count(), 64);
        assert_eq!(members(65).parse::<Baggage>(), Err(InvalidBaggage::TooMuch));
        let full = Baggage::default().with("k", &"v".repeat(Baggage::MOST_BYTES - 2)).unwrap();
        assert_eq!(full.to_string().parse::<Baggage>(), Ok(full.clone()));
        assert_eq!(full.with("k", &"\u{fc}".repeat(Baggage::MOST_BYTES / 5)), Err(InvalidBaggage::TooMuch));
    }
}
