//! What only one side knows of: what leaked is collected, but never at first sight.

mod compare;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::store::Txn;
use hivemind_core::{ProviderName, Result, StateStoreExt};

use self::compare::{Compared, Listed, Recorded, compare};
use super::VolumeController;
use crate::records::{groups, snapshots, volumes};
use crate::{
    Capability, GroupHandle, GroupKey, ProviderApi, SnapshotHandle, SnapshotKey, SnapshotPhase,
    StorageProvider, VolumeHandle, VolumeKey, VolumePhase, VolumeSnapshot, VolumeStatus,
};

/// How many volumes or snapshots a page of a provider's list has.
const PAGE: usize = 500;

/// What only one side knows of, of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unmatched<H> {
    /// At a provider, without a record: leaked, or not ours.
    pub unrecorded: BTreeSet<(ProviderName, H)>,
    /// Recorded as there, and missing at their provider: lost.
    pub missing: BTreeSet<(ProviderName, H)>,
}

impl<H> Default for Unmatched<H> {
    fn default() -> Self {
        Self { unrecorded: BTreeSet::new(), missing: BTreeSet::new() }
    }
}

impl<H: Ord, K> From<Compared<H, K>> for Unmatched<H> {
    fn from(compared: Compared<H, K>) -> Self {
        Self { unrecorded: compared.unrecorded.into_keys().collect(), missing: compared.missing }
    }
}

/// What only one side knows of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Orphans {
    /// Volumes.
    pub volumes: Unmatched<VolumeHandle>,
    /// Snapshots.
    pub snapshots: Unmatched<SnapshotHandle>,
    /// Groups of snapshots, where the provider tells of them.
    pub groups: Unmatched<GroupHandle>,
}

/// What a sweep did with what leaked, of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept<H> {
    /// Seen for the first time, or not long enough ago, or in use.
    pub quarantined: BTreeSet<(ProviderName, H)>,
    /// To be deleted by the next ticks: leaked, and seen so for long enough.
    pub deleted: BTreeSet<(ProviderName, H)>,
    /// Not known to be ours: left alone.
    pub foreign: BTreeSet<(ProviderName, H)>,
    /// Recorded as there, and missing at their provider: lost.
    pub missing: BTreeSet<(ProviderName, H)>,
}

impl<H> Default for Swept<H> {
    fn default() -> Self {
        let none = BTreeSet::new;
        Self { quarantined: none(), deleted: none(), foreign: none(), missing: none() }
    }
}

/// What a sweep did with what leaked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OrphanSweep {
    /// Volumes.
    pub volumes: Swept<VolumeHandle>,
    /// Snapshots.
    pub snapshots: Swept<SnapshotHandle>,
    /// Groups of snapshots.
    pub groups: Swept<GroupHandle>,
}

/// All that was compared.
struct All {
    volumes: Compared<VolumeHandle, VolumeKey>,
    snapshots: Compared<SnapshotHandle, SnapshotKey>,
    groups: Compared<GroupHandle, GroupKey>,
    /// The snapshots of each group that is listed: their handles, and what we call them.
    members: BTreeMap<(ProviderName, GroupHandle), Vec<VolumeSnapshot>>,
}

/// What the providers list.
#[derive(Default)]
struct Lists {
    volumes: BTreeMap<ProviderName, Vec<Listed<VolumeHandle, VolumeKey>>>,
    snapshots: BTreeMap<ProviderName, Vec<Listed<SnapshotHandle, SnapshotKey>>>,
    members: BTreeMap<(ProviderName, GroupHandle), Vec<VolumeSnapshot>>,
}

impl Lists {
    fn add_volumes(&mut self, provider: &ProviderName, all: Vec<VolumeStatus>) {
        let listed = all.into_iter().map(|status| Listed {
            kept: !status.attached_to.is_empty(),
            handle: status.handle,
            key: status.key,
        });
        self.volumes.insert(provider.clone(), listed.collect());
    }

    fn add_snapshots(&mut self, provider: &ProviderName, all: Vec<VolumeSnapshot>) {
        let mut listed = Vec::with_capacity(all.len());
        for snapshot in all {
            let (handle, key) = (snapshot.handle.clone(), snapshot.key.clone());
            // It goes with its group, and not alone.
            listed.push(Listed { handle, key, kept: snapshot.group.is_some() });
            if let Some(group) = &snapshot.group {
                self.members.entry((provider.clone(), group.clone())).or_default().push(snapshot);
            }
        }
        self.snapshots.insert(provider.clone(), listed);
    }

