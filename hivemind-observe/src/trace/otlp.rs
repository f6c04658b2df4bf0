//! OTLP in JSON, as collectors and Jaeger read it
//! (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>). No I/O, no clock, no async.

use hivemind_core::{Timestamp, TraceState};
use serde_json::{Map, Value as Json, json};

use super::{Attributes, SpanContext, SpanData, SpanKind, SpanStatus, Value};

/// The attribute that names the tenant. One of that name that a span has itself is left out: nobody can pretend to be
/// another.
const TENANT: &str = "hivemind.tenant";

/// An `ExportTraceServiceRequest` on one line, without its end.
///
/// ```
/// use hivemind_observe::trace::{Attributes, otlp_json};
///
/// let process = Attributes::new().with("service.name", "api");
/// let request: serde_json::Value = serde_json::from_str(&otlp_json(&process, &[]))?;
/// let attribute = &request["resourceSpans"][0]["resource"]["attributes"][0];
/// assert_eq!(attribute["value"]["stringValue"], "api");
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn otlp_json(resource: &Attributes, spans: &[SpanData]) -> String {
    let scope = json!({ "name": "hivemind", "version": env!("CARGO_PKG_VERSION") });
    let spans: Vec<_> = spans.iter().map(span).collect();
    let resource = json!({ "attributes": attributes(resource) });
    let all = json!({ "resource": resource, "scopeSpans": [{ "scope": scope, "spans": spans }] });
    json!({ "resourceSpans": [all] }).to_string()
}

fn span(data: &SpanData) -> Json {
    let mut said: Vec<_> = data.attributes.iter().filter(|(name, _)| *name != TENANT).map(pair).collect();
    said.extend(data.tenant.as_ref().map(|tenant| pair((TENANT, &tenant.to_string().into()))));
    let mut all = ids(&data.span);
    if let Some(parent) = data.parent {
        all.insert("parentSpanId".to_owned(), format!("{parent:016x}").into());
    }
    let rest = json!({
        "name": data.name,
        "kind": kind(data.kind),
        "startTimeUnixNano": nanos(data.start),
        "endTimeUnixNano": nanos(data.end),
        "attributes": said,
        "droppedAttributesCount": data.left_out.attributes,
        "events": data.events.iter().map(|event| json!({
            "timeUnixNano": nanos(event.at),
            "name": event.name,
            "attributes": attributes(&event.attributes),
        })).collect::<Vec<_>>(),
        "droppedEventsCount": data.left_out.events,
        "links": data.links.iter().map(|link| {
            let mut all = ids(&link.span);
            all.insert("attributes".to_owned(), attributes(&link.attributes));
            Json::Object(all)
        }).collect::<Vec<_>>(),
        "droppedLinksCount": data.left_out.links,
        "status": status(&data.status),
    });
    if let Json::Object(rest) = rest {
        all.extend(rest);
    }
    Json::Object(all)
}

fn ids(span: &SpanContext) -> Map<String, Json> {
    let flags = u32::from(span.trace.sampled()) | (u32::from(span.trace.random()) << 1);
    let mut all = Map::new();
    all.insert("traceId".to_owned(), format!("{:032x}", span.trace.trace_id()).into());
    all.insert("spanId".to_owned(), format!("{:016x}", span.trace.parent_id()).into());
    all.insert("flags".to_owned(), flags.into());
    if span.state != TraceState::default() {
        all.insert("traceState".to_owned(), span.state.to_string().into());
    }
    all
}

/// 64-bit numbers are texts in protobuf's JSON.
fn nanos(at: Timestamp) -> String {
    at.as_nanos().to_string()
}

fn kind(kind: SpanKind) -> u8 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn status(status: &SpanStatus) -> Json {
    match status {
        SpanStatus::Unset => json!({}),
        SpanStatus::Ok => json!({ "code": 1 }),
        SpanStatus::Error(why) => json!({ "code": 2, "message": why }),
    }
}

fn attributes(all: &Attributes) -> Json {
    all.iter().map(pair).collect()
}

fn pair((name, value): (&str, &Value)) -> Json {
    json!({ "key": name, "value": any_value(value) })
}

fn any_value(value: &Value) -> Json {
    match value {
        Value::Bool(value) => json!({ "boolValue": value }),
        Value::Int(value) => json!({ "intValue": value.to_string() }),
        Value::Float(value) => json!({ "doubleValue": double(*value) }),
        Value::Text(text) => json!({ "stringValue": text }),
        Value::List(values) => {
            json!({ "arrayValue": { "values": values.iter().map(any_value).collect::<Vec<_>>() } })
        }
    }
}

/// JSON has no such numbers; protobuf's JSON has words for them.
fn double(value: f64) -> Json {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        value.into()
    }
}
