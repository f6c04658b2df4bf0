//! Free ranges and free networks against plain sets, and the steps they take.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;

use hivemind_net::addr::{Cidr, IpFamily};
use hivemind_net::ipam::{FreeBits, FreePrefixes, FreeRanges};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    TakeFrom(u8),
    Take(u8),
    Put(u8),
    PutRange(u8, u8),
    Insert(u8, u8),
    Remove(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<u8>().prop_map(Step::TakeFrom),
        any::<u8>().prop_map(Step::Take),
        any::<u8>().prop_map(Step::Put),
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Step::PutRange(a, b)),
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Step::Insert(a, b)),
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Step::Remove(a, b)),
    ]
}

/// The ranges of a plain set.
fn ranges(set: &BTreeSet<u128>) -> Vec<(u128, u128)> {
    let mut found: Vec<(u128, u128)> = Vec::new();
    for &number in set {
        match found.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => found.push((number, number)),
        }
    }
    found
}

proptest! {
    /// The window lies at the bottom, in the middle, or at the very top of the numbers.
    #[test]
    fn ranges_are_a_set(base in prop::sample::select(vec![0, 1u128 << 64, u128::MAX - 255]),
                        steps in prop::collection::vec(step(), 1..80)) {
        let at = |n: u8| base + u128::from(n);
        let (mut free, mut model) = (FreeRanges::new(), BTreeSet::new());
        for step in steps {
            match step {
                Step::TakeFrom(n) => {
                    let expected = model.range(at(n)..).next().or(model.first()).copied();
                    prop_assert_eq!(free.take_from(at(n)), expected);
                    expected.map(|number| model.remove(&number));
                }
                Step::Take(n) => prop_assert_eq!(free.take(at(n)), model.remove(&at(n))),
                Step::Put(n) => prop_assert_eq!(free.put(at(n)), model.insert(at(n))),
                Step::PutRange(a, b) => {
                    let all: Vec<_> = (a..=b).map(at).collect();
                    let fits = !all.is_empty() && all.iter().all(|n| !model.contains(n));
                    prop_assert_eq!(free.put_range(at(a), at(b)), fits);
                    if fits { model.extend(all) }
                }
                Step::Insert(a, b) => {
                    free.insert(at(a), at(b));
                    model.extend((a..=b).map(at));
                }
                Step::Remove(a, b) => {
                    let gone: BTreeSet<_> = (a..=b).map(at).filter(|n| model.remove(n)).collect();
                    prop_assert_eq!(free.remove(at(a), at(b)), ranges(&gone));
                }
            }
            prop_assert_eq!(free.ranges().collect::<Vec<_>>(), ranges(&model));
            prop_assert_eq!(free.count(), model.len() as u128);
            prop_assert!((0..=255).all(|n| free.contains(at(n)) == model.contains(&at(n))));
            let back: FreeRanges = serde_json::from_str(&serde_json::to_string(&free).unwrap()).unwrap();
            prop_assert_eq!(&back, &free);
        }
    }

    /// Windows of some levels of words, so that words fill up and are split again, also at the very top of the numbers.
    #[test]
    fn bits_are_a_set(base in prop::sample::select(vec![0, (1u128 << 64) - 1000, u128::MAX - 9999]),
                      holes in prop::collection::vec((0u16..10_000, 0u16..3_000), 0..4),
                      steps in prop::collection::vec((0u8..4, 0u16..10_000, 0u16..600), 1..60)) {
        let at = |n: u16| base + u128::from(n);
        let mut all = FreeRanges::from_range(at(0), at(9_999));
        for (first, len) in holes {
            all.remove(at(first), at(first.saturating_add(len).min(9_999)));
        }
        let everything: BTreeSet<u128> = all.ranges().flat_map(|(first, last)| first..=last).collect();
        let (mut free, mut model) = (FreeBits::new(&all), everything.clone());
        for (step, number, times) in steps {
            for n in (number..10_000).take(usize::from(times) + 1) {
                match step {
                    0 => {
                        let expected = model.range(at(number)..).next().or(model.first()).copied();
                        prop_assert_eq!(free.take_from(at(number)), expected);
                        expected.map(|number| model.remove(&number));
                    }
                    1 => prop_assert_eq!(free.take(at(n)), model.remove(&at(n))),
                    _ => {
                        let absent = everything.contains(&at(n)) && model.insert(at(n));
                        if everything.contains(&at(n)) {
                            prop_assert_eq!(free.put(at(n)), absent);
                        }
                    }
                }
            }
            prop_assert_eq!(free.ranges(), ranges(&model));
            prop_assert_eq!((free.count(), free.is_empty()), (model.len() as u128, model.is_empty()));
            prop_assert!((0..10_000).all(|n| free.contains(at(n)) == model.contains(&at(n))));
        }
        // Whatever way it came there, it is the same again, and nothing is left behind when nothing is taken.
        for number in everything.difference(&model.clone()) {
            prop_assert!(free.put(*number));
        }
        prop_assert_eq!(free.ranges(), all.ranges().collect::<Vec<_>>());
        for number in &everything {
            prop_assert!(free.take(*number));
        }
        prop_assert!(free.is_empty() && free.ranges().is_empty() && free.take_from(0).is_none());
    }

    /// The model is the set of free addresses of a network of 64.
    #[test]
    fn prefixes_are_a_set(base in prop::sample::select(vec![0, u128::MAX - 63]),
                          steps in prop::collection::vec((any::<bool>(), 121u8..=128, 0u128..64), 1..80)) {
        let whole = Cidr::containing(IpFamily::V6, base, 122).unwrap();
        let mut free = FreePrefixes::new(IpFamily::V6);
        free.put(whole);
        let mut model: BTreeSet<u128> = (whole.first()..=whole.last()).collect();
        let addresses = |cidr: Cidr| cidr.first()..=cidr.last();
        for (put, len, offset) in steps {
            let cidr = Cidr::containing(IpFamily::V6, base + offset, len.max(122)).unwrap();
            if put {
                let apart = addresses(cidr).all(|n| !model.contains(&n));
                prop_assert_eq!(free.put(cidr), apart);
                if apart { model.extend(addresses(cidr)) }
            } else if offset % 3 == 0 {
                let whole = addresses(cidr).all(|n| model.contains(&n));
                prop_assert_eq!(free.take_exactly(cidr), whole);
                if whole { model.retain(|n| !cidr.contains(*n)) }
            } else {
                let any = (0..64).filter_map(|n| Cidr::containing(IpFamily::V6, base + n, len))
                    .any(|c| addresses(c).all(|n| model.contains(&n)));
                let taken = free.take(len);
                prop_assert_eq!(taken.is_some(), any, "/{}", len);
                if let Some(taken) = taken {
                    prop_assert!(taken.prefix_len() == len && addresses(taken).all(|n| model.remove(&n)));
                }
            }
            let kept: BTreeSet<_> = free.prefixes().flat_map(addresses).collect();
            prop_assert_eq!(&kept, &model);
            // Halves of one network are one network.
            let all: BTreeSet<_> = free.prefixes().map(|c| (c.prefix_len(), c.first())).collect();
            prop_assert!(all.iter().all(|(len, first)| !all.contains(&(*len, first ^ (1 << (128 - len))))));
        }
    }
}

