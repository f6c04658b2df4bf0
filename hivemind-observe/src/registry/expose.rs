//! Prometheus' text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::SeriesLabels;
use super::cell::Cell;

/// Writing to a `String` cannot fail, so results are dropped here.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{ let _ = write!($out, $($arg)*); }};
}

pub(super) fn family(out: &mut String, name: &str, help: &str, series: &BTreeMap<SeriesLabels, Cell>) {
    let Some(first) = series.values().next() else { return };
    put!(out, "# HELP {name} ");
    escape(out, help, false);
    put!(out, "\n# TYPE {name} {}\n", first.kind());
    for (labels, cell) in series {
        match cell {
            Cell::Counter(cell) => line(out, name, "", labels, None, cell.value()),
            Cell::Gauge(cell) => line(out, name, "", labels, None, Float(cell.value())),
            Cell::Histogram(cell) => {
                let (buckets, count, sum) = cell.buckets();
                for (bound, below) in buckets {
                    line(out, name, "_bucket", labels, Some(Float(bound)), below);
                }
                line(out, name, "_bucket", labels, Some(Float(f64::INFINITY)), count);
                line(out, name, "_sum", labels, None, Float(sum));
                line(out, name, "_count", labels, None, count);
            }
        }
    }
}

fn line(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &SeriesLabels,
    le: Option<Float>,
    value: impl std::fmt::Display,
) {
    put!(out, "{name}{suffix}");
    let mut open = '{';
    for (label, text) in labels {
        put!(out, "{open}{label}=\"");
        escape(out, text, true);
        out.push('"');
        open = ',';
    }
    if let Some(bound) = le {
        put!(out, "{open}le=\"{bound}\"");
        open = ',';
    }
    if open == ',' {
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

impl std::fmt::Display for Float {
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
