//! Tells people what happens: sections, tables, progress; colour only where it is welcome.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Somebody to tell the story to.
pub trait Narrator {
    /// A new part begins.
    fn section(&mut self, title: &str);
    /// One line.
    fn line(&mut self, text: &str);
    /// A table whose first row is its head.
    fn table(&mut self, rows: &[Vec<String>]);
    /// A step that may take long has come so far.
    fn progress(&mut self, what: &str, done: usize, total: usize);
}

/// Tells nobody.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Narrator for Silent {
    fn section(&mut self, _: &str) {}
    fn line(&mut self, _: &str) {}
    fn table(&mut self, _: &[Vec<String>]) {}
    fn progress(&mut self, _: &str, _: usize, _: usize) {}
}

/// A terminal, or whatever standard output is.
#[derive(Debug)]
pub struct Terminal {
    sections: u32,
    started: Option<(Instant, Instant)>,
}

const BOLD: &str = "\x1b[1m";
const CYAN: &str = "\x1b[36m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Terminal {
    /// Standard output for the story, standard error for progress.
    pub fn new() -> Self {
        Self { sections: 0, started: None }
    }

    fn print(&self, text: &str) {
        // A reader that has gone away, as `| head` does, ends the telling and not the story.
        let _ = writeln!(anstream::stdout(), "{text}");
    }
}

impl Narrator for Terminal {
    fn section(&mut self, title: &str) {
        self.sections += 1;
        self.print(&format!("\n{BOLD}{CYAN}{}. {title}{RESET}", self.sections));
    }

    fn line(&mut self, text: &str) {
        self.print(&format!("   {text}"));
    }

    fn table(&mut self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
        let widths: Vec<_> = (0..columns)
            .map(|column| {
                rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
            })
            .collect();
        // Numbers are read from the right, and so is what stands above and below them.
        let digits = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit());
        let numeric: Vec<_> = (0..columns)
            .map(|column| rows.iter().skip(1).filter_map(|row| row.get(column)).any(digits))
            .collect();
        for (number, row) in rows.iter().enumerate() {
            let mut text = String::from("   ");
            for ((cell, width), numeric) in row.iter().zip(&widths).zip(&numeric) {
                let width = width.unwrap_or_default();
                let padded = if *numeric { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
                text.push_str(&padded);
            }
            let text = text.trim_end();
            self.print(&if number == 0 { format!("{DIM}{text}{RESET}") } else { text.to_owned() });
        }
    }

    #[allow(clippy::disallowed_methods, reason = "how long people have been waiting is real time")]
    fn progress(&mut self, what: &str, done: usize, total: usize) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let now = Instant::now();
        let (started, told) = *self.started.get_or_insert((now, now));
        let over = done >= total;
        if over {
            self.started = None;
            if now - started > Duration::from_secs(1) {
                let _ = write!(anstream::stderr(), "\r\x1b[K");
            }
        } else if now - started > Duration::from_secs(1) && now - told > Duration::from_millis(100) {
            self.started = Some((started, now));
            let _ = write!(anstream::stderr(), "\r   {what}: {done} of {total}");
        }
    }
}
