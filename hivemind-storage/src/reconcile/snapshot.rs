//! The next step of one snapshot, or of one group of them.

use std::time::Duration;

use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{Error, Progress, Result, Stamped};

use super::charges::Books;
use super::{Did, VolumeController, is_refusal, read, token};
use crate::records::{Todo, adopted_snapshot_at, groups, snapshot_at, snapshots, volume_at, volumes};
use crate::{
    Capability, CreateGroupSnapshot, CreateSnapshot, GroupRecord, GroupSnapshot, ProviderApi, SnapshotKey,
    SnapshotPhase, SnapshotRecord, StorageProvider, VolumeKey, VolumeRef, VolumeSnapshot,
};

/// How long to wait before a snapshot that is cut is looked at again.
const UNTIL_READY: Duration = Duration::from_secs(5);

impl VolumeController {
    pub(super) async fn snapshot_step(&self, todo: &Stamped<Todo>, view: &Snapshot, at: &Key) -> Result<Did> {
        let record = read(&snapshots()?, view, at)?;
        let Some(record) =
            record.filter(|record| !matches!(record.phase, SnapshotPhase::Failed(_) | SnapshotPhase::Ready))
        else {
            self.done(Txn::new(), todo, false).await?;
            return Ok(Did::Nothing);
        };
        let provider = &**self.providers.provider(&record.provider)?;
        match (record.phase == SnapshotPhase::Deleting, record.made()) {
            (true, Some(made)) => {
                let token = token(&record, &record.token, "delete");
                let call = provider.delete_snapshot(&token, &made);
                let gone = self.within(&record.provider, ProviderApi::Snapshot, call).await?;
                if let Progress::Pending(at_it) = gone {
                    return Ok(Did::pending(&at_it));
                }
                self.forget_snapshot(todo, &record).await?;
                Ok(Did::SnapshotDeleted)
            }
            // What may have been taken has to be taken again, to learn what it is called.
            _ => self.take_snapshot(provider, todo, &record).await,
        }
    }

