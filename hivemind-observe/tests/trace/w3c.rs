//! The cases of the W3C's test suite for Trace Context, levels 1 and 2
//! (<https://github.com/w3c/trace-context/tree/main/test>), which asks a service over HTTP: what it receives, and whether what
//! it sends then is of the same trace and hands on the same members.

use std::sync::Arc;

use hivemind_core::{ManualClock, SeededIds, TraceContext, TraceState};
use hivemind_observe::trace::{Tracer, TracerOptions, extract_context, inject_context};

const ID: &str = "12345678901234567890123456789012";
const GOOD: &str = "00-12345678901234567890123456789012-1234567890123456-01";
const PARENT: u64 = 0x1234_5678_9012_3456;

/// What a service sends after it has received `headers`: the headers of `count` requests.
fn serve(headers: &[(&str, &str)], count: usize) -> Vec<Vec<(&'static str, String)>> {
    let tracer = Tracer::new(Arc::new(ManualClock::default()), &SeededIds::new(1), TracerOptions::default());
    let came = extract_context(headers.iter().copied());
    let server = tracer.host_span(came.span.as_ref(), "server");
    (0..count)
        .map(|_| {
            let client = tracer.host_span(Some(server.context()), "client");
            let mut sent = Vec::new();
            inject_context(client.context(), &came.baggage, |name, value| {
                sent.push((name, value.to_owned()))
            });
            sent
        })
        .collect()
}

fn sent(headers: &[(&str, &str)]) -> (TraceContext, TraceState) {
    let all = serve(headers, 1).remove(0);
    let of = |wanted: &'static str| {
        all.iter().filter(move |(name, _)| *name == wanted).map(|(_, value)| value.as_str())
    };
    assert_eq!(of("traceparent").count(), 1);
    (of("traceparent").next().unwrap().parse().unwrap(), TraceState::of_lines(of("tracestate")).unwrap())
}

fn goes_on(headers: &[(&str, &str)]) -> bool {
    let (trace, _) = sent(headers);
    let same = format!("{:032x}", trace.trace_id()) == ID;
    assert!(!same || trace.parent_id() != PARENT, "a new span has a new id");
    same
}

#[test]
fn a_trace_goes_on_if_its_parent_is_right() {
    for name in ["traceparent", "TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
        assert!(goes_on(&[(name, GOOD)]), "{name}");
    }
    for right in [
        " 00-12345678901234567890123456789012-1234567890123456-01",
        "\t00-12345678901234567890123456789012-1234567890123456-01",
        "00-12345678901234567890123456789012-1234567890123456-01 ",
        "00-12345678901234567890123456789012-1234567890123456-01\t",
        "\t 00-12345678901234567890123456789012-1234567890123456-01 \t",
        "cc-12345678901234567890123456789012-1234567890123456-01",
        "cc-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
    ] {
        assert!(goes_on(&[("traceparent", right)]), "{right:?}");
    }
}

#[test]
fn a_new_trace_begins_if_the_parent_is_wrong() {
    assert!(!goes_on(&[]));
    for name in ["trace-parent", "trace.parent"] {
        assert!(!goes_on(&[(name, GOOD)]), "{name}");
    }
    for wrong in [
        "00-12345678901234567890123456789012-1234567890123456-01.",
        "00-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
        "cc-12345678901234567890123456789012-1234567890123456-01.what-the-future-will-be-like",
        "ff-12345678901234567890123456789012-1234567890123456-01",
        ".0-12345678901234567890123456789012-1234567890123456-01",
        "0.-12345678901234567890123456789012-1234567890123456-01",
        "000-12345678901234567890123456789012-1234567890123456-01",
        "0000-12345678901234567890123456789012-1234567890123456-01",
        "0-12345678901234567890123456789012-1234567890123456-01",
        "00-00000000000000000000000000000000-1234567890123456-01",
        "00-.2345678901234567890123456789012-1234567890123456-01",
        "00-1234567890123456789012345678901.-1234567890123456-01",
        "00-123456789012345678901234567890123-1234567890123456-01",
        "00-1234567890123456789012345678901-1234567890123456-01",
        "00-12345678901234567890123456789012-0000000000000000-01",
        "00-12345678901234567890123456789012-.234567890123456-01",
        "00-12345678901234567890123456789012-123456789012345.-01",
        "00-12345678901234567890123456789012-12345678901234567-01",
        "00-12345678901234567890123456789012-123456789012345-01",
        "00-12345678901234567890123456789012-1234567890123456-.0",
        "00-12345678901234567890123456789012-1234567890123456-0.",
        "00-12345678901234567890123456789012-1234567890123456-001",
        "00-12345678901234567890123456789012-1234567890123456-1",
        "00-1234567890123456789012345678901A-1234567890123456-01",
        "+0-12345678901234567890123456789012-1234567890123456-01",
        "00-12345678901234567890123456789012-1234567890123456-01-",
    ] {
        let (trace, state) = sent(&[("traceparent", wrong), ("tracestate", "foo=1")]);
        let id = format!("{:032x}", trace.trace_id());
        assert!(!wrong.contains(&id) && id != ID, "{wrong:?}");
        assert!(state.is_empty() && trace.random(), "{wrong:?}");
    }
    let other = GOOD.replace("9012-", "9011-");
    assert!(!goes_on(&[("traceparent", &other), ("traceparent", GOOD)]));
}

