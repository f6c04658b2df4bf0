//! The speed of the control plane of storage, on one thread, in memory.
//!
//! `cargo bench -p hivemind-storage --bench control` prints claims bound per second to offered volumes, each decided on the
//! newest state, committed on its own and read back by a mirror; claims for which a new volume's intent is staged; a volume
//! made, brought to a node, and released again by the controller; and how long it takes to compare 100,000 volumes with what
//! the provider lists. Beside them, from the same run, the floor: a commit of one record, read back by the mirror.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench measures and tells"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use hivemind_core::resources::ByteSize;
use hivemind_core::store::{Key, Prefix, Txn};
use hivemind_core::{
    Generation, MemoryStore, Mirror, MirrorFeed, Principal, Result, StateStore, SystemClock, TenantContext,
    TenantRef, ThreadRuntime, block_on,
};
use hivemind_storage::{
    ClaimSpec, CreateVolume, MemoryProvider, ProviderRegistry, ReclaimPolicy, SizeRange, StorageManager,
    StorageProvider, VolumeController, VolumeKey, VolumeOptions,
};

const CLAIMS: u32 = 10_000;
const LISTED: u32 = 100_000;

struct World {
    store: Arc<MemoryStore>,
    mirror: Mirror,
    feed: MirrorFeed,
    storage: StorageManager,
    controller: VolumeController,
    provider: Arc<MemoryProvider>,
    requests: u64,
}

impl World {
    fn new() -> Self {
        let (store, provider) =
            (Arc::new(MemoryStore::new()), Arc::new(MemoryProvider::new("memory".parse().unwrap())));
        let mut providers = ProviderRegistry::new();
        providers.add(provider.clone()).unwrap();
        let (mirror, feed) = block_on(Mirror::open(store.clone(), Prefix::ROOT)).unwrap();
        let storage = StorageManager::new(providers.names());
        let controller = VolumeController::new(
            store.clone(),
            providers,
            Arc::new(SystemClock::new()),
            Arc::new(ThreadRuntime::new()),
        );
        Self { store, mirror, feed, storage, controller, provider, requests: 0 }
    }

    fn ctx(&mut self) -> TenantContext {
        self.requests += 1;
        let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
        TenantContext::new(
            tenant,
            Principal::User("ada".parse().unwrap()),
            format!("r{}", self.requests).parse().unwrap(),
        )
    }

    fn commit(
        &mut self,
        decide: impl FnOnce(&StorageManager, &hivemind_core::store::Snapshot, &mut Txn) -> Result<()>,
    ) {
        let mut txn = Txn::new();
        decide(&self.storage, &self.mirror.view(), &mut txn).unwrap();
        let revision = block_on(self.store.commit(&txn)).unwrap();
        block_on(self.feed.catch_up(revision)).unwrap();
    }

    fn settle(&mut self) {
        while block_on(self.controller.tick()).unwrap().changed() {}
        let revision = block_on(self.store.revision()).unwrap();
        block_on(self.feed.catch_up(revision)).unwrap();
    }

    fn claim(&mut self, spec: &ClaimSpec) {
        let ctx = self.ctx();
        self.commit(|storage, view, txn| storage.stage_claim(view, txn, &ctx, spec));
    }
}

fn spec(name: String, gib: u64) -> ClaimSpec {
    ClaimSpec::new(name.parse().unwrap(), ByteSize::from_gib(gib))
}

fn told(what: &str, count: u32, took: Duration) {
    let each = took.as_secs_f64() / f64::from(count);
    println!("{what}: {:.0}/s, {:.1} us each", 1.0 / each, each * 1e6);
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn main() {
    let mut world = World::new();
    let key = Key::new(["bench", "floor"]).unwrap();
    let floor = timed(|| {
        for number in 0..CLAIMS {
            world.commit(|_, _, txn| {
                txn.put(key.clone(), number.to_string());
                Ok(())
            });
        }
    });
    told("floor: a commit of one record, and the mirror", CLAIMS, floor);

    // Offered volumes of a hundred sizes.
    let fresh = timed(|| {
        for number in 0..CLAIMS {
            let wish = spec(format!("v{number}"), 1 + u64::from(number % 100));
            world.claim(&wish.with_reclaim(ReclaimPolicy::Retain));
        }
    });
    told("claims, with the intent of a new volume", CLAIMS, fresh);
    let made = timed(|| world.settle());
    told("volumes made by the controller", CLAIMS, made);
    for number in 0..CLAIMS {
        let (ctx, name) = (world.ctx(), format!("v{number}"));
        let (claim, volume) = (name.parse().unwrap(), name.parse().unwrap());
        world.commit(|storage, view, txn| {
            storage.stage_release(view, txn, &ctx, &claim)?;
            storage.stage_offer(view, txn, &ctx, &volume)
        });
    }
    let bound = timed(|| {
        for number in 0..CLAIMS {
            world.claim(&spec(format!("c{number}"), 1 + u64::from(number * 7919 % 100)));
        }
    });
    told("claims bound to the smallest offered volume that fits", CLAIMS, bound);

    let few = 1000;
    let attached = timed(|| {
        for number in 0..few {
            let (ctx, claim) = (world.ctx(), format!("c{number}").parse().unwrap());
            let node = format!("n{}", number % 50).parse().unwrap();
            world.commit(|storage, view, txn| storage.stage_attach(view, txn, &ctx, &claim, &node));
            world.settle();
        }
    });
    told("volumes brought to a node, one by one, among 10,000", few, attached);

    let tenant = TenantRef::new("other".parse().unwrap(), Generation::from_u64(1));
    for number in CLAIMS..LISTED {
        let key = VolumeKey::new(tenant.clone(), format!("x{number}").parse().unwrap());
        let size = SizeRange::at_least(ByteSize::from_gib(1)).unwrap();
        let token = hivemind_core::OpToken::new(format!("x{number}"));
        let request = CreateVolume::new(token, key, size, VolumeOptions::default());
        block_on(world.provider.create_volume(&request)).unwrap();
    }
    let compared = timed(|| {
        let orphans = block_on(world.controller.orphans()).unwrap();
        assert_eq!(orphans.volumes.unrecorded.len(), usize::try_from(LISTED - CLAIMS).unwrap());
    });
    println!("100,000 listed volumes compared with 10,000 records: {:.0} ms", compared.as_secs_f64() * 1e3);
}
