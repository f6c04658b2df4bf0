//! What the cases share: short names for calls, repeated until they are answered.

use std::path::PathBuf;
use std::sync::Arc;

use hivemind_core::resources::ByteSize;
use hivemind_core::{Effect, Error, ErrorKind, Generation, OpToken, Progress, Result, Retry, TenantRef};

use super::{Content, Fixture, Need};
use crate::{
    AccessMode, AttachVolume, Attachment, Capability, CreateSnapshot, CreateVolume, DetachVolume, Expanded,
    NodeCapability, NodeRef, ProvisionedVolume, SizeRange, SnapshotHandle, SnapshotKey, SnapshotRef,
    VolumeHandle, VolumeKey, VolumeMode, VolumeOptions, VolumeRef, VolumeSnapshot, VolumeStatus,
};

/// Why a case failed. Made of any error, so that cases can use `?`.
pub(super) struct Why(pub(super) String);

impl<E: std::error::Error> From<E> for Why {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

pub(super) type Outcome<T = ()> = std::result::Result<T, Why>;

macro_rules! cases {
    ($($name:ident $(needs [$($need:expr),+ $(,)?])?),* $(,)?) => {
        pub(super) const CASES: &[crate::conformance::Case] = &[$(crate::conformance::Case {
            name: stringify!($name),
            needs: &[$($($need),+)?],
            run: |fixture| Box::pin(async move { $name(fixture).await.map_err(|why| why.0) }),
        }),*];
    };
}
pub(super) use cases;

pub(super) const ATTACH: Need = Need::Capability(Capability::Attach);
pub(super) const CLONE: Need = Need::Capability(Capability::Clone);
pub(super) const EXPAND: Need = Need::Capability(Capability::Expand);
pub(super) const FENCE: Need = Need::Capability(Capability::Fence);
pub(super) const GROUPS: Need = Need::Capability(Capability::GroupSnapshots);
pub(super) const LIST: Need = Need::Capability(Capability::ListVolumes);
pub(super) const MODIFY: Need = Need::Capability(Capability::Modify);
pub(super) const NODES: Need = Need::Capability(Capability::AttachedNodes);
pub(super) const RESTORE: Need = Need::Capability(Capability::RestoreInPlace);
pub(super) const SNAPSHOTS: Need = Need::Capability(Capability::Snapshots);
pub(super) const STAGE: Need = Need::NodeCapability(NodeCapability::Stage);
pub(super) const STATS: Need = Need::NodeCapability(NodeCapability::Stats);
pub(super) const ONE_NODE: Need = Need::AccessMode(AccessMode::ReadWriteOnce);

pub(super) fn check(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(Why(what.to_owned())) }
}

/// Whether `outcome` is an error of one of these kinds.
pub(super) fn refused_as<T>(outcome: Result<T>, kinds: &[ErrorKind]) -> Outcome {
    match outcome {
        Err(e) if kinds.contains(&e.kind()) => Ok(()),
        Err(e) => Err(Why(format!("expected an error of kind {kinds:?}, got {:?}: {e}", e.kind()))),
        Ok(_) => Err(Why(format!("expected an error of kind {kinds:?}, and it succeeded"))),
    }
}

pub(super) fn refused<T>(outcome: Result<T>, kind: ErrorKind) -> Outcome {
    refused_as(outcome, &[kind])
}

pub(super) fn key(tenant: &str, generation: u64, volume: &str) -> Outcome<VolumeKey> {
    let tenant = TenantRef::new(tenant.parse()?, Generation::from_u64(generation));
    Ok(VolumeKey::new(tenant, volume.parse()?))
}

/// A volume of the tenant whom most cases are about.
pub(super) fn ours(volume: &str) -> Outcome<VolumeKey> {
    key("acme", 1, volume)
}

/// A volume that nobody made.
pub(super) fn nowhere() -> Outcome<VolumeRef> {
    Ok(VolumeRef::new(ours("data")?, VolumeHandle::new("no-such-volume")?))
}

/// The same handle, under the key of a volume of another tenant.
pub(super) fn foreign(volume: &VolumeRef) -> Outcome<VolumeRef> {
    let mut foreign = volume.clone();
    foreign.key = key("globex", 1, "data")?;
    Ok(foreign)
}

