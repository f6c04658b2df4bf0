//! Power goes at any call to the disk, also inside the recovery from the time before; nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hivemind_core::store::{Key, Revision, Txn, Write};
use hivemind_core::testkit::SimRng;
use hivemind_core::{RedbOptions, RedbStore, StateStore, block_on};

use crate::disk::Disk;
use crate::{rounds, shown};

/// How often the machine starts in one seed; the last time the power stays on.
const LIVES: u64 = 6;

fn open(disk: &Disk) -> hivemind_core::Result<RedbStore> {
    let disk = disk.clone();
    RedbOptions::new().open_on("the platter", move || Ok(disk.clone()))
}

/// What a store would hold: each key with its value, and when it was created and last put.
#[derive(Debug, Default, Clone)]
struct Model(BTreeMap<Key, (String, u64, u64)>);

impl Model {
    /// Whether `txn` changes anything.
    fn apply(&mut self, txn: &Txn, revision: u64) -> bool {
        let mut changed = false;
        for (key, write) in txn.writes() {
            match write {
                Write::Put(value) => {
                    let created = self.0.get(key).map_or(revision, |old| old.1);
                    self.0.insert(key.clone(), (value.escape_ascii().to_string(), created, revision));
                    changed = true;
                }
                Write::Delete => changed |= self.0.remove(key).is_some(),
            }
        }
        changed
    }

    fn shown(&self) -> Vec<String> {
        self.0.iter().map(|(key, (value, created, at))| format!("{key}={value}@{created},{at}")).collect()
    }
}

/// What the store must hold after each transaction that was acknowledged or on its way.
#[derive(Debug)]
struct Oracle {
    after: BTreeMap<u64, Model>,
    acknowledged: u64,
}

impl Oracle {
    /// The store has just been opened: it shows an acknowledged state, or the one that was on its way.
    fn check(&mut self, store: &RedbStore) -> Result<(), String> {
        let newest = block_on(store.revision()).map_err(|e| e.to_string())?.as_u64();
        if newest < self.acknowledged {
            return Err(format!("revision {} was acknowledged, {newest} is there", self.acknowledged));
        }
        for at in [self.acknowledged, newest] {
            let found = shown(store, Some(Revision::new(at))).map_err(|e| e.to_string())?;
            let expected = self.after.get(&at).map(Model::shown);
            if Some(&found) != expected.as_ref() {
                return Err(format!("at revision {at} there is {found:?}, expected {expected:?}"));
            }
        }
        self.after.retain(|at, _| *at <= newest);
        self.acknowledged = newest;
        Ok(())
    }

    /// Works on the store until the power goes, or there is nothing more to do.
    fn work(&mut self, store: &RedbStore, rng: &mut SimRng) {
        for _ in 0..=rng.below(12) {
            let newest = self.acknowledged;
            if rng.below(6) == 0 {
                let at = Revision::new(newest - rng.below(newest.min(4) + 1));
                if block_on(store.compact(at)).is_err() {
                    return;
                }
                continue;
            }
            let txn = random_txn(rng);
            let mut next = self.after[&newest].clone();
            if next.apply(&txn, newest + 1) {
                self.after.insert(newest + 1, next);
            }
            match block_on(store.commit(&txn)) {
                Ok(revision) => self.acknowledged = revision.as_u64(),
                Err(_) => return,
            }
        }
    }
}

fn random_txn(rng: &mut SimRng) -> Txn {
    let mut txn = Txn::new();
    for _ in 0..=rng.below(3) {
        let key = Key::new([format!("k{}", rng.below(12))]).unwrap();
        if rng.below(4) == 0 {
            txn.delete(key);
        } else {
            let len = if rng.below(8) == 0 { 9_000 } else { rng.below(200) };
            let letter = b'a' + u8::try_from(rng.below(26)).unwrap();
            txn.put(key, vec![letter; usize::try_from(len).unwrap()]);
        }
    }
    txn
}

/// Lives one seed; says what was wrong, or how often the power went.
fn live(seed: u64, lies: bool) -> Result<u64, String> {
    let (mut rng, disk) = (SimRng::new(seed), Disk::default());
    let mut oracle = Oracle { after: BTreeMap::from([(0, Model::default())]), acknowledged: 0 };
    // A file becomes the store's by its name only when it is whole, so power never goes while it is made.
    drop(open(&disk).map_err(|e| e.to_string())?);
    let mut cuts = 0;
    for life in 1..=LIVES {
        {
            let mut platter = disk.0.lock().unwrap();
            platter.faults.lies = lies;
            let within = if rng.below(3) == 0 { 40 } else { 400 };
            let at = 1 + rng.below(within);
            platter.faults.off_at = (life < LIVES).then_some(at);
        }
        match open(&disk) {
            Ok(store) => {
                oracle.check(&store).map_err(|e| format!("seed {seed}, life {life}: {e}"))?;
                oracle.work(&store, &mut rng);
            }
            Err(e) if disk.0.lock().unwrap().is_on() => {
                return Err(format!("seed {seed}, life {life}: it does not open: {e}"));
            }
            Err(_) => {}
        }
        let percent = [0, 10, 50, 90, 100][usize::try_from(rng.below(5)).unwrap()];
        let mut platter = disk.0.lock().unwrap();
        cuts += u64::from(!platter.is_on());
        platter.power_cycle(&mut rng, percent);
    }
    let store = open(&disk).map_err(|e| format!("seed {seed}, in the end: {e}"))?;
    oracle.check(&store).map_err(|e| format!("seed {seed}, in the end: {e}"))?;
    Ok(cuts)
}

fn run(seeds: std::ops::Range<u64>) {
    let total = seeds.end - seeds.start;
    let cuts: u64 = seeds.map(|seed| live(seed, false).unwrap_or_else(|e| panic!("{e}"))).sum();
    // A simulation in which the power stays on would prove nothing.
    assert!(cuts > total * 2, "the power went {cuts} times in {total} seeds");
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_power_goes_first_half() {
    run(0..rounds(1_000) / 2);
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_power_goes_second_half() {
    run(rounds(1_000) / 2..rounds(1_000));
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let caught =
        |seed: &u64| catch_unwind(AssertUnwindSafe(|| live(*seed, true))).map_or(true, |told| told.is_err());
    let found = (0..50).filter(caught).count();
    assert!(found >= 40, "of 50 lying disks only {found} were found out");
}
