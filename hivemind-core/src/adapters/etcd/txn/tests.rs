//! Plans, run by a model of etcd, do what the memory store does.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{MemoryStore, StateStore, block_on};

fn key(n: usize) -> Key {
    Key::new([format!("k{n:03}")]).unwrap()
}

/// As much of etcd as plans need: when each key was last put.
#[derive(Default)]
struct Model {
    revision: u64,
    ticked: u64,
    put: BTreeMap<Key, u64>,
}

impl Model {
    fn run(&mut self, plan: &Plan<'_>) -> (Reply, Revision) {
        let next = self.revision + 1;
        let reply = self.step(plan, next);
        if self.ticked == next || self.put.values().any(|&at| at == next) {
            self.revision = next;
        }
        (reply, Revision::new(self.revision))
    }

    fn find(&self, key: &Key) -> Option<Revision> {
        self.put.get(key).copied().map(Revision::new)
    }

    fn step(&mut self, plan: &Plan<'_>, next: u64) -> Reply {
        let succeeded = plan.when.iter().all(|(key, guard)| guard.holds(self.find(key)));
        let steps = if succeeded { &plan.then } else { &plan.otherwise };
        let answers = steps.iter().map(|step| match step {
            Step::Put(key, _) => {
                self.put.insert((*key).clone(), next);
                Answer::Written
            }
            Step::Delete(key) => {
                self.put.remove(key);
                Answer::Written
            }
            Step::Tick { .. } => {
                self.ticked = next;
                Answer::Written
            }
            Step::Newest => Answer::Found(Some(Revision::new(self.ticked))),
            Step::Find(key) => Answer::Found(self.find(key)),
            Step::Nested(plan) => Answer::Nested(self.step(plan, next)),
        });
        let answers = answers.collect();
        Reply { succeeded, answers }
    }
}

fn told(outcome: &Result<Revision>) -> String {
    match outcome {
        Ok(revision) => revision.to_string(),
        Err(e) => format!("{:?} {:?}", e.kind(), e.detail::<Conflict>()),
    }
}

fn guard() -> impl Strategy<Value = Guard> {
    prop_oneof![
        Just(Guard::Absent),
        Just(Guard::Exists),
        (0..6u64).prop_map(|at| Guard::Unchanged(Revision::new(at))),
    ]
}

fn transactions() -> impl Strategy<Value = Vec<Txn>> {
    let guards = prop::collection::btree_map(0..4usize, guard(), 0..3);
    let writes = prop::collection::btree_map(0..4usize, prop::bool::weighted(0.4), 0..3);
    let txn = (guards, writes).prop_map(|(guards, writes)| {
        let mut txn = Txn::new();
        for (n, guard) in guards {
            txn.guard(&key(n), guard).unwrap();
        }
        for (n, put) in writes {
            if put { txn.put(key(n), "v") } else { txn.delete(key(n)) }
        }
        txn
    });
    prop::collection::vec(txn, 0..30)
}

proptest! {
    #[test]
    fn plans_do_what_the_memory_store_does(txns in transactions()) {
        let (memory, mut model) = (MemoryStore::new(), Model::default());
        for txn in &txns {
            let plan = Plan::of(txn).unwrap();
            let (reply, revision) = model.run(&plan);
            let outcome = plan.outcome(&reply, revision);
            prop_assert_eq!(told(&outcome), told(&block_on(memory.commit(txn))), "{:?}", txn);
        }
    }
}

fn deletes(guards: usize, count: usize) -> Txn {
    let mut txn = Txn::new();
    for n in 0..guards {
        txn.guard(&key(500 + n), Guard::Exists).unwrap();
    }
    for n in 0..count {
        txn.delete(key(n));
    }
    txn
}

#[test]
fn the_most_operations_fit() {
    let mut txn = Txn::new();
    for n in 0..limits().max_ops {
        txn.put(key(n), "");
        txn.guard(&key(500 + n), Guard::Absent).unwrap();
    }
    assert_eq!(Plan::of(&txn).unwrap().operations(), MAX_OPS);
    assert_eq!(Plan::of(&deletes(0, 127)).unwrap().operations(), MAX_OPS);
    // Each deleted key is guarded, so there is no question whether anything changes.
    let mut txn = deletes(0, 127);
    (0..127).for_each(|n| txn.guard(&key(n), Guard::Exists).unwrap());
    assert_eq!(Plan::of(&txn).unwrap().operations(), MAX_OPS);
}

#[test]
fn what_etcd_would_refuse_is_not_sent() {
    assert!(Plan::of(&deletes(60, 67)).is_ok());
    let error = Plan::of(&deletes(60, 68)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let over = error.detail::<OverLimit>().unwrap();
    assert_eq!((over.found, over.allowed), (129, MAX_OPS));
}

#[test]
fn the_clock_comes_last() {
    let mut txn = deletes(0, 1);
    txn.put(key(9), "v");
    let plan = Plan::of(&txn).unwrap();
    assert!(matches!(plan.then.last(), Some(Step::Tick { deletes: 1 })));
    assert!(matches!(Plan::of(&deletes(0, 2)).unwrap().otherwise.last(), Some(Step::Tick { deletes: 2 })));
}

#[test]
fn only_guards_write_nothing() {
    assert!(!Plan::of(&deletes(3, 0)).unwrap().writes());
    assert!(Plan::of(&deletes(0, 1)).unwrap().writes());
    assert!(Plan::of(&deletes(1, 1)).unwrap().writes());
}

#[test]
fn nonsense_is_an_error() {
    let txn = deletes(1, 0);
    let plan = Plan::of(&txn).unwrap();
    for answers in [vec![], vec![Answer::Found(Some(Revision::new(1)))]] {
        let reply = Reply { succeeded: false, answers };
        assert_eq!(plan.outcome(&reply, Revision::ZERO).unwrap_err().kind(), ErrorKind::Internal);
    }
}