pub(super) fn snapshot_key(volume: &VolumeRef, name: &str) -> Outcome<SnapshotKey> {
    Ok(SnapshotKey::new(volume.key.clone(), name.parse()?))
}

pub(super) fn no_snapshot(of: &VolumeRef) -> Outcome<SnapshotRef> {
    Ok(SnapshotRef::new(snapshot_key(of, "never")?, SnapshotHandle::new("no-such-snapshot")?))
}

pub(super) fn at_least(size: ByteSize) -> Result<SizeRange> {
    SizeRange::at_least(size)
}

pub(super) fn doubled(size: ByteSize) -> ByteSize {
    ByteSize::from_bytes(size.as_bytes().saturating_mul(2))
}

impl Fixture {
    /// Repeats a call until it is neither pending nor without an answer, a bounded number of times.
    pub(super) async fn settle<T, F: Future<Output = Result<Progress<T>>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T> {
        for _ in 0..1000 {
            match call().await {
                Ok(Progress::Ready(done)) => return Ok(done),
                Ok(Progress::Pending(pending)) => {
                    if let Some(runtime) = &self.runtime {
                        runtime.sleep(pending.poll_after).await;
                    }
                }
                // A lost reply: whoever is meant to be idempotent can be asked again. Not where somebody must make room first.
                Err(e) if e.effect() == Effect::Unknown && e.retry() == Retry::Later => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::internal("settle", "still not answered after 1000 repetitions"))
    }

    pub(super) fn has(&self, capability: Capability) -> bool {
        self.provider.capabilities().has(capability)
    }

    /// For whom a volume is where the case does not care.
    pub(super) fn mode(&self) -> AccessMode {
        let modes = self.provider.capabilities().access_modes;
        let usual = AccessMode::ReadWriteOnce;
        if modes.contains(&usual) { usual } else { modes.first().copied().unwrap_or(usual) }
    }

    pub(super) fn volume_mode(&self) -> VolumeMode {
        if self.provider.capabilities().filesystem { VolumeMode::filesystem() } else { VolumeMode::Block }
    }

    /// What a volume is like where the case does not care.
    pub(super) fn options(&self) -> VolumeOptions {
        VolumeOptions::default().with_access_mode(self.mode()).with_volume_mode(self.volume_mode())
    }

    pub(super) fn wish(&self, key: &VolumeKey) -> CreateVolume {
        CreateVolume::new(OpToken::new(format!("create-{key}")), key.clone(), self.size, self.options())
    }

    pub(super) async fn make(&self, request: &CreateVolume) -> Result<ProvisionedVolume> {
        self.settle(|| self.provider.create_volume(request)).await
    }

    pub(super) async fn create(&self, key: &VolumeKey) -> Result<ProvisionedVolume> {
        self.make(&self.wish(key)).await
    }

    /// A volume of ours.
    pub(super) async fn volume(&self, name: &str) -> Outcome<VolumeRef> {
        Ok(self.create(&ours(name)?).await?.volume)
    }

    /// A volume of ours, for this access mode.
    pub(super) async fn volume_for(&self, name: &str, mode: AccessMode) -> Outcome<VolumeRef> {
        let mut wish = self.wish(&ours(name)?);
        wish.options = wish.options.with_access_mode(mode);
        Ok(self.make(&wish).await?.volume)
    }

    pub(super) async fn status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        self.provider.get_volume_status(volume).await
    }

    pub(super) async fn delete(&self, volume: &VolumeRef) -> Result<()> {
        let token = OpToken::new(format!("delete-{}", volume.handle));
        self.settle(|| self.provider.delete_volume(&token, volume)).await
    }

    pub(super) async fn expand(&self, volume: &VolumeRef, size: SizeRange) -> Result<Expanded> {
        let token = OpToken::new(format!("expand-{}-{}", volume.key, size.required()));
        self.settle(|| self.provider.expand_volume(&token, volume, size)).await
    }

