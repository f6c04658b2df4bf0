//! What the two sides know, compared. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::ProviderName;

/// Something that a provider lists.
#[derive(Debug)]
pub(super) struct Listed<H, K> {
    pub(super) handle: H,
    /// What we call it, if the provider knows.
    pub(super) key: Option<K>,
    /// Whether it cannot go as it is: a node has it, or it is part of a group.
    pub(super) kept: bool,
}

/// Something that there is a record of.
#[derive(Debug)]
pub(super) struct Recorded<H, K> {
    pub(super) provider: ProviderName,
    /// What the provider calls it, if that is known.
    pub(super) handle: Option<H>,
    pub(super) key: K,
    /// Whether it must be there.
    pub(super) there: bool,
}

/// What only one side knows.
#[derive(Debug)]
pub(super) struct Compared<H, K> {
    pub(super) unrecorded: BTreeMap<(ProviderName, H), (Option<K>, bool)>,
    pub(super) missing: BTreeSet<(ProviderName, H)>,
}

/// Compares; a provider that is not among `listed` cannot list, and misses nothing.
pub(super) fn compare<H: Ord + Clone, K: Ord>(
    listed: BTreeMap<ProviderName, Vec<Listed<H, K>>>,
    records: &[Recorded<H, K>],
) -> Compared<H, K> {
    let (mut by_handle, mut by_key) = (BTreeSet::new(), BTreeSet::new());
    for record in records {
        match &record.handle {
            Some(handle) => by_handle.insert((&record.provider, handle)),
            // It is just being made, and its handle is not written down yet. Afterwards, another one of its name is not it.
            None => by_key.insert((&record.provider, &record.key)),
        };
    }
    let (mut unrecorded, mut there) = (BTreeMap::new(), BTreeSet::new());
    let asked: BTreeSet<ProviderName> = listed.keys().cloned().collect();
    for (provider, all) in listed {
        for one in all {
            let known = by_handle.contains(&(&provider, &one.handle))
                || one.key.as_ref().is_some_and(|key| by_key.contains(&(&provider, key)));
            there.insert((provider.clone(), one.handle.clone()));
            if !known {
                unrecorded.insert((provider.clone(), one.handle), (one.key, one.kept));
            }
        }
    }
    let mut missing = BTreeSet::new();
    for record in records.iter().filter(|record| record.there && asked.contains(&record.provider)) {
        let Some(handle) = &record.handle else { continue };
        let at = (record.provider.clone(), handle.clone());
        if !there.contains(&at) {
            missing.insert(at);
        }
    }
    Compared { unrecorded, missing }
}
