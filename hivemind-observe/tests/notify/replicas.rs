//! Several replicas on a store that conflicts, loses replies and crashes.

use std::sync::{Arc, Mutex};

use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim, until_crash};
use hivemind_core::{Clock, MemoryStore, Result, Runtime, async_trait};
use hivemind_observe::notify::{Alert, Notification, NotifyRules};
use hivemind_observe::{Notifier, NotifyLoop};

use crate::{alert, route, secs};

const REPLICAS: u64 = 3;

/// Takes a while, and keeps what it was told, for all replicas.
#[derive(Debug)]
struct Slow {
    told: Mutex<Vec<(u64, String)>>,
    runtime: Arc<dyn Runtime>,
}

#[async_trait]
impl Notifier for Slow {
    async fn notify(&self, notification: &Notification) -> Result<()> {
        self.runtime.sleep(secs(2)).await;
        self.told.lock().unwrap().push((notification.number, notification.to_string()));
        Ok(())
    }
}

/// Down from the 10th second to the 200th, and again from the 400th to the 500th.
fn firing(second: u64) -> Vec<Alert> {
    let down = (10..200).contains(&second) || (400..500).contains(&second);
    if down { vec![alert("down", &[])] } else { Vec::new() }
}

/// Looks every second, and begins anew after a crash.
async fn replica(disk: Arc<MemoryStore>, seed: u64, clock: Arc<dyn Clock>, slow: Arc<Slow>) {
    let start = clock.now();
    let second = |clock: &dyn Clock| clock.now().since(start).as_secs();
    let mut crashes = 0;
    while second(&*clock) < 900 {
        let plan = FaultPlan::rough(seed.wrapping_add(crashes * 1000));
        let plan = if crashes < 3 { plan.with_crash_at(20 + seed % 97) } else { plan };
        let store = Arc::new(FaultyStore::new(disk.clone(), plan));
        let rules = NotifyRules::new(route("slow").repeating(secs(100_000)));
        let telling = NotifyLoop::new(store.clone(), clock.clone(), rules)
            .with_receiver("slow".parse().unwrap(), slow.clone());
        let (clock, runtime) = (clock.clone(), slow.runtime.clone());
        let life = async {
            while second(&*clock) < 900 {
                let _ = telling.tick(&firing(second(&*clock))).await;
                runtime.sleep(secs(1)).await;
            }
        };
        crashes += u64::from(until_crash(&store, life).await.is_err());
    }
}

/// `pitfall_05` of observability: each message arrives, in order, and seldom twice, whatever fails and whoever crashes.
#[test]
fn pitfall_05_replicas_tell_everything_in_order_and_seldom_twice() {
    let mut twice = 0;
    for seed in 0..100 {
        let (sim, disk) = (Sim::new(seed), Arc::new(MemoryStore::new()));
        let slow = Arc::new(Slow { told: Mutex::default(), runtime: sim.runtime() });
        let replicas: Vec<_> = (0..REPLICAS)
            .map(|n| sim.spawn(replica(disk.clone(), seed * 10 + n, sim.clock(), slow.clone())))
            .collect();
        let ended = sim.run(async {
            for one in replicas {
                one.await;
            }
        });
        ended.unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
        let mut messages = slow.told.lock().unwrap().clone();
        let all = messages.len();
        // What comes twice is told by its number, and no two have the same.
        assert!(messages.is_sorted(), "seed {seed}: {messages:?}");
        messages.dedup();
        let told: Vec<_> = messages.into_iter().map(|(_, told)| told).collect();
        assert_eq!(told, ["down fires", "down is over", "down fires", "down is over"], "seed {seed}");
        twice += all - 4;
    }
    assert!(twice < 100, "{twice} of 400 messages were told twice");
}
