//! Encrypted volumes come with the key of their tenant.

use std::sync::Arc;

use hivemind_core::{MemoryKeys, SeededIds, block_on};
use hivemind_storage::{
    ClaimSource, ProviderRegistry, VOLUME_KEY, Volume, VolumeKeys, VolumeOptions, VolumePhase,
};

use super::world::{World, controller, memory, spec};

#[test]
fn an_encrypted_volume_keeps_the_key_it_was_made_with() {
    let world = World::new(memory());
    let kms = Arc::new(MemoryKeys::new(Arc::new(SeededIds::new(1))));
    kms.create("kek".parse().unwrap());
    let keys = VolumeKeys::new(Arc::new(world.store.clone()), kms, "kek".parse().unwrap());
    let mut providers = ProviderRegistry::new();
    providers.add(world.provider.clone()).unwrap();
    let controller =
        controller(Arc::new(world.store.clone()), providers, world.clock.clone()).with_keys(keys.clone());
    let settle = || while block_on(controller.tick()).unwrap().changed() {};
    let encrypted = |name: &str| spec(name).with_options(VolumeOptions::default().with_encryption(true));

    let version = |volume: &Volume| volume.encrypted_with.as_ref().map(|key| key.version);

    world.claim(&encrypted("data")).unwrap();
    world.claim(&spec("plain")).unwrap();
    settle();
    let data = world.volume("data");
    assert_eq!((version(&data), &data.phase), (Some(1), &VolumePhase::Ready));
    assert_eq!(world.volume("plain").encrypted_with, None);
    let key = |volume: &Volume| {
        let secrets = block_on(keys.secrets(volume.encrypted_with.as_ref().unwrap())).unwrap();
        secrets.get(VOLUME_KEY).unwrap().expose().to_vec()
    };
    let before = key(&data);
    block_on(keys.rotate(&data.key.tenant)).unwrap();
    world.claim(&encrypted("later")).unwrap();
    settle();
    assert_eq!(version(&world.volume("later")), Some(2));
    assert_eq!((version(&world.volume("data")), key(&data)), (Some(1), before.clone()));

    // What has its content has its key, also when it is gone itself.
    let (name, s1) = ("data".parse().unwrap(), "s1".parse().unwrap());
    world.commit(|s, view, txn| s.stage_snapshot(view, txn, &world.ctx("acme"), &name, &s1)).unwrap();
    world.claim(&encrypted("clone").from_source(ClaimSource::Claim(name.clone()))).unwrap();
    settle();
    assert_eq!(key(&world.volume("clone")), before);
    world.release("data").unwrap();
    settle();
    let of_data = ClaimSource::Snapshot { volume: "data".parse().unwrap(), snapshot: s1 };
    world.claim(&encrypted("restored").from_source(of_data)).unwrap();
    world.claim(&encrypted("second").from_source(ClaimSource::Claim("clone".parse().unwrap()))).unwrap();
    settle();
    for copy in ["restored", "second"] {
        assert_eq!(
            (key(&world.volume(copy)), world.volume(copy).phase),
            (before.clone(), VolumePhase::Ready)
        );
    }
    assert_ne!(key(&world.volume("later")), before);

    // The tenant is gone, and so is what could be read.
    block_on(keys.erase(&data.key.tenant)).unwrap();
    world.attach("clone", "n1").unwrap();
    assert!(block_on(controller.tick()).unwrap().failed > 0);
    let why =
        world.storage.explain_claim(&world.view(), &world.ctx("acme"), &"clone".parse().unwrap()).unwrap();
    assert!(why.failing.unwrap().0.contains("was erased"));
}
