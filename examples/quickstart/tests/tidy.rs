//! The checkable part of ARCHITECTURE.md, checked.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 6] = [
    "hivemind-core",
    "hivemind-tenancy",
    "hivemind-storage",
    "hivemind-net",
    "hivemind-observe",
    "hivemind-backup",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(below: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

fn sources_of(below: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    sources(below, &mut found);
    found
}

fn all_sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for name in CRATES {
        sources(&root().join(name).join("src"), &mut found);
    }
    sources(&root().join("examples/quickstart/src"), &mut found);
    assert!(found.len() > 100, "only {} files were found", found.len());
    found
}

/// What a file says before its tests, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = before_tests.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    lines.filter(|(_, line)| !line.starts_with("//"))
}

#[test]
fn a_feature_crate_depends_on_core_and_on_no_other() {
    for name in CRATES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
        let ours: Vec<_> = dependencies
            .lines()
            .filter_map(|line| line.split(['.', ' ', '=']).next())
            .filter(|dependency| dependency.starts_with("hivemind-"))
            .collect();
        let expected: &[&str] = if name == "hivemind-core" { &[] } else { &["hivemind-core"] };
        assert_eq!(ours, expected, "{name}");
        assert!(
            manifest.contains("default = []") || !manifest.contains("default ="),
            "{name} has default features"
        );
    }
}

/// A crate that names its test programs itself could forget one, and nobody would see that it is not run.
#[test]
fn every_file_of_tests_is_run() {
    for name in CRATES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        if !manifest.contains("autotests = false") {
            continue;
        }
        let tests = root().join(name).join("tests");
        let together = fs::read_to_string(tests.join("together/main.rs")).unwrap();
        for entry in fs::read_dir(&tests).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            let program =
                path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").exists();
            let alone = manifest.contains(&format!("[[test]]\nname = \"{stem}\"\n"));
            let one_of_many = together.contains(&format!("mod {stem};\n"));
            assert!(
                !program || alone != one_of_many,
                "{name}: {} is run {}",
                path.display(),
                if alone { "twice" } else { "by nothing" }
            );
        }
    }
}

#[test]
fn a_pure_file_is_pure() {
    let mut pure = 0;
    for (path, text) in all_sources() {
        let header: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        if !header.contains("No I/O, no clock, no async.") {
            continue;
        }
        pure += 1;
        for (number, line) in code(&text) {
            for impure in
                ["async ", ".await", "Arc<dyn", ".now()", "std::fs", "std::net::Tcp", "std::time::Instant"]
            {
                assert!(
                    !line.contains(impure),
                    "{}:{number} says it is pure, and has {impure}",
                    path.display()
                );
            }
        }
    }
    assert!(pure >= 15, "only {pure} files say that they are pure");
}

/// The traits behind which the outside world is.
fn ports() -> Vec<String> {
    let mut found = Vec::new();
    for name in CRATES {
        for (path, text) in sources_of(&root().join(name).join("src")) {
            let port =
                path.components().any(|part| part.as_os_str() == "ports") || path.ends_with("provider.rs");
            let traits = text.lines().filter_map(|line| line.strip_prefix("pub trait "));
            found.extend(
                traits
                    .filter(|_| port)
                    .filter_map(|rest| rest.split([':', ' ', '<']).next().map(str::to_owned)),
            );
        }
    }
    found
}

#[test]
fn the_pure_core_names_no_port_and_an_adapter_names_no_decision() {
    let ports = ports();
    for expected in ["StateStore", "Clock", "StorageProvider", "BackupStorage"] {
        assert!(ports.iter().any(|port| port == expected), "{expected} is not among {ports:?}");
    }
    for (path, text) in all_sources() {
        let header: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let pure = header.contains("No I/O, no clock, no async.");
        let adapter = path.components().any(|part| part.as_os_str() == "adapters");
        for (number, line) in code(&text) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if pure {
                let named = words.find(|word| ports.iter().any(|port| port == word));
                assert_eq!(named, None, "{}:{number} is pure, and names a port", path.display());
            } else if adapter {
                for decides in
                    ["crate::engine", "crate::manager", "crate::placement", "crate::quota", "crate::rbac"]
                {
                    assert!(!line.contains(decides), "{}:{number} names {decides}", path.display());
                }
            }
        }
    }
}

#[test]
fn files_say_what_they_are_and_hold_one_idea() {
    for (path, text) in all_sources() {
        let shown = path.display();
        let tests = path.file_name().is_some_and(|name| name == "tests.rs");
        assert!(tests || text.starts_with("//! "), "{shown} does not say what it is");
        let lines = text.lines().count();
        assert!(lines <= 500, "{shown} has {lines} lines, 500 at most");
        assert!(!text.contains("```ignore"), "{shown} has an example that is not run");
    }
}

#[test]
fn nothing_is_left_undone() {
    for (path, text) in all_sources() {
        for (number, line) in code(&text) {
            for mark in ["todo!(", "unimplemented!(", "FIXME", "XXX"] {
                assert!(!line.contains(mark), "{}:{number} has {mark}", path.display());
            }
        }
    }
}
