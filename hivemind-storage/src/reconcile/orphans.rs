//! Volumes that only one side knows of: leaked ones are collected, but never at first sight.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    Collection, Error, ErrorKind, ProviderName, Result, Stamped, StateStoreExt, Stored, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::VolumeController;
use crate::manager::work_on;
use crate::records::{HandleOwner, handle_at, handles, segment, volume_at, volumes};
use crate::{
    Capability, StorageProvider, Volume, VolumeHandle, VolumeKey, VolumePhase, VolumeRef, VolumeStatus,
};

/// How many volumes a page of a provider's list has.
const PAGE: usize = 500;

/// Volumes that only one side knows of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Orphans {
    /// At a provider, without a record: leaked, or not ours.
    pub unrecorded: BTreeSet<(ProviderName, VolumeHandle)>,
    /// Recorded as there, and missing at their provider: lost.
    pub missing: BTreeSet<(ProviderName, VolumeHandle)>,
}

/// What a sweep of leaked volumes did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OrphanSweep {
    /// Seen for the first time, or not long enough ago.
    pub quarantined: BTreeSet<(ProviderName, VolumeHandle)>,
    /// To be deleted by the next ticks: leaked, and seen so for long enough.
    pub deleted: BTreeSet<(ProviderName, VolumeHandle)>,
    /// Not known to be ours: left alone.
    pub foreign: BTreeSet<(ProviderName, VolumeHandle)>,
    /// Recorded as there, and missing at their provider: lost.
    pub missing: BTreeSet<(ProviderName, VolumeHandle)>,
}

/// A volume that seems to have leaked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Suspect {
    since: Timestamp,
}

impl Stored for Suspect {
    const KIND: &'static str = "leaked volume";
}

fn suspects() -> Result<Collection<Suspect>> {
    let prefix =
        Prefix::new(["storage", "suspects"]).map_err(|e| Error::of(ErrorKind::Internal, "orphans", e))?;
    Ok(Collection::new(prefix))
}

fn suspect_at(provider: &ProviderName, handle: &VolumeHandle) -> Result<hivemind_core::store::Key> {
    suspects()?.key([provider.as_str(), &segment(handle)])
}

/// What the two sides know, compared.
#[derive(Debug, Default)]
struct Compared {
    /// By what we call it, if the provider knows, and whether a node has it.
    unrecorded: BTreeMap<(ProviderName, VolumeHandle), (Option<VolumeKey>, bool)>,
    missing: BTreeSet<(ProviderName, VolumeHandle)>,
}

/// Compares; pure, so that a hundred thousand volumes can be compared in a bench.
fn compare(listed: &BTreeMap<ProviderName, Vec<VolumeStatus>>, records: &[Stamped<Volume>]) -> Compared {
    let mut by_handle = BTreeSet::new();
    let mut by_key = BTreeSet::new();
    for volume in records {
        match &volume.handle {
            Some(handle) => by_handle.insert((&volume.provider, handle)),
            // It is just being made, and its handle is not written down yet. Afterwards, another one of its name is not it.
            None => by_key.insert((&volume.provider, &volume.key)),
        };
    }
    let mut compared = Compared::default();
    let mut there = BTreeSet::new();
    for (provider, statuses) in listed {
        for status in statuses {
            there.insert((provider, &status.handle));
            let known = by_handle.contains(&(provider, &status.handle))
                || status.key.as_ref().is_some_and(|key| by_key.contains(&(provider, key)));
            if !known {
                let in_use = !status.attached_to.is_empty();
                let found = (provider.clone(), status.handle.clone());
                compared.unrecorded.insert(found, (status.key.clone(), in_use));
            }
        }
    }
    for volume in records.iter().filter(|volume| volume.phase == VolumePhase::Ready) {
        let Some(handle) = &volume.handle else { continue };
        if listed.contains_key(&volume.provider) && !there.contains(&(&volume.provider, handle)) {
            compared.missing.insert((volume.provider.clone(), handle.clone()));
        }
    }
    compared
}

async fn list_all(provider: &dyn StorageProvider) -> Result<Vec<VolumeStatus>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = provider.list_volumes(after.as_ref(), PAGE).await?;
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

