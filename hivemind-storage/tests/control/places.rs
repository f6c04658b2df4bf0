//! Which volume a claim gets, and where a new one goes, against models that look at everything.

use std::collections::BTreeSet;

use hivemind_core::labels::Labels;
use hivemind_storage::{
    AccessMode, ClaimSpec, ReclaimPolicy, Topology, TopologyRequirement, VolumeOptions, choose_topology,
};
use proptest::prelude::*;

use super::world::{World, gib, memory};

fn zone(number: usize) -> Topology {
    Topology::everywhere().with("region", "R1").with("zone", format!("Z{number}"))
}

fn zones(numbers: &[usize]) -> Vec<Topology> {
    numbers.iter().copied().map(zone).collect()
}

/// What the specification allows: `requisite` and `preferred` of a volume that is to be in `count` zones.
fn chosen(
    requisite: &[usize],
    preferred: &[usize],
    offered: &[usize],
    count: usize,
) -> Option<Vec<Topology>> {
    choose_topology(&TopologyRequirement::new(zones(requisite), zones(preferred)), &zones(offered), count)
}

/// In how many zones, of which requisite, preferred and offered ones, and where the volume is accessible from then.
type Row = (usize, &'static [usize], &'static [usize], &'static [usize], Option<&'static [usize]>);

#[test]
fn the_table_of_the_csi_specification() {
    const ALL: &[usize] = &[1, 2, 3, 4, 5];
    let table: &[Row] = &[
        // requisite, x = n: all of them.
        (1, &[2], &[], ALL, Some(&[2])),
        (2, &[2, 3], &[], ALL, Some(&[2, 3])),
        // requisite, x < n: x of them.
        (1, &[2, 3], &[], ALL, Some(&[2])),
        (2, &[3, 4, 5], &[], ALL, Some(&[3, 4])),
        // requisite, x > n: all of them, and any others.
        (2, &[3], &[], ALL, Some(&[3, 1])),
        (3, &[4, 5], &[], ALL, Some(&[4, 5, 1])),
        // preferred: as many of them as there can be, in their order, and then of the other requisite ones.
        (1, &[2, 3], &[3], ALL, Some(&[3])),
        (1, &[2, 3], &[3], &[1, 2], Some(&[2])),
        (1, &[2, 3, 4, 5], &[4, 2], ALL, Some(&[4])),
        (1, &[2, 3, 4, 5], &[4, 2], &[2, 3, 5], Some(&[2])),
        (1, &[2, 3, 4, 5], &[4, 2], &[3, 5], Some(&[3])),
        (2, &[2, 3, 4, 5], &[5, 3], ALL, Some(&[5, 3])),
        (2, &[2, 3, 4, 5], &[5, 3], &[2, 4, 5], Some(&[5, 2])),
        (2, &[2, 3, 4, 5], &[5, 3], &[2, 4], Some(&[2, 4])),
        // Nothing of what is requisite is offered.
        (1, &[2], &[], &[1, 3], None),
        (2, &[2, 3], &[3], &[1], None),
        // What is preferred alone demands nothing.
        (1, &[], &[4], &[1, 3], Some(&[1])),
    ];
    for (count, requisite, preferred, offered, expected) in table {
        let found = chosen(requisite, preferred, offered, *count);
        assert_eq!(found, expected.map(zones), "{count} of {requisite:?}, {preferred:?}, from {offered:?}");
    }
}

/// The offered places by rank: preferred in their order, then requisite in theirs, then the others.
fn model(requisite: &[usize], preferred: &[usize], offered: &[usize], count: usize) -> Option<Vec<usize>> {
    let rank = |place: &usize| {
        let (wished, needed) =
            (preferred.iter().position(|one| one == place), requisite.iter().position(|one| one == place));
        (wished.unwrap_or(99), needed.unwrap_or(99), offered.iter().position(|one| one == place))
    };
    let mut ranked = offered.to_vec();
    ranked.sort_by_key(rank);
    let demanded = requisite.is_empty() || offered.iter().any(|place| requisite.contains(place));
    ranked.truncate(count);
    (demanded && !ranked.is_empty()).then_some(ranked)
}

