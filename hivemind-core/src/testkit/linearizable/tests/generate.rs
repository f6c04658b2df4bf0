//! Histories of clients of a correct store, and what spoils them.

use std::collections::BTreeMap;

use super::model::Model;
use super::words::key;
use crate::store::{Conflict, Guard, Key, Prefix, Record, Revision, ScanPage, ScanRequest, Txn};
use crate::testkit::SimRng;
use crate::testkit::linearizable::{Call, Operation, Outcome};

/// What kind of history to make.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) clients: usize,
    pub(super) operations: usize,
    pub(super) keys: u64,
    /// How many values there are; zero makes all different.
    pub(super) values: u64,
    /// How often a commit has an unknown outcome.
    pub(super) unknown_ppm: u32,
    /// How often a write is a delete.
    pub(super) delete_ppm: u32,
    /// How often the engine is used by others in between.
    pub(super) gap_ppm: u32,
}

/// Where a call is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Begun,
    Done(Outcome),
}

struct Generator {
    rng: SimRng,
    shape: Shape,
    now: u64,
    written: u64,
    model: Model,
    past: BTreeMap<Revision, Model>,
    operations: Vec<Operation>,
    /// Of each client, what it is doing.
    busy: Vec<Option<(usize, Phase)>>,
    /// Commits that nobody waits for any more.
    late: Vec<usize>,
}

/// What clients of a correct store see, in some interleaving.
pub(super) fn history(seed: u64, shape: Shape) -> Vec<Operation> {
    let mut generator = Generator {
        rng: SimRng::new(seed),
        shape,
        now: 0,
        written: 0,
        model: Model::default(),
        past: BTreeMap::from([(Revision::ZERO, Model::default())]),
        operations: Vec::new(),
        busy: vec![None; shape.clients],
        late: Vec::new(),
    };
    while generator.operations.len() < shape.operations || generator.busy.iter().any(Option::is_some) {
        generator.step();
    }
    generator.operations
}

impl Generator {
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.rng.below(n as u64)).unwrap()
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn step(&mut self) {
        if !self.late.is_empty() && self.rng.chance(50_000) {
            let nth = self.below(self.late.len());
            let late = self.late.swap_remove(nth);
            self.take_effect(late);
        }
        let client = self.below(self.shape.clients);
        match self.busy[client].take() {
            None if self.operations.len() >= self.shape.operations => {}
            None => {
                let (call, invoked) = (self.call(), self.tick());
                self.operations.push(Operation { client, call, invoked, completed: None });
                self.busy[client] = Some((self.operations.len() - 1, Phase::Begun));
            }
            Some((index, Phase::Begun)) => self.busy[client] = self.begun(index),
            Some((index, Phase::Done(outcome))) => {
                let now = self.tick();
                self.operations[index].completed = Some((now, outcome));
            }
        }
    }

    /// What becomes of a call that has begun.
    fn begun(&mut self, index: usize) -> Option<(usize, Phase)> {
        let commits = matches!(self.operations[index].call, Call::Commit(_));
        if !commits || !self.rng.chance(self.shape.unknown_ppm) {
            return Some((index, Phase::Done(self.take_effect(index))));
        }
        match self.rng.below(5) {
            0 => drop(self.take_effect(index)),
            1 => return None,
            2 => return Some((index, Phase::Done(Outcome::NotStarted))),
            3 => {}
            _ => self.late.push(index),
        }
        Some((index, Phase::Done(Outcome::Unknown)))
    }

    fn key(&mut self) -> Key {
        let number = self.rng.below(self.shape.keys);
        key(&format!("k/{number}"))
    }

    fn value(&mut self) -> String {
        self.written += 1;
        let number = if self.shape.values == 0 { self.written } else { self.rng.below(self.shape.values) };
        number.to_string()
    }

    fn call(&mut self) -> Call {
        match self.rng.below(20) {
            0..8 => Call::Get(self.key(), None),
            8 => Call::Get(self.key(), Some(self.model.newest).filter(|_| self.keeps_the_past())),
            9 => Call::Scan(ScanRequest::new(Prefix::new(["k"]).unwrap())),
            10 => Call::Scan(ScanRequest::new(Prefix::ROOT).after(self.key()).limit(2)),
            11 => Call::Revision,
            _ => Call::Commit(self.txn()),
        }
    }

    fn txn(&mut self) -> Txn {
        let mut txn = Txn::new();
        for _ in 0..self.rng.below(3) {
            let key = self.key();
            let found = self.model.map.get(&key).and_then(|(_, at)| *at);
            let guard = match (self.rng.below(6), found) {
                (0, _) => Guard::Exists,
                (1, _) | (_, None) => Guard::Absent,
                (2, Some(at)) => Guard::Unchanged(Revision::new(at.as_u64() - 1)),
                (_, Some(at)) => Guard::Unchanged(at),
            };
            drop(txn.guard(&key, guard));
        }
        for _ in 0..1 + self.rng.below(2) {
            let key = self.key();
            if self.rng.chance(self.shape.delete_ppm) {
                txn.delete(key);
            } else {
                txn.put(key, self.value());
            }
        }
        txn
    }

    fn keeps_the_past(&self) -> bool {
        self.shape.operations < 1000
    }

    /// The instant of the call.
    fn take_effect(&mut self, index: usize) -> Outcome {
        match self.operations[index].call.clone() {
            Call::Commit(txn) => self.commit(&txn),
            Call::Get(key, at) => {
                let model = at.map_or(&self.model, |at| &self.past[&at]);
                Outcome::Found(record(model, &key))
            }
            Call::Scan(request) => {
                let model = &self.model;
                let mut records: Vec<_> =
                    model.below(&request).filter_map(|key| record(model, key)).collect();
                let limit = request.limit.unwrap_or(usize::MAX);
                let more = records.len() > limit;
                records.truncate(limit);
                Outcome::Page(ScanPage::new(model.newest, records, more))
            }
            Call::Revision => Outcome::Newest(self.model.newest),
        }
    }

    fn commit(&mut self, txn: &Txn) -> Outcome {
        if let Some((key, found)) = self.model.refusal(txn) {
            let detail = Conflict::new(key, found.flatten());
            return Outcome::Conflict((!self.rng.chance(100_000)).then_some(detail));
        }
        if self.model.changes(txn) {
            let gap = if self.rng.chance(self.shape.gap_ppm) { self.rng.below(4) } else { 0 };
            let at = Revision::new(self.model.newest.as_u64() + 1 + gap);
            self.model.write(txn, Some(at));
            if self.keeps_the_past() {
                self.past.insert(at, self.model.clone());
            }
        }
        Outcome::Committed(self.model.newest)
    }
}

