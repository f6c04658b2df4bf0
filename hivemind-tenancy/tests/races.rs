//! Sixteen threads at one quota: never more than there is, and every amount is accounted for in the end.
//!
//! `HIVEMIND_ROUNDS` is how often each thread tries. The full count, 1.6 * 10^8 attempts:
//! `HIVEMIND_ROUNDS=10000000 cargo test --release -p hivemind-tenancy --test races`
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may panic, and real threads are what is tested"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hivemind_core::resources::{ByteSize, MilliCpu, ResourceName, Resources};
use hivemind_tenancy::QuotaTree;
use hivemind_tenancy::quota::{Charge, QuotaNode, QuotaRule, TreeError};

const THREADS: usize = 16;
/// Of the root; each attempt is for three.
const LIMIT: u64 = 40;
/// Of each of the four teams.
const OF_TEAM: u64 = 16;

fn rounds() -> u64 {
    let set = std::env::var("HIVEMIND_ROUNDS").ok();
    set.map_or(20_000, |rounds| rounds.parse().unwrap())
}

fn at_most(cpu: u64, memory: u64) -> BTreeMap<ResourceName, QuotaRule> {
    let rule = |max| QuotaRule::default().with_max(max);
    BTreeMap::from([(ResourceName::Cpu, rule(cpu)), (ResourceName::Memory, rule(memory))])
}

/// What one thread did.
#[derive(Default)]
struct Tally {
    admitted: u64,
    denied: u64,
    released: u64,
    kept: Vec<(usize, Charge)>,
}

struct Race {
    tree: QuotaTree,
    root: QuotaNode,
    teams: Vec<QuotaNode>,
    /// What is charged at the most, by whoever charges: at the root and of each team.
    inside: [AtomicU64; 5],
    over: AtomicBool,
    done: AtomicBool,
}

impl Race {
    fn new() -> Self {
        let name = |text: &str| text.parse().unwrap();
        let resources = [ResourceName::Cpu, ResourceName::Memory];
        let (tree, root) = QuotaTree::new(resources, name("root"), &at_most(LIMIT, LIMIT * 2)).unwrap();
        let team = |n: usize| tree.add(name(&format!("team-{n}")), root, &at_most(OF_TEAM, 1 << 40)).unwrap();
        let teams = (0..4).map(team).collect();
        Self { tree, root, teams, inside: Default::default(), over: false.into(), done: false.into() }
    }

    /// Counted in after it is charged and out before it is given back, so that the count is never above the truth.
    fn count_in(&self, team: usize) {
        for (place, limit) in [(4, LIMIT), (team, OF_TEAM)] {
            if self.inside[place].fetch_add(3, Ordering::SeqCst) + 3 > limit {
                self.over.store(true, Ordering::SeqCst);
            }
        }
    }

    fn give_back(&self, (team, charge): (usize, Charge)) {
        for place in [4, team] {
            self.inside[place].fetch_sub(3, Ordering::SeqCst);
        }
        assert!(self.tree.release(charge).is_ok());
    }

    fn run(&self, thread: usize, rounds: u64) -> Tally {
        let three = Resources::new().with_cpu(MilliCpu::from_millis(3)).with_memory(ByteSize::from_bytes(6));
        let three = self.tree.amounts(&three).unwrap();
        let mut tally = Tally::default();
        let mut draw = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(thread as u64 + 1);
        for _ in 0..rounds {
            draw ^= draw << 13;
            draw ^= draw >> 7;
            draw ^= draw << 17;
            let team = (draw >> 8) as usize % 4;
            match self.tree.reserve(self.teams[team], &three, None) {
                // One in eight is never put to use.
                Ok(hold) if draw.is_multiple_of(8) => {
                    self.count_in(team);
                    for place in [4, team] {
                        self.inside[place].fetch_sub(3, Ordering::SeqCst);
                    }
                    hold.abort();
                    tally.admitted += 1;
                    tally.released += 1;
                }
                Ok(hold) => {
                    self.count_in(team);
                    tally.kept.push((team, hold.commit().unwrap()));
                    tally.admitted += 1;
                }
                Err(TreeError::Denied(_)) => tally.denied += 1,
                Err(other) => panic!("{other}"),
            }
            while tally.kept.len() > (draw >> 16) as usize % 4 {
                self.give_back(tally.kept.swap_remove(0));
                tally.released += 1;
            }
        }
        tally
    }

    /// Looks at all levels while the others race.
    fn watch(&self) -> u64 {
        let mut looked = 0;
        while !self.done.load(Ordering::SeqCst) {
            for (node, limit) in
                [(self.root, LIMIT)].into_iter().chain(self.teams.iter().map(|t| (*t, OF_TEAM)))
            {
                let cpu = self.tree.usage(node).unwrap()[0].1;
                assert!(cpu.used + cpu.reserved <= limit && cpu.load <= limit && !cpu.over, "{cpu:?}");
            }
            looked += 1;
            std::thread::yield_now();
        }
        looked
    }
}

#[test]
fn sixteen_threads_never_get_more_than_there_is_and_nothing_is_lost() {
    let (race, rounds) = (Race::new(), rounds());
    let (tallies, looked) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| race.watch());
        let racers: Vec<_> = (0..THREADS)
            .map(|n| {
                scope.spawn({
                    let race = &race;
                    move || race.run(n, rounds)
                })
            })
            .collect();
        let tallies: Vec<_> = racers.into_iter().map(|racer| racer.join()).collect();
        race.done.store(true, Ordering::SeqCst);
        (tallies, watcher.join().unwrap())
    });
    let tallies: Vec<Tally> = tallies.into_iter().map(std::result::Result::unwrap).collect();
    assert!(!race.over.load(Ordering::SeqCst), "more was charged than there is");
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let (admitted, denied, released) = (sum(|t| t.admitted), sum(|t| t.denied), sum(|t| t.released));
    assert_eq!(admitted + denied, THREADS as u64 * rounds, "every attempt was answered");
    assert!(
        denied > 0 && admitted > 0 && looked > 0,
        "{admitted} admitted, {denied} denied, looked {looked} times"
    );
    // What is left is exactly what was not given back, on every level and of every resource.
    let kept = |team: Option<usize>| {
        let all = tallies.iter().flat_map(|t| &t.kept);
        all.filter(|(of, _)| team.is_none_or(|team| team == *of)).count() as u64
    };
    assert_eq!(kept(None), admitted - released);
    for (node, kept) in
        race.teams.iter().enumerate().map(|(n, team)| (*team, kept(Some(n)))).chain([(race.root, kept(None))])
    {
        let usage = race.tree.usage(node).unwrap();
        let found: Vec<_> = usage.iter().map(|(_, of)| (of.used, of.reserved, of.load)).collect();
        assert_eq!(found, [(3 * kept, 0, 3 * kept), (6 * kept, 0, 6 * kept)]);
    }
    assert!(race.tree.is_consistent());
    tallies.into_iter().flat_map(|tally| tally.kept).for_each(|kept| race.give_back(kept));
    assert!(race.tree.usage(race.root).unwrap().iter().all(|(_, of)| of.load == 0));
}
