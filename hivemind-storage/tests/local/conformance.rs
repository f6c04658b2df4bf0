//! Local pools against the conformance suite: as they are, and as CSI drivers.

use std::path::Path;
use std::sync::{Arc, Mutex};

use hivemind_core::resources::ByteSize;
use hivemind_core::{Generation, NodeId, TenantRef, block_on};
use hivemind_storage::conformance::{self, Fixture, Need, PublishedContent, Report};
use hivemind_storage::{
    Capability, CsiNode, CsiOptions, CsiProvider, CsiServer, CsiServerOptions, LocalNode, SizeRange,
    StorageProvider,
};

use crate::ground::{Ground, eventually, node_info, provider, run};
use crate::turns::Turns;

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

fn nodes() -> [NodeId; 2] {
    ["n1".parse().unwrap(), "n2".parse().unwrap()]
}

/// With content, in volumes that are really mounted.
fn with_content(fixture: Fixture) -> Fixture {
    let content = PublishedContent::new(&fixture).unwrap();
    fixture.with_content(Arc::new(content))
}

/// Runs the suite, each case on a pool of its own in `below`; `make` is given the pool and a directory of the case.
fn suite(ground: &Ground, below: &Path, make: impl Fn(&Path, &Path) -> Fixture) -> Report {
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
        std::future::ready(with_content(make(&pool, &ground.directory(&format!("case-{nth}")))))
    };
    let report = block_on(conformance::run_all(make));
    println!("{report}");
    assert!(report.is_ok(), "{report}");
    report
}

/// Runs the suite on local pools in `below`; all but a second place is there to be tried with.
fn conforms(ground: &Ground, below: &Path, size: ByteSize, least: usize) {
    let report = suite(ground, below, |pool, directory| {
        let [local, twin] = Turns::pair(pool.to_owned());
        // A directory is a pool once a provider has opened it.
        assert!(local.capabilities().filesystem);
        let node = Arc::new(LocalNode::open(node_info(), pool).unwrap());
        let fixture = Fixture::new(local, nodes(), SizeRange::at_least(size).unwrap());
        fixture.with_twin(twin).with_node(node, directory)
    });
    let untried: Vec<_> = report.untried().filter(|(_, need)| *need != Need::Places).collect();
    assert_eq!(untried, Vec::<&(&str, Need)>::new());
    assert!(report.passed.len() >= least, "only {} cases passed", report.passed.len());
}

/// Runs the suite on CSI drivers over local pools in `below`, through their sockets.
fn conforms_as_a_driver(ground: &Ground, below: &Path, size: ByteSize, least: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = suite(ground, below, |pool, directory| {
        let (local, socket) = (provider(pool), directory.with_extension("sock"));
        let able = local.capabilities();
        let tenant = TenantRef::new("served".parse().unwrap(), Generation::from_u64(1));
        let server = CsiServerOptions::new("local.csi.example.com", "1.0.0", tenant).unwrap();
        let node = Arc::new(local.node().unwrap());
        let server = CsiServer::new(server).with_provider(local).with_node(node);
        let at = socket.clone();
        runtime.spawn(async move { server.serve(at, std::future::pending()).await });
        let assumed =
            able.features.iter().copied().filter(|capability| {
                matches!(capability, Capability::GrowFromSource | Capability::HardLimit)
            });
        let options = CsiOptions::new("local".parse().unwrap(), socket.to_str().unwrap())
            .unwrap()
            .with_access_modes(able.access_modes.clone())
            .with_volume_modes(able.filesystem, able.block)
            .assuming(assumed)
            .with_runtime(runtime.handle().clone());
        // Once it listens.
        let connect = || block_on(CsiProvider::connect(options.clone()));
        let (client, twin) = (eventually(connect).unwrap(), eventually(connect).unwrap());
        let node = block_on(CsiNode::connect(options.clone(), nodes()[0].clone())).unwrap();
        Fixture::new(Arc::new(client), nodes(), SizeRange::at_least(size).unwrap())
            .with_twin(Arc::new(twin))
            .with_node(Arc::new(node), directory)
            .without_keys()
    });
    let untried: Vec<_> = report.untried().filter(|(_, need)| *need != Need::Places).collect();
    assert_eq!(untried, Vec::<&(&str, Need)>::new());
    assert!(report.passed.len() >= least, "only {} cases passed", report.passed.len());
}

#[test]
fn directories_conform() {
    let Some(ground) = Ground::new() else { return };
    conforms(&ground, &ground.ext4("pools"), ByteSize::from_mib(1), 100);
}

#[test]
fn subvolumes_conform() {
    let Some(ground) = Ground::new() else { return };
    conforms(&ground, &ground.btrfs("pools"), ByteSize::from_mib(1), 165);
}

#[test]
fn images_conform() {
    let Some(ground) = Ground::new() else { return };
    conforms(&ground, &ground.xfs("pools"), ByteSize::from_mib(4), 165);
}

#[test]
fn directories_conform_as_a_csi_driver() {
    let Some(ground) = Ground::new() else { return };
    conforms_as_a_driver(&ground, &ground.ext4("pools"), ByteSize::from_mib(1), 100);
}

#[test]
fn subvolumes_conform_as_a_csi_driver() {
    let Some(ground) = Ground::new() else { return };
    conforms_as_a_driver(&ground, &ground.btrfs("pools"), ByteSize::from_mib(1), 150);
}

#[test]
fn images_conform_as_a_csi_driver() {
    let Some(ground) = Ground::new() else { return };
    conforms_as_a_driver(&ground, &ground.xfs("pools"), ByteSize::from_mib(4), 150);
}