impl VolumeController {
    /// The providers' lists first and the records after them: a volume that is listed had its record before.
    async fn compared(&self) -> Result<Compared> {
        let mut listed = BTreeMap::new();
        for provider in self.providers.iter().filter(|p| p.capabilities().has(Capability::ListVolumes)) {
            listed.insert(provider.name().clone(), list_all(&**provider).await?);
        }
        let view = self.store.snapshot(&[volumes()?.prefix().clone()]).await?;
        let records = volumes()?.list(&view, &Txn::new(), volumes()?.prefix())?;
        Ok(compare(&listed, &records))
    }

    /// Compares the records with what the providers have; nothing is changed. Providers that cannot list are left out.
    ///
    /// Call it while no tick runs, or expect volumes that are just being deleted.
    ///
    /// # Errors
    /// Those of the store and the providers.
    pub async fn orphans(&self) -> Result<Orphans> {
        let compared = self.compared().await?;
        Ok(Orphans { unrecorded: compared.unrecorded.into_keys().collect(), missing: compared.missing })
    }

    /// Deletes volumes that have leaked: whose provider says that they are ours, of which there has been no record for
    /// `quarantine`, and which no node has. What is seen so for the first time is written down, and left alone.
    ///
    /// # Errors
    /// Those of the store and the providers.
    pub async fn sweep_orphans(&self, quarantine: Duration) -> Result<OrphanSweep> {
        let compared = self.compared().await?;
        let view = self.store.snapshot(&[suspects()?.prefix().clone()]).await?;
        let mut sweep = OrphanSweep { missing: compared.missing, ..OrphanSweep::default() };
        let mut known: BTreeMap<_, _> = suspects()?
            .list(&view, &Txn::new(), suspects()?.prefix())?
            .into_iter()
            .map(|suspect| (suspect.stored_at.clone(), suspect))
            .collect();
        for ((name, handle), (key, in_use)) in compared.unrecorded {
            let Some(key) = key else {
                sweep.foreign.insert((name, handle));
                continue;
            };
            let at = suspect_at(&name, &handle)?;
            let suspect = known.remove(&at);
            let old =
                suspect.as_ref().is_some_and(|suspect| self.clock.now().since(suspect.since) >= quarantine);
            if old && !in_use {
                let mut txn = Txn::new();
                txn.delete(at);
                let leaked = VolumeRef::new(key, handle.clone());
                let outcome = match self.condemn(txn, &name, &leaked).await {
                    Ok(()) => &mut sweep.deleted,
                    // It has a record now, or another has its name.
                    Err(e) if e.kind() == ErrorKind::Conflict => &mut sweep.quarantined,
                    Err(e) => return Err(e),
                };
                outcome.insert((name, handle));
                continue;
            }
            if suspect.is_none() {
                let mut txn = Txn::new();
                suspects()?.create(&view, &mut txn, at, &Suspect { since: self.clock.now() })?;
                self.store.commit(&txn).await?;
            }
            sweep.quarantined.insert((name, handle));
        }
        // Whatever has a record again, or is gone, is no suspect any more.
        for cleared in known.values() {
            let mut txn = Txn::new();
            suspects()?.delete(&mut txn, cleared)?;
            self.store.commit(&txn).await?;
        }
        Ok(sweep)
    }

    /// Gives the leaked volume a record, by which it is deleted as any other: so nobody gets its name meanwhile.
    async fn condemn(&self, mut txn: Txn, name: &ProviderName, leaked: &VolumeRef) -> Result<()> {
        let mut volume = Volume::new(leaked.key.clone(), name.clone());
        (volume.phase, volume.handle) = (VolumePhase::Deleting, Some(leaked.handle.clone()));
        let (nothing, at) = (Snapshot::default(), volume_at(&volume.key)?);
        let owner = HandleOwner { volume: volume.key.clone() };
        handles()?.create(&nothing, &mut txn, handle_at(name, &leaked.handle)?, &owner)?;
        volumes()?.create(&nothing, &mut txn, at.clone(), &volume)?;
        work_on(&nothing, &mut txn, &at, true)?;
        self.store.commit(&txn).await.map(|_| ())
    }
}
