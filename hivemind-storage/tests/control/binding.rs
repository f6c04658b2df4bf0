//! From a claim to a volume.

use std::thread;

use hivemind_core::labels::Labels;
use hivemind_core::{ErrorKind, VolumeId};
use hivemind_storage::{
    AccessMode, ClaimSpec, PolicyRule, ReclaimPolicy, StoragePolicy, Topology, VolumeMode, VolumeOptions,
    VolumePhase,
};

use super::world::{World, class, gib, memory, spec};

/// Volumes of these sizes, kept after their claims are gone, and offered.
fn offered(world: &World, sizes: &[u64]) -> Vec<VolumeId> {
    // All of them are made before one is offered: a claim would be bound to it.
    for size in sizes {
        let wish = ClaimSpec::new(format!("v{size}").parse().unwrap(), gib(*size));
        world.claim(&wish.with_reclaim(ReclaimPolicy::Retain)).unwrap();
    }
    world.settle();
    let offer = |size: &u64| {
        let name = format!("v{size}");
        world.release(&name).unwrap();
        let volume: VolumeId = name.parse().unwrap();
        world.commit(|s, view, txn| s.stage_offer(view, txn, &world.ctx("acme"), &volume)).unwrap();
        volume
    };
    sizes.iter().map(offer).collect()
}

#[test]
fn the_smallest_offered_volume_that_fits_is_bound() {
    let world = World::new(memory());
    offered(&world, &[20, 5, 10]);
    let wish = ClaimSpec::new("data".parse().unwrap(), gib(6));
    world.claim(&wish).unwrap();
    let bound = world.volume("data");
    assert_eq!((bound.key.volume.as_str(), bound.size), ("v10", gib(10)));
    assert_eq!(bound.phase, VolumePhase::Ready, "it is there already");
    world.claim(&ClaimSpec::new("next".parse().unwrap(), gib(6))).unwrap();
    assert_eq!(world.volume("next").key.volume.as_str(), "v20");
    // Nothing fits any more: a new one is made.
    world.claim(&ClaimSpec::new("last".parse().unwrap(), gib(6))).unwrap();
    assert_eq!(world.volume("last").phase, VolumePhase::Creating);
}

#[test]
fn what_does_not_fit_is_not_bound() {
    let world = World::new(memory());
    offered(&world, &[5]);
    let shared = VolumeOptions::default().with_access_mode(AccessMode::ReadWriteMany);
    let block = VolumeOptions::default().with_volume_mode(VolumeMode::Block);
    let secret = VolumeOptions::default().with_encryption(true);
    for (number, options) in [shared, block, secret].into_iter().enumerate() {
        let name = format!("c{number}");
        world.claim(&spec(&name).with_options(options)).unwrap();
        assert_eq!(world.volume(&name).phase, VolumePhase::Creating, "{name}");
    }
    let labelled = spec("labelled").with_selector("disk=ssd".parse().unwrap());
    assert_eq!(world.claim(&labelled).unwrap_err().kind(), ErrorKind::NotFound);
    let other = spec("other").bound_to("v6".parse().unwrap());
    assert_eq!(world.claim(&other).unwrap_err().kind(), ErrorKind::NotFound);
    world.claim(&spec("named").bound_to("v5".parse().unwrap())).unwrap();
    assert_eq!(world.volume("named").size, gib(5));
}

#[test]
fn labels_choose_among_offers() {
    let world = World::new(memory());
    let labels = Labels::new().with("disk", "ssd").unwrap();
    let wish = spec("fast").with_options(VolumeOptions::default().with_labels(labels));
    world.claim(&wish.with_reclaim(ReclaimPolicy::Retain)).unwrap();
    world.settle();
    world.release("fast").unwrap();
    let name = "fast".parse().unwrap();
    world.commit(|s, view, txn| s.stage_offer(view, txn, &world.ctx("acme"), &name)).unwrap();
    world.claim(&spec("data").with_selector("disk in (ssd, nvme)".parse().unwrap())).unwrap();
    assert_eq!(world.volume("data").key.volume.as_str(), "fast");
}

