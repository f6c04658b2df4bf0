//! Volumes that were at the provider before.

use hivemind_core::resources::ByteSize;
use hivemind_core::store::{Prefix, Txn};
use hivemind_core::{ErrorKind, OpToken, StateStore, block_on};
use hivemind_storage::{
    Adoption, AttachVolume, ClaimSource, CreateGroupSnapshot, CreateSnapshot, CreateVolume, GroupKey,
    OrphanSweep, SizeRange, SnapshotAdoption, SnapshotKey, StorageProvider, VolumeKey, VolumeOptions,
    VolumeRef, VolumeSnapshot, VolumeStatus,
};

use super::world::{World, gib, memory, name, spec};

/// A volume that somebody made at the provider, without telling.
fn made(world: &World) -> VolumeRef {
    let key = VolumeKey::new(world.ctx("acme").tenant().clone(), "legacy".parse().unwrap());
    let size = SizeRange::at_least(ByteSize::from_gib(4)).unwrap();
    let request = CreateVolume::new(OpToken::new("by hand"), key, size, VolumeOptions::default());
    block_on(world.provider.create_volume(&request)).unwrap().ready().unwrap().volume
}

fn adopt(
    world: &World,
    tenant: &str,
    volume: &VolumeRef,
    status: &VolumeStatus,
) -> hivemind_core::Result<()> {
    let wish = Adoption::new("legacy".parse().unwrap(), name(), volume.handle.clone());
    world.commit(|s, view, txn| s.stage_adoption(view, txn, &world.ctx(tenant), &wish, status))
}

#[test]
fn an_adopted_volume_is_offered_to_its_tenant() {
    let world = World::new(memory());
    let volume = made(&world);
    let status = || block_on(world.provider.get_volume_status(&volume)).unwrap();
    let attach = AttachVolume::new(OpToken::new("by hand"), volume.clone(), super::world::node("n9").into());
    block_on(world.provider.attach_volume(&attach)).unwrap();
    assert_eq!(adopt(&world, "acme", &volume, &status()).unwrap_err().kind(), ErrorKind::Conflict);
    let detach =
        hivemind_storage::DetachVolume::new(OpToken::new("by hand"), volume.clone(), attach.node.clone());
    block_on(world.provider.detach_volume(&detach)).unwrap();

    let stolen = adopt(&world, "globex", &volume, &status()).unwrap_err();
    assert_eq!(stolen.kind(), ErrorKind::NotFound, "the provider knows it as another tenant's");
    adopt(&world, "acme", &volume, &status()).unwrap();
    assert_eq!(
        adopt(&world, "acme", &volume, &status()).unwrap_err().kind(),
        ErrorKind::NotFound,
        "it has an owner"
    );
    world.claim(&spec("data")).unwrap();
    assert_eq!(world.volume("data").made(), Some(volume));
    world.attach("data", "n1").unwrap();
    world.settle();
    assert!(world.nodes_of("data").contains("n1"));
}

#[test]
fn an_adopted_volume_does_not_get_the_snapshots_of_an_earlier_one_of_its_name() {
    let world = World::new(memory());
    world.ready("legacy");
    let (claim, old) = ("legacy".parse().unwrap(), "old".parse().unwrap());
    world.commit(|s, view, txn| s.stage_snapshot(view, txn, &world.ctx("acme"), &claim, &old)).unwrap();
    world.settle();
    world.release("legacy").unwrap();
    world.settle();
    let volume = made(&world);
    let status = || block_on(world.provider.get_volume_status(&volume)).unwrap();
    let taken = adopt(&world, "acme", &volume, &status()).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists, "{taken}");
    assert!(taken.message().contains("were kept"), "{taken}");
    let name = "legacy".parse().unwrap();
    world
        .commit(|s, view, txn| s.stage_snapshot_removal(view, txn, &world.ctx("acme"), &name, &old))
        .unwrap();
    world.settle();
    adopt(&world, "acme", &volume, &status()).unwrap();
}

/// A snapshot `name` of a volume, of which the provider alone knows: such as one that was received there.
fn received(world: &World, of: &VolumeRef, name: &str) -> VolumeSnapshot {
    let key = SnapshotKey::new(of.key.clone(), name.parse().unwrap());
    let request = CreateSnapshot::new(OpToken::new("by hand"), key, of.clone());
    block_on(world.provider.create_snapshot(&request)).unwrap().ready().unwrap()
}

/// The same from a provider that does not know our names, such as a CSI driver.
fn nameless(seen: &VolumeSnapshot) -> VolumeSnapshot {
    let mut seen = seen.clone();
    seen.key = None;
    seen
}

fn adopt_snapshot(
    world: &World,
    tenant: &str,
    (volume, snapshot): (&str, &str),
    seen: &VolumeSnapshot,
) -> Result<(), ErrorKind> {
    let (volume, snapshot) = (volume.parse().unwrap(), snapshot.parse().unwrap());
    let wish = SnapshotAdoption::new(volume, snapshot, name(), seen.handle.clone());
    let ctx = world.ctx(tenant);
    let done = world.commit(|s, view, txn| s.stage_snapshot_adoption(view, txn, &ctx, &wish, seen));
    done.map_err(|e| e.kind())
}

