//! What the memory provider writes down leads to the same provider again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hivemind_core::resources::ByteSize;
use hivemind_core::{Effect, Error, ErrorKind, OpToken, ProviderName, Result, TenantRef, block_on};
use hivemind_storage::{
    MemoryChange, MemoryJournal, MemoryProvider, StorageProvider, VolumeKey, VolumeOptions, conformance,
};

/// Keeps its lines as text, as a file would; fails while it is told to.
#[derive(Debug, Default)]
struct Lines {
    lines: Mutex<Vec<String>>,
    full: AtomicBool,
}

impl MemoryJournal for Lines {
    fn record(&self, change: &MemoryChange) -> Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Unavailable, "record", "the disk is full"));
        }
        self.lines.lock().unwrap().push(serde_json::to_string(change).unwrap());
        Ok(())
    }
}

impl Lines {
    fn replay(&self) -> MemoryProvider {
        let lines = self.lines.lock().unwrap();
        MemoryProvider::restored(name(), lines.iter().map(|line| serde_json::from_str(line).unwrap()))
    }
}

fn name() -> ProviderName {
    "memory".parse().unwrap()
}

fn pair() -> (Arc<Lines>, Arc<MemoryProvider>) {
    let lines = Arc::new(Lines::default());
    (lines.clone(), Arc::new(MemoryProvider::new(name()).losing_one_in(5).with_journal(lines)))
}

#[test]
fn whatever_the_suite_does_to_a_provider_is_written_down() {
    let pairs = Mutex::new(Vec::new());
    block_on(conformance::run_all(|| async {
        let (lines, provider) = pair();
        pairs.lock().unwrap().push((lines, provider.clone()));
        provider as Arc<dyn StorageProvider>
    }));
    let pairs = pairs.into_inner().unwrap();
    for (lines, provider) in &pairs {
        assert_eq!(lines.replay().changes(), provider.changes());
    }
    let kept = pairs.iter().filter(|(_, provider)| !provider.changes().is_empty()).count();
    assert!(kept >= 10, "only {kept} of {} cases left anything", pairs.len());
}

#[test]
fn content_survives_and_the_fewest_changes_lead_there_too() {
    let (lines, provider) = pair();
    let key = VolumeKey::new(
        TenantRef::new("acme".parse().unwrap(), hivemind_core::Generation::from_u64(1)),
        "data".parse().unwrap(),
    );
    let (token, node) = (OpToken::new("t"), "node-1".parse().unwrap());
    block_on(async {
        let (size, options) = (ByteSize::from_gib(1), VolumeOptions::default());
        while provider.create_volume(&token, &key, size, &options).await.is_err() {}
        while provider.attach_volume(&token, &key, &node).await.is_err() {}
    });
    provider.write(&key, &node, b"content").unwrap();
    let again = lines.replay();
    assert_eq!(again.content(&key).unwrap(), b"content");
    assert_eq!(again.changes().len(), 1);
    assert_eq!(MemoryProvider::restored(name(), again.changes()).changes(), provider.changes());
}

#[test]
fn a_journal_that_fails_leaves_the_outcome_unknown_and_a_repetition_heals_it() {
    let lines = Arc::new(Lines::default());
    let provider = MemoryProvider::new(name()).with_journal(lines.clone());
    let key = VolumeKey::new(TenantRef::system(), "data".parse().unwrap());
    let (token, size, options) = (OpToken::new("t"), ByteSize::from_gib(1), VolumeOptions::default());
    lines.full.store(true, Ordering::Relaxed);
    let failed = block_on(provider.create_volume(&token, &key, size, &options)).unwrap_err();
    assert_eq!((failed.effect(), failed.kind()), (Effect::Unknown, ErrorKind::Unavailable));
    assert!(lines.replay().changes().is_empty());
    lines.full.store(false, Ordering::Relaxed);
    block_on(provider.create_volume(&token, &key, size, &options)).unwrap();
    assert_eq!(lines.replay().changes(), provider.changes());
}
