//! Variables in values, by Compose's rules (<https://docs.docker.com/reference/compose-file/interpolation/>).

use std::collections::BTreeMap;

/// A value with its variables replaced, and the names of those that were not set and had no default.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interpolated {
    pub(super) text: String,
    pub(super) unset: Vec<String>,
}

/// Replaces `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?error}`, `${NAME?error}`,
/// `${NAME:+other}`, `${NAME+other}` and `$$`; defaults may hold variables again.
pub(super) fn interpolate(text: &str, env: &BTreeMap<String, String>) -> Result<Interpolated, String> {
    let mut out = Interpolated { text: String::new(), unset: Vec::new() };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.text.push_str(before);
        rest = if let Some(literal) = after.strip_prefix('$') {
            out.text.push('$');
            literal
        } else if let Some(inner) = after.strip_prefix('{') {
            let end = closing(inner).ok_or_else(|| format!("{text:?} has \"${{\" without \"}}\""))?;
            let (body, rest) = inner.split_at(end);
            braced(body, env, &mut out)?;
            rest.strip_prefix('}').unwrap_or(rest)
        } else {
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
            let (name, rest) = after.split_at(end);
            if name.is_empty() {
                out.text.push('$');
            } else {
                lookup(name, env, &mut out);
            }
            rest
        };
    }
    out.text.push_str(rest);
    Ok(out)
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

fn lookup(name: &str, env: &BTreeMap<String, String>, out: &mut Interpolated) {
    match env.get(name) {
        Some(value) => out.text.push_str(value),
        None => out.unset.push(name.to_owned()),
    }
}

fn braced(body: &str, env: &BTreeMap<String, String>, out: &mut Interpolated) -> Result<(), String> {
    let end = body.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(body.len());
    let (name, operator) = body.split_at(end);
    if name.is_empty() {
        return Err(format!("${{{body}}} names no variable"));
    }
    // With a colon an empty value counts as not set.
    let (colon, operator) = match operator.strip_prefix(':') {
        Some(operator) => (true, operator),
        None => (false, operator),
    };
    let value = env.get(name).filter(|value| !colon || !value.is_empty());
    let mut chars = operator.chars();
    match (chars.next(), value) {
        (None, _) if !colon => lookup(name, env, out),
        (Some('-' | '?'), Some(value)) => out.text.push_str(value),
        (Some('-'), None) | (Some('+'), Some(_)) => {
            let nested = interpolate(chars.as_str(), env)?;
            out.text.push_str(&nested.text);
            out.unset.extend(nested.unset);
        }
        (Some('+'), None) => {}
        (Some('?'), None) => return Err(format!("variable {name} is required: {}", chars.as_str())),
        _ => return Err(format!("${{{body}}} is no form of interpolation")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, String> {
        let env = [("A", "1"), ("E", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        interpolate(text, &env.into()).map(|done| done.text)
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
        assert!(of("${A").unwrap_err().contains("without"));
        assert!(of("${}").is_err() && of("${A!b}").is_err() && of("${A:}").is_err());
        let unset = interpolate("$X ${Y} ${Z:-}", &BTreeMap::new()).unwrap().unset;
        assert_eq!(unset, ["X", "Y"]);
    }
}