#[test]
fn an_adopted_snapshot_is_its_tenants_like_any_other() {
    let world = World::new(memory());
    let made = world.ready("data").made().unwrap();
    world.attach("data", "n1").unwrap();
    world.settle();
    world.provider.write(&made, &"n1".parse().unwrap(), b"sent").unwrap();
    let seen = received(&world, &made, "arrived");
    for (tenant, of) in
        [("globex", ("data", "arrived")), ("acme", ("data", "other")), ("acme", ("log", "arrived"))]
    {
        assert_eq!(adopt_snapshot(&world, tenant, of, &seen), Err(ErrorKind::NotFound), "{tenant} {of:?}");
    }
    adopt_snapshot(&world, "acme", ("data", "arrived"), &seen).unwrap();
    assert_eq!(adopt_snapshot(&world, "acme", ("data", "arrived"), &seen), Err(ErrorKind::NotFound));
    assert_eq!(world.storage.usage(&world.view(), &world.ctx("acme")).unwrap().snapshot_bytes, gib(1));

    // It is no leak any more, volumes are made of it, and it goes as it came.
    let quarantine = std::time::Duration::ZERO;
    for _ in 0..3 {
        let swept = block_on(world.controller.sweep_orphans(quarantine)).unwrap();
        assert_eq!(swept, OrphanSweep::default());
    }
    let source =
        ClaimSource::Snapshot { volume: "data".parse().unwrap(), snapshot: "arrived".parse().unwrap() };
    world.claim(&spec("copy").from_source(source)).unwrap();
    world.settle();
    assert_eq!(world.provider.content(&world.volume("copy").made().unwrap()).unwrap(), b"sent");
    let (volume, snapshot) = ("data".parse().unwrap(), "arrived".parse().unwrap());
    world
        .commit(|s, view, txn| s.stage_snapshot_removal(view, txn, &world.ctx("acme"), &volume, &snapshot))
        .unwrap();
    world.settle();
    assert_eq!(world.there(), (2, 0));
    let left = Prefix::new(["storage", "adopted-snapshots"]).unwrap();
    assert_eq!(world.view().scan(&left).count(), 0);
}

#[test]
fn a_snapshot_without_a_name_of_ours_belongs_to_whose_volume_it_is_of() {
    let world = World::new(memory());
    let (made, other) = (world.ready("data").made().unwrap(), world.ready("other").made().unwrap());
    let seen = nameless(&received(&world, &made, "x"));
    for (tenant, of) in [
        ("globex", ("data", "s")),
        ("globex", ("mine", "s")),
        ("acme", ("other", "s")),
        ("acme", ("gone", "s")),
    ] {
        assert_eq!(adopt_snapshot(&world, tenant, of, &seen), Err(ErrorKind::NotFound), "{tenant} {of:?}");
    }
    // Two decide at once, by two names: one of them is too late.
    let (view, ctx) = (world.view(), world.ctx("acme"));
    let commit = |snapshot: &str| {
        let wish = SnapshotAdoption::new(
            "data".parse().unwrap(),
            snapshot.parse().unwrap(),
            name(),
            seen.handle.clone(),
        );
        let mut txn = Txn::new();
        world.storage.stage_snapshot_adoption(&view, &mut txn, &ctx, &wish, &seen).unwrap();
        block_on(world.store.commit(&txn)).map(|_| ()).map_err(|e| e.kind())
    };
    assert_eq!((commit("s1"), commit("s2")), (Ok(()), Err(ErrorKind::Conflict)));

    // Once its volume is gone, it is still nobody else's.
    world.release("data").unwrap();
    world.settle();
    assert_eq!(adopt_snapshot(&world, "globex", ("data", "s"), &seen), Err(ErrorKind::NotFound));
    // Of a volume that nobody knows any more, whoever says so first has it.
    let stray = nameless(&received(&world, &other, "y"));
    let volume = world.volume("other");
    block_on(world.provider.delete_volume(&OpToken::new("behind"), &volume.made().unwrap())).unwrap();
    world.release("other").unwrap();
    world.settle();
    adopt_snapshot(&world, "globex", ("imported", "s"), &stray).unwrap();
    assert_eq!(adopt_snapshot(&world, "acme", ("imported", "s"), &stray), Err(ErrorKind::NotFound));
}

#[test]
fn what_is_no_whole_snapshot_is_not_adopted() {
    let world = World::new(memory());
    let (data, log) = (world.ready("data").made().unwrap(), world.ready("log").made().unwrap());
    let seen = received(&world, &data, "one");
    let adopt = |seen: &VolumeSnapshot| adopt_snapshot(&world, "acme", ("data", "one"), seen);
    assert_eq!(adopt(&seen.clone().with_ready(false)), Err(ErrorKind::Conflict));
    let key = GroupKey::new(data.key.tenant.clone(), "both".parse().unwrap());
    let request = CreateGroupSnapshot::new(OpToken::new("g"), key, vec![data, log]);
    let group = block_on(world.provider.create_group_snapshot(&request)).unwrap().ready().unwrap();
    let member = group.snapshots.iter().find(|one| one.source == seen.source).unwrap();
    let adopted = adopt_snapshot(&world, "acme", ("data", "both"), member);
    assert_eq!(adopted, Err(ErrorKind::Invalid));
    // It may be the one that is just being taken, of which nothing is written down yet.
    let (claim, taken) = ("data".parse().unwrap(), "two".parse().unwrap());
    world.commit(|s, view, txn| s.stage_snapshot(view, txn, &world.ctx("acme"), &claim, &taken)).unwrap();
    assert_eq!(adopt(&nameless(&seen)), Err(ErrorKind::Conflict));
    world.settle();
    adopt(&nameless(&seen)).unwrap();
    let two = received(&world, &world.volume("data").made().unwrap(), "three");
    assert_eq!(
        adopt_snapshot(&world, "acme", ("data", "two"), &nameless(&two)),
        Err(ErrorKind::AlreadyExists)
    );
}
