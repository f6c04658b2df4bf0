//! The audit that ends every simulation finds what leaked: each kind of leak, made on purpose.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;

use hivemind_core::resources::ByteSize;
use hivemind_core::store::{Key, Txn};
use hivemind_core::testkit::Sim;
use hivemind_core::{MemoryStore, OpToken, SeededIds, StateStore, StateStoreExt, TenantRef, block_on};
use hivemind_observe::Registry;
use hivemind_storage::{CreateVolume, MemoryProvider, SizeRange, StorageProvider, VolumeKey, VolumeOptions};
use quickstart::cluster::{Cluster, Ports};
use quickstart::compose;
use quickstart::story::Plan;

const APP: &str = "
name: blog
services:
  web: {image: blog, scale: 2, depends_on: [db]}
  db: {image: postgres, volumes: ['data:/data']}
volumes: {data: }
";

struct World {
    store: Arc<MemoryStore>,
    provider: Arc<MemoryProvider>,
    cluster: Cluster,
    tenants: Vec<TenantRef>,
}

/// A cluster with one app for each tenant, all well.
async fn world() -> World {
    let sim = Sim::new(1);
    let store = Arc::new(MemoryStore::new());
    let provider = Arc::new(MemoryProvider::new("memory".parse().unwrap()));
    let ports = Ports {
        store: store.clone(),
        clock: sim.clock(),
        runtime: sim.runtime(),
        ids: Arc::new(SeededIds::new(1)),
        provider: provider.clone(),
    };
    let mut cluster = Cluster::start(ports, Registry::new()).await.unwrap();
    let files = vec![compose::parse("blog.yaml", "blog", APP, &BTreeMap::new()).unwrap()];
    let plan = Plan { files, nodes: 4, apps: None };
    cluster.add_nodes(plan.nodes).await.unwrap();
    let mut tenants = Vec::new();
    for (number, tenant) in plan.tenants().unwrap().iter().enumerate() {
        let created = cluster.create_tenant(tenant).await.unwrap();
        let planned = plan.apps().unwrap().into_iter().nth(number).unwrap();
        let ctx = cluster.ctx(&created, &tenant.developer, &format!("deploy-{number}")).unwrap();
        cluster.deploy(&ctx, &planned.app, &planned.compose).await.unwrap();
        tenants.push(created);
    }
    // Nothing sleeps where nothing fails, but for the pauses between ticks: the simulator lets them pass.
    sim.run(cluster.settle()).unwrap().unwrap();
    World { store, provider, cluster, tenants }
}

/// What the audit says after `harm` was done.
fn after(harm: impl AsyncFnOnce(&World)) -> String {
    block_on(async {
        let mut world = world().await;
        world.cluster.audit(&world.tenants.clone()).await.unwrap();
        harm(&world).await;
        let tenants = world.tenants.clone();
        world.cluster.audit(&tenants).await.unwrap_err().message().to_owned()
    })
}

/// Removes the first record below `prefix`.
async fn lose(world: &World, prefix: &[&str]) {
    let prefix = hivemind_core::store::Prefix::new(prefix).unwrap();
    let (_, records) = world.store.scan_all(&prefix, None).await.unwrap();
    let key: Key = records.into_iter().next().unwrap().key;
    let mut txn = Txn::new();
    txn.delete(key);
    world.store.commit(&txn).await.unwrap();
}

#[test]
fn a_lost_reservation_is_found() {
    assert!(after(async |world| lose(world, &["tenancy", "reservations"]).await).contains("quota ledger of"));
}

#[test]
fn an_app_that_vanished_is_found() {
    assert!(after(async |world| lose(world, &["host", "apps"]).await).contains("quota of"));
}

#[test]
fn a_lost_address_block_is_found() {
    assert!(after(async |world| lose(world, &["net", "blocks"]).await).contains("addresses of"));
}

#[test]
fn a_lost_name_is_found() {
    assert!(after(async |world| lose(world, &["net", "services"]).await).contains("does not resolve"));
}

#[test]
fn a_lost_volume_record_is_found() {
    assert!(after(async |world| lose(world, &["storage", "volumes"]).await).contains("volumes of"));
}

#[test]
fn a_volume_that_leaked_at_the_provider_is_found() {
    let told = after(async |world| {
        let key = VolumeKey::new(world.tenants.first().unwrap().clone(), "leaked".parse().unwrap());
        let size = SizeRange::at_least(ByteSize::from_gib(1)).unwrap();
        let request = CreateVolume::new(OpToken::new("t"), key, size, VolumeOptions::default());
        world.provider.create_volume(&request).await.unwrap();
    });
    assert!(told.contains("volumes that only one side knows"), "{told}");
}
