//! The contract of the port, case by case, each in a namespace of its own. Each run has an etcd for itself, since
//! cases count revisions and compact.

use std::sync::Arc;

use hivemind_core::conformance::state_store::{CASES, run_all};
use hivemind_core::{EtcdOptions, EtcdStore, block_on};

use crate::server::Server;
use crate::support::{fresh_prefix, options};

#[test]
fn under_tokio() {
    let Some(server) = Server::start(&[]) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(run_all(|| async {
        Arc::new(EtcdStore::connect(options(&[server.endpoint()])).await.unwrap())
    }));
    report.assert_passed();
}

#[test]
fn on_a_cluster_of_three() {
    let Some(servers) = Server::cluster() else { return };
    let endpoints: Vec<_> = servers.iter().map(Server::endpoint).collect();
    let report =
        block_on(run_all(|| async { Arc::new(EtcdStore::connect(options(&endpoints)).await.unwrap()) }));
    report.assert_passed();
}

/// And with prefixes as long as they may be, so that the largest transactions are as large as they get.
#[test]
fn under_a_bare_block_on() {
    let Some(server) = Server::start(&[]) else { return };
    let longest = || {
        let prefix = format!("{:x<128}", fresh_prefix() + "/");
        EtcdOptions::new([server.endpoint()]).unwrap().with_prefix(&prefix).unwrap()
    };
    let mut names = CASES.iter();
    let report = block_on(run_all(|| {
        // So that one that waits for ever can be named.
        println!("case {}", names.next().unwrap().0);
        async { Arc::new(EtcdStore::connect(longest()).await.unwrap()) }
    }));
    report.assert_passed();
}
