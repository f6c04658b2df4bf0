//! Text of a file in messages: short, and without anything that a terminal would obey.

/// The most characters of a file's text that a message repeats.
const MOST: usize = 60;

/// At most [`MOST`] characters.
pub(super) fn brief(text: &str) -> String {
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The text in quotes, escaped and brief.
pub(super) fn quote(text: &str) -> String {
    format!("{:?}", brief(text))
}

/// The text with control characters, and those that turn the direction of writing, escaped.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                out.extend(c.escape_unicode());
            }
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        assert_eq!(printable("a\u{1b}[31m\nb\u{202e}ü"), "a\\u{1b}[31m\\nb\\u{202e}ü");
        assert_eq!(quote("\u{1b}\""), "\"\\u{1b}\\\"\"");
        assert_eq!(brief(&"ü".repeat(61)), format!("{}...", "ü".repeat(60)));
    }
}
