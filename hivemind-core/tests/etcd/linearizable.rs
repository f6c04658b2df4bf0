//! Eight clients at once while the leader dies, then a follower: what they were told can be true, all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hivemind_core::store::{Guard, Txn};
use hivemind_core::testkit::SimRng;
use hivemind_core::testkit::linearizable::{History, Recorded, check};
use hivemind_core::{ErrorKind, Result, StateStore};

use crate::server::Server;
use crate::support::{connect, eventually, key, options, wait};

const CLIENTS: usize = 8;
const KEYS: u64 = 4;

/// Reads a key, and sometimes puts it anew, on what was read or blindly. Every value is written once.
fn step(store: &dyn StateStore, rng: &mut SimRng, value: &str) -> Result<()> {
    let key = key(&format!("k{}", rng.below(KEYS)));
    let found = wait("the read", store.get(&key, None))?;
    let mut txn = Txn::new();
    match rng.below(10) {
        0..=2 => return Ok(()),
        3..=7 => {
            txn.guard(&key, found.map_or(Guard::Absent, |found| Guard::Unchanged(found.mod_revision)))?
        }
        _ => {}
    }
    txn.put(key, value.to_owned());
    wait("the commit", store.commit(&txn)).map(drop)
}

#[test]
fn what_clients_are_told_is_true_whoever_dies() {
    let Some(mut servers) = Server::cluster() else { return };
    let endpoints: Vec<_> = servers.iter().map(Server::endpoint).collect();
    let options = options(&endpoints).with_request_timeout(Duration::from_secs(3));
    let (history, done) = (History::new(), AtomicBool::new(false));
    let steps: [AtomicU64; CLIENTS] = Default::default();
    let total = || steps.iter().map(|one| one.load(Ordering::SeqCst)).collect::<Vec<_>>();
    // Everybody gets on with it, with a member missing or not.
    let all_go_on = |when: &str| {
        let before = total();
        eventually(when, || total().iter().zip(&before).all(|(now, before)| *now > before + 20));
    };
    thread::scope(|scope| {
        for (client, steps) in (0..).zip(&steps) {
            let (options, history, done) = (&options, &history, &done);
            scope.spawn(move || {
                let store = Recorded::new(Arc::new(connect(options)), history, client);
                let mut rng = SimRng::new(client as u64);
                for n in 0.. {
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                    match step(&store, &mut rng, &format!("{client}-{n}")) {
                        Ok(()) => drop(steps.fetch_add(1, Ordering::SeqCst)),
                        Err(e) if e.kind() == ErrorKind::Conflict => {}
                        Err(e) => assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}"),
                    }
                    thread::sleep(Duration::from_millis(8));
                }
            });
        }
        all_go_on("all are at work");
        for leads in [true, false] {
            let mut victim = None;
            eventually("there is one to be killed", || {
                victim = servers.iter().position(|server| server.leads() == leads);
                victim.is_some()
            });
            let victim = &mut servers[victim.unwrap()];
            victim.kill();
            all_go_on("all go on without a member");
            victim.resume_from_disk();
            all_go_on("all go on with it again");
        }
        done.store(true, Ordering::SeqCst);
    });
    let report = check(&history).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(report.order.len() > CLIENTS * 50, "{} operations", report.order.len());
}
