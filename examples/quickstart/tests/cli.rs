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
    for section in [
        "1. Nodes and tenants",
        "2. Deployments",
        "3. Two requests",
        "5. Isolation",
        "6. Who reaches whom",
        "10. Summary",
    ] {
        assert!(told.contains(section), "{told}");
    }
    assert!(!told.contains('\x1b'), "colour went into a pipe");
    for explained in [
        "no role is bound to user mallory",
        "short by",
        "what would help",
        "put a policy in force",
        "no grant of this side covers it",
        "on-call is told: node-down fires.",
        "on-call is told: node-down is over.",
    ] {
        assert!(told.contains(explained), "{told}");
    }
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
    let bad = file("bad.yaml", "services:\n  web:\n    image: x\n    ports: [http]\n");
    let output = quickstart(&["--json", good.to_str().unwrap(), bad.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("bad.yaml:4:13: port \"http\""), "{said}");
    assert!(said.contains("Nothing was deployed."), "{said}");
}

#[test]
fn every_malformed_file_is_reported_and_what_was_said_of_it() {
    let first = file("first.yaml", "services: {web: {image: x, scale: $N}}");
    let second = file("second.yaml", "services: {web: {image: x, \"\\e[31m\": 1, cpus: 250m}}");
    let output = quickstart(&[first.to_str().unwrap(), second.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]));
    let said = String::from_utf8(output.stderr).unwrap();
    for expected in [
        "first.yaml:1: variable N is not set",
        "first.yaml:1:35: \"\" is not a number of containers",
        "second.yaml:1: `\\u{1b}[31m` of service web is no key",
        "second.yaml:1:47: cpus \"250m\"",
        "Nothing was deployed.",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(!said.contains('\x1b'), "{said}");
}

