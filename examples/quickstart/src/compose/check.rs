//! A tree against the specification: wrong kinds are errors, keys that are not used are reported.

use std::collections::BTreeSet;

use super::model::Warning;
use super::schema::{Row, Shape, Use};
use super::text::{brief, printable, quote};
use super::yaml::{Entry, Node, Place, Read, Yaml, fail};

/// What is reported of a file.
#[derive(Debug)]
pub(super) struct Report {
    file: String,
    warnings: Vec<Warning>,
    unset: BTreeSet<String>,
    /// Nothing is reported of what is not deployed.
    pub(super) muted: bool,
}

impl Report {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), warnings: Vec::new(), unset: BTreeSet::new(), muted: false }
    }

    pub(super) fn warn(&mut self, at: Place, message: impl AsRef<str>) {
        if !self.muted {
            let (file, message) = (self.file.clone(), printable(message.as_ref()));
            self.warnings.push(Warning { file, line: at.0, message });
        }
    }

    /// Everything, in the order of the file.
    pub(super) fn into_warnings(mut self) -> Vec<Warning> {
        self.warnings.sort_by_key(|warning| warning.line);
        self.warnings
    }

    /// Checks `node`, which messages call `what`, against `shape`.
    pub(super) fn check(&mut self, node: &Node, shape: &Shape, what: &str) -> Read<()> {
        self.walk(node, shape, what, true)
    }

    /// Below a key that is not used, only what the specification does not know is reported.
    fn walk(&mut self, node: &Node, shape: &Shape, what: &str, used: bool) -> Read<()> {
        match (shape, &node.value) {
            (Shape::Later, _) | (_, Yaml::Null) => Ok(()),
            (Shape::Or(shapes), value) => match shapes.iter().find(|shape| fits(shape, value)) {
                Some(shape) => self.walk(node, shape, what, used),
                None => wrong(node, shape, what),
            },
            (_, value) if !fits(shape, value) => wrong(node, shape, what),
            (_, Yaml::Scalar(text)) => {
                self.unset(node);
                // What an unset variable leaves empty is reported as such.
                if permits(shape, text) || text.is_empty() && node.has_unset() {
                    return Ok(());
                }
                fail(node, format!("{what} must be {}, not {}", expected(shape), quote(text)))
            }
            (_, Yaml::List(items)) => {
                let inner = if let Shape::List(inner) = shape { inner } else { &Shape::Text };
                let what = format!("an item of {what}");
                items.iter().try_for_each(|item| match item.value {
                    Yaml::Null => wrong(item, inner, &what),
                    _ => self.walk(item, inner, &what, used),
                })
            }
            (Shape::Keys(rows), Yaml::Map(entries)) => {
                entries.iter().try_for_each(|entry| self.key(entry, rows, what, used))
            }
            (_, Yaml::Map(entries)) => {
                let inner = if let Shape::Each(inner) = shape { inner } else { &Shape::Text };
                entries.iter().try_for_each(|entry| {
                    self.walk(&entry.node, inner, &format!("{} in {what}", brief(&entry.key)), used)
                })
            }
        }
    }

    /// A key of the specification, or none.
    fn key(&mut self, entry: &Entry, rows: &[Row], of: &str, used: bool) -> Read<()> {
        if entry.key.starts_with("x-") {
            return Ok(());
        }
        let mut what = format!("`{}`", brief(&entry.key));
        if !of.is_empty() {
            what = format!("{what} of {of}");
        }
        let Some(row) = rows.iter().find(|row| row.keys.split(' ').any(|key| key == entry.key)) else {
            self.warn(entry.at, format!("{what} is no key of the Compose specification"));
            return Ok(());
        };
        if used && row.use_ == Use::Unused {
            self.warn(entry.at, format!("{what} is not used here"));
        }
        self.walk(&entry.node, &row.shape, &what, used && row.use_ == Use::Used)
    }

    /// Reports variables that are not set, each once.
    fn unset(&mut self, node: &Node) {
        for (name, set) in &node.variables {
            if !set && !self.muted && self.unset.insert(name.clone()) {
                self.warn(node.at, format!("variable {} is not set: empty is used", brief(name)));
            }
        }
    }
}

fn wrong(node: &Node, shape: &Shape, what: &str) -> Read<()> {
    let what = if what.is_empty() { "the file" } else { what };
    fail(node, format!("{what} must be {}, not {}", expected(shape), node.value.kind()))
}

fn fits(shape: &Shape, value: &Yaml) -> bool {
    match shape {
        Shape::Text | Shape::Flag | Shape::Number | Shape::Word(_) => matches!(value, Yaml::Scalar(_)),
        Shape::List(_) => matches!(value, Yaml::List(_)),
        Shape::Each(_) | Shape::Keys(_) => matches!(value, Yaml::Map(_)),
        Shape::Pairs => matches!(value, Yaml::List(_) | Yaml::Map(_)),
        Shape::Or(shapes) => shapes.iter().any(|shape| fits(shape, value)),
        Shape::Later => true,
    }
}

fn permits(shape: &Shape, text: &str) -> bool {
    match shape {
        Shape::Flag => flag(text).is_some(),
        Shape::Number => text.parse::<f64>().is_ok_and(f64::is_finite),
        Shape::Word(words) => words.contains(&text),
        _ => true,
    }
}

/// Yes or no, in the words that Compose takes.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "y" | "yes" | "on" => Some(true),
        "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Text => "a text".into(),
        Shape::Flag => "true or false".into(),
        Shape::Number => "a number".into(),
        Shape::Word(words) => format!("one of {}", words.join(", ")),
        Shape::List(_) => "a list".into(),
        Shape::Each(_) | Shape::Keys(_) => "a mapping".into(),
        Shape::Pairs => "a mapping or a list".into(),
        Shape::Or(shapes) => shapes.iter().map(expected).collect::<Vec<_>>().join(" or "),
        Shape::Later => "anything".into(),
    }
}
