//! What the memory provider writes down leads to the same provider again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod suite;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hivemind_core::{Effect, Error, ErrorKind, OpToken, Result, block_on};
use hivemind_storage::{
    AttachVolume, CreateVolume, FenceEpoch, MemoryChange, MemoryJournal, MemoryProvider, NodeRef,
    StorageProvider, VolumeOptions, conformance,
};
use suite::{Setup, memory, nodes, size, tenant_key};

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
        let changes = lines.iter().map(|line| serde_json::from_str(line).unwrap());
        MemoryProvider::restored("memory".parse().unwrap(), changes)
    }
}

#[test]
fn whatever_the_suite_does_to_a_provider_is_written_down() {
    let pairs = Mutex::new(Vec::new());
    let setup = Setup { loss: 5, ..Setup::default() };
    let report = block_on(conformance::run_all(|| async {
        let lines = Arc::new(Lines::default());
        let provider = Arc::new(setup.provider().with_journal(lines.clone()));
        pairs.lock().unwrap().push((lines, provider.clone()));
        setup.fixture_of(provider)
    }));
    assert_eq!(report.failed, vec![]);
    let pairs = pairs.into_inner().unwrap();
    for (lines, provider) in &pairs {
        assert_eq!(lines.replay().changes(), provider.changes());
    }
    let kept = pairs.iter().filter(|(_, provider)| !provider.changes().is_empty()).count();
    assert!(kept >= 100, "only {kept} of {} cases left anything", pairs.len());
}

#[test]
fn content_survives_and_the_fewest_changes_lead_there_too() {
    let lines = Arc::new(Lines::default());
    let provider = memory().losing_one_in(5).with_journal(lines.clone());
    let wish = CreateVolume::new(OpToken::new("t"), tenant_key("data"), size(), VolumeOptions::default());
    let node = NodeRef::from(nodes()[0].clone());
    let volume = loop {
        if let Ok(made) = block_on(provider.create_volume(&wish)) {
            break made.ready().unwrap().volume;
        }
    };
    let bring = AttachVolume::new(OpToken::new("t"), volume.clone(), node.clone());
    while block_on(provider.attach_volume(&bring)).is_err() {}
    provider.write(&volume, &node.handle, b"content").unwrap();
    let again = lines.replay();
    assert_eq!(again.content(&volume).unwrap(), b"content");
    assert_eq!(again.changes().len(), 1);
    let name = "memory".parse().unwrap();
    assert_eq!(MemoryProvider::restored(name, again.changes()).changes(), provider.changes());
}

#[test]
fn no_handle_is_given_twice_after_a_restart() {
    let lines = Arc::new(Lines::default());
    let provider = memory().with_journal(lines.clone());
    let wish = |name: &str| {
        CreateVolume::new(OpToken::new(name), tenant_key(name), size(), VolumeOptions::default())
    };
    let first = block_on(provider.create_volume(&wish("a"))).unwrap().ready().unwrap().volume;
    let second = block_on(lines.replay().create_volume(&wish("b"))).unwrap().ready().unwrap().volume;
    assert_ne!(first.handle, second.handle);
}

#[test]
fn what_a_fence_takes_is_written_down_though_nobody_named_it() {
    let lines = Arc::new(Lines::default());
    let provider = memory().with_journal(lines.clone());
    let wish = CreateVolume::new(OpToken::new("t"), tenant_key("data"), size(), VolumeOptions::default());
    let volume = block_on(provider.create_volume(&wish)).unwrap().ready().unwrap().volume;
    let node = NodeRef::from(nodes()[0].clone());
    let bring = AttachVolume::new(OpToken::new("t"), volume.clone(), node.clone());
    block_on(provider.attach_volume(&bring)).unwrap();
    let epoch = FenceEpoch::from_u64(1);
    block_on(provider.fence_node(&OpToken::new("f"), &node, epoch, &[])).unwrap();
    let status = block_on(lines.replay().get_volume_status(&volume)).unwrap();
    assert!(status.attached_to.is_empty(), "a fenced node has the volume again after a restart");
    assert_eq!(lines.replay().changes(), provider.changes());
}

#[test]
fn a_journal_that_fails_leaves_the_outcome_unknown_and_a_repetition_heals_it() {
    let lines = Arc::new(Lines::default());
    let provider = memory().with_journal(lines.clone());
    let wish = CreateVolume::new(OpToken::new("t"), tenant_key("data"), size(), VolumeOptions::default());
    lines.full.store(true, Ordering::Relaxed);
    let failed = block_on(provider.create_volume(&wish)).unwrap_err();
    assert_eq!((failed.effect(), failed.kind()), (Effect::Unknown, ErrorKind::Unavailable));
    assert!(lines.replay().changes().is_empty());
    lines.full.store(false, Ordering::Relaxed);
    block_on(provider.create_volume(&wish)).unwrap();
    assert_eq!(lines.replay().changes(), provider.changes());
}
