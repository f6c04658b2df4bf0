//! Exactly once: the counter is the number of distinct requests, whatever was repeated, lost or killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hivemind_core::store::{Guard, Key, Prefix, Snapshot, Txn};
use hivemind_core::testkit::{FaultyStore, Sim, SimRng, context, until_crash};
use hivemind_core::{
    Answered, MemoryStore, Once, RequestId, Result, Retry, Runtime, StateStore, Timestamp, block_on, transact,
};

use crate::{SEEDS, pause, process};

const CLIENTS: u64 = 4;
const REQUESTS: u64 = 4;

fn counter() -> Key {
    Key::new(["counter"]).unwrap()
}

fn add_one(view: &Snapshot, txn: &mut Txn) -> Result<u64> {
    let old = view.get(&counter());
    txn.guard(&counter(), old.map_or(Guard::Absent, |old| Guard::Unchanged(old.mod_revision)))?;
    let count = 1 + old.map_or(0, |old| std::str::from_utf8(&old.value).unwrap().parse().unwrap());
    txn.put(counter(), count.to_string());
    Ok(count)
}

async fn send(store: &FaultyStore, request: &RequestId) -> Result<Answered<u64>> {
    let once = Once::new(&context("acme", request.as_str()), "add", Timestamp::EPOCH)?;
    transact(store, &once, &[Prefix::ROOT], add_one).await
}

struct Client {
    runtime: Arc<dyn Runtime>,
    disk: Arc<dyn StateStore>,
    rng: SimRng,
}

impl Client {
    /// Sends each request until it is answered, also by a restarted server; some of them once more afterwards.
    async fn run(mut self, requests: Vec<RequestId>) -> (Vec<(RequestId, u64)>, [u64; 3]) {
        let mut crashes = 3;
        let mut store = process(&self.runtime, &self.disk, &mut self.rng, &mut crashes);
        let (mut answers, mut faults) = (Vec::new(), [0; 3]);
        for request in requests {
            let mut times = 1 + self.rng.below(2);
            while times > 0 {
                match until_crash(&store, send(&store, &request)).await {
                    Ok(Ok(answer)) => {
                        answers.push((request.clone(), answer.value));
                        faults[2] += u64::from(answer.replayed);
                        times -= 1;
                    }
                    Ok(Err(error)) => {
                        assert!(matches!(error.retry(), Retry::Later | Retry::AfterReread), "{error:?}");
                        pause(&self.runtime, &mut self.rng, 100).await;
                    }
                    Err(_) => {
                        faults[0] += 1;
                        faults[1] += store.counts().lost_replies;
                        store = process(&self.runtime, &self.disk, &mut self.rng, &mut crashes);
                    }
                }
            }
        }
        faults[1] += store.counts().lost_replies;
        (answers, faults)
    }
}

/// Crashes, lost replies and replayed answers of one seed, after all invariants held.
fn simulate(seed: u64) -> [u64; 3] {
    let (sim, disk) = (Sim::new(seed), MemoryStore::new());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let client = Client { runtime: sim.runtime(), disk: Arc::new(disk.clone()), rng: sim.rng() };
            // Two clients send the same requests, at the same time.
            let name = |r| format!("client-{}-{r}", n / 2).parse().unwrap();
            sim.spawn(client.run((0..REQUESTS).map(name).collect()))
        })
        .collect();
    let mut by_request = BTreeMap::new();
    let mut faults = [0; 3];
    sim.run(async {
        for client in clients {
            let (answers, found) = client.await;
            for (request, value) in answers {
                let first = *by_request.entry(request.clone()).or_insert(value);
                assert_eq!(first, value, "seed {seed}: {request} was answered in two ways");
            }
            faults = [faults[0] + found[0], faults[1] + found[1], faults[2] + found[2]];
        }
    })
    .unwrap();
    let requests = CLIENTS / 2 * REQUESTS;
    let answers: BTreeSet<u64> = by_request.into_values().collect();
    assert_eq!(answers, (1..=requests).collect(), "seed {seed}: an increment was lost or doubled");
    let stored = block_on(disk.get(&counter(), None)).unwrap().unwrap();
    assert_eq!(stored.value, requests.to_string(), "seed {seed}");
    faults
}

#[test]
fn every_request_happens_exactly_once() {
    let mut total = [0; 3];
    for seed in 0..SEEDS {
        let found = simulate(seed);
        total = [total[0] + found[0], total[1] + found[1], total[2] + found[2]];
    }
    // Nothing is proved by seeds in which nothing went wrong.
    assert!(total.iter().all(|&n| n > SEEDS / 2), "{total:?}");
}
