//! Fencing: whoever commits as leader is the leader at that instant, so leaders' commits never interleave.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hivemind_core::store::{Conflict, Key, Prefix, Revision, Txn};
use hivemind_core::testkit::{FaultyStore, Sim, SimRng, until_crash};
use hivemind_core::{
    Candidate, Clock, IdSource, IdSourceExt, MemoryStore, Runtime, Standing, StateStore, StateStoreExt,
    Timestamp, block_on,
};

use crate::{SEEDS, pause, process};

const LEASE: Duration = Duration::from_millis(300);
const LENGTH: Duration = Duration::from_secs(10);

struct World {
    disk: MemoryStore,
    clock: Arc<dyn Clock>,
    runtime: Arc<dyn Runtime>,
    ids: Arc<dyn IdSource>,
    end: Timestamp,
    refused: Mutex<u64>,
}

fn work() -> Prefix {
    Prefix::new(["work"]).unwrap()
}

fn term() -> Key {
    Key::new(["core", "election", "controller", "term"]).unwrap()
}

impl World {
    /// One life of a candidate: leads when it can, dawdles, and writes under its fence.
    async fn life(&self, name: &str, store: &FaultyStore, rng: &mut SimRng) {
        let store: Arc<dyn StateStore> = Arc::new(store.clone());
        let (election, name) = ("controller".parse().unwrap(), name.parse().unwrap());
        let (clock, ids) = (Arc::clone(&self.clock), &*self.ids);
        let mut me = Candidate::new(&election, name, LEASE, Arc::clone(&store), clock, ids).unwrap();
        while self.clock.now() < self.end {
            if let Ok(Standing::Leader(leadership)) = me.tick().await {
                // Often longer than the lease: it may have been succeeded when it writes.
                pause(&self.runtime, rng, 500).await;
                let mut txn = Txn::new();
                leadership.fence(&mut txn).unwrap();
                let entry = work().key([self.ids.next_u64().to_string()]).unwrap();
                txn.put(entry, leadership.fencing_token().to_string());
                if store.commit(&txn).await.is_err_and(|e| e.detail::<Conflict>().is_some()) {
                    // Not counting the conflicts that the fault plan makes up.
                    let held = self.disk.get(&term(), None).await.unwrap();
                    let stale = held.is_none_or(|held| held.mod_revision != leadership.fencing_token());
                    *self.refused.lock().unwrap() += u64::from(stale);
                }
            }
            pause(&self.runtime, rng, 100).await;
        }
    }

    async fn candidate(self: Arc<Self>, name: String, mut rng: SimRng) {
        let disk: Arc<dyn StateStore> = Arc::new(self.disk.clone());
        let mut crashes = 3;
        loop {
            let store = process(&self.runtime, &disk, &mut rng, &mut crashes);
            if until_crash(&store, self.life(&name, &store, &mut rng)).await.is_ok() {
                return;
            }
        }
    }

    /// Checks every fenced commit against the term of its instant; how many terms committed something.
    fn check(&self, seed: u64) -> usize {
        let (_, mut entries) = block_on(self.disk.scan_all(&work(), None)).unwrap();
        entries.sort_by_key(|entry| entry.mod_revision);
        let mut tokens: Vec<u64> = Vec::new();
        for entry in entries {
            let token: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
            let held = block_on(self.disk.get(&term(), Some(entry.mod_revision))).unwrap().unwrap();
            assert_eq!(
                held.mod_revision,
                Revision::new(token),
                "seed {seed}: a stale leader committed {entry:?}"
            );
            tokens.push(token);
        }
        assert!(tokens.is_sorted(), "seed {seed}: leaders' commits interleave: {tokens:?}");
        tokens.dedup();
        tokens.len()
    }
}

#[test]
fn a_stale_leader_never_commits_and_leaders_do_not_interleave() {
    let (mut terms, mut refused) = (0, 0);
    for seed in 0..SEEDS {
        let sim = Sim::new(seed);
        let world = Arc::new(World {
            disk: MemoryStore::new(),
            clock: sim.clock(),
            runtime: sim.runtime(),
            ids: sim.ids(),
            end: sim.clock().now().after(LENGTH),
            refused: Mutex::new(0),
        });
        let candidates: Vec<_> = ["a", "b", "c"]
            .map(|name| sim.spawn(Arc::clone(&world).candidate(name.to_owned(), sim.rng())))
            .into();
        sim.run(async {
            for candidate in candidates {
                candidate.await;
            }
        })
        .unwrap();
        let committed = world.check(seed);
        assert!(committed > 0, "seed {seed}: nobody ever led");
        terms += committed;
        refused += *world.refused.lock().unwrap();
    }
    // Nothing is proved unless leadership changed hands and stale leaders tried.
    assert!(terms > 3 * usize::try_from(SEEDS).unwrap(), "{terms} terms");
    assert!(refused > SEEDS, "{refused} refused");
}