    async fn take_snapshot(
        &self,
        provider: &dyn StorageProvider,
        todo: &Stamped<Todo>,
        record: &Stamped<SnapshotRecord>,
    ) -> Result<Did> {
        let mut answer = self.cut(provider, record).await;
        if answer.as_ref().is_err_and(is_refusal)
            && record.phase == SnapshotPhase::Deleting
            && let Some(left) = self.left_snapshot(provider, &record.key).await?
        {
            answer = Ok(Progress::Ready(left));
        }
        match answer {
            Ok(Progress::Pending(at_it)) => Ok(Did::pending(&at_it)),
            Ok(Progress::Ready(taken)) => {
                let mut new = (*record.value).clone();
                seen(&mut new, &taken);
                if new == *record.value {
                    return Ok(Did::Pending(UNTIL_READY));
                }
                let tenant = new.is_mischarged().then_some(&new.key.volume.tenant);
                let stage = |books: Option<&Books<'_>>| {
                    let mut txn = Txn::new();
                    write_settled(books, &mut txn, record, &new)?;
                    Ok(txn)
                };
                self.done_charging(todo, new.phase != SnapshotPhase::Ready, tenant, stage).await?;
                Ok(Did::SnapshotTaken)
            }
            Err(e) if super::is_used_up(&e) => {
                let mut new = (*record.value).clone();
                new.token = super::another(&record.token);
                let mut txn = Txn::new();
                snapshots()?.update(&mut txn, record, &new)?;
                self.done(txn, todo, true).await?;
                Ok(Did::Prepared)
            }
            Err(e) if is_refusal(&e) => {
                if record.phase == SnapshotPhase::Deleting {
                    self.forget_snapshot(todo, record).await?;
                    return Ok(Did::Refused);
                }
                let (mut txn, mut new) = (Txn::new(), (*record.value).clone());
                new.phase = SnapshotPhase::Failed(e.to_string());
                snapshots()?.update(&mut txn, record, &new)?;
                self.done(txn, todo, false).await?;
                Ok(Did::Refused)
            }
            Err(e) => Err(e),
        }
    }

    /// The record goes, with what is charged for it.
    async fn forget_snapshot(&self, todo: &Stamped<Todo>, record: &Stamped<SnapshotRecord>) -> Result<()> {
        let mut txn = Txn::new();
        snapshots()?.delete(&mut txn, record)?;
        if let Some(handle) = &record.handle {
            txn.delete(adopted_snapshot_at(&record.provider, handle)?);
        }
        self.done_uncharged(&txn, todo, &record.key.volume.tenant, &record.reservations).await
    }

    async fn cut(
        &self,
        provider: &dyn StorageProvider,
        record: &SnapshotRecord,
    ) -> Result<Progress<VolumeSnapshot>> {
        provider.capabilities().require(&record.provider, Capability::Snapshots)?;
        let volume = self.made(&record.key.volume).await?;
        let request = CreateSnapshot::new(record.token.clone(), record.key.clone(), volume);
        self.within(&record.provider, ProviderApi::Snapshot, provider.create_snapshot(&request)).await
    }

    async fn made(&self, key: &VolumeKey) -> Result<VolumeRef> {
        let at = volume_at(key)?;
        let view = self.records(std::slice::from_ref(&at)).await?;
        let found = read(&volumes()?, &view, &at)?.and_then(|volume| volume.made());
        found.ok_or_else(|| Error::not_found("snapshot", format!("there is no volume {key} any more")))
    }

    pub(super) async fn group_step(&self, todo: &Stamped<Todo>, view: &Snapshot, at: &Key) -> Result<Did> {
        let record = read(&groups()?, view, at)?;
        let Some(record) =
            record.filter(|record| !matches!(record.phase, SnapshotPhase::Failed(_) | SnapshotPhase::Ready))
        else {
            self.done(Txn::new(), todo, false).await?;
            return Ok(Did::Nothing);
        };
        let provider = &**self.providers.provider(&record.provider)?;
        match (record.phase == SnapshotPhase::Deleting, &record.handle) {
            (true, Some(handle)) => {
                let members = self.members(&record).await?;
                let snapshots: Vec<_> = members.iter().filter_map(|member| member.made()).collect();
                let token = token(&record, &record.token, "delete");
                let call = provider.delete_group_snapshot(&token, &record.key, handle, &snapshots);
                let gone = self.within(&record.provider, ProviderApi::Snapshot, call).await?;
                if let Progress::Pending(at_it) = gone {
                    return Ok(Did::pending(&at_it));
                }
                self.forget_group(todo, &record, &members).await?;
                Ok(Did::SnapshotDeleted)
            }
            _ => self.take_group(provider, todo, &record).await,
        }
    }

    async fn members(&self, record: &GroupRecord) -> Result<Vec<Stamped<SnapshotRecord>>> {
        let at = |volume: &hivemind_core::VolumeId| {
            let key = VolumeKey::new(record.key.tenant.clone(), volume.clone());
            snapshot_at(&SnapshotKey::new(key, record.key.group.clone()))
        };
        let keys = record.volumes.iter().map(at).collect::<Result<Vec<_>>>()?;
        let view = self.records(&keys).await?;
        let mut members = Vec::new();
        for key in &keys {
            members.extend(read(&snapshots()?, &view, key)?);
        }
        Ok(members)
    }

    async fn forget_group(
        &self,
        todo: &Stamped<Todo>,
        record: &Stamped<GroupRecord>,
        members: &[Stamped<SnapshotRecord>],
    ) -> Result<()> {
        let mut txn = Txn::new();
        groups()?.delete(&mut txn, record)?;
        for member in members {
            snapshots()?.delete(&mut txn, member)?;
        }
        let charged: Vec<_> = members.iter().flat_map(|member| member.reservations.clone()).collect();
        self.done_uncharged(&txn, todo, &record.key.tenant, &charged).await
    }

    async fn take_group(
        &self,
        provider: &dyn StorageProvider,
        todo: &Stamped<Todo>,
        record: &Stamped<GroupRecord>,
    ) -> Result<Did> {
        match self.cut_group(provider, record).await {
            Ok(Progress::Pending(at_it)) => Ok(Did::pending(&at_it)),
            Ok(Progress::Ready(taken)) => self.group_taken(todo, record, &taken).await,
            Err(e) if super::is_used_up(&e) => {
                let mut new = (*record.value).clone();
                new.token = super::another(&record.token);
                let mut txn = Txn::new();
                groups()?.update(&mut txn, record, &new)?;
                self.done(txn, todo, true).await?;
                Ok(Did::Prepared)
            }
            Err(e) if is_refusal(&e) => {
                let members = self.members(record).await?;
                if record.phase == SnapshotPhase::Deleting {
                    let of: Vec<_> = members.iter().map(|member| &member.key).collect();
                    if let Some(left) = self.left_group(provider, record, &of).await? {
                        return self.group_taken(todo, record, &left).await;
                    }
                    self.forget_group(todo, record, &members).await?;
                    return Ok(Did::Refused);
                }
                let failed = SnapshotPhase::Failed(e.to_string());
                self.write_group(
                    todo,
                    record,
                    &members,
                    |group| group.phase = failed.clone(),
                    |member| {
                        member.phase = failed.clone();
                    },
                )
                .await?;
                Ok(Did::Refused)
            }
            Err(e) => Err(e),
        }
    }

    async fn cut_group(
        &self,
        provider: &dyn StorageProvider,
        record: &GroupRecord,
    ) -> Result<Progress<GroupSnapshot>> {
        provider.capabilities().require(&record.provider, Capability::GroupSnapshots)?;
        let mut volumes = Vec::new();
        for volume in &record.volumes {
            volumes.push(self.made(&VolumeKey::new(record.key.tenant.clone(), volume.clone())).await?);
        }
        let request = CreateGroupSnapshot::new(record.token.clone(), record.key.clone(), volumes);
        self.within(&record.provider, ProviderApi::Snapshot, provider.create_group_snapshot(&request)).await
    }

    async fn group_taken(
        &self,
        todo: &Stamped<Todo>,
        record: &Stamped<GroupRecord>,
        taken: &GroupSnapshot,
    ) -> Result<Did> {
        let members = self.members(record).await?;
        let phase = if taken.is_ready() { SnapshotPhase::Ready } else { SnapshotPhase::Cut };
        if record.phase == phase {
            return Ok(Did::Pending(UNTIL_READY));
        }
        let of = |member: &SnapshotRecord| {
            taken.snapshots.iter().find(|snapshot| snapshot.key.as_ref() == Some(&member.key))
        };
        if let Some(lost) = members.iter().find(|member| of(member).is_none()) {
            let message = format!("the provider took no snapshot {} with its group", lost.key);
            return Err(Error::internal("group snapshot", message));
        }
        let group = |group: &mut GroupRecord| {
            group.handle = Some(taken.handle.clone());
            if group.phase != SnapshotPhase::Deleting {
                group.phase = phase;
            }
        };
        self.write_group(todo, record, &members, group, |member| {
            if let Some(snapshot) = of(member) {
                seen(member, &snapshot.clone());
            }
        })
        .await?;
        Ok(Did::SnapshotTaken)
    }

    /// Writes the group and its snapshots in one transaction: half of a group is never seen.
    async fn write_group(
        &self,
        todo: &Stamped<Todo>,
        record: &Stamped<GroupRecord>,
        members: &[Stamped<SnapshotRecord>],
        change: impl FnOnce(&mut GroupRecord),
        each: impl Fn(&mut SnapshotRecord),
    ) -> Result<()> {
        let mut group = (*record.value).clone();
        change(&mut group);
        let changed = |member: &Stamped<SnapshotRecord>| {
            let mut new = (*member.value).clone();
            each(&mut new);
            new
        };
        let changed: Vec<_> = members.iter().map(|member| (member, changed(member))).collect();
        let more =
            matches!(group.phase, SnapshotPhase::Creating | SnapshotPhase::Cut | SnapshotPhase::Deleting);
        let mischarged = changed.iter().any(|(_, new)| new.is_mischarged());
        let stage = |books: Option<&Books<'_>>| {
            let mut txn = Txn::new();
            groups()?.update(&mut txn, record, &group)?;
            for (member, new) in &changed {
                write_settled(books, &mut txn, member, new)?;
            }
            Ok(txn)
        };
        self.done_charging(todo, more, mischarged.then_some(&record.key.tenant), stage).await
    }
}

/// Stages what a snapshot has become, charged for what it came to where the quota is known.
fn write_settled(
    books: Option<&Books<'_>>,
    txn: &mut Txn,
    old: &Stamped<SnapshotRecord>,
    new: &SnapshotRecord,
) -> Result<()> {
    let mut settled = new.clone();
    if let Some(books) = books.filter(|_| new.is_mischarged()) {
        books.settle(txn, &mut settled.reservations, new.size)?;
        settled.charged = new.size;
    }
    snapshots()?.update(txn, old, &settled)
}

/// Writes down what the provider took.
fn seen(new: &mut SnapshotRecord, taken: &VolumeSnapshot) {
    new.handle = Some(taken.handle.clone());
    new.created_at = Some(taken.created_at);
    new.size = new.size.max(taken.size);
    if new.phase != SnapshotPhase::Deleting {
        new.phase = if taken.ready { SnapshotPhase::Ready } else { SnapshotPhase::Cut };
    }
}
