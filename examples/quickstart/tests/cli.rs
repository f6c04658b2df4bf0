//! The program as people run it: what it prints, and how it ends.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::path::PathBuf;
use std::process::{Command, Output};

fn quickstart(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quickstart")).args(arguments).output().unwrap()
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_story_is_told_in_sections_and_without_colour_into_a_pipe() {
    let output = quickstart(&[]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    for section in ["1. Nodes and tenants", "2. Deployments", "3. Two requests", "8. Summary"] {
        assert!(told.contains(section), "{told}");
    }
    assert!(!told.contains('\x1b'), "colour went into a pipe");
    assert!(told.contains("no role is bound to user mallory") && told.contains("short by"), "{told}");
}

#[test]
fn json_is_one_object_with_every_promised_key() {
    let output = quickstart(&["--json"]);
    let told = json(&output);
    let expected =
        [("tenants", 3), ("apps", 3), ("workloads", 30), ("addresses_v4", 30), ("addresses_v6", 30)];
    for (key, value) in
        expected.into_iter().chain([("denied", 2), ("alerts_fired", 1), ("alerts_resolved", 1)])
    {
        assert_eq!(told[key], value, "{key}");
    }
    assert_eq!(told["restored_equal"], true);
    assert!(told["moved"].as_u64().unwrap() > 0 && told["backup_bytes"].as_u64().unwrap() > 0);
    assert!(told["elapsed_ms"].is_u64());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
}

#[test]
fn a_malformed_file_ends_in_2_with_file_line_and_reason() {
    let good = file("good.yaml", "services: {web: {image: x}}");
    let bad = file("bad.yaml", "services:\n  web:\n    ports: [http]\n");
    let output = quickstart(&["--json", good.to_str().unwrap(), bad.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("bad.yaml:3:13: port \"http\""), "{said}");
    assert!(said.contains("Nothing was deployed."), "{said}");
}

#[test]
fn what_is_not_used_is_reported_with_its_line() {
    let odd = file("odd.yaml", "services:\n  web:\n    image: x\n    frobnicate: 1\n");
    let output = quickstart(&["--json", odd.to_str().unwrap()]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("odd.yaml:4: `frobnicate` of service web is no key of the Compose specification"),
        "{said}"
    );
}

#[test]
fn an_app_that_fits_nowhere_is_refused_with_the_reason_and_the_others_go_on() {
    let small = file("small.yaml", "services: {web: {image: x}}");
    let huge = file("huge.yaml", "services: {web: {image: x, cpus: 17}}");
    let output = quickstart(&[small.to_str().unwrap(), huge.to_str().unwrap()]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("huge of hooli was refused: no node for huge-web-1 (cpu=17"), "{told}");
    let alone = quickstart(&[huge.to_str().unwrap()]);
    assert_eq!(alone.status.code(), Some(1));
    assert!(String::from_utf8(alone.stderr).unwrap().contains("no app at all could be deployed"));
}

#[test]
fn metrics_are_written_in_prometheus_format() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("metrics.prom");
    assert!(quickstart(&["--json", "--metrics", path.to_str().unwrap()]).status.success());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("# TYPE hivemind_nodes_ready gauge\nhivemind_nodes_ready 5\n"), "{text}");
    assert!(text.contains("hivemind_workloads{tenant=\"acme\"} 10\n"), "{text}");
    assert!(text.contains("quickstart_requests_total{result=\"denied\",tenant=\"hooli\"} 2\n"), "{text}");
}

#[test]
fn synthetic_scale_goes_round_files_and_tenants() {
    let told = json(&quickstart(&["--json", "--nodes", "20", "--apps", "10"]));
    assert_eq!((&told["apps"], &told["workloads"]), (&10.into(), &100.into()));
}
