//! What leaked goes, once it has been seen so for long enough.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hivemind_core::resources::ByteSize;
use hivemind_core::store::{Key, Prefix, Snapshot, Txn};
use hivemind_core::{
    Collection, Error, ErrorKind, OpToken, ProviderName, Result, Stamped, StateStoreExt, Stored, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{Compared, OrphanSweep, Swept, VolumeController};
use crate::manager::work_on;
use crate::records::{
    HandleOwner, group_at, groups, handle_at, handles, segment, snapshot_at, snapshots, volume_at, volumes,
};
use crate::{
    GroupHandle, GroupKey, GroupRecord, SnapshotHandle, SnapshotKey, SnapshotPhase, SnapshotRecord, Volume,
    VolumeHandle, VolumeKey, VolumePhase, VolumeSnapshot,
};

/// Something that seems to have leaked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Suspect {
    since: Timestamp,
}

impl Stored for Suspect {
    const KIND: &'static str = "suspected leak";
}

fn suspects() -> Result<Collection<Suspect>> {
    let prefix =
        Prefix::new(["storage", "suspects"]).map_err(|e| Error::of(ErrorKind::Internal, "orphans", e))?;
    Ok(Collection::new(prefix))
}

/// What has leaked, and is to get a record again, by which it is deleted as any other: so nobody gets its name meanwhile.
trait Leaked: Ord + Clone {
    /// How we call it.
    type Key;
    /// The kind, in keys.
    const KIND: &'static str;
    fn text(&self) -> &str;
    /// Stages the record, to be deleted.
    fn condemn(
        &self,
        txn: &mut Txn,
        provider: &ProviderName,
        key: &Self::Key,
        members: &[VolumeSnapshot],
    ) -> Result<()>;
}

impl Leaked for VolumeHandle {
    type Key = VolumeKey;
    const KIND: &'static str = "volumes";
    fn text(&self) -> &str {
        self.as_str()
    }
    fn condemn(
        &self,
        txn: &mut Txn,
        provider: &ProviderName,
        key: &VolumeKey,
        _: &[VolumeSnapshot],
    ) -> Result<()> {
        let mut volume = Volume::new(key.clone(), provider.clone());
        (volume.phase, volume.handle) = (VolumePhase::Deleting, Some(self.clone()));
        let (nothing, at) = (Snapshot::default(), volume_at(&volume.key)?);
        let owner = HandleOwner { volume: volume.key.clone() };
        handles()?.create(&nothing, txn, handle_at(provider, self)?, &owner)?;
        volumes()?.create(&nothing, txn, at.clone(), &volume)?;
        work_on(&nothing, txn, &at, true)
    }
}

/// The record of a snapshot that is to be deleted.
fn snapshot(provider: &ProviderName, key: &SnapshotKey, handle: &SnapshotHandle) -> SnapshotRecord {
    SnapshotRecord {
        key: key.clone(),
        provider: provider.clone(),
        group: None,
        phase: SnapshotPhase::Deleting,
        token: OpToken::new(format!("{provider}/{}", handle.as_str())),
        handle: Some(handle.clone()),
        size: ByteSize::ZERO,
        created_at: None,
        encrypted_with: None,
        reservations: Vec::new(),
        charged: ByteSize::ZERO,
    }
}

impl Leaked for SnapshotHandle {
    type Key = SnapshotKey;
    const KIND: &'static str = "snapshots";
    fn text(&self) -> &str {
        self.as_str()
    }
    fn condemn(
        &self,
        txn: &mut Txn,
        provider: &ProviderName,
        key: &SnapshotKey,
        _: &[VolumeSnapshot],
    ) -> Result<()> {
        let (nothing, at) = (Snapshot::default(), snapshot_at(key)?);
        snapshots()?.create(&nothing, txn, at.clone(), &snapshot(provider, key, self))?;
        work_on(&nothing, txn, &at, true)
    }
}

