//! Damage, missing links and wrong keys are found before anything is restored, and no secret leaks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use hivemind_backup::*;
use hivemind_core::*;
use support::*;

/// Replaces the bytes of `id`.
fn tamper(world: &World, id: &BackupId, change: impl FnOnce(&mut Vec<u8>)) {
    let (metadata, bytes) = block_on(world.storage.retrieve_bytes(id)).unwrap();
    let mut bytes = bytes.to_vec();
    change(&mut bytes);
    block_on(world.storage.delete_backup(id)).unwrap();
    block_on(world.storage.store_bytes(&metadata, Bytes::from(bytes))).unwrap();
}

fn refused(world: &World, id: &BackupId) -> Error {
    let target: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
    let error = block_on(world.manager.restore(&ctx(), id, target.clone(), Timestamp::EPOCH)).unwrap_err();
    assert!(contents(&target).is_empty());
    let verified = block_on(world.manager.verify(&ctx(), id)).unwrap_err();
    assert_eq!(verified.kind(), error.kind());
    error
}

#[test]
fn damage_and_missing_links_are_found() {
    let bases = [CompressionLevel::None, CompressionLevel::default()];
    for options in bases.map(|level| BackupOptions::default().with_compression(level)) {
        let world = World::new();
        world.put(key("a"), vec![1; 500]);
        let full = block_on(world.manager.full(&ctx(), &options)).unwrap();
        world.put(key("b"), vec![2; 500]);
        let last = block_on(world.manager.incremental(&ctx(), &full.id, &options)).unwrap();
        let report = block_on(world.manager.verify(&ctx(), &last.id)).unwrap();
        assert_eq!((report.chain, report.records), (vec![full.id.clone(), last.id.clone()], 2));

        for at in 0..usize::try_from(full.stored_bytes).unwrap() {
            tamper(&world, &full.id, |bytes| bytes[at] ^= 1);
            assert_eq!(refused(&world, &last.id).kind(), ErrorKind::Corrupt, "byte {at}");
            tamper(&world, &full.id, |bytes| bytes[at] ^= 1);
        }
        tamper(&world, &full.id, |bytes| bytes.truncate(60));
        assert!(refused(&world, &last.id).detail::<Damage>().is_some());
        block_on(world.storage.delete_backup(&full.id)).unwrap();
        assert_eq!(refused(&world, &last.id).kind(), ErrorKind::Corrupt);
    }
}

#[cfg(feature = "encryption")]
#[test]
fn encrypted_backups_need_their_key_and_leak_nothing() {
    let world = World::new();
    world.put(key("a"), b"the-canary-sings".to_vec());
    let options = BackupOptions::default()
        .with_compression(CompressionLevel::None)
        .with_encryption("main".parse().unwrap());
    let backup = block_on(world.manager.full(&ctx(), &options)).unwrap();
    assert_eq!(world.restored(&backup.id), contents(&world.store));
    let (_, bytes) = block_on(world.storage.retrieve_bytes(&backup.id)).unwrap();
    assert!(!bytes.windows(10).any(|window| window == b"the-canary"));

    // `MemoryKeys` draws the data key from its ids first, so the test can know it.
    let ids = SeededIds::new(5);
    let secret = [ids.next_u128().to_le_bytes(), ids.next_u128().to_le_bytes()].concat();
    let json = serde_json::to_string(&backup).unwrap();
    let texts = [json, format!("{backup:?}"), format!("{:?}", world.manager), format!("{:?}", world.storage)];
    let list = secret.iter().map(u8::to_string).collect::<Vec<_>>();
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    for text in &texts {
        assert!(!text.contains(&list[..4].join(",")) && !text.contains(&list[..4].join(", ")));
        assert!(!text.contains(&hex[..8]));
    }
    assert!(!bytes.windows(8).any(|window| window == &secret[..8]));

    tamper(&world, &backup.id, |bytes| bytes[40] ^= 1);
    let error = refused(&world, &backup.id);
    assert_eq!(error.detail::<Damage>(), Some(&Damage::NotAuthentic(0)));
    assert!(!format!("{error:?}").contains(&list[..4].join(", ")));
    tamper(&world, &backup.id, |bytes| bytes[40] ^= 1);
    world.keys.destroy(&"main".parse().unwrap());
    assert_eq!(refused(&world, &backup.id).kind(), ErrorKind::NotFound);
    let stranger = World::of(world.store.clone(), world.storage.clone(), "prod");
    assert_eq!(refused(&stranger, &backup.id).kind(), ErrorKind::Denied);
}

#[cfg(not(feature = "encryption"))]
#[test]
fn without_the_feature_encryption_is_refused_and_nothing_stored() {
    let world = World::new();
    let options = BackupOptions::default().with_encryption("main".parse().unwrap());
    let error = block_on(world.manager.full(&ctx(), &options)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(block_on(world.manager.list(&ctx())).unwrap().backups.is_empty());
}
