//! Prometheus' text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use super::cell::Cell;
use super::families::Family;

/// Writing to a `String` cannot fail, so results are dropped here.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{ let _ = write!($out, $($arg)*); }};
}

pub(super) fn family(out: &mut String, name: &str, family: &Family) {
    let Some(first) = family.series.values().next() else { return };
    put!(out, "# HELP {name} ");
    escape(out, &family.help, false);
    put!(out, "\n# TYPE {name} {}\n", first.cell.kind());
    for series in family.series.values() {
        let labels = &*series.text;
        match &series.cell {
            Cell::Counter(cell) => line(out, [name, ""], labels, "", cell.value()),
            Cell::Gauge(cell) => line(out, [name, ""], labels, "", Float(cell.value())),
            Cell::Histogram(cell) => {
                let (buckets, count, sum) = cell.buckets();
                for (bound, below) in buckets {
                    line(out, [name, "_bucket"], labels, &format!("le=\"{}\"", Float(bound)), below);
                }
                line(out, [name, "_bucket"], labels, "le=\"+Inf\"", count);
                line(out, [name, "_sum"], labels, "", Float(sum));
                line(out, [name, "_count"], labels, "", count);
            }
        }
    }
}

/// The labels of a series without braces, as every line of it has them.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    for (label, text) in labels {
        let comma = if out.is_empty() { "" } else { "," };
        put!(out, "{comma}{label}=\"");
        escape(&mut out, text, true);
        out.push('"');
    }
    out
}

fn line(out: &mut String, name: [&str; 2], labels: &str, le: &str, value: impl Display) {
    name.into_iter().for_each(|part| out.push_str(part));
    if !labels.is_empty() || !le.is_empty() {
        out.push('{');
        out.push_str(labels);
        if !labels.is_empty() && !le.is_empty() {
            out.push(',');
        }
        out.push_str(le);
        out.push('}');
    }
    put!(out, " {value}\n");
}

/// Help escapes backslash and line feed; a label's value escapes the double quote too.
fn escape(out: &mut String, text: &str, quoted: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

/// A float as Go's `strconv.ParseFloat`, which Prometheus reads with, takes it.
struct Float(f64);

impl Display for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_nan() {
            f.write_str("NaN")
        } else if self.0.is_infinite() {
            f.write_str(if self.0 > 0.0 { "+Inf" } else { "-Inf" })
        } else {
            write!(f, "{}", self.0)
        }
    }
}
