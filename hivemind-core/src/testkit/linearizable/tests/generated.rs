//! The checker against brute force, and at size.

use proptest::prelude::*;

use super::brute;
use super::generate::{Shape, history, spoil};
use crate::testkit::SimRng;
use crate::testkit::linearizable::{Call, History, Operation, Outcome, Violation, check};

fn shape(operations: usize) -> impl Strategy<Value = Shape> {
    let rate = || prop_oneof![Just(0u32), Just(100_000), Just(300_000), Just(700_000)];
    (1..6usize, 1..4u64, 0..3u64, rate(), rate(), rate()).prop_map(
        move |(clients, keys, values, unknown_ppm, delete_ppm, gap_ppm)| Shape {
            clients,
            operations,
            keys,
            values,
            unknown_ppm,
            delete_ppm,
            gap_ppm,
        },
    )
}

fn shown(operations: &[Operation]) -> String {
    operations.iter().map(|operation| format!("\n  {operation}")).collect()
}

/// What brute force and the checker say of the same history.
fn agree(operations: Vec<Operation>) -> Result<bool, TestCaseError> {
    let expected = brute::linearizable(&operations);
    let found = check(&History::of(operations.clone()));
    let undecided = matches!(found, Err(Violation::Undecided { .. }));
    prop_assert!(!undecided);
    prop_assert_eq!(found.is_ok(), expected, "{:?}{}", found, shown(&operations));
    Ok(expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_a_correct_store_says_is_linearizable(seed: u64, shape in shape(7)) {
        prop_assert!(agree(history(seed, shape))?);
    }

    #[test]
    fn what_is_spoilt_is_judged_as_by_brute_force(seed: u64, shape in shape(7), times in 1..3) {
        let mut operations = history(seed, shape);
        let mut rng = SimRng::new(seed ^ 1);
        for _ in 0..times {
            spoil(&mut rng, &mut operations);
        }
        agree(operations)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn longer_ones_too(seed: u64, shape in shape(200)) {
        let shape = Shape { unknown_ppm: shape.unknown_ppm.min(100_000), ..shape };
        let operations = history(seed, shape);
        let found = check(&History::of(operations.clone()));
        prop_assert!(found.is_ok(), "{}{}", found.unwrap_err(), shown(&operations));
    }
}

const LARGE: Shape = Shape {
    clients: 8,
    operations: 10_000,
    keys: 20,
    values: 0,
    unknown_ppm: 50_000,
    delete_ppm: 50_000,
    gap_ppm: 0,
};

#[test]
fn ten_thousand_operations_need_hardly_any_search() {
    for shape in [
        LARGE,
        Shape { gap_ppm: 500_000, ..LARGE },
        Shape { values: 5, ..LARGE },
        Shape { unknown_ppm: 200_000, delete_ppm: 0, ..LARGE },
        Shape { unknown_ppm: 20_000, delete_ppm: 200_000, ..LARGE },
    ] {
        let report = check(&History::of(history(1, shape))).unwrap();
        assert!(report.configurations < 5_000, "{shape:?}: {}", report.configurations);
    }
}

/// Of two reads of a key with a commit to it between them, gives the second the reply of the first.
fn made_stale(operations: &mut [Operation], from: usize) -> Option<usize> {
    let read = |operation: &Operation| match (&operation.call, &operation.completed) {
        (Call::Get(key, None), Some((end, Outcome::Found(Some(record))))) => {
            Some((key.clone(), operation.invoked, *end, record.clone()))
        }
        _ => None,
    };
    let reads: Vec<_> = (from..operations.len()).filter_map(|n| Some((n, read(&operations[n])?))).collect();
    let (nth, old) = reads.iter().find_map(|(_, (key, _, end, old))| {
        let newer = reads.iter().find(|(_, (other, begin, _, record))| {
            other == key && begin > end && record.mod_revision > old.mod_revision
        })?;
        // Somebody else saw the newer one before.
        let seen = &newer.1.3.mod_revision;
        let later = reads.iter().find(|(_, (other, begin, _, record))| {
            other == key && *begin > newer.1.2 && record.mod_revision >= *seen
        })?;
        Some((later.0, old.clone()))
    })?;
    operations[nth].completed.as_mut()?.1 = Outcome::Found(Some(old));
    Some(nth)
}

/// Also where the search for an order of all operations would be given up.
#[test]
fn one_stale_read_in_ten_thousand_operations_is_found() {
    for shape in [LARGE, Shape { unknown_ppm: 300_000, delete_ppm: 200_000, values: 5, ..LARGE }] {
        for (seed, from) in [(1, 0), (2, 5_000), (3, 9_000)] {
            let mut operations = history(seed, shape);
            let nth = made_stale(&mut operations, from).unwrap();
            let stale = operations[nth].clone();
            let violation = check(&History::of(operations)).unwrap_err();
            assert!(violation.operations().contains(&&stale), "{stale}\n{violation}");
        }
    }
}

#[test]
fn what_is_spoilt_at_size_is_decided() {
    for seed in 0..10 {
        let mut operations = history(seed, LARGE);
        spoil(&mut SimRng::new(seed), &mut operations);
        let undecided = matches!(check(&History::of(operations)), Err(Violation::Undecided { .. }));
        assert!(!undecided, "seed {seed}");
    }
}