#[test]
fn a_file_addressed_without_a_folder_is_called_as_its_folder() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("corner-shop");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("compose.yaml"), "services: {web: {image: $IMAGE, cpus: 17}, b: {image: x}}")
        .unwrap();
    std::fs::write(folder.join(".env"), "IMAGE=x\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    let output = command.arg("compose.yaml").current_dir(&folder).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("corner-shop") && !said.contains("not set"), "{said}");
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
fn each_deployment_is_a_trace_with_its_steps() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("traces.jsonl");
    assert!(quickstart(&["--json", "--traces", path.to_str().unwrap()]).status.success());
    let text = std::fs::read_to_string(&path).unwrap();
    let requests = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let spans: Vec<_> = requests
        .flat_map(|all| all["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone())
        .collect();
    let is_hoolis = |span: &serde_json::Value| {
        let attributes = span["attributes"].as_array().unwrap();
        attributes.iter().any(|one| one["key"] == "hivemind.tenant" && one["value"]["stringValue"] == "hooli")
    };
    let deployments: Vec<_> = spans.iter().filter(|span| span["name"] == "deploy").collect();
    // An app of each tenant, and two requests that must not pass.
    assert_eq!(deployments.len(), 5);
    let failed: Vec<_> = deployments.iter().filter_map(|span| span["status"]["message"].as_str()).collect();
    assert!(failed.len() == 2 && failed.iter().any(|why| why.contains("mallory")), "{failed:?}");
    let first = deployments.iter().find(|span| is_hoolis(span)).unwrap();
    let steps: Vec<_> = spans
        .iter()
        .filter(|span| span["parentSpanId"] == first["spanId"] && span["traceId"] == first["traceId"])
        .map(|span| span["name"].as_str().unwrap())
        .collect();
    assert_eq!(steps, ["read", "authorize", "reserve", "place", "claim", "assign", "register", "commit"]);
}

#[test]
fn synthetic_scale_goes_round_files_and_tenants() {
    let told = json(&quickstart(&["--json", "--nodes", "20", "--apps", "10"]));
    assert_eq!((&told["apps"], &told["workloads"]), (&10.into(), &100.into()));
}

#[test]
fn a_service_without_containers_costs_nothing() {
    let idle = file("idle.yaml", "services: {a: {image: x, scale: 0}, b: {image: y}}");
    let told = json(&quickstart(&["--json", idle.to_str().unwrap()]));
    assert_eq!((&told["apps"], &told["workloads"]), (&3.into(), &3.into()));
}

#[test]
fn apps_whose_parts_would_have_one_name_are_told_apart_or_refused() {
    let outer = file("a.yaml", "services: {b-c: {image: x}}");
    let inner = file("a-b.yaml", "services: {c: {image: x}}");
    let told = json(&quickstart(&["--json", outer.to_str().unwrap(), inner.to_str().unwrap()]));
    assert_eq!((&told["apps"], &told["refused"]), (&3.into(), &3.into()));
    let reason = told["refusals"][0].as_str().unwrap();
    assert!(
        reason.contains("a-b of hooli was refused: workload a-b-c-1 of tenant hooli runs on"),
        "{reason}"
    );

    let mount = |app: &str, volume: &str| {
        format!(
            "name: {app}\nservices: {{w: {{image: x, volumes: ['{volume}:/d']}}}}\nvolumes: {{{volume}: }}\n"
        )
    };
    let (first, second) = (file("v1.yaml", &mount("p", "q-d")), file("v2.yaml", &mount("p-q", "d")));
    let told = json(&quickstart(&["--json", first.to_str().unwrap(), second.to_str().unwrap()]));
    assert!(told["refusals"][0].as_str().unwrap().contains("volume d of p-q is p-q-d here"), "{told}");
}

#[test]
fn an_app_of_any_name_and_size_can_be_deployed() {
    let greedy = file("greedy.yaml", "services: {web: {image: x}}");
    assert!(quickstart(&["--json", greedy.to_str().unwrap()]).status.success());
    // A numbered app does not take the name of another file.
    let (shop, shop_6) = (
        file("shop.yaml", "services: {web: {image: x}}"),
        file("shop-6.yaml", "services: {web: {image: x}}"),
    );
    let told =
        json(&quickstart(&["--json", "--apps", "12", shop.to_str().unwrap(), shop_6.to_str().unwrap()]));
    assert_eq!((&told["apps"], &told["refused"]), (&12.into(), &0.into()));
}

#[test]
fn what_fits_nowhere_else_waits_for_the_lost_node() {
    let big = file("big.yaml", "services: {web: {image: x, cpus: 4, scale: 5}}");
    let told = json(&quickstart(&["--json", big.to_str().unwrap()]));
    assert!(told["waiting"].as_u64().unwrap() > 0, "{told}");
    assert_eq!((&told["alerts_resolved"], &told["restored_equal"]), (&1.into(), &true.into()));
}

#[test]
fn a_file_that_cannot_be_written_is_found_before_anything_is_deployed() {
    for option in ["--metrics", "--traces"] {
        let output = quickstart(&["--json", option, "/no/such/directory/file"]);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]));
        assert!(String::from_utf8(output.stderr).unwrap().contains("Nothing was deployed."));
    }
}

#[test]
fn traces_that_cannot_be_written_are_a_failure_in_the_end_and_keep_nothing_from_being_deployed() {
    let metrics = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("full.prom");
    let more = ["--traces", "/dev/full", "--metrics", metrics.to_str().unwrap()];
    let output = quickstart(&[&["--json", "--nodes", "300", "--apps", "600"], &more[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(why.contains("the traces cannot be written: No space left on device"), "{why}");
    let text = std::fs::read_to_string(metrics).unwrap();
    assert!(text.contains("quickstart_requests_total{result=\"deployed\",tenant=\"acme\"} 200\n"), "{text}");
}

#[test]
fn an_outcome_that_cannot_be_written_is_a_failure() {
    let full = std::fs::File::create("/dev/full").unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_quickstart")).arg("--json").stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
}
