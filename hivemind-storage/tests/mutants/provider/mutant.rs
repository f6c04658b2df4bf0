//! A provider with the bug that is wanted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hivemind_core::block_on;
use hivemind_core::resources::ByteSize;
use hivemind_core::{
    Error, ErrorKind, Generation, OpToken, Progress, ProviderName, Result, TenantRef, async_trait,
};
use hivemind_storage::{
    AccessMode, AttachVolume, Attachment, Capabilities, Capability, Capacity, CapacityQuery,
    CreateGroupSnapshot, CreateSnapshot, CreateVolume, Cursor, DetachVolume, Expanded, FenceEpoch,
    GroupHandle, GroupKey, GroupSnapshot, MemoryProvider, NodeRef, Page, ProvisionedVolume, SizeRange,
    SnapshotRef, StorageMetrics, StorageProvider, StorageProviderType, TopologyRequirement, VolumeKey,
    VolumeRef, VolumeSnapshot, VolumeStatus,
};

use super::super::suite;

/// What is wrong with the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    ForgetsTheTenant,
    ForgetsTheGeneration,
    CutsNamesShort,
    CreatesByToken,
    ReturnsTheExistingWhateverIsAsked,
    ForgetsTheSource,
    ForgetsEncryption,
    IgnoresThePlace,
    RefusesToRepeatCreation,
    LeavesRefusedVolumes,
    DeletesWhatIsAttached,
    FailsToDeleteWhatIsMissing,
    DeletesWithoutDeleting,
    AnswersForTheHandleAlone,
    OneMissingSpoilsAllStatuses,
    AnswersDoublesOnce,
    PretendsToGrow,
    Shrinks,
    GrowsOnlyOnce,
    StealsAttachments,
    SharesWhateverIsAsked,
    HasTwoWriters,
    AttachesOtherwiseInSilence,
    FailsToDetachWhatIsMissing,
    DetachesFromEveryNode,
    TellsNoNodes,
    IgnoresEpochs,
    FencesWithoutKeepingOut,
    CutsSnapshotsAnew,
    DeletesSnapshotsWithVolumes,
    RestoresWhatIsAttached,
    RestoresNothing,
    TakesPartsOfGroups,
    DeletesGroupsWithoutSnapshots,
    ClonesEmpty,
    ClonesAcrossTenants,
    PagesByNumber,
    ListsTheLastTwice,
    AcceptsAnyCursor,
    ReportsUnsupportedButActs,
    SupportsWhatItDoesNotClaim,
    LeaksSecretsInErrors,
    CountsNothing,
    HasAlwaysRoom,
    TellsNoCondition,
    ForgetsAtRestart,
}

/// A memory provider with a bug.
#[derive(Debug)]
pub(super) struct Mutant {
    inner: Arc<MemoryProvider>,
    bug: Bug,
    calls: AtomicU64,
    /// What this instance alone knows: gone at a restart.
    known: Mutex<BTreeMap<String, VolumeRef>>,
}