    /// The groups that the snapshots were taken with.
    fn groups(&self) -> BTreeMap<ProviderName, Vec<Listed<GroupHandle, GroupKey>>> {
        let mut groups: BTreeMap<ProviderName, Vec<Listed<GroupHandle, GroupKey>>> = BTreeMap::new();
        for ((provider, handle), members) in &self.members {
            // All of it is ours, or it is not.
            let first = members.first().and_then(|member| member.key.as_ref()).map(group_of);
            let same = members.iter().all(|member| member.key.as_ref().map(group_of) == first);
            let listed = Listed { handle: handle.clone(), key: first.filter(|_| same), kept: false };
            groups.entry(provider.clone()).or_default().push(listed);
        }
        groups
    }
}

/// The group of a snapshot that was taken with one: of its name.
fn group_of(snapshot: &SnapshotKey) -> GroupKey {
    GroupKey::new(snapshot.volume.tenant.clone(), snapshot.snapshot.clone())
}

impl VolumeController {
    async fn lists(&self) -> Result<Lists> {
        let mut lists = Lists::default();
        for provider in self.providers.iter() {
            let (name, can) = (provider.name(), provider.capabilities());
            if can.has(Capability::ListVolumes) {
                lists.add_volumes(name, self.list_volumes(&**provider).await?);
            }
            if can.has(Capability::ListSnapshots) {
                lists.add_snapshots(name, self.list_snapshots(&**provider).await?);
            }
        }
        Ok(lists)
    }

    pub(super) async fn list_volumes(&self, provider: &dyn StorageProvider) -> Result<Vec<VolumeStatus>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let call = provider.list_volumes(after.as_ref(), PAGE);
            let page = self.within(provider.name(), ProviderApi::Describe, call).await?;
            all.extend(page.items);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    pub(super) async fn list_snapshots(&self, provider: &dyn StorageProvider) -> Result<Vec<VolumeSnapshot>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let call = provider.list_snapshots(after.as_ref(), PAGE);
            let page = self.within(provider.name(), ProviderApi::Describe, call).await?;
            all.extend(page.items);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// The providers' lists first and the records after them: what is listed had its record before.
    async fn compared(&self) -> Result<All> {
        let lists = self.lists().await?;
        let all = [volumes()?.prefix().clone(), snapshots()?.prefix().clone(), groups()?.prefix().clone()];
        let (view, txn) = (self.store.snapshot(&all).await?, Txn::new());
        let volumes: Vec<_> = volumes()?
            .list(&view, &txn, volumes()?.prefix())?
            .iter()
            .map(|volume| Recorded {
                provider: volume.provider.clone(),
                handle: volume.handle.clone(),
                key: volume.key.clone(),
                there: volume.phase == VolumePhase::Ready,
            })
            .collect();
        let snapshots: Vec<_> = snapshots()?
            .list(&view, &txn, snapshots()?.prefix())?
            .iter()
            .map(|snapshot| Recorded {
                provider: snapshot.provider.clone(),
                handle: snapshot.handle.clone(),
                key: snapshot.key.clone(),
                there: snapshot.phase == SnapshotPhase::Ready,
            })
            .collect();
        let groups: Vec<_> = groups()?
            .list(&view, &txn, groups()?.prefix())?
            .iter()
            .map(|group| Recorded {
                provider: group.provider.clone(),
                handle: group.handle.clone(),
                key: group.key.clone(),
                // Providers need not tell of groups: what is missing of one are its snapshots.
                there: false,
            })
            .collect();
        Ok(All {
            groups: compare(lists.groups(), &groups),
            volumes: compare(lists.volumes, &volumes),
            snapshots: compare(lists.snapshots, &snapshots),
            members: lists.members,
        })
    }

    /// Compares the records with what the providers have; nothing is changed. What a provider cannot list is left out.
    ///
    /// Call it while no tick runs, or expect what is just being deleted.
    ///
    /// # Errors
    /// Those of the store and the providers.
    pub async fn orphans(&self) -> Result<Orphans> {
        let All { volumes, snapshots, groups, .. } = self.compared().await?;
        Ok(Orphans { volumes: volumes.into(), snapshots: snapshots.into(), groups: groups.into() })
    }
}
