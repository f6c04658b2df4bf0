//! Volumes that were at the provider before.

use hivemind_core::resources::ByteSize;
use hivemind_core::{ErrorKind, OpToken, block_on};
use hivemind_storage::{
    Adoption, AttachVolume, CreateVolume, SizeRange, StorageProvider, VolumeKey, VolumeOptions, VolumeRef,
    VolumeStatus,
};

use super::world::{World, memory, name, spec};

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