#[test]
fn members_are_handed_on_in_their_order() {
    let state = |lines: &[&str]| {
        let parent = ("traceparent", GOOD);
        let headers: Vec<_> =
            [parent].into_iter().chain(lines.iter().map(|line| ("tracestate", *line))).collect();
        assert!(goes_on(&headers), "whatever the state is");
        sent(&headers).1.to_string()
    };
    let key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
    let value: String = (' '..='~').filter(|c| *c != ',' && *c != '=').collect();
    let all = [format!("{key}={value}"), format!("{key}@a-z0-9_-*/={value}")];
    let full: Vec<_> = (1..=32).map(|n| format!("bar{n:02}={n:02}")).collect();
    let long = format!("{}=1", "z".repeat(256));
    for (lines, handed_on) in [
        (&["foo=1,bar=2"][..], "foo=1,bar=2"),
        (&[""], ""),
        (&["foo=1", ""], "foo=1"),
        (&["", "foo=1"], "foo=1"),
        (&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3"),
        (&["foo=1,foo=1"], "foo=1"),
        (&["foo=1,foo=2"], "foo=1"),
        (&["foo=1", "foo=1"], "foo=1"),
        (&["foo=1", "foo=2"], "foo=1"),
        (&[&all[0]], &all[0]),
        (&[&all[1]], &all[1]),
        (&["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
        (&["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], "foo=1,bar=2,baz=3"),
        (&[" foo=1"], "foo=1"),
        (&["\tfoo=1"], "foo=1"),
        (&["foo=1 "], "foo=1"),
        (&["foo=1\t"], "foo=1"),
        (&["\t foo=1 \t"], "foo=1"),
        (&["foo =1"], ""),
        (&["FOO=1"], ""),
        (&["foo.bar=1"], ""),
        (&["foo@=1,bar=2"], "foo@=1,bar=2"),
        (&["@foo=1,bar=2"], ""),
        (&["foo@@bar=1,bar=2"], "foo@@bar=1,bar=2"),
        (&["foo@bar@baz=1,bar=2"], "foo@bar@baz=1,bar=2"),
        (&["foo=1", &long], &format!("foo=1,{long}")),
        (&["foo=1", &format!("z{long}")], ""),
        (&["foo=bar=baz"], ""),
        (&["foo=,bar=3"], ""),
        (&["foo=1\u{7f}"], ""),
        (&["foo=\u{fc}"], ""),
        (&["foo=a\tb"], ""),
        (&["foo"], ""),
    ] {
        assert_eq!(state(lines), handed_on, "{lines:?}");
    }
    assert_eq!(state(&[&full[..10].join(","), &full[10..].join(",")]), full.join(","));
    assert_eq!(state(&[&full.join(","), "bar33=33"]), "");
}

#[test]
fn members_without_a_parent_or_by_another_name_are_not() {
    assert!(sent(&[("tracestate", "foo=1")]).1.is_empty());
    for (name, handed_on) in
        [("TraceState", "foo=1"), ("TRACESTATE", "foo=1"), ("trace-state", ""), ("trace.state", "")]
    {
        assert_eq!(sent(&[("traceparent", GOOD), (name, "foo=1")]).1.to_string(), handed_on, "{name}");
    }
}

#[test]
fn flags_are_handed_on_and_what_is_unknown_is_cleared() {
    for (came, goes) in [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03"), ("fc", "00")] {
        let (trace, _) = sent(&[("traceparent", &GOOD.replace("-01", &format!("-{came}")))]);
        assert!(trace.to_string().ends_with(&format!("-{goes}")), "{came}: {trace}");
    }
}

#[test]
fn each_request_has_a_span_of_its_own() {
    let zero = GOOD.replace(ID, "00000000000000000000000000000000");
    for headers in [&[("traceparent", GOOD)][..], &[], &[("traceparent", &zero)]] {
        let all: Vec<TraceContext> =
            serve(headers, 3).iter().map(|sent| sent[0].1.parse().unwrap()).collect();
        let mut parents: Vec<_> = all.iter().map(|trace| trace.parent_id()).collect();
        parents.sort_unstable();
        parents.dedup();
        assert_eq!(parents.len(), 3);
        assert!(all.iter().all(|trace| trace.trace_id() == all[0].trace_id()));
    }
}
