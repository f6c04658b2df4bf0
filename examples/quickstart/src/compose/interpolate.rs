//! Variables in values, by Compose's rules (<https://docs.docker.com/reference/compose-file/interpolation/>).

use std::collections::BTreeMap;

use super::text::{brief, quote};
use super::yaml::{Node, Read, Yaml, fail};

/// How deep defaults may be within defaults.
const MAX_DEPTH: usize = 32;
/// The most text, in bytes, that the values of one file may become.
pub(super) const MAX_TEXT: usize = 16 << 20;

/// Replaces variables.
#[derive(Debug)]
pub(super) struct Interpolation<'a> {
    env: &'a BTreeMap<String, String>,
    /// How many bytes may still be written.
    pub(super) left: usize,
}

/// A text with its variables replaced, and which those were.
#[derive(Debug, Default)]
pub(super) struct Interpolated {
    pub(super) text: String,
    /// Their names, and whether they are set or have a default.
    pub(super) variables: Vec<(String, bool)>,
}

impl<'a> Interpolation<'a> {
    /// Takes variables from `env`, and writes at most `left` bytes.
    pub(super) fn new(env: &'a BTreeMap<String, String>, left: usize) -> Self {
        Self { env, left }
    }

    /// Replaces the variables in every value of a tree. Keys have none.
    pub(super) fn fill(&mut self, node: &mut Node) -> Read<()> {
        match &mut node.value {
            Yaml::Scalar(text) if text.contains('$') => match self.replace(text) {
                Ok(done) => (*text, node.variables) = (done.text, done.variables),
                Err(reason) => return fail(node, reason),
            },
            Yaml::List(items) => items.iter_mut().try_for_each(|item| self.fill(item))?,
            Yaml::Map(entries) => entries.iter_mut().try_for_each(|entry| self.fill(&mut entry.node))?,
            _ => {}
        }
        Ok(())
    }

    /// Replaces `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?error}`, `${NAME?error}`,
    /// `${NAME:+other}`, `${NAME+other}` and `$$`; defaults may hold variables again.
    pub(super) fn replace(&mut self, text: &str) -> Result<Interpolated, String> {
        let mut out = Interpolated::default();
        self.expand(text, MAX_DEPTH, &mut out)?;
        Ok(out)
    }

    fn expand(&mut self, text: &str, depth: usize, out: &mut Interpolated) -> Result<(), String> {
        if depth == 0 {
            return Err(format!("variables are nested too deeply: {MAX_DEPTH} levels at most"));
        }
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            self.push(before, out)?;
            rest = if let Some(literal) = after.strip_prefix('$') {
                self.push("$", out)?;
                literal
            } else if let Some(inner) = after.strip_prefix('{') {
                let end =
                    closing(inner).ok_or_else(|| format!("{} has \"${{\" without \"}}\"", quote(text)))?;
                let (body, rest) = inner.split_at(end);
                self.braced(body, depth, out)?;
                rest.strip_prefix('}').unwrap_or(rest)
            } else {
                let (name, rest) = after.split_at(name_end(after));
                if name.is_empty() {
                    self.push("$", out)?;
                } else {
                    self.lookup(name, out)?;
                }
                rest
            };
        }
        self.push(rest, out)
    }

    fn push(&mut self, text: &str, out: &mut Interpolated) -> Result<(), String> {
        let Some(left) = self.left.checked_sub(text.len()) else {
            return Err(format!("with its variables replaced the file is larger than {MAX_TEXT} bytes"));
        };
        self.left = left;
        out.text.push_str(text);
        Ok(())
    }

    fn lookup(&mut self, name: &str, out: &mut Interpolated) -> Result<(), String> {
        let value = self.env.get(name);
        out.variables.push((name.to_owned(), value.is_some()));
        value.map_or(Ok(()), |value| self.push(value, out))
    }

    fn braced(&mut self, body: &str, depth: usize, out: &mut Interpolated) -> Result<(), String> {
        let (name, operator) = body.split_at(name_end(body));
        if name.is_empty() {
            return Err(format!("${{{}}} names no variable", brief(body)));
        }
        // With a colon an empty value counts as not set.
        let (colon, operator) = match operator.strip_prefix(':') {
            Some(operator) => (true, operator),
            None => (false, operator),
        };
        let value = self.env.get(name).filter(|value| !colon || !value.is_empty());
        let mut chars = operator.chars();
        match (chars.next(), value) {
            (None, _) if !colon => self.lookup(name, out)?,
            (Some('-' | '?'), Some(_)) => self.lookup(name, out)?,
            (Some('-'), None) | (Some('+'), Some(_)) => {
                out.variables.push((name.to_owned(), true));
                self.expand(chars.as_str(), depth - 1, out)?;
            }
            (Some('+'), None) => {}
            (Some('?'), None) => {
                let why = chars.as_str();
                let why = if why.is_empty() { String::new() } else { format!(": {}", brief(why)) };
                return Err(format!("variable {} is required{why}", brief(name)));
            }
            _ => return Err(format!("${{{}}} is no form of interpolation", brief(body))),
        }
        Ok(())
    }
}

/// Where the name of a variable ends that `text` begins with.
fn name_end(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// Where the brace closes that was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, String> {
        let env = [("A", "1"), ("E", "")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Interpolation::new(&env, MAX_TEXT).replace(text).map(|done| done.text)
    }

    #[test]
    fn replaces_by_every_rule() {
        for (text, expected) in [
            ("no variables", "no variables"),
            ("$A-${A}", "1-1"),
            ("$$A $", "$A $"),
            ("${X:-d} ${X-d} ${E:-d} ${E-d}", "d d d "),
            ("${A:+o} ${X:+o} ${E+o} ${E:+o}", "o  o "),
            ("${X:-${Y:-$A}}z", "1z"),
            ("${A:?no} ${X}", "1 "),
        ] {
            assert_eq!(of(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_and_says_why() {
        assert_eq!(of("${X:?set it}").unwrap_err(), "variable X is required: set it");
        assert_eq!(of("${X?}").unwrap_err(), "variable X is required");
        assert!(of("${A").unwrap_err().contains("without"));
        assert!(of("${}").is_err() && of("${A!b}").is_err() && of("${A:}").is_err());
        let variables =
            Interpolation::new(&BTreeMap::new(), MAX_TEXT).replace("$X ${Z:-}").unwrap().variables;
        assert_eq!(variables, [("X".to_owned(), false), ("Z".to_owned(), true)]);
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |levels: usize| "${X:-".repeat(levels) + &"}".repeat(levels);
        assert_eq!(of(&nested(31)).unwrap(), "");
        assert!(of(&nested(60_000)).unwrap_err().contains("nested too deeply"));
        let env = BTreeMap::from([("A".to_owned(), "a".repeat(1 << 20))]);
        assert!(
            Interpolation::new(&env, MAX_TEXT).replace(&"$A".repeat(17)).unwrap_err().contains("larger than")
        );
    }
}
