//! Reads the text form of a selector.

use std::str::FromStr;

use super::selector::{Operator, Requirement, Selector};
use super::{LabelKey, LabelValue};

/// Why a text is not a selector, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("selector, at byte {position}: {reason}")]
#[non_exhaustive]
pub struct InvalidSelector {
    /// The byte at which it went wrong.
    pub position: usize,
    /// What was expected, or what is wrong with what is there.
    pub reason: String,
}

/// A position in the text of a selector.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

type Parsed<T> = Result<T, InvalidSelector>;

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    /// Takes `token` if it comes next, after space.
    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let there = self.rest().starts_with(token);
        self.at += if there { token.len() } else { 0 };
        there
    }

    /// The longest run of what is neither space nor an operator, with its position; it may be empty.
    fn word(&mut self) -> (usize, &'a str) {
        self.skip_space();
        let start = self.at;
        let rest = self.rest();
        let end = rest.find([' ', '\t', '\r', '\n', '=', '!', '(', ')', ',', '<', '>']).unwrap_or(rest.len());
        self.at += end;
        (start, rest.get(..end).unwrap_or_default())
    }

    fn fail<T>(&self, position: usize, reason: impl Into<String>) -> Parsed<T> {
        Err(InvalidSelector { position, reason: reason.into() })
    }

    fn key(&mut self) -> Parsed<LabelKey> {
        let (position, word) = self.word();
        if word.is_empty() {
            return self.fail(position, "expected a key");
        }
        LabelKey::new(word).or_else(|e| self.fail(position, e.to_string()))
    }

    fn value(&mut self) -> Parsed<LabelValue> {
        let (position, word) = self.word();
        LabelValue::new(word).or_else(|e| self.fail(position, e.to_string()))
    }

    fn values(&mut self) -> Parsed<Vec<LabelValue>> {
        if !self.take("(") {
            return self.fail(self.at, "expected '(' and values");
        }
        let mut values = vec![self.value()?];
        while self.take(",") {
            values.push(self.value()?);
        }
        if !self.take(")") {
            return self.fail(self.at, "expected ',' or ')'");
        }
        Ok(values)
    }

    /// The operator after a key, and its values.
    fn condition(&mut self) -> Parsed<(Operator, Vec<LabelValue>)> {
        self.skip_space();
        let start = self.at;
        for (token, operator) in [
            ("==", Operator::In),
            ("=", Operator::In),
            ("!=", Operator::NotIn),
            (">", Operator::Gt),
            ("<", Operator::Lt),
        ] {
            if self.take(token) {
                return Ok((operator, vec![self.value()?]));
            }
        }
        match self.word() {
            (_, "in") => Ok((Operator::In, self.values()?)),
            (_, "notin") => Ok((Operator::NotIn, self.values()?)),
            (_, "") => Ok((Operator::Exists, Vec::new())),
            _ => self.fail(start, "expected '=', '==', '!=', '>', '<', 'in', 'notin' or ','"),
        }
    }

    fn requirement(&mut self) -> Parsed<Requirement> {
        let absent = self.take("!");
        self.skip_space();
        let start = self.at;
        let key = self.key()?;
        let (operator, values) =
            if absent { (Operator::DoesNotExist, Vec::new()) } else { self.condition()? };
        Requirement::new(key, operator, values).or_else(|e| self.fail(start, e.to_string()))
    }
}

impl FromStr for Selector {
    type Err = InvalidSelector;
    fn from_str(text: &str) -> Parsed<Self> {
        let mut cursor = Cursor { text, at: 0 };
        let mut selector = Self::everything();
        cursor.skip_space();
        if cursor.rest().is_empty() {
            return Ok(selector);
        }
        loop {
            selector = selector.and(cursor.requirement()?);
            cursor.skip_space();
            if cursor.rest().is_empty() {
                return Ok(selector);
            }
            if !cursor.take(",") {
                return cursor.fail(cursor.at, "expected ',' or the end");
            }
        }
    }
}

impl TryFrom<String> for Selector {
    type Error = InvalidSelector;
    fn try_from(text: String) -> Parsed<Self> {
        text.parse()
    }
}