#[test]
fn bits_of_all_numbers() {
    let mut free = FreeBits::new(&FreeRanges::from_range(0, u128::MAX));
    assert_eq!(free.count(), u128::MAX);
    assert_eq!((free.take_from(u128::MAX), free.take_from(u128::MAX)), (Some(u128::MAX), Some(0)));
    assert_eq!((free.count(), free.ranges()), (u128::MAX - 1, vec![(1, u128::MAX - 1)]));
    assert!(free.put(0) && free.put(u128::MAX) && !free.put(7));
    assert_eq!((free.count(), free.ranges()), (u128::MAX, vec![(0, u128::MAX)]));
    assert_eq!(FreeBits::default().take_from(0), None);
    assert!(!FreeBits::default().take(0) && FreeBits::default().is_empty());
}

#[test]
fn pitfall_07_fragments_cost_no_more_steps() {
    for fragments in [1u128, 1_000, 500_000] {
        // Every other number is free.
        let mut free = FreeRanges::from((0..fragments).map(|n| (n * 2, n * 2)).collect::<Vec<_>>());
        let start = free.probes();
        assert_eq!(
            free.take_from(fragments),
            Some(fragments + fragments % 2).filter(|n| *n < fragments * 2).or(Some(0))
        );
        assert!(free.put(1));
        free.take(1);
        assert!(free.probes() - start <= 10, "{} at {fragments}", free.probes() - start);
    }
    for nodes in [1u128, 1_000, 100_000, 500_000] {
        let pool: Cidr = "fd00::/32".parse().unwrap();
        let mut free = FreePrefixes::new(IpFamily::V6);
        free.put(pool);
        let all: Vec<_> = (0..nodes * 2).map(|_| free.take(64).unwrap()).collect();
        // Every other one comes back: nothing joins.
        assert!(all.iter().step_by(2).all(|cidr| free.put(*cidr)));
        let start = free.probes();
        let node = free.take(64).unwrap();
        assert!(free.put(node));
        let wide = free.take(60);
        assert!(wide.is_some() && free.probes() - start <= 3 * 128, "{} at {nodes}", free.probes() - start);
    }
}

#[test]
fn pitfall_08_any_size_and_difference() {
    for len in [0u8, 1, 63, 64, 65, 127, 128] {
        let pool = Cidr::containing(IpFamily::V6, u128::MAX, len).unwrap();
        let mut ranges = FreeRanges::from_range(pool.first(), pool.last());
        assert_eq!(ranges.take_from(u128::MAX), Some(u128::MAX));
        assert_eq!(ranges.take_from(u128::MAX), (len < 128).then_some(pool.first()));
        assert!(ranges.fragments() <= 1 && ranges.put(u128::MAX));
        for sub in len..=128 {
            let mut free = FreePrefixes::new(IpFamily::V6);
            assert!(free.put(pool));
            let first = free.take(sub).unwrap();
            assert_eq!((first.first(), first.prefix_len()), (pool.first(), sub));
            assert_eq!(free.fragments(), usize::from(sub - len));
            assert!(free.put(first) && free.fragments() == 1, "/{len} in /{sub}");
            assert!(free.take_exactly(Cidr::containing(IpFamily::V6, u128::MAX, sub).unwrap()));
        }
    }
    let all = FreeRanges::from_range(0, u128::MAX);
    assert_eq!((all.count(), all.fragments()), (u128::MAX, 1));
}

#[test]
fn a_length_that_the_family_lacks_changes_nothing() {
    let mut free = FreePrefixes::new(IpFamily::V4);
    let all: Cidr = "10.0.0.0/8".parse().unwrap();
    assert!(free.put(all));
    for len in [33, 64, 255] {
        assert_eq!((free.take(len), free.prefixes().collect::<Vec<_>>()), (None, vec![all]), "/{len}");
    }
    assert_eq!(free.take(32), Some("10.0.0.0/32".parse().unwrap()));
}