fn record(model: &Model, key: &Key) -> Option<Record> {
    let (value, at) = model.map.get(key)?;
    let at = (*at)?;
    Some(Record::new(key.clone(), value.clone(), at, at))
}

/// Changes one reply into another that looks as good.
pub(super) fn spoil(rng: &mut SimRng, operations: &mut [Operation]) {
    let replies: Vec<Outcome> =
        operations.iter().filter_map(|operation| Some(operation.completed.as_ref()?.1.clone())).collect();
    let records: Vec<Record> = replies.iter().flat_map(shown).collect();
    let pick = |rng: &mut SimRng, n: usize| usize::try_from(rng.below(n as u64)).unwrap();
    for _ in 0..100 {
        let nth = pick(rng, operations.len());
        let operation = &mut operations[nth];
        let Some((_, reply)) = &mut operation.completed else { continue };
        let before = reply.clone();
        match (rng.below(4), &mut *reply) {
            (0, Outcome::Committed(_) | Outcome::Conflict(_)) => *reply = Outcome::NotStarted,
            (0, Outcome::NotStarted | Outcome::Unknown) => *reply = Outcome::Committed(Revision::new(1)),
            (0, Outcome::Found(found @ Some(_))) => *found = None,
            (1, Outcome::Found(found)) if !records.is_empty() => {
                let mut other = records[pick(rng, records.len())].clone();
                other.key = found.take().map_or(other.key, |record| record.key);
                *found = Some(other);
            }
            (1, Outcome::Page(page)) if !page.records.is_empty() => {
                drop(page.records.remove(pick(rng, page.records.len())));
            }
            (2, Outcome::Found(Some(record))) => record.value = "0".into(),
            (_, Outcome::Committed(at) | Outcome::Newest(at)) => *at = nudged(rng, *at),
            (_, Outcome::Page(page)) => page.revision = nudged(rng, page.revision),
            (_, Outcome::Conflict(Some(conflict))) => {
                conflict.found = conflict.found.map(|at| nudged(rng, at))
            }
            (_, Outcome::Found(Some(record))) => record.mod_revision = nudged(rng, record.mod_revision),
            (_, Outcome::Unknown) => *reply = Outcome::NotStarted,
            _ => {}
        }
        if *reply != before {
            return;
        }
    }
}

fn nudged(rng: &mut SimRng, at: Revision) -> Revision {
    let by = 1 + rng.below(2);
    let number = at.as_u64();
    Revision::new(if rng.chance(500_000) { number + by } else { number.saturating_sub(by) })
}

fn shown(reply: &Outcome) -> Vec<Record> {
    match reply {
        Outcome::Found(found) => found.iter().cloned().collect(),
        Outcome::Page(page) => page.records.clone(),
        _ => Vec::new(),
    }
}