impl Leaked for GroupHandle {
    type Key = GroupKey;
    const KIND: &'static str = "groups";
    fn text(&self) -> &str {
        self.as_str()
    }
    /// With all of its snapshots: a group goes as a whole.
    fn condemn(
        &self,
        txn: &mut Txn,
        provider: &ProviderName,
        key: &GroupKey,
        members: &[VolumeSnapshot],
    ) -> Result<()> {
        let (nothing, at) = (Snapshot::default(), group_at(key)?);
        let mut names = BTreeSet::new();
        for member in members {
            let Some(name) = &member.key else { continue };
            names.insert(name.volume.volume.clone());
            let mut record = snapshot(provider, name, &member.handle);
            record.group = Some(key.group.clone());
            snapshots()?.create(&nothing, txn, snapshot_at(name)?, &record)?;
        }
        let record = GroupRecord {
            key: key.clone(),
            provider: provider.clone(),
            volumes: names.into_iter().collect(),
            phase: SnapshotPhase::Deleting,
            token: OpToken::new(format!("{provider}/{}", self.as_str())),
            handle: Some(self.clone()),
        };
        groups()?.create(&nothing, txn, at.clone(), &record)?;
        work_on(&nothing, txn, &at, true)
    }
}

/// What was suspected before, by where that is written down; what is met again is taken out.
type Suspects = BTreeMap<Key, Stamped<Suspect>>;

impl VolumeController {
    /// Deletes what has leaked: of which the provider says that it is ours, of which there has been no record for
    /// `quarantine`, and which nobody has: volumes on no node, snapshots, and groups with all their snapshots. What is
    /// seen so for the first time is written down, and left alone. What is in flight has its record.
    ///
    /// # Errors
    /// Those of the store and the providers.
    pub async fn sweep_orphans(&self, quarantine: Duration) -> Result<OrphanSweep> {
        let all = self.compared().await?;
        let view = self.store.snapshot(&[suspects()?.prefix().clone()]).await?;
        let mut known: Suspects = suspects()?
            .list(&view, &Txn::new(), suspects()?.prefix())?
            .into_iter()
            .map(|suspect| (suspect.stored_at.clone(), suspect))
            .collect();
        let none = |_: &ProviderName, _: &VolumeHandle| Vec::new();
        let volumes = self.sweep(all.volumes, &mut known, quarantine, none).await?;
        let none = |_: &ProviderName, _: &SnapshotHandle| Vec::new();
        let snapshots = self.sweep(all.snapshots, &mut known, quarantine, none).await?;
        let members = |provider: &ProviderName, handle: &GroupHandle| {
            all.members.get(&(provider.clone(), handle.clone())).cloned().unwrap_or_default()
        };
        let groups = self.sweep(all.groups, &mut known, quarantine, members).await?;
        // Whatever has a record again, or is gone, is no suspect any more.
        for cleared in known.values() {
            let mut txn = Txn::new();
            suspects()?.delete(&mut txn, cleared)?;
            self.store.commit(&txn).await?;
        }
        Ok(OrphanSweep { volumes, snapshots, groups })
    }

    async fn sweep<H: Leaked>(
        &self,
        compared: Compared<H, H::Key>,
        known: &mut Suspects,
        quarantine: Duration,
        members: impl Fn(&ProviderName, &H) -> Vec<VolumeSnapshot>,
    ) -> Result<Swept<H>> {
        let mut swept = Swept { missing: compared.missing, ..Swept::default() };
        for ((name, handle), (key, kept)) in compared.unrecorded {
            let Some(key) = key else {
                swept.foreign.insert((name, handle));
                continue;
            };
            let at = suspects()?.key([name.as_str(), H::KIND, &segment(handle.text())])?;
            let suspect = known.remove(&at);
            let old = suspect.as_ref().is_some_and(|one| self.clock.now().since(one.since) >= quarantine);
            if old && !kept {
                let mut txn = Txn::new();
                txn.delete(at);
                handle.condemn(&mut txn, &name, &key, &members(&name, &handle))?;
                let outcome = match self.store.commit(&txn).await {
                    Ok(_) => &mut swept.deleted,
                    // It has a record now, or another has its name.
                    Err(e) if e.kind() == ErrorKind::Conflict => &mut swept.quarantined,
                    Err(e) => return Err(e),
                };
                outcome.insert((name, handle));
                continue;
            }
            if suspect.is_none() {
                let mut txn = Txn::new();
                let since = Suspect { since: self.clock.now() };
                suspects()?.create(&Snapshot::default(), &mut txn, at, &since)?;
                self.store.commit(&txn).await?;
            }
            swept.quarantined.insert((name, handle));
        }
        Ok(swept)
    }
}
