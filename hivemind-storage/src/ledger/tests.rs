use std::collections::BTreeMap;

use hivemind_core::{Generation, TenantRef};
use proptest::prelude::*;

use super::*;
use crate::{VolumeKey, VolumeOptions};

fn volume(modes: &[AccessMode]) -> Volume {
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    let mut volume = Volume::new(VolumeKey::new(tenant, "data".parse().unwrap()), "disk".parse().unwrap());
    volume.options = VolumeOptions::default().with_access_modes(modes.iter().copied());
    volume.phase = VolumePhase::Ready;
    volume
}

fn on(node: &str) -> AttachSpec {
    AttachSpec::new(node.parse().unwrap())
}

#[test]
fn what_is_for_one_workload_has_one() {
    let mut volume = volume(&[AccessMode::ReadWriteOncePod]);
    assert!(volume.desire(&on("n1")).unwrap_err().message().ends_with("is for one workload: name it"));
    let first = on("n1").for_workload("web-0".parse().unwrap());
    volume.desire(&first).unwrap();
    volume.desire(&first).unwrap();
    let second = volume.desire(&on("n1").for_workload("web-1".parse().unwrap())).unwrap_err();
    assert_eq!(
        (second.kind(), second.message()),
        (ErrorKind::Conflict, "volume data is for one workload, and web-0 has it")
    );
    volume.undesire_for(&"n1".parse().unwrap(), Some(&"web-0".parse().unwrap()));
    assert!(volume.desired.is_empty() && volume.maybe_attached.len() == 1);
}

#[test]
fn one_node_shares_among_its_workloads_until_the_last_one_goes() {
    let mut volume = volume(&[AccessMode::ReadWriteOnce]);
    for workload in ["web-0", "web-1"] {
        volume.desire(&on("n1").for_workload(workload.parse().unwrap())).unwrap();
    }
    let node: NodeId = "n1".parse().unwrap();
    volume.undesire_for(&node, Some(&"web-0".parse().unwrap()));
    assert!(volume.desired.contains_key(&node));
    volume.undesire_for(&node, Some(&"web-1".parse().unwrap()));
    assert!(!volume.desired.contains_key(&node));
}

#[test]
fn a_mode_that_was_not_asked_for_is_not_given() {
    let mut volume = volume(&[AccessMode::ReadWriteOnce]);
    let wrong = volume.desire(&on("n1").with_access_mode(AccessMode::ReadWriteMany)).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Invalid);
}

#[test]
fn force_makes_a_new_epoch_once_and_whoever_stays_is_of_it() {
    let mut volume = volume(&[AccessMode::ReadWriteMany]);
    volume.desire(&on("n1")).unwrap();
    volume.desire(&on("n2")).unwrap();
    let lost: NodeId = "n1".parse().unwrap();
    for _ in 0..2 {
        volume.undesire(&lost, Some(&Fenced::PowerOff));
    }
    assert_eq!(volume.epoch, FenceEpoch::from_u64(1));
    assert_eq!(volume.epoch_for(&"n2".parse().unwrap()), volume.epoch);
    volume.undesire(&"n3".parse().unwrap(), Some(&Fenced::PowerOff));
    assert_eq!(volume.epoch, FenceEpoch::from_u64(1), "a node that never had it changes nothing");
}

fn mode() -> impl Strategy<Value = AccessMode> {
    prop::sample::select(AccessMode::ALL.to_vec())
}

proptest! {
    /// The reference knows no modes: it counts nodes and writers after each step.
    #[test]
    fn no_sequence_of_wishes_breaks_an_access_mode(
        modes in prop::collection::btree_set(mode(), 1..4),
        steps in prop::collection::vec((0u8..4, prop::option::of(mode()), any::<bool>(), 0u8..3), 1..30),
    ) {
        let modes: Vec<_> = modes.into_iter().collect();
        let mut volume = volume(&modes);
        for (node, mode, read_only, what) in steps {
            let node: NodeId = format!("n{node}").parse().unwrap();
            match what {
                0 => volume.undesire(&node, None),
                1 => volume.undesire(&node, Some(&Fenced::PowerOff)),
                _ => {
                    let mut spec = AttachSpec::new(node).for_workload("w".parse().unwrap());
                    (spec.access_mode, spec.read_only) = (mode, read_only);
                    let before = volume.clone();
                    if volume.desire(&spec).is_err() {
                        prop_assert_eq!(&volume, &before, "a refused wish changes nothing");
                    }
                }
            }
            let held: BTreeMap<_, _> = volume.desired.iter().collect();
            if held.len() > 1 {
                prop_assert!(held.values().all(|wish| wish.access_mode.is_shared()));
            }
            let writers = held.values().filter(|wish| !wish.read_only).count();
            for wish in held.values() {
                // A writer counts against everybody who is promised that there is one at most.
                if !wish.read_only && wish.access_mode.writers() == Some(1) {
                    prop_assert_eq!(writers, 1);
                }
                prop_assert!(wish.access_mode.writes() || wish.read_only);
            }
        }
    }
}
