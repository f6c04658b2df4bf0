//! Providers against the conformance suite, and the suite itself: that it proves what can be claimed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod suite;

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::ByteSize;
use hivemind_core::{ErrorKind, OpToken, block_on};
use hivemind_storage::conformance::{self, Need};
use hivemind_storage::{
    AccessMode, AttachVolume, Capabilities, Capability, CreateVolume, MemoryProvider, NodeCapability,
    StorageProvider, VolumeOptions,
};
use suite::{Setup, memory, size, tenant_key};

/// Everything that can be claimed is proved; what can be left out is refused.
fn opposites() -> Vec<Need> {
    let modes = AccessMode::ALL.map(Need::WithoutAccessMode);
    let features = [
        Capability::Attach,
        Capability::Expand,
        Capability::ExpandOnline,
        Capability::Snapshots,
        Capability::RestoreInPlace,
        Capability::GroupSnapshots,
        Capability::Clone,
        Capability::GrowFromSource,
        Capability::Modify,
        Capability::ListVolumes,
        Capability::ListSnapshots,
        Capability::Capacity,
        Capability::Fence,
        Capability::Encryption,
        Capability::Replicas,
    ];
    let node = [NodeCapability::Stage, NodeCapability::Expand, NodeCapability::Stats];
    let mut needs: Vec<_> = modes.into_iter().chain(features.map(Need::Without)).collect();
    needs.extend(node.map(Need::WithoutNodeCapability));
    needs.extend([Need::WithoutBlock, Need::WithoutFilesystem]);
    needs
}

#[test]
fn whatever_can_be_claimed_is_needed_by_a_case() {
    let needed = |need: Need| conformance::cases().any(|case| case.needs.contains(&need));
    let node =
        [NodeCapability::Stage, NodeCapability::Expand, NodeCapability::Stats, NodeCapability::Condition];
    let claims = Capability::ALL.map(Need::Capability).into_iter();
    let claims = claims.chain(AccessMode::ALL.map(Need::AccessMode)).chain(node.map(Need::NodeCapability));
    let claims = claims.chain([Need::Block, Need::Filesystem, Need::Node]).chain(opposites());
    let unproved: Vec<_> = claims.filter(|claim| !needed(*claim)).collect();
    assert_eq!(unproved, vec![]);
}

#[test]
fn the_cases_are_many_and_have_names_of_their_own() {
    let mut names = BTreeMap::new();
    conformance::cases().for_each(|case| *names.entry(case.name).or_insert(0) += 1);
    let doubles: Vec<_> = names.iter().filter(|(_, times)| **times > 1).collect();
    assert_eq!(doubles, vec![]);
    assert!(names.len() >= 200, "{}", names.len());
}

#[test]
fn the_memory_provider_conforms_with_nothing_skipped_but_what_only_others_lack() {
    for (delay, loss) in [(0, 0), (2, 0), (0, 3), (3, 4)] {
        let setup = Setup { delay, loss, ..Setup::default() };
        let report = block_on(conformance::run_all(|| async { setup.fixture() }));
        assert_eq!(report.failed, vec![], "delay {delay}, loss {loss}");
        let skipped: BTreeSet<_> = report.skipped.iter().map(|(_, need)| format!("{need:?}")).collect();
        let absences: BTreeSet<_> = opposites().iter().map(|need| format!("{need:?}")).collect();
        assert!(skipped.is_subset(&absences), "{skipped:?}");
        assert!(report.passed.len() >= 170, "{}", report.passed.len());
    }
}

/// Without one thing at a time, so that also each case about an absence runs.
#[test]
fn the_memory_provider_conforms_whatever_it_lacks() {
    let mut ran: BTreeSet<&str> = BTreeSet::new();
    let mut run = |setup: Setup, what: &str| {
        let report = block_on(conformance::run_all(|| async { setup.fixture() }));
        assert_eq!(report.failed, vec![], "{what}");
        ran.extend(report.passed);
    };
    run(Setup::default(), "everything");
    for missing in Capability::ALL {
        let rests_on = |capability: &Capability| match missing {
            Capability::Attach => matches!(capability, Capability::AttachedNodes | Capability::Fence),
            Capability::Expand => *capability == Capability::ExpandOnline,
            Capability::Snapshots => {
                use Capability::{GroupSnapshots, ListSnapshots, RestoreInPlace};
                matches!(capability, RestoreInPlace | GroupSnapshots | ListSnapshots)
            }
            _ => false,
        };
        let left = Capability::ALL.into_iter().filter(|c| *c != missing && !rests_on(c));
        let able = Capabilities::new(left).with_access_modes(AccessMode::ALL).with_volume_modes(true, true);
        run(Setup { able, ..Setup::default() }, &format!("without {missing}"));
    }
    for missing in AccessMode::ALL {
        let left = AccessMode::ALL.into_iter().filter(|mode| *mode != missing);
        let able = suite::everything().with_access_modes(left);
        run(Setup { able, ..Setup::default() }, &format!("without {missing}"));
    }
    for (filesystem, block) in [(true, false), (false, true)] {
        let able = suite::everything().with_volume_modes(filesystem, block);
        run(Setup { able, ..Setup::default() }, "of one volume mode");
    }
    let none = Setup { able: Capabilities::new([]), node: vec![], ..Setup::default() };
    run(none, "nothing but volumes");
    let unplaced = Setup { places: false, ..Setup::default() };
    run(unplaced, "everywhere");
    let never: Vec<_> =
        conformance::cases().map(|case| case.name).filter(|name| !ran.contains(name)).collect();
    assert_eq!(never, Vec::<&str>::new());
}

#[test]
fn memory_is_full_at_its_capacity_and_counts_what_a_source_brings() {
    let small = memory().with_capacity(ByteSize::from_gib(1));
    let wish = |name: &str, gib| {
        let size = hivemind_storage::SizeRange::at_least(ByteSize::from_mib(gib)).unwrap();
        CreateVolume::new(OpToken::new(name), tenant_key(name), size, VolumeOptions::default())
    };
    let full = block_on(small.create_volume(&wish("a", 1025))).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Exhausted);
    let large = block_on(small.create_volume(&wish("b", 600))).unwrap().ready().unwrap();
    let copy = wish("c", 1).from_source(hivemind_storage::VolumeSource::Volume(large.volume));
    assert_eq!(block_on(small.create_volume(&copy)).unwrap_err().kind(), ErrorKind::Exhausted);
}

#[test]
fn memory_lets_only_writers_write_and_no_more_than_there_is_room_for() {
    let provider: MemoryProvider = memory();
    let options = VolumeOptions::default().with_access_mode(AccessMode::ReadOnlyMany);
    for (name, options, allowed) in [("read", options, false), ("write", VolumeOptions::default(), true)] {
        let mode = *options.access_modes.first().unwrap();
        let wish = CreateVolume::new(OpToken::new(name), tenant_key(name), size(), options);
        let volume = block_on(provider.create_volume(&wish)).unwrap().ready().unwrap().volume;
        let node = suite::nodes()[0].clone();
        assert!(
            provider.write(&volume, &hivemind_storage::NodeRef::from(node.clone()).handle, b"x").is_err()
        );
        let bring = AttachVolume::new(OpToken::new(name), volume.clone(), node.into());
        block_on(provider.attach_volume(&bring.clone().with_access_mode(mode))).unwrap();
        assert_eq!(provider.write(&volume, &bring.node.handle, b"x").is_ok(), allowed, "{name}");
        let too_much = vec![0; 1 + usize::try_from(size().required().as_bytes()).unwrap()];
        assert!(provider.write(&volume, &bring.node.handle, &too_much).is_err());
    }
}