impl Mutant {
    pub(super) fn new(inner: Arc<MemoryProvider>, bug: Bug) -> Self {
        Self { inner, bug, calls: AtomicU64::new(0), known: Mutex::default() }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn another_token(&self, token: &OpToken) -> OpToken {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        OpToken::new(format!("{}-{call}", token.as_str()))
    }

    /// The key as the mutant understands it.
    fn misread(&self, key: &VolumeKey) -> VolumeKey {
        let tenant = match self.bug {
            Bug::ForgetsTheTenant => TenantRef::new("anybody".parse().unwrap(), key.tenant.generation),
            Bug::ForgetsTheGeneration => TenantRef::new(key.tenant.id.clone(), Generation::from_u64(1)),
            _ => key.tenant.clone(),
        };
        let volume = key.volume.as_str();
        let volume = if self.is(Bug::CutsNamesShort) { volume.get(..16).unwrap_or(volume) } else { volume };
        VolumeKey::new(tenant, volume.trim_end_matches('-').parse().unwrap())
    }

    /// The volume that the mutant means: for some, whatever key the handle comes with.
    fn meant(&self, volume: &VolumeRef) -> VolumeRef {
        let mut meant = volume.clone();
        meant.key = self.misread(&volume.key);
        if self.is(Bug::AnswersForTheHandleAlone) {
            let all = block_on(self.inner.list_volumes(None, 1000)).unwrap().items;
            let same = all.into_iter().find(|status| status.handle == volume.handle);
            meant.key = same.and_then(|status| status.key).unwrap_or(meant.key);
        }
        meant
    }

    fn status_by(&self, mut status: VolumeStatus, key: &VolumeKey) -> VolumeStatus {
        status.key = Some(key.clone());
        if self.is(Bug::TellsNoNodes) {
            status.attached_to.clear();
        }
        if self.is(Bug::TellsNoCondition) {
            status.condition = hivemind_storage::VolumeCondition::Unknown;
        }
        status
    }

    async fn take_from_all(&self, volume: &VolumeRef) -> Result<()> {
        for node in self.inner.get_volume_status(volume).await?.attached_to {
            let node = NodeRef::new("any".parse().unwrap(), node);
            let token = self.another_token(&OpToken::new("steal"));
            self.inner.detach_volume(&DetachVolume::new(token, volume.clone(), node)).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl StorageProvider for Mutant {
    fn name(&self) -> &ProviderName {
        self.inner.name()
    }
    fn provider_type(&self) -> StorageProviderType {
        self.inner.provider_type()
    }
    fn capabilities(&self) -> Capabilities {
        let mut able = self.inner.capabilities();
        if self.is(Bug::SupportsWhatItDoesNotClaim) {
            able.features.remove(&Capability::Expand);
            able.features.remove(&Capability::ExpandOnline);
        }
        if self.is(Bug::ReportsUnsupportedButActs) {
            able.features.remove(&Capability::Clone);
        }
        able
    }
    async fn probe(&self) -> Result<()> {
        self.inner.probe().await
    }
    async fn create_volume(&self, request: &CreateVolume) -> Result<Progress<ProvisionedVolume>> {
        let mut wish = request.clone();
        wish.key = self.misread(&request.key);
        let own = |made: Progress<ProvisionedVolume>| {
            made.map(|mut made| {
                made.volume.key = request.key.clone();
                made
            })
        };
        match self.bug {
            Bug::CreatesByToken => {
                let name = format!("{}-{}", request.key.volume, request.token.as_str().len());
                wish.key.volume = name.parse().unwrap_or(wish.key.volume);
            }
            Bug::ForgetsTheSource | Bug::ClonesEmpty if request.source.is_some() => {
                let source = request.source.clone();
                if self.is(Bug::ClonesEmpty) {
                    // It looks whether the source is there, and copies nothing.
                    let before = self.inner.content(&match source {
                        Some(hivemind_storage::VolumeSource::Volume(of)) => of,
                        _ => return self.inner.create_volume(request).await,
                    });
                    before?;
                }
                wish.source = None;
            }
            Bug::ForgetsEncryption => wish.options.encryption = false,
            Bug::IgnoresThePlace => wish.topology = TopologyRequirement::default(),
            Bug::ClonesAcrossTenants => {
                if let Some(hivemind_storage::VolumeSource::Volume(of)) = &request.source
                    && of.key.tenant != request.key.tenant
                {
                    wish.source = None;
                }
            }
            Bug::HasAlwaysRoom => {
                let room = self.inner.get_capacity(&CapacityQuery::default()).await?.available;
                if request.size.required() > room {
                    wish.size = SizeRange::at_least(ByteSize::from_bytes(1))?;
                }
            }
            _ => {}
        }
        let made = self.inner.create_volume(&wish).await;
        match (self.bug, made) {
            (Bug::ReturnsTheExistingWhateverIsAsked, Err(e)) if e.kind() == ErrorKind::AlreadyExists => {
                let all = self.inner.list_volumes(None, 1000).await?.items;
                let there = all.into_iter().find(|status| status.key.as_ref() == Some(&request.key)).unwrap();
                let volume = VolumeRef::new(request.key.clone(), there.handle);
                Ok(Progress::Ready(ProvisionedVolume::new(volume, there.size)))
            }
            (Bug::LeavesRefusedVolumes, Err(e)) if e.kind() != ErrorKind::AlreadyExists => {
                let mut left = CreateVolume::new(
                    request.token.clone(),
                    request.key.clone(),
                    suite::size(),
                    hivemind_storage::VolumeOptions::default(),
                );
                left.topology = TopologyRequirement::default();
                self.inner.create_volume(&left).await?;
                Err(e)
            }
            (Bug::ReportsUnsupportedButActs, made)
                if matches!(request.source, Some(hivemind_storage::VolumeSource::Volume(_))) =>
            {
                made?;
                Err(Error::new(ErrorKind::Unsupported, "create_volume", "there is no cloning"))
            }
            (Bug::LeaksSecretsInErrors, Err(e)) => {
                let secrets: Vec<_> =
                    request.secrets.iter().map(|(_, s)| String::from_utf8_lossy(s.expose())).collect();
                Err(Error::new(e.kind(), e.operation(), format!("{} with {secrets:?}", e.message())))
            }
            (Bug::RefusesToRepeatCreation, Ok(Progress::Ready(made))) => {
                let mut known = self.known.lock().unwrap();
                if known.insert(made.volume.handle.to_string(), made.volume.clone()).is_some() {
                    return Err(Error::new(ErrorKind::AlreadyExists, "create_volume", "it exists"));
                }
                Ok(Progress::Ready(made))
            }
            (Bug::ForgetsAtRestart, Ok(Progress::Ready(mut made))) => {
                let mut known = self.known.lock().unwrap();
                let volume = known.entry(request.key.to_string()).or_insert_with(|| {
                    let handle = format!("{}-{:p}", made.volume.handle, self);
                    VolumeRef::new(request.key.clone(), handle.parse().unwrap())
                });
                made.volume = volume.clone();
                Ok(Progress::Ready(made))
            }
            (_, made) => made.map(own),
        }
    }
    async fn delete_volume(&self, token: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        let meant = self.meant(volume);
        let there = self.inner.get_volume_status(&meant).await;
        match self.bug {
            Bug::DeletesWhatIsAttached if there.is_ok() => self.take_from_all(&meant).await?,
            Bug::FailsToDeleteWhatIsMissing => drop(there?),
            Bug::DeletesWithoutDeleting if there.is_ok_and(|status| status.attached_to.is_empty()) => {
                return Ok(Progress::Ready(()));
            }
            Bug::DeletesSnapshotsWithVolumes => {
                for snapshot in self.inner.list_snapshots(None, 1000).await?.items {
                    let key = snapshot.key.clone().unwrap();
                    if snapshot.source == volume.handle {
                        self.inner.delete_snapshot(token, &snapshot.reference(key)).await?;
                    }
                }
            }
            _ => {}
        }
        self.inner.delete_volume(token, &meant).await
    }
    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        let status = self.inner.get_volume_status(&self.meant(volume)).await?;
        Ok(self.status_by(status, &volume.key))
    }
    async fn get_volume_statuses(&self, volumes: &[VolumeRef]) -> Result<Vec<Result<VolumeStatus>>> {
        let mut answers = Vec::new();
        for (nth, volume) in volumes.iter().enumerate() {
            if self.is(Bug::AnswersDoublesOnce) && volumes.iter().take(nth).any(|before| before == volume) {
                continue;
            }
            let answer = self.get_volume_status(volume).await;
            answers.push(if self.is(Bug::OneMissingSpoilsAllStatuses) { Ok(answer?) } else { answer });
        }
        Ok(answers)
    }
    async fn get_provider_metrics(&self) -> Result<StorageMetrics> {
        let metrics = self.inner.get_provider_metrics().await?;
        Ok(if self.is(Bug::CountsNothing) { StorageMetrics::default() } else { metrics })
    }
    async fn expand_volume(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        size: SizeRange,
    ) -> Result<Progress<Expanded>> {
        let meant = self.meant(volume);
        match self.bug {
            Bug::PretendsToGrow => return Ok(Progress::Ready(Expanded::new(size.required(), true))),
            Bug::Shrinks => {
                let has = self.inner.get_volume_status(&meant).await?.size;
                if size.required() < has {
                    return Ok(Progress::Ready(Expanded::new(size.required(), true)));
                }
            }
            Bug::GrowsOnlyOnce if self.calls.fetch_add(1, Ordering::Relaxed) > 0 => {
                return Err(Error::new(ErrorKind::Conflict, "expand_volume", "it was modified lately"));
            }
            _ => {}
        }
        self.inner.expand_volume(token, &meant, size).await
    }
    async fn modify_volume(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Progress<()>> {
        self.inner.modify_volume(token, &self.meant(volume), parameters).await
    }
    async fn attach_volume(&self, request: &AttachVolume) -> Result<Progress<Attachment>> {
        let mut wish = request.clone();
        wish.volume = self.meant(&request.volume);
        match self.bug {
            Bug::StealsAttachments => self.take_from_all(&wish.volume).await?,
            Bug::SharesWhateverIsAsked => {
                // Two nodes have it: this one in truth, and the other by what is said.
                if let Err(e) = self.inner.attach_volume(&wish).await {
                    let other = e.kind() == ErrorKind::Conflict || e.kind() == ErrorKind::Invalid;
                    let asked = request.access_mode == AccessMode::ReadWriteMany;
                    if !(other && asked) {
                        return Err(e);
                    }
                }
                return Ok(Progress::Ready(Attachment::directory(request.node.node.clone(), "/x")));
            }
            Bug::HasTwoWriters if request.access_mode == AccessMode::SingleWriterMany => {
                wish.read_only = true;
            }
            Bug::AttachesOtherwiseInSilence => {
                let on = self.inner.get_volume_status(&wish.volume).await?.attached_to;
                if on.contains(&request.node.handle) {
                    let there = Attachment::directory(request.node.node.clone(), "/volumes");
                    return Ok(Progress::Ready(there.of_epoch(request.epoch)));
                }
            }
            Bug::IgnoresEpochs => wish.epoch = FenceEpoch::from_u64(u64::MAX - 1),
            Bug::FencesWithoutKeepingOut => {
                self.inner.unfence_node(&self.another_token(&request.token), &request.node).await?;
            }
            _ => {}
        }
        self.inner.attach_volume(&wish).await
    }
    async fn detach_volume(&self, request: &DetachVolume) -> Result<Progress<()>> {
        let mut wish = request.clone();
        wish.volume = self.meant(&request.volume);
        match self.bug {
            Bug::FailsToDetachWhatIsMissing => drop(self.inner.get_volume_status(&wish.volume).await?),
            Bug::DetachesFromEveryNode if self.inner.get_volume_status(&wish.volume).await.is_ok() => {
                self.take_from_all(&wish.volume).await?;
            }
            _ => {}
        }
        self.inner.detach_volume(&wish).await
    }
    async fn fence_node(
        &self,
        token: &OpToken,
        node: &NodeRef,
        epoch: FenceEpoch,
        volumes: &[VolumeRef],
    ) -> Result<Progress<()>> {
        self.inner.fence_node(token, node, epoch, volumes).await
    }
    async fn unfence_node(&self, token: &OpToken, node: &NodeRef) -> Result<Progress<()>> {
        self.inner.unfence_node(token, node).await
    }
    async fn create_snapshot(&self, request: &CreateSnapshot) -> Result<Progress<VolumeSnapshot>> {
        let mut wish = request.clone();
        wish.volume = self.meant(&request.volume);
        wish.key.volume = self.misread(&request.key.volume);
        let taken = self.inner.create_snapshot(&wish).await?;
        if let (Bug::CutsSnapshotsAnew, Progress::Ready(first)) = (self.bug, &taken) {
            let token = self.another_token(&request.token);
            self.inner.delete_snapshot(&token, &first.reference(wish.key.clone())).await?;
            return self.inner.create_snapshot(&wish).await;
        }
        Ok(taken)
    }
    async fn delete_snapshot(&self, token: &OpToken, snapshot: &SnapshotRef) -> Result<Progress<()>> {
        let mut meant = snapshot.clone();
        meant.key.volume = self.misread(&snapshot.key.volume);
        self.inner.delete_snapshot(token, &meant).await
    }
    async fn restore_snapshot(
        &self,
        token: &OpToken,
        snapshot: &SnapshotRef,
        volume: &VolumeRef,
    ) -> Result<Progress<()>> {
        match self.bug {
            Bug::RestoresWhatIsAttached => self.take_from_all(volume).await?,
            Bug::RestoresNothing => {
                self.inner.get_snapshot_status(snapshot).await?;
                if self.inner.get_volume_status(volume).await?.attached_to.is_empty() {
                    return Ok(Progress::Ready(()));
                }
            }
            _ => {}
        }
        let (mut snapshot, volume) = (snapshot.clone(), self.meant(volume));
        snapshot.key.volume = self.misread(&snapshot.key.volume);
        self.inner.restore_snapshot(token, &snapshot, &volume).await
    }
    async fn create_group_snapshot(&self, request: &CreateGroupSnapshot) -> Result<Progress<GroupSnapshot>> {
        if self.is(Bug::TakesPartsOfGroups) {
            for volume in &request.volumes {
                let key = hivemind_storage::SnapshotKey::new(volume.key.clone(), "part".parse().unwrap());
                let part = CreateSnapshot::new(request.token.clone(), key, volume.clone());
                let first = self.inner.create_snapshot(&part).await?;
                drop(first);
            }
        }
        self.inner.create_group_snapshot(request).await
    }
    async fn delete_group_snapshot(
        &self,
        token: &OpToken,
        key: &GroupKey,
        handle: &GroupHandle,
        snapshots: &[SnapshotRef],
    ) -> Result<Progress<()>> {
        if self.is(Bug::DeletesGroupsWithoutSnapshots) {
            return Ok(Progress::Ready(()));
        }
        self.inner.delete_group_snapshot(token, key, handle, snapshots).await
    }
    async fn get_snapshot_status(&self, snapshot: &SnapshotRef) -> Result<VolumeSnapshot> {
        let mut meant = snapshot.clone();
        meant.key.volume = self.misread(&snapshot.key.volume);
        self.inner.get_snapshot_status(&meant).await
    }
    async fn list_volumes<'a>(&self, after: Option<&'a Cursor>, limit: usize) -> Result<Page<VolumeStatus>> {
        let all = self.inner.list_volumes(None, 1000).await?.items;
        match self.bug {
            Bug::PagesByNumber => {
                let from = match after {
                    None => 0,
                    Some(cursor) => cursor
                        .as_str()
                        .parse::<usize>()
                        .ok()
                        .filter(|from| *from <= all.len())
                        .ok_or_else(|| Error::invalid("list", "no cursor"))?,
                };
                let next = (from + limit < all.len()).then(|| Cursor::new((from + limit).to_string()));
                Ok(Page::new(all.into_iter().skip(from).take(limit).collect(), next))
            }
            Bug::ListsTheLastTwice => {
                let mut page = self.inner.list_volumes(after, limit).await?;
                if after.is_some() && page.items.len() < limit {
                    page.items.extend(page.items.last().cloned());
                }
                Ok(page)
            }
            Bug::AcceptsAnyCursor => match self.inner.list_volumes(after, limit).await {
                Err(e) if e.kind() == ErrorKind::Invalid => self.inner.list_volumes(None, limit).await,
                page => page,
            },
            _ => {
                let page = self.inner.list_volumes(after, limit).await?;
                let own = |status: VolumeStatus| {
                    let key = status.key.clone().unwrap();
                    self.status_by(status, &key)
                };
                Ok(Page::new(page.items.into_iter().map(own).collect(), page.next))
            }
        }
    }
    async fn list_snapshots<'a>(
        &self,
        after: Option<&'a Cursor>,
        limit: usize,
    ) -> Result<Page<VolumeSnapshot>> {
        self.inner.list_snapshots(after, limit).await
    }
    async fn get_capacity(&self, query: &CapacityQuery) -> Result<Capacity> {
        self.inner.get_capacity(query).await
    }
}
