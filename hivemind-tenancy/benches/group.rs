//! The speed of durable quotas: many callers of one group on a store in a file, each commit flushed to the disk.
//!
//! `cargo bench -p hivemind-tenancy --bench group` prints reservations per second, told and durable, for a tenant with
//! three above it and limits on six resources on each of the four levels; by how many callers wait at once.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures and tells"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use hivemind_core::resources::{ByteSize, MilliCpu, ResourceName, Resources};
use hivemind_core::store::Prefix;
use hivemind_core::{
    Durability, Principal, RedbOptions, StateStore, StateStoreExt, SystemClock, SystemIds, TenantContext,
    TenantRef, block_on,
};
use hivemind_tenancy::{
    GroupCommit, QuotaRequest, ResourceQuotas, Returned, TenantManager, TenantQuota, TenantSpec,
};

const OTHERS: [&str; 3] = ["nvidia.com/gpu", "containers", "services"];

fn ctx(tenant: &TenantRef, request: &str) -> TenantContext {
    TenantContext::new(tenant.clone(), Principal::User("ada".parse().unwrap()), request.parse().unwrap())
}

fn others() -> [ResourceName; 3] {
    OTHERS.map(|name| name.parse().unwrap())
}

fn asked() -> Resources {
    let own = Resources::new()
        .with_cpu(MilliCpu::from_millis(500))
        .with_memory(ByteSize::from_gib(1))
        .with_storage(ByteSize::from_gib(10));
    others().into_iter().fold(own, |sum, name| sum.with(name, 1))
}

/// Four tenants, one below the other; the lowest.
async fn tenants(store: &Arc<dyn StateStore>) -> TenantRef {
    let manager =
        TenantManager::new(Arc::clone(store), Arc::new(SystemClock::new()), Arc::new(SystemIds::new()));
    let quotas = ResourceQuotas::default()
        .with_cpu_limit(MilliCpu::from_cores(1 << 40))
        .with_memory_limit(ByteSize::from_gib(1 << 32))
        .with_storage_limit(ByteSize::from_gib(1 << 32));
    let quotas = others().into_iter().fold(quotas, |quotas, name| quotas.with_other(name, 1 << 50));
    let mut above: Option<TenantRef> = None;
    for name in ["org", "region", "team", "project"] {
        let mut spec = TenantSpec::new(name.parse().unwrap()).with_quotas(quotas.clone());
        spec.parent = above.take();
        let created = manager.create(&ctx(&TenantRef::system(), name), spec).await.unwrap();
        above = Some(created.tenant.clone());
    }
    above.unwrap()
}

fn rate(count: u32, took: Duration) -> f64 {
    f64::from(count) / took.as_secs_f64()
}

/// `callers` at once reserve, and then give back, `rounds` times.
async fn measure(callers: u32, rounds: u32) {
    // In the target directory: a temporary one may be in memory, and know no fsync.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = RedbOptions::new().with_durability(Durability::Immediate);
    let store: Arc<dyn StateStore> = Arc::new(options.open(directory.path().join("state.redb")).unwrap());
    let project = tenants(&store).await;
    let group = GroupCommit::new(Arc::clone(&store), &SystemIds::new(), "bench").unwrap();
    let (ctx, amount, before) = (ctx(&project, "bench"), asked(), store.revision().await.unwrap());
    let (mut reserving, mut releasing) = (Duration::ZERO, Duration::ZERO);
    for round in 0..rounds {
        let ids: Vec<hivemind_core::ReservationId> =
            (0..callers).map(|caller| format!("r-{round}-{caller}").parse().unwrap()).collect();
        let begun = Instant::now();
        let all = ids.iter().map(|id| group.reserve(&ctx, QuotaRequest::new(id.clone(), amount.clone())));
        let told = join_all(all).await;
        reserving += begun.elapsed();
        assert!(told.iter().all(Result::is_ok));
        // Half stays, so that there is something to be found among.
        let gone = ids.iter().take(ids.len() / 2);
        let begun = Instant::now();
        let told = join_all(gone.map(|id| group.release(&ctx, id))).await;
        releasing += begun.elapsed();
        assert!(told.iter().all(|told| matches!(told, Ok(Returned::Now(_)))));
    }
    let commits = store.revision().await.unwrap().as_u64() - before.as_u64();
    let view = store.snapshot(&[Prefix::ROOT]).await.unwrap();
    assert!(TenantQuota.recount(&view, &ctx).unwrap().is_none());
    let count = callers * rounds;
    println!(
        "{callers:>6} callers: {:>9.0} reservations/s, {:>9.0} releases/s, durable; {count} and half as many, {commits} \
         commits",
        rate(count, reserving),
        rate(count / 2, releasing),
    );
}

fn main() {
    for (callers, rounds) in [(2, 100), (64, 50), (2048, 20), (8192, 10)] {
        block_on(measure(callers, rounds));
    }
}