#[test]
fn an_offer_of_one_tenant_is_nothing_to_another() {
    let world = World::new(memory());
    offered(&world, &[5]);
    let (globex, wish) = (world.ctx("globex"), spec("data"));
    world.commit(|s, view, txn| s.stage_claim(view, txn, &globex, &wish)).unwrap();
    let theirs =
        world.storage.volume(&world.view(), &hivemind_core::store::Txn::new(), &globex, &wish.id).unwrap();
    assert_eq!(theirs.phase, VolumePhase::Creating);
    let foreign = "v5".parse().unwrap();
    let taken = world.commit(|s, view, txn| s.stage_offer(view, txn, &globex, &foreign));
    assert_eq!(taken.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_class_says_what_its_volumes_are_like() {
    let world = World::new(memory());
    let gold = class("gold")
        .with_encryption(true)
        .with_parameter("tier", "1")
        .with_largest(gib(8))
        .with_expansion(false);
    world.commit(|s, view, txn| s.stage_class(view, txn, &gold)).unwrap();
    world.commit(|s, view, txn| s.stage_class(view, txn, &gold)).unwrap();
    let changed = gold.clone().with_parameter("tier", "2");
    let refused = world.commit(|s, view, txn| s.stage_class(view, txn, &changed)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);

    let mine = VolumeOptions::default().with_parameter("tier", "9");
    world.claim(&spec("data").of_class("gold".parse().unwrap()).with_options(mine)).unwrap();
    let volume = world.volume("data");
    assert!(volume.options.encryption);
    assert_eq!(volume.options.parameters["tier"], "1", "a claim does not override its class");

    let large = ClaimSpec::new("large".parse().unwrap(), gib(9)).of_class("gold".parse().unwrap());
    assert_eq!(world.claim(&large).unwrap_err().kind(), ErrorKind::Invalid);
    let unknown = world.claim(&spec("x").of_class("silver".parse().unwrap())).unwrap_err();
    assert_eq!(unknown.message(), "there is no class silver; there are: gold");
}

#[test]
fn pitfall_22_claims_that_race_for_volumes_get_one_each() {
    let world = World::new(memory());
    let volumes = 16;
    offered(&world, &(1..=volumes).collect::<Vec<_>>());
    // Four times as many claims as volumes, from 64 threads, each deciding on its own snapshot until it gets through.
    let bound: Vec<VolumeId> = thread::scope(|scope| {
        let racers: Vec<_> = (0..64)
            .map(|number| {
                let world = &world;
                scope.spawn(move || {
                    let only = VolumePhase::Ready;
                    let wish = spec(&format!("c{number}"));
                    loop {
                        match world.claim(&wish) {
                            Ok(()) => break,
                            Err(e) => assert_eq!(e.kind(), ErrorKind::Conflict, "{e}"),
                        }
                    }
                    let volume = world.volume(wish.id.as_str());
                    (volume.phase == only).then_some(volume.key.volume)
                })
            })
            .collect();
        racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
    });
    let mut distinct = bound.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(bound.len(), distinct.len(), "a volume has two claims");
    assert_eq!(u64::try_from(bound.len()).unwrap(), volumes, "an offered volume was left over");
}

fn zone(name: &str) -> Topology {
    Topology::everywhere().with("zone", name)
}

#[test]
fn a_rule_of_places_is_obeyed_when_a_volume_is_made_and_when_one_is_bound() {
    let world = World::new(memory().with_places(["a", "b", "c"].map(zone)));
    let mut rule = PolicyRule::new("residency");
    rule.allowed_topologies = vec![zone("b"), zone("c")];
    let policy = StoragePolicy::new([rule]);
    let acme = world.ctx("acme").tenant().id.clone();
    let ruled = |claim: &ClaimSpec| policy.decide(&acme, claim).claim;

    // One that is offered is in zone a, and so it is not taken, small as it is.
    offered(&world, &[1]);
    assert_eq!(world.volume_named("v1").topology, [zone("a")]);
    world.claim(&ruled(&spec("data"))).unwrap();
    world.settle();
    assert_eq!(world.volume("data").topology, [zone("b")]);
    world.claim(&spec("anywhere")).unwrap();
    assert_eq!(world.volume("anywhere").key.volume.as_str(), "v1");

    // The class has volumes elsewhere only.
    let class = class("in-a").with_allowed_topologies([zone("a")]);
    world.commit(|s, view, txn| s.stage_class(view, txn, &class)).unwrap();
    let refused = world.claim(&ruled(&spec("nowhere").of_class("in-a".parse().unwrap()))).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.message()),
        (
            ErrorKind::Invalid,
            "claim nowhere may be in zone=b or zone=c, and class in-a has volumes in zone=a only"
        )
    );
}

#[test]
fn copies_that_are_to_be_apart_need_as_many_places() {
    let world = World::new(memory().with_places(["a", "b"].map(zone)));
    let copies = VolumeOptions::default().with_replicas(2.try_into().unwrap());
    let apart = |name: &str| spec(name).with_options(copies.clone()).spread_over("zone");
    let refused = world.claim(&apart("data").with_allowed_topologies([zone("a")])).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.message().contains("the 2 copies of claim data are to differ in zone"));
    // A provider that has no place for the second copy is found out.
    world.claim(&apart("data").with_allowed_topologies([zone("a"), zone("b")])).unwrap();
    world.settle();
    let told = world.storage.explain_claim(&world.view(), &world.ctx("acme"), &"data".parse().unwrap());
    assert_eq!(told.unwrap().waits_for, ["its copies are to differ in zone, and do so in 1 of 2"]);
}
