//! OTLP in JSON: as the vendor's own schema reads it, and that the suite of exporters holds.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use hivemind_core::{TraceContext, block_on};
use hivemind_observe::OtlpLines;
use hivemind_observe::conformance::span_exporter::{Fixture, run_all};
use serde_json::Value;

/// Bytes that others see.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// The spans of lines, by their ids alone.
fn spans_of(text: &str) -> Vec<TraceContext> {
    let requests = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let spans = requests.flat_map(|request| {
        request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
    });
    let id = |span: &Value, name: &str| span[name].as_str().unwrap().to_owned();
    let flags = |span: &Value| span["flags"].as_u64().unwrap();
    spans
        .map(|span| {
            let ids = (id(&span, "traceId"), id(&span, "spanId"));
            format!("00-{}-{}-{:02x}", ids.0, ids.1, flags(&span)).parse().unwrap()
        })
        .collect()
}

#[test]
fn lines_pass_the_suite() {
    let report = block_on(run_all(|| {
        let out = Shared::default();
        let lines = OtlpLines::new(out.clone()).unwrap();
        Fixture::new(Arc::new(lines), move || spans_of(&out.text()))
    }));
    report.assert_passed();
    assert_eq!(report.passed.len(), 4);
}

/// Reads lines by the protobuf classes that OpenTelemetry publishes, which refuse what the schema does not know, and
/// prints what they found.
const READER: &str = r#"
import sys
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
import base64, json
def ids(node):
    # OTLP's JSON has ids in hexadecimal digits, where protobuf's has base64.
    if isinstance(node, dict):
        return {k: base64.b64encode(bytes.fromhex(v)).decode() if k in ("traceId", "spanId", "parentSpanId") else ids(v)
                for k, v in node.items()}
    return [ids(one) for one in node] if isinstance(node, list) else node
for line in sys.stdin:
    request = json_format.ParseDict(ids(json.loads(line)), ExportTraceServiceRequest())
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                values = {a.key: a.value.WhichOneof("value") for a in span.attributes}
                print(span.trace_id.hex(), span.span_id.hex(), span.kind, span.status.code,
                      span.end_time_unix_nano >= span.start_time_unix_nano > 0 or "epoch",
                      len(span.events), len(span.links), ",".join(f"{v}" for v in values.values()))
"#;

#[test]
fn the_published_schema_reads_what_is_written() {
    let python = Command::new("python3")
        .args(["-c", "import opentelemetry.proto.collector.trace.v1.trace_service_pb2"])
        .output();
    if !python.is_ok_and(|run| run.status.success()) {
        let why = "OTLP is not read by its published schema: pip install opentelemetry-proto";
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("SKIPPED: {why}");
        return;
    }
    let out = Shared::default();
    let report = block_on(run_all(|| {
        let (lines, text) = (OtlpLines::new(out.clone()).unwrap(), out.clone());
        Fixture::new(Arc::new(lines), move || spans_of(&text.text()))
    }));
    // The cases share what is written here, so those that count spans may fail.
    assert!(!report.passed.is_empty());
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("spans.otlp.jsonl");
    fs::write(&file, out.text()).unwrap();
    let output =
        Command::new("python3").args(["-c", READER]).stdin(File::open(file).unwrap()).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the schema refuses it: {complaint}");
    let read = String::from_utf8(output.stdout).unwrap();
    let ours = spans_of(&out.text());
    assert_eq!(read.lines().count(), ours.len());
    for (line, span) in read.lines().zip(&ours) {
        let ids = format!("{:032x} {:016x} ", span.trace_id(), span.parent_id());
        assert!(line.starts_with(&ids), "{line}");
    }
    let odd =
        |kind: u8| format!(" {kind} 2 epoch 1 1 string_value,double_value,array_value,int_value,array_value");
    for kind in 1..=5 {
        assert!(read.lines().any(|line| line.contains(&odd(kind))), "{kind}: {read}");
    }
}