    pub(super) fn bring(&self, volume: &VolumeRef, node: &NodeRef) -> AttachVolume {
        let token = OpToken::new(format!("attach-{}-{node}", volume.key));
        AttachVolume::new(token, volume.clone(), node.clone())
            .with_access_mode(self.mode())
            .with_volume_mode(self.volume_mode())
    }

    pub(super) async fn attach_as(&self, request: &AttachVolume) -> Result<Attachment> {
        self.settle(|| self.provider.attach_volume(request)).await
    }

    pub(super) async fn attach(&self, volume: &VolumeRef, node: &NodeRef) -> Result<Attachment> {
        self.attach_as(&self.bring(volume, node)).await
    }

    pub(super) async fn detach(&self, volume: &VolumeRef, node: &NodeRef) -> Result<()> {
        let token = OpToken::new(format!("detach-{}-{node}", volume.key));
        let request = DetachVolume::new(token, volume.clone(), node.clone());
        self.settle(|| self.provider.detach_volume(&request)).await
    }

    pub(super) async fn snap(&self, of: &VolumeRef, name: &str) -> Outcome<VolumeSnapshot> {
        let key = snapshot_key(of, name)?;
        Ok(self.snap_as(&CreateSnapshot::new(OpToken::new(format!("snap-{key}")), key, of.clone())).await?)
    }

    /// Takes a snapshot, and waits until volumes can be made of it.
    pub(super) async fn snap_as(&self, request: &CreateSnapshot) -> Result<VolumeSnapshot> {
        self.settle(|| async {
            let progress = self.provider.create_snapshot(request).await?;
            Ok(match progress {
                Progress::Ready(taken) if !taken.ready => {
                    let wait = std::time::Duration::from_secs(1);
                    Progress::Pending(hivemind_core::Pending::new(request.token.clone(), wait))
                }
                other => other,
            })
        })
        .await
    }

    /// Takes a snapshot of ours, by reference.
    pub(super) async fn snapshot(&self, of: &VolumeRef, name: &str) -> Outcome<SnapshotRef> {
        Ok(self.snap(of, name).await?.reference(snapshot_key(of, name)?))
    }

    pub(super) async fn drop_snapshot(&self, snapshot: &SnapshotRef) -> Result<()> {
        let token = OpToken::new(format!("drop-{}", snapshot.key));
        self.settle(|| self.provider.delete_snapshot(&token, snapshot)).await
    }

    pub(super) async fn restore(&self, snapshot: &SnapshotRef, volume: &VolumeRef) -> Result<()> {
        let token = OpToken::new(format!("restore-{}-{}", snapshot.key, volume.key));
        self.settle(|| self.provider.restore_snapshot(&token, snapshot, volume)).await
    }

    /// Every volume, if the provider can list them.
    pub(super) async fn all(&self) -> Result<Vec<VolumeStatus>> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.provider.list_volumes(after.as_ref(), 1000).await?;
            found.extend(page.items);
            let Some(next) = page.next else { return Ok(found) };
            after = Some(next);
        }
    }

    /// How many volumes there are: by the list, where there is one.
    pub(super) async fn count(&self) -> Result<u64> {
        if self.has(Capability::ListVolumes) {
            return Ok(u64::try_from(self.all().await?.len()).unwrap_or(u64::MAX));
        }
        Ok(self.provider.get_provider_metrics().await?.volumes)
    }

    /// That `what` was refused as one of `kinds`, and made no volume.
    pub(super) async fn refuses(&self, wish: &CreateVolume, kinds: &[ErrorKind]) -> Outcome {
        let before = self.count().await?;
        refused_as(self.make(wish).await, kinds)?;
        check(self.count().await? == before, "the refused creation left a volume behind")
    }

    pub(super) fn reader(&self) -> Outcome<Arc<dyn Content>> {
        self.content.clone().ok_or_else(|| Why("nothing reads and writes volumes".to_owned()))
    }

    /// Whether `directory` is a real one.
    pub(super) fn on_disk(&self) -> bool {
        self.directory.is_dir()
    }

    /// A directory for staging, which exists.
    pub(super) fn staging(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.directory.join(name);
        if self.on_disk() {
            std::fs::create_dir_all(&path)?;
        }
        Ok(path)
    }
}
