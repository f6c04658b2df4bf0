//! Local pools against the conformance suite.

use std::path::Path;
use std::sync::{Arc, Mutex};

use hivemind_core::NodeId;
use hivemind_core::block_on;
use hivemind_core::resources::ByteSize;
use hivemind_storage::SizeRange;
use hivemind_storage::conformance::{self, Fixture};

use crate::ground::{Ground, provider, run};

/// Waits until what earlier cases deleted is free: some file systems free it later, while the next case counts it.
fn settle(path: &Path) {
    let free = || rustix::fs::statvfs(path).unwrap().f_bfree;
    for _ in 0..50 {
        let before = free();
        run("sleep", [std::ffi::OsStr::new("0.01")]);
        if before == free() {
            return;
        }
    }
}

/// Runs the suite, each case on a pool of its own in `below`.
fn conforms(ground: &Ground, below: &Path, size: ByteSize) {
    let count = Mutex::new(0);
    let make = || {
        let nth = {
            let mut count = count.lock().unwrap();
            *count += 1;
            *count
        };
        let pool = below.join(format!("pool-{nth}"));
        std::fs::create_dir(&pool).unwrap();
        settle(below);
        let provider = provider(&pool);
        let node = Arc::new(provider.node().unwrap());
        let nodes: [NodeId; 2] = ["n1".parse().unwrap(), "n2".parse().unwrap()];
        let fixture = Fixture::new(provider, nodes, SizeRange::at_least(size).unwrap());
        std::future::ready(fixture.with_node(node, ground.directory(&format!("case-{nth}"))))
    };
    let report = block_on(conformance::run_all(make));
    assert_eq!(report.failed, vec![], "skipped: {:?}", report.skipped);
    assert!(report.passed.len() >= 60, "only {} cases passed", report.passed.len());
}

#[test]
fn directories_conform() {
    let Some(ground) = Ground::new() else { return };
    conforms(&ground, &ground.directory("pools"), ByteSize::from_mib(1));
}

#[test]
fn subvolumes_conform() {
    let Some(ground) = Ground::new() else { return };
    conforms(&ground, &ground.btrfs("pools"), ByteSize::from_mib(1));
}

#[test]
fn images_conform() {
    let Some(ground) = Ground::new() else { return };
    conforms(&ground, &ground.xfs("pools"), ByteSize::from_mib(4));
}
