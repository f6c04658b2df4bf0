//! The simulator: replay by seed, virtual time, and an end to every run.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hivemind_core::testkit::{Sim, SimRng, Stuck};

/// Three tasks write their name four times each, giving way in between.
fn interleaving(seed: u64) -> (Vec<u8>, u64, u64) {
    let sim = Sim::new(seed);
    let written = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (b'a'..=b'c')
        .map(|name| {
            let (written, runtime) = (Arc::clone(&written), sim.runtime());
            sim.spawn(async move {
                for _ in 0..4 {
                    written.lock().unwrap().push(name);
                    runtime.sleep(Duration::ZERO).await;
                }
            })
        })
        .collect();
    sim.run(async {
        for task in tasks {
            task.await;
        }
    })
    .unwrap();
    let written = written.lock().unwrap().clone();
    (written, sim.trace_hash(), sim.steps())
}

#[test]
fn the_same_seed_replays_and_another_one_does_not() {
    let mut orders = std::collections::BTreeSet::new();
    let mut traces = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let run = interleaving(seed);
        assert_eq!(run, interleaving(seed), "seed {seed}");
        let mut sorted = run.0.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, b"aaaabbbbcccc");
        orders.insert(run.0);
        traces.insert(run.1);
    }
    assert!(orders.len() > 40, "only {} orders from 50 seeds", orders.len());
    assert_eq!(traces.len(), 50);
}

#[test]
fn time_jumps_to_the_next_timer_and_never_further() {
    let sim = Sim::new(1);
    let (clock, runtime) = (sim.clock(), sim.runtime());
    let began = clock.now();
    let woken = Arc::new(Mutex::new(Vec::new()));
    for hours in [5_u64, 1, 3] {
        let (clock, woken, sleep) =
            (sim.clock(), Arc::clone(&woken), runtime.sleep(Duration::from_secs(hours * 3600)));
        runtime.spawn(Box::pin(async move {
            sleep.await;
            woken.lock().unwrap().push((hours, clock.now().since(began).as_secs() / 3600));
        }));
    }
    sim.run(runtime.sleep(Duration::from_secs(4 * 3600))).unwrap();
    assert_eq!(*woken.lock().unwrap(), [(1, 1), (3, 3)]);
    assert_eq!(clock.now().since(began), Duration::from_secs(4 * 3600));
}

#[test]
fn a_dropped_sleep_is_forgotten() {
    let sim = Sim::new(1);
    let (clock, runtime) = (sim.clock(), sim.runtime());
    let began = clock.now();
    let outcome = sim.run(async {
        {
            let mut long = runtime.sleep(Duration::from_secs(1000));
            let mut short = runtime.sleep(Duration::from_secs(1));
            std::future::poll_fn(|context| {
                let _ = long.as_mut().poll(context);
                short.as_mut().poll(context)
            })
            .await;
        }
        std::future::pending::<()>().await;
    });
    assert!(matches!(outcome, Err(Stuck::Deadlock { .. })), "{outcome:?}");
    assert_eq!(clock.now().since(began), Duration::from_secs(1));
}

#[test]
fn a_deadlock_is_reported_with_its_seed() {
    let sim = Sim::new(42);
    sim.runtime().spawn(Box::pin(std::future::pending()));
    let stuck = sim.run(std::future::pending::<()>()).unwrap_err();
    assert_eq!(
        stuck.to_string(),
        "seed 42: after 2 steps all 2 tasks wait for something that nothing will do"
    );
    // The end of time never comes either.
    assert!(sim.run(sim.runtime().sleep(Duration::MAX)).is_err());
}

#[test]
fn a_livelock_is_reported() {
    let sim = Sim::new(42).with_max_steps(100);
    let runtime = sim.runtime();
    let stuck = sim.run::<()>(async {
        loop {
            runtime.sleep(Duration::ZERO).await;
        }
    });
    assert!(matches!(&stuck, Err(Stuck::Livelock { seed: 42, steps: 100, .. })), "{stuck:?}");
}

#[test]
fn unfinished_tasks_are_dropped_when_the_run_ends() {
    let sim = Sim::new(1);
    let held = Arc::new(());
    let theirs = Arc::clone(&held);
    sim.runtime().spawn(Box::pin(async move {
        let _theirs = theirs;
        std::future::pending::<()>().await;
    }));
    sim.run(async {}).unwrap();
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn a_task_hands_over_its_output() {
    let sim = Sim::new(1);
    let runtime = sim.runtime();
    let task = sim.spawn(async move {
        runtime.sleep(Duration::from_secs(1)).await;
        42
    });
    assert_eq!(sim.run(task), Ok(42));
}

#[test]
fn ids_do_not_repeat_and_replay() {
    let ids = |seed| {
        let sim = Sim::new(seed);
        (sim.ids().next_u128(), sim.ids().next_u128(), sim.rng().next_u64(), sim.rng().next_u64())
    };
    let (a, b, c, d) = ids(1);
    assert!(a != b && c != d);
    assert_eq!(ids(1), (a, b, c, d));
    assert_ne!(ids(2).0, a);
}

#[test]
fn chances_come_out_as_asked() {
    let mut rng = SimRng::new(1);
    assert!((0..1000).all(|_| !rng.chance(0) && rng.chance(1_000_000)));
    let hits = (0..100_000).filter(|_| rng.chance(100_000)).count();
    assert!((9_000..11_000).contains(&hits), "{hits}");
    let mut seen = [0_u32; 6];
    for _ in 0..6_000 {
        seen[usize::try_from(rng.below(6)).unwrap()] += 1;
    }
    assert!(seen.iter().all(|&n| n > 800), "{seen:?}");
    assert_eq!(rng.below(0), 0);
}
