//! What several tests share.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part, and these are tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use hivemind_backup::{BackupManager, BackupStorage, MemoryBackups};
use hivemind_core::store::{Key, Prefix, Txn};
use hivemind_core::*;
use proptest::prelude::*;

pub(crate) type State = BTreeMap<Key, Vec<u8>>;

pub(crate) fn ctx() -> TenantContext {
    let tenant = TenantRef::new("ops".parse().unwrap(), Generation::from_u64(1));
    TenantContext::new(tenant, Principal::User("ada".parse().unwrap()), "r1".parse().unwrap())
}

pub(crate) fn key(text: &str) -> Key {
    Key::from_bytes(text.as_bytes()).unwrap()
}

/// A source, a storage and a manager of both.
pub(crate) struct World {
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) storage: Arc<dyn BackupStorage>,
    pub(crate) keys: Arc<MemoryKeys>,
    pub(crate) manager: BackupManager,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(Arc::new(MemoryStore::new()), Arc::new(MemoryBackups::new()), "prod")
    }

    pub(crate) fn of(store: Arc<dyn StateStore>, storage: Arc<dyn BackupStorage>, cluster: &str) -> Self {
        let ids = Arc::new(SeededIds::new(3));
        let keys = Arc::new(MemoryKeys::new(Arc::new(SeededIds::new(5))));
        keys.create("main".parse().unwrap());
        let source = Arc::new(Arc::clone(&store));
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(9)));
        let cluster = cluster.parse().unwrap();
        let manager = BackupManager::new(source, storage.clone(), Some(keys.clone()), clock, ids, cluster);
        Self { store, storage, keys, manager }
    }

    /// Makes the store hold exactly `state`, one transaction a key.
    pub(crate) fn set(&self, state: &State) {
        let now = contents(&self.store);
        for (key, value) in state.iter().filter(|(key, value)| now.get(*key) != Some(*value)) {
            self.put(key.clone(), value.clone());
        }
        for key in now.into_keys().filter(|key| !state.contains_key(key)) {
            let mut txn = Txn::new();
            txn.delete(key);
            block_on(self.store.commit(&txn)).unwrap();
        }
    }

    pub(crate) fn put(&self, key: Key, value: Vec<u8>) {
        let mut txn = Txn::new();
        txn.put(key, value);
        block_on(self.store.commit(&txn)).unwrap();
    }

    pub(crate) fn restored(&self, id: &BackupId) -> State {
        let target: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        block_on(self.manager.restore(&ctx(), id, target.clone(), Timestamp::EPOCH)).unwrap();
        contents(&target)
    }
}

pub(crate) fn contents(store: &Arc<dyn StateStore>) -> State {
    let (_, records) = block_on(store.scan_all(&Prefix::ROOT, None)).unwrap();
    records.into_iter().map(|record| (record.key, record.value.to_vec())).collect()
}

/// Random states: few keys, so that later ones meet earlier ones; binary keys, empty and huge values.
pub(crate) fn states() -> impl Strategy<Value = State> {
    let segment = prop::sample::select(vec![&b"a"[..], b"b", b".", b"\xff\x00", b"core", b"0"]);
    let keys = prop::collection::vec(segment, 1..4).prop_map(|segments| Key::new(segments).unwrap());
    let values = prop_oneof![
        20 => prop::collection::vec(any::<u8>(), 0..30),
        1 => (any::<u8>(), 200_000..1_000_000_usize).prop_map(|(b, n)| vec![b; n]),
    ];
    prop::collection::btree_map(keys, values, 0..40)
}
