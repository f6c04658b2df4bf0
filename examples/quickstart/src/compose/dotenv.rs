//! The file `.env` beside a Compose file: variables for those that the process does not have.

use std::collections::BTreeMap;

use super::interpolate::{Interpolation, MAX_TEXT};
use super::text::{brief, quote};
use super::yaml::{Read, fail_at};

/// The variables of `text` and those of `env`, which win.
pub(super) fn parse(text: &str, env: &BTreeMap<String, String>) -> Read<BTreeMap<String, String>> {
    let mut all = env.clone();
    let (mut rest, mut line, mut left) = (text.strip_prefix('\u{feff}').unwrap_or(text), 1, MAX_TEXT);
    while !rest.is_empty() {
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let entry = first.trim();
        let entry = entry.strip_prefix("export ").unwrap_or(entry).trim_start();
        if entry.is_empty() || entry.starts_with('#') {
            (rest, line) = (after, line + 1);
            continue;
        }
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        let name = name.trim_end();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
            return fail_at((line, 1), format!("{} is no name of a variable", quote(name)));
        }
        // A quoted value may go on over several lines, so it is taken from all that follows.
        let (template, after) = match value.trim_start().chars().next() {
            Some(mark @ ('"' | '\'')) => {
                let following = rest.split_once(mark).map_or("", |(_, following)| following);
                let Some((inside, after)) = quoted(following, mark) else {
                    return fail_at((line, 1), format!("the value of {} has no closing {mark}", brief(name)));
                };
                (inside, after.split_once('\n').map_or("", |(_, after)| after))
            }
            _ => (plain(value), after),
        };
        let mut variables = Interpolation::new(&all, left);
        let value = variables
            .replace(&template)
            .or_else(|reason| fail_at((line, 1), format!("the value of {}: {reason}", brief(name))))?;
        left = variables.left;
        // A name alone takes its value from the process, if that has one.
        if entry.contains('=') && !env.contains_key(name) {
            all.insert(name.to_owned(), value.text);
        }
        let read = rest.len() - after.len();
        line += rest.bytes().take(read).filter(|byte| *byte == b'\n').map(|_| 1).sum::<u64>();
        rest = after;
    }
    Ok(all)
}

/// A value without quotes: up to a comment.
fn plain(value: &str) -> String {
    let value = if value.trim_start().starts_with('#') { "" } else { value };
    let end = value.find(" #").or_else(|| value.find("\t#")).unwrap_or(value.len());
    value.get(..end).unwrap_or_default().trim().to_owned()
}

/// A value up to its closing quote, ready for interpolation, and what follows.
fn quoted(text: &str, mark: char) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            _ if c == mark => return Some((out, chars.as_str())),
            // Between single quotes everything is meant literally.
            '$' if mark == '\'' => out.push_str("$$"),
            '\\' if mark == '"' => match chars.next()? {
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                '$' => out.push_str("$$"),
                other => out.push(other),
            },
            _ => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_compose_reads() {
        let env =
            BTreeMap::from([("HOME".to_owned(), "/root".to_owned()), ("B".to_owned(), "won".to_owned())]);
        let text = "# comment\n\nexport A=1 # one\nB=lost\nC = ${A}-$HOME\nD='$A # x'\nE=\"a\\n$A\\$\" # y\n\
                    F='two\nlines'\nG=\nALONE\nURL=http://x/#y\nH=#none\n";
        let read = parse(text, &env).unwrap();
        for (name, value) in [
            ("A", "1"),
            ("B", "won"),
            ("C", "1-/root"),
            ("D", "$A # x"),
            ("E", "a\n1$"),
            ("F", "two\nlines"),
            ("G", ""),
            ("URL", "http://x/#y"),
            ("H", ""),
        ] {
            assert_eq!(read[name], value, "{name}");
        }
        assert!(!read.contains_key("ALONE"));
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_line() {
        for (text, line, says) in [
            ("A='1\n2'\nb c=1", 3, "\"b c\" is no name of a variable"),
            ("A=1\nB=\"x", 2, "the value of B has no closing \""),
            ("A=${B", 1, "the value of A: "),
        ] {
            let (at, reason) = parse(text, &BTreeMap::new()).unwrap_err();
            assert!(at == Some((line, 1)) && reason.contains(says), "{at:?} {reason}");
        }
    }
}
