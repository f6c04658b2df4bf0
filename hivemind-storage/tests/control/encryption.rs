//! Encrypted volumes come with the key of their tenant.

use std::sync::Arc;

use hivemind_core::{MemoryKeys, SeededIds, block_on};
use hivemind_storage::{
    ProviderRegistry, VOLUME_KEY, VolumeController, VolumeKeys, VolumeOptions, VolumePhase,
};

use super::world::{World, memory, spec};

#[test]
fn an_encrypted_volume_keeps_the_key_it_was_made_with() {
    let world = World::new(memory());
    let kms = Arc::new(MemoryKeys::new(Arc::new(SeededIds::new(1))));
    kms.create("kek".parse().unwrap());
    let keys = VolumeKeys::new(Arc::new(world.store.clone()), kms, "kek".parse().unwrap());
    let mut providers = ProviderRegistry::new();
    providers.add(world.provider.clone()).unwrap();
    let controller = VolumeController::new(Arc::new(world.store.clone()), providers, world.clock.clone())
        .with_keys(keys.clone());
    let settle = || while block_on(controller.tick()).unwrap().changed() {};
    let encrypted = |name: &str| spec(name).with_options(VolumeOptions::default().with_encryption(true));

    world.claim(&encrypted("data")).unwrap();
    world.claim(&spec("plain")).unwrap();
    settle();
    let data = world.volume("data");
    assert_eq!((data.key_version, &data.phase), (Some(1), &VolumePhase::Ready));
    assert_eq!(world.volume("plain").key_version, None);
    let key = |volume: &hivemind_storage::Volume| {
        let secrets = block_on(keys.secrets(&volume.key, volume.key_version.unwrap())).unwrap();
        secrets.get(VOLUME_KEY).unwrap().expose().to_vec()
    };
    let before = key(&data);
    block_on(keys.rotate(&data.key.tenant)).unwrap();
    world.claim(&encrypted("later")).unwrap();
    settle();
    assert_eq!(world.volume("later").key_version, Some(2));
    assert_eq!((world.volume("data").key_version, key(&data)), (Some(1), before));

    // The tenant is gone, and so is what could be read.
    block_on(keys.erase(&data.key.tenant)).unwrap();
    world.attach("data", "n1").unwrap();
    assert!(block_on(controller.tick()).unwrap().failed > 0);
    let why =
        world.storage.explain_claim(&world.view(), &world.ctx("acme"), &"data".parse().unwrap()).unwrap();
    assert!(why.failing.unwrap().0.contains("was erased"));
}
