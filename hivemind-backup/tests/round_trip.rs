//! What is restored is what was backed up: full, incremental, after compaction, in part.

mod support;

use hivemind_backup::*;
use hivemind_core::*;
use proptest::prelude::*;
use support::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_full_backup_restores_the_store(state in states(), later in states()) {
        let world = World::new();
        world.set(&state);
        let backup = block_on(world.manager.full(&ctx(), &BackupOptions::default())).unwrap();
        world.set(&later);
        prop_assert_eq!(backup.records, u64::try_from(state.len()).unwrap());
        let counted: u64 = backup.components.values().map(|count| count.records).sum();
        prop_assert_eq!(counted, backup.records);
        prop_assert_eq!(world.restored(&backup.id), state);
    }

    #[test]
    fn every_link_of_a_chain_restores_its_state(
        all in prop::collection::vec((states(), any::<bool>()), 1..5),
    ) {
        let world = World::new();
        let options = BackupOptions::default();
        let mut made: Vec<(BackupId, State)> = Vec::new();
        for (state, compacted) in all {
            world.set(&state);
            if compacted {
                let newest = block_on(world.store.revision()).unwrap();
                block_on(world.store.compact(newest)).unwrap();
            }
            let backup = match made.last() {
                None => block_on(world.manager.full(&ctx(), &options)).unwrap(),
                Some((base, before)) => {
                    let backup = block_on(world.manager.incremental(&ctx(), base, &options)).unwrap();
                    let changed = state.iter().filter(|(key, value)| before.get(*key) != Some(*value)).count();
                    let gone = before.keys().filter(|key| !state.contains_key(*key)).count();
                    let counts = (backup.records, backup.deletions);
                    prop_assert_eq!(counts, (u64::try_from(changed).unwrap(), u64::try_from(gone).unwrap()));
                    backup
                }
            };
            made.push((backup.id, state));
        }
        for (id, state) in &made {
            prop_assert_eq!(&world.restored(id), state);
        }
    }
}

#[test]
fn a_scope_takes_its_records_only() {
    let world = World::new();
    for name in ["a/1", "a/2/3", "ab/1", "b", "c/1"] {
        world.put(key(name), name.into());
    }
    let options = BackupOptions::default().with_records_below(key("a")).with_records_below(key("c"));
    let backup = block_on(world.manager.full(&ctx(), &options)).unwrap();
    let found: Vec<_> = world.restored(&backup.id).into_keys().collect();
    assert_eq!(found, [key("a/1"), key("a/2/3"), key("c/1")]);
    let other = block_on(world.manager.incremental(&ctx(), &backup.id, &BackupOptions::default()));
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn the_markers_of_requests_are_state_like_any_other() {
    let world = World::new();
    let once = Once::new(&ctx().with_request("r9".parse().unwrap()), "op", Timestamp::EPOCH).unwrap();
    block_on(transact(&*world.store, &once, &[], |_, _| Ok(7_u8))).unwrap();
    let backup = block_on(world.manager.full(&ctx(), &BackupOptions::default())).unwrap();
    assert_eq!(world.restored(&backup.id), contents(&world.store));
    assert_eq!(backup.records, 1);
}

#[test]
fn bases_of_another_cluster_or_future_are_refused() {
    let world = World::new();
    world.put(key("a"), vec![1]);
    let full = block_on(world.manager.full(&ctx(), &BackupOptions::default())).unwrap();
    let refused = |other: World| {
        block_on(other.manager.incremental(&ctx(), &full.id, &BackupOptions::default())).unwrap_err().kind()
    };
    assert_eq!(refused(World::of(world.store.clone(), world.storage.clone(), "dev")), ErrorKind::Invalid);
    let young = std::sync::Arc::new(MemoryStore::new());
    assert_eq!(refused(World::of(young, world.storage.clone(), "prod")), ErrorKind::Conflict);
}

#[test]
fn a_base_in_use_is_not_deleted() {
    let world = World::new();
    let options = BackupOptions::default();
    let full = block_on(world.manager.full(&ctx(), &options)).unwrap();
    let above = block_on(world.manager.incremental(&ctx(), &full.id, &options)).unwrap();
    assert_eq!(block_on(world.manager.delete(&ctx(), &full.id)).unwrap_err().kind(), ErrorKind::Conflict);
    block_on(world.manager.delete(&ctx(), &above.id)).unwrap();
    block_on(world.manager.delete(&ctx(), &full.id)).unwrap();
    assert!(block_on(world.manager.list(&ctx())).unwrap().backups.is_empty());
}