fn some_zones() -> impl Strategy<Value = Vec<usize>> {
    prop::sample::subsequence((0..7).collect::<Vec<usize>>(), 0..7).prop_shuffle()
}

#[derive(Debug, Clone)]
struct Kind {
    size: u64,
    shared: bool,
    encrypted: bool,
    replicas: u8,
    fast: bool,
}

impl Kind {
    fn options(&self) -> VolumeOptions {
        let mode = if self.shared { AccessMode::ReadWriteMany } else { AccessMode::ReadWriteOnce };
        let labels = Labels::new().with("disk", if self.fast { "fast" } else { "slow" }).unwrap();
        VolumeOptions::default()
            .with_access_mode(mode)
            .with_encryption(self.encrypted)
            .with_replicas(self.replicas.try_into().unwrap())
            .with_labels(labels)
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    (1u64..6, any::<bool>(), any::<bool>(), 1u8..3, any::<bool>()).prop_map(
        |(size, shared, encrypted, replicas, fast)| Kind { size, shared, encrypted, replicas, fast },
    )
}

proptest! {
    #[test]
    fn places_are_chosen_as_by_a_model_that_ranks_them(
        requisite in some_zones(),
        preferences in some_zones(),
        offered in some_zones(),
        count in 1usize..5,
    ) {
        // Each preferred one is a requisite one, too, if there are any.
        let preferred: Vec<_> =
            preferences.into_iter().filter(|one| requisite.is_empty() || requisite.contains(one)).collect();
        let found = chosen(&requisite, &preferred, &offered, count);
        let expected = model(&requisite, &preferred, &offered, count);
        prop_assert_eq!(found, expected.map(|places| zones(&places)));
    }

    /// The model looks at every volume that is offered, and takes the smallest that fits; of equals the first by name.
    #[test]
    fn a_claim_gets_the_smallest_volume_that_fits(
        offers in prop::collection::vec(kind(), 0..7),
        claims in prop::collection::vec((kind(), any::<bool>()), 1..7),
    ) {
        let world = World::new(memory());
        for (number, kind) in offers.iter().enumerate() {
            let wish = ClaimSpec::new(format!("v{number}").parse().unwrap(), gib(kind.size));
            world.claim(&wish.with_options(kind.options()).with_reclaim(ReclaimPolicy::Retain)).unwrap();
        }
        world.settle();
        for number in 0..offers.len() {
            world.release(&format!("v{number}")).unwrap();
        }
        for number in 0..offers.len() {
            let volume = format!("v{number}").parse().unwrap();
            world.commit(|s, view, txn| s.stage_offer(view, txn, &world.ctx("acme"), &volume)).unwrap();
        }
        let mut free: BTreeSet<usize> = (0..offers.len()).collect();
        for (number, (want, picky)) in claims.iter().enumerate() {
            let name = format!("c{number}");
            let mut wish = ClaimSpec::new(name.parse().unwrap(), gib(want.size)).with_options(want.options());
            if *picky {
                wish = wish.with_selector("disk=fast".parse().unwrap());
            }
            let fits = |nth: &&usize| {
                let there = &offers[**nth];
                there.size >= want.size
                    && there.shared == want.shared
                    && (there.encrypted || !want.encrypted)
                    && there.replicas >= want.replicas
                    && (there.fast || !picky)
            };
            let expected = free.iter().filter(fits).min_by_key(|nth| (offers[**nth].size, **nth)).copied();
            let claimed = world.claim(&wish);
            match expected {
                Some(nth) => {
                    prop_assert_eq!(world.volume(&name).key.volume.to_string(), format!("v{nth}"));
                    free.remove(&nth);
                }
                // Who wants an offered one gets no other.
                None if *picky => prop_assert!(claimed.is_err()),
                None => prop_assert_eq!(world.volume(&name).key.volume.to_string(), name),
            }
        }
    }
}
