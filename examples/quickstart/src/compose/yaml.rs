//! A YAML document as a tree that knows its lines.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value with its place in the file.
pub(super) type Node = Spanned<Yaml>;
/// Line and column, and what is wrong there.
pub(super) type Failure = (Option<(u64, u64)>, String);

/// A value. Anchors, aliases and merge keys are resolved; a number is kept as text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Yaml {
    Null,
    Bool(bool),
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

pub(super) fn parse(text: &str) -> Result<Node, Failure> {
    // YAML 1.2, as Compose reads it: `y` and `on` are texts. Real files use one anchor often, which the parser takes for
    // an attack; what bounds an attack here is the number of events.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        budget: serde_saphyr::budget! {
            enforce_alias_anchor_ratio: false,
            max_events: 200_000,
        },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let at = e.location().map(|at| (at.line(), at.column()));
        let reason = e.without_snippet().to_string();
        // The place is printed in front.
        let short = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(short, _)| short);
        (at, short.to_owned())
    })
}

/// The place of a value.
pub(super) fn place(node: &Node) -> (u64, u64) {
    (node.referenced.line(), node.referenced.column())
}

/// A failure at the place of a value.
pub(super) fn fail<T>(node: &Node, reason: impl Into<String>) -> Result<T, Failure> {
    Err((Some(place(node)), reason.into()))
}

impl Yaml {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Scalar(_) => "a text or number",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

struct Build;

impl<'de> Visitor<'de> for Build {
    type Value = Yaml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_none<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Yaml, D::Error> {
        Yaml::deserialize(inner)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Yaml, E> {
        Ok(Yaml::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Yaml, E> {
        Ok(Yaml::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Yaml, E> {
        Ok(Yaml::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Yaml, E> {
        Ok(Yaml::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Yaml, E> {
        Ok(Yaml::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Yaml, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Yaml::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Yaml, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Yaml::Map(entries))
    }
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Build)
    }
}
