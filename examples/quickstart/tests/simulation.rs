//! The whole story under a thousand seeds of conflicts, lost replies, failures and crashes of the control plane, with a
//! storage provider that loses replies and dawdles: it ends each time as if nothing had happened.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hivemind_backup::MemoryBackups;
use hivemind_core::testkit::{FaultCounts, FaultPlan, FaultyStore, Sim, until_crash};
use hivemind_core::{MemoryKeys, MemoryStore, SeededIds, StateStore, TenantRef};
use hivemind_observe::Registry;
use hivemind_storage::MemoryProvider;
use quickstart::cluster::{Cluster, Ports};
use quickstart::compose::{self, Compose};
use quickstart::narrate::Silent;
use quickstart::story::{Eyes, Outcome, Plan, World, tell};

const APP: &str = "
name: blog
services:
  web: {image: blog, scale: 2, depends_on: [db], volumes: ['media:/media']}
  db: {image: postgres, volumes: ['data:/data']}
volumes: {data: , media: }
";

/// How often the control plane crashes at most, in one seed.
const CRASHES: u64 = 4;

fn files() -> Vec<Compose> {
    vec![compose::parse("blog.yaml", "blog", APP, &BTreeMap::new()).unwrap()]
}

fn plan() -> Plan {
    Plan { files: files(), nodes: 4, apps: None }
}

/// What survives a crash.
struct Outside {
    store: Arc<MemoryStore>,
    spare: Arc<MemoryStore>,
    world: World,
}

fn outside(sim: &Sim, seed: u64) -> Outside {
    let (store, spare) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    let keys = MemoryKeys::new(Arc::new(SeededIds::new(seed)));
    keys.create("key".parse().unwrap());
    let provider = MemoryProvider::new("memory".parse().unwrap()).losing_one_in(7).delaying_one_in(5);
    let ports = Ports {
        store: store.clone(),
        clock: sim.clock(),
        runtime: sim.runtime(),
        ids: sim.ids(),
        provider: Arc::new(provider),
    };
    let world = World {
        ports,
        spare: spare.clone(),
        backups: Arc::new(MemoryBackups::new()),
        keys: Arc::new(keys),
        key: "key".parse().unwrap(),
        nonces: Arc::new(SeededIds::new(seed)),
    };
    Outside { store, spare, world }
}

/// Tells the story, again after each crash, until it ends; with how often it crashed, and what was injected.
async fn live(outside: &Outside, seed: u64) -> (Outcome, u64, Vec<FaultCounts>) {
    let mut counts = Vec::new();
    for life in 0.. {
        let faults = |store: &Arc<MemoryStore>, salt: u64| {
            let plan = FaultPlan::rough(seed.wrapping_mul(31).wrapping_add(life * 2 + salt));
            // Somewhere in the story, which takes about 150 calls; the spare store sees fewer of them.
            let at = 1 + seed.wrapping_mul(2_654_435_761).wrapping_add(life * 7919)
                % if salt == 0 { 150 } else { 30 };
            let plan = if life < CRASHES { plan.with_crash_at(at) } else { plan };
            Arc::new(FaultyStore::new(store.clone() as Arc<dyn StateStore>, plan))
        };
        let (store, spare) = (faults(&outside.store, 0), faults(&outside.spare, 1));
        let mut world = outside.world.clone();
        world.ports.store = store.clone();
        world.spare = spare.clone();
        let (plan, eyes, mut silent) = (plan(), Eyes::default(), Silent);
        let story = until_crash(&spare, tell(&world, &plan, &eyes, &mut silent, &|| Duration::ZERO));
        let ended = until_crash(&store, story).await;
        counts.extend([store.counts(), spare.counts()]);
        if let Ok(Ok(told)) = ended {
            return (told.unwrap_or_else(|e| panic!("seed {seed}, life {life}: {e}")), life, counts);
        }
    }
    panic!("the last life does not crash")
}

/// The same invariants as in the story, on the bare store, after every fault has ceased.
async fn nothing_leaked(outside: &Outside, seed: u64) {
    let mut cluster = Cluster::start(outside.world.ports.clone(), Registry::new()).await.unwrap();
    cluster.settle().await.unwrap();
    let mut tenants: Vec<TenantRef> = Vec::new();
    for planned in plan().tenants().unwrap() {
        tenants.push(cluster.create_tenant(&planned).await.unwrap());
    }
    cluster.audit(&tenants).await.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
}

fn run(seeds: std::ops::Range<u64>) {
    let (mut crashes, mut conflicts, mut lost) = (0, 0, 0);
    let total = seeds.end - seeds.start;
    for seed in seeds {
        let sim = Sim::new(seed);
        let outside = outside(&sim, seed);
        let told = sim.run(async {
            let told = live(&outside, seed).await;
            nothing_leaked(&outside, seed).await;
            told
        });
        let (outcome, crashed, counts) = told.unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
        let expected = Outcome {
            tenants: 3,
            apps: 3,
            workloads: 9,
            volumes: 6,
            addresses_v4: 9,
            addresses_v6: 9,
            denied: 2,
            alerts_fired: 1,
            alerts_resolved: 1,
            restored_equal: true,
            moved: outcome.moved,
            backup_bytes: outcome.backup_bytes,
            deployments_per_second: outcome.deployments_per_second,
            ..Outcome::default()
        };
        assert_eq!(outcome, expected, "seed {seed}");
        assert!(outcome.moved > 0 && outcome.backup_bytes > 0, "seed {seed}");
        crashes += crashed;
        conflicts += counts.iter().map(|one| one.conflicts).sum::<u64>();
        lost += counts.iter().map(|one| one.lost_replies).sum::<u64>();
    }
    // A simulation without faults would prove nothing.
    assert!(crashes > total && conflicts > total && lost > total, "{crashes} {conflicts} {lost}");
}

#[test]
fn the_first_five_hundred_seeds() {
    run(0..500);
}

#[test]
fn the_second_five_hundred_seeds() {
    run(500..1000);
}
