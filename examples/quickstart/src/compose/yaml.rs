//! A YAML document as a tree that knows where everything stands.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Location, Spanned};

use super::text::{brief, quote};

/// The most containers within containers.
const MAX_DEPTH: usize = 64;
/// The most values of a file, with every alias replaced by what it stands for.
const MAX_EVENTS: usize = 200_000;
/// The most text of a file, in bytes, counted in the same way.
const MAX_TEXT: usize = 16 << 20;

/// Line and column, from 1.
pub(super) type Place = (u64, u64);
/// A place, and what is wrong there.
pub(super) type Failure = (Option<Place>, String);
/// What was read, or why not.
pub(super) type Read<T> = Result<T, Failure>;

/// A value with its place in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) value: Yaml,
    /// The variables in its text, and whether they are set.
    pub(super) variables: Vec<(String, bool)>,
}

/// A value. Anchors, aliases and merge keys are resolved; a scalar is as it is written, without quotes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Yaml {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a mapping with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Place,
    pub(super) node: Node,
}

impl Node {
    /// The text of a scalar; empty for everything else.
    pub(super) fn text(&self) -> &str {
        match &self.value {
            Yaml::Scalar(text) => text,
            _ => "",
        }
    }

    /// The items of a list; none for everything else.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Yaml::List(items) => items,
            _ => &[],
        }
    }

    /// The entries of a mapping; none for everything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Yaml::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a key, if it has one.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let entry = self.entries().iter().find(|entry| entry.key == key)?;
        (entry.node.value != Yaml::Null).then_some(&entry.node)
    }

    /// `key: value` pairs, written as a mapping or as a list of `key=value`, each with its place.
    pub(super) fn pairs(&self) -> Vec<(&str, Place, &str, &Self)> {
        let listed = self.items().iter().map(|item| {
            let (key, value) = item.text().split_once('=').unwrap_or((item.text(), ""));
            (key, item.at, value, item)
        });
        let mapped =
            self.entries().iter().map(|entry| (entry.key.as_str(), entry.at, entry.node.text(), &entry.node));
        listed.chain(mapped).collect()
    }

    /// The names that a list has as items, or a mapping as keys, each with its place.
    pub(super) fn names(&self) -> Vec<(&str, Place, &Self)> {
        let listed = self.items().iter().map(|item| (item.text(), item.at, item));
        let mapped = self.entries().iter().map(|entry| (entry.key.as_str(), entry.at, &entry.node));
        listed.chain(mapped).collect()
    }

    /// Whether a variable in its text is not set.
    pub(super) fn has_unset(&self) -> bool {
        self.variables.iter().any(|(_, set)| !set)
    }

    /// Where the text comes from, if not from the file alone.
    fn origin(&self) -> String {
        let unset = self.variables.iter().find(|(_, set)| !set);
        match unset.or_else(|| self.variables.first()) {
            Some((name, false)) => format!(" (variable {} is not set)", brief(name)),
            Some((name, true)) => format!(" (the text has variable {} in it)", brief(name)),
            None => String::new(),
        }
    }
}

impl Yaml {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar(_) => "a text or number",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// A failure at a value.
pub(super) fn fail<T>(node: &Node, reason: impl Into<String>) -> Read<T> {
    fail_by(node.at, node, reason)
}

/// A failure at a place, for which a value is to blame.
pub(super) fn fail_by<T>(at: Place, node: &Node, reason: impl Into<String>) -> Read<T> {
    Err((Some(at), reason.into() + &node.origin()))
}

/// A failure at a place.
pub(super) fn fail_at<T>(at: Place, reason: impl Into<String>) -> Read<T> {
    Err((Some(at), reason.into()))
}

pub(super) fn parse(text: &str) -> Read<Node> {
    // YAML 1.2, as Compose reads it: `y` and `on` are texts. Real files use one anchor often, which the parser takes for
    // an attack; what bounds an attack here is the number of events.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough,
        budget: serde_saphyr::budget! {
            enforce_alias_anchor_ratio: false,
            max_depth: MAX_DEPTH,
            max_events: MAX_EVENTS,
            max_total_scalar_bytes: MAX_TEXT,
        },
    };
    let tree: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|e| (e.location().as_ref().map(place), reason(&e)))?;
    node(tree, text, (1, 1))
}

fn place(at: &Location) -> Place {
    (at.line(), at.column())
}

/// What is wrong, in the words of this program: the parser's speak to those who program with it.
fn reason(error: &Error) -> String {
    let too_large =
        format!("the file is too large or its aliases repeat too much: {MAX_EVENTS} values at most");
    match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("duplicate key {}", quote(key)),
        Error::DuplicateMappingKey { .. } => "duplicate key".into(),
        Error::MultipleDocuments { .. } => "a Compose file is one document: a second one begins here".into(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "the alias is within what it stands for".into(),
        Error::UnknownAnchor { .. } => "the alias has no anchor".into(),
        Error::MergeValueNotMapOrSeqOfMaps { .. } => "`<<` takes a mapping, or a list of mappings".into(),
        Error::InvalidScalar { .. } | Error::InvalidBinaryBase64 { .. } | Error::BinaryNotUtf8 { .. } => {
            "the value does not fit its tag".into()
        }
        Error::Budget { breach: serde_saphyr::budget::BudgetBreach::Depth { .. }, .. } => too_deep(),
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => too_large,
        Error::AliasError { error, .. } => reason(error),
        Error::Message { msg, .. } | Error::ExternalMessage { msg, .. } => {
            if msg.contains("recursion limit") { too_deep() } else { format!("not YAML: {msg}") }
        }
        Error::Eof { .. } => "not YAML: the file ends too early".into(),
        _ => "not YAML that can be read".into(),
    }
}

fn too_deep() -> String {
    format!("nested too deeply: {MAX_DEPTH} levels at most")
}

/// A value as the parser gives it.
enum Raw {
    Null,
    Text(String),
    /// A boolean or number, with the spelling lost.
    Plain(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<Self>, Spanned<Self>)>),
}

/// The node of a value; `owner` is where its key stands.
fn node(raw: Spanned<Raw>, source: &str, owner: Place) -> Read<Node> {
    let at = place(&raw.defined);
    let value = match raw.value {
        // Nothing has no place of its own.
        Raw::Null => return Ok(Node { at: owner, value: Yaml::Null, variables: Vec::new() }),
        Raw::Text(text) => Yaml::Scalar(text),
        Raw::Plain(text) => Yaml::Scalar(written(&raw.defined, source).map_or(text, str::to_owned)),
        Raw::List(items) => {
            Yaml::List(items.into_iter().map(|item| node(item, source, at)).collect::<Read<_>>()?)
        }
        Raw::Map(entries) => Yaml::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let key = node(key, source, at)?;
                    let Yaml::Scalar(name) = key.value else {
                        return fail(&key, format!("a key must be a text, not {}", key.value.kind()));
                    };
                    Ok(Entry { key: name, at: key.at, node: node(value, source, key.at)? })
                })
                .collect::<Read<_>>()?,
        ),
    };
    Ok(Node { at, value, variables: Vec::new() })
}

/// How a plain scalar is written: `1.10` is not `1.1` to Compose.
fn written<'s>(at: &Location, source: &'s str) -> Option<&'s str> {
    let start = usize::try_from(at.span().byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(at.span().byte_len()?).ok()?)?;
    source.get(start..end).filter(|text| !text.is_empty() && !text.starts_with(['"', '\'', '|', '>']))
}

struct Build;

impl<'de> Visitor<'de> for Build {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Raw, D::Error> {
        Raw::deserialize(inner)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Build)
    }
}
