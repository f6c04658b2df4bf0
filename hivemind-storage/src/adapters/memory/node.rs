//! The node side of volumes in memory: what is staged and published where, without touching a file system.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Result};

use super::MemoryProvider;
use crate::{
    AccessMode, Beyond, Capability, ExpandOnNode, NodeCapability, NodeInfo, NodeStorage, PublishVolume,
    StageVolume, Usage, VolumeHandle, VolumeMode, VolumeRef, VolumeStats,
};

/// A node on which volumes of a [`MemoryProvider`] are staged and published, in a map of paths.
#[derive(Debug)]
pub struct MemoryNode {
    provider: Arc<MemoryProvider>,
    info: NodeInfo,
    capabilities: BTreeSet<NodeCapability>,
    paths: Mutex<Paths>,
}

#[derive(Debug, Default)]
struct Paths {
    staged: BTreeMap<PathBuf, Staged>,
    published: BTreeMap<PathBuf, Published>,
}

#[derive(Debug, PartialEq, Eq)]
struct Staged {
    volume: VolumeHandle,
    access_mode: AccessMode,
    volume_mode: VolumeMode,
}

#[derive(Debug, PartialEq, Eq)]
struct Published {
    volume: VolumeHandle,
    access_mode: AccessMode,
    volume_mode: VolumeMode,
    read_only: bool,
}

fn taken(operation: &'static str, path: &Path) -> Error {
    let message = format!("{} has another volume, or this one otherwise: unpublish it first", path.display());
    Error::new(ErrorKind::AlreadyExists, operation, message)
}

impl MemoryNode {
    /// The node `info`, for volumes of `provider`.
    pub fn new(provider: Arc<MemoryProvider>, info: NodeInfo) -> Self {
        use NodeCapability::{Condition, Expand, Stage, Stats};
        let capabilities = BTreeSet::from([Stage, Expand, Stats, Condition]);
        Self { provider, info, capabilities, paths: Mutex::default() }
    }

    /// Able to do this, and no more.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: impl IntoIterator<Item = NodeCapability>) -> Self {
        self.capabilities = capabilities.into_iter().collect();
        self
    }

    fn require(&self, operation: &'static str, capability: NodeCapability) -> Result<()> {
        if self.capabilities.contains(&capability) {
            return Ok(());
        }
        let message = format!("node {} cannot do it: its node side has no such capability", self.info.node);
        Err(Error::new(ErrorKind::Unsupported, operation, message))
    }

    /// Where volumes are published.
    pub fn published(&self) -> BTreeSet<PathBuf> {
        self.lock().published.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Paths> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a path at which the volume is neither published nor staged.
    fn here(&self, operation: &'static str, volume: &VolumeRef, path: &Path) -> Result<()> {
        let paths = self.lock();
        if paths.published.get(path).is_some_and(|published| published.volume == volume.handle)
            || paths.staged.get(path).is_some_and(|staged| staged.volume == volume.handle)
        {
            return Ok(());
        }
        Err(Error::not_found(operation, format!("volume {} is not at {}", volume.key, path.display())))
    }

    /// The node has the volume, and it was made to be used so.
    fn attached(
        &self,
        operation: &'static str,
        volume: &VolumeRef,
        access_mode: AccessMode,
        volume_mode: &VolumeMode,
    ) -> Result<()> {
        let state = self.provider.lock();
        let found = state.volume(operation, volume)?;
        let made = &found.options;
        if !made.access_modes.contains(&access_mode) || made.volume_mode.is_block() != volume_mode.is_block()
        {
            let message =
                format!("volume {} was not made for {access_mode}, or not as this kind", volume.key);
            return Err(Error::invalid(operation, message).with_source(Beyond::Use));
        }
        // Without attaching, every node has every volume.
        let everywhere = !self.provider.capabilities.has(Capability::Attach);
        if everywhere || found.nodes.contains_key(&self.info.node.handle) {
            return Ok(());
        }
        let message = format!("volume {} is not on node {}: attach it first", volume.key, self.info.node);
        Err(Error::new(ErrorKind::Conflict, operation, message))
    }
}

#[async_trait]
impl NodeStorage for MemoryNode {
    fn node_capabilities(&self) -> BTreeSet<NodeCapability> {
        self.capabilities.clone()
    }

    async fn node_info(&self) -> Result<NodeInfo> {
        Ok(self.info.clone())
    }

    async fn stage_volume(&self, request: &StageVolume) -> Result<()> {
        const OPERATION: &str = "stage_volume";
        self.require(OPERATION, NodeCapability::Stage)?;
        self.attached(OPERATION, &request.volume, request.access_mode, &request.volume_mode)?;
        let wanted = Staged {
            volume: request.volume.handle.clone(),
            access_mode: request.access_mode,
            volume_mode: request.volume_mode.clone(),
        };
        let mut paths = self.lock();
        let there = paths.staged.entry(request.staging_path.clone()).or_insert_with(|| Staged {
            volume: wanted.volume.clone(),
            access_mode: wanted.access_mode,
            volume_mode: wanted.volume_mode.clone(),
        });
        if *there == wanted { Ok(()) } else { Err(taken(OPERATION, &request.staging_path)) }
    }

    async fn unstage_volume(&self, volume: &VolumeRef, staging_path: &Path) -> Result<()> {
        self.require("unstage_volume", NodeCapability::Stage)?;
        let mut paths = self.lock();
        if paths.published.values().any(|published| published.volume == volume.handle) {
            let message = format!("volume {} is still published: unpublish it first", volume.key);
            return Err(Error::new(ErrorKind::Conflict, "unstage_volume", message));
        }
        if paths.staged.get(staging_path).is_some_and(|staged| staged.volume == volume.handle) {
            paths.staged.remove(staging_path);
        }
        Ok(())
    }

    async fn publish_volume(&self, request: &PublishVolume) -> Result<()> {
        const OPERATION: &str = "publish_volume";
        self.attached(OPERATION, &request.volume, request.access_mode, &request.volume_mode)?;
        let (handle, target) = (&request.volume.handle, &request.target_path);
        let mut paths = self.lock();
        let staged = request.staging_path.as_ref().and_then(|path| paths.staged.get(path));
        let staging = self.capabilities.contains(&NodeCapability::Stage);
        if staging && staged.is_none_or(|staged| staged.volume != *handle) {
            let message = format!("volume {} is not staged: stage it first", request.volume.key);
            return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
        }
        let wanted = Published {
            volume: handle.clone(),
            access_mode: request.access_mode,
            volume_mode: request.volume_mode.clone(),
            read_only: request.read_only,
        };
        if let Some(there) = paths.published.get(target) {
            return if *there == wanted { Ok(()) } else { Err(taken(OPERATION, target)) };
        }
        let single = |published: &Published| {
            published.volume == *handle
                && (published.access_mode == AccessMode::ReadWriteOncePod
                    || request.access_mode == AccessMode::ReadWriteOncePod)
        };
        if let Some((path, _)) = paths.published.iter().find(|(_, published)| single(published)) {
            let message = format!("volume {} is for one workload, at {}", request.volume.key, path.display());
            return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
        }
        paths.published.insert(target.clone(), wanted);
        Ok(())
    }

    async fn unpublish_volume(&self, volume: &VolumeRef, target_path: &Path) -> Result<()> {
        let mut paths = self.lock();
        if paths.published.get(target_path).is_some_and(|published| published.volume == volume.handle) {
            paths.published.remove(target_path);
        }
        Ok(())
    }

    async fn expand_on_node(&self, request: &ExpandOnNode) -> Result<ByteSize> {
        const OPERATION: &str = "expand_on_node";
        self.require(OPERATION, NodeCapability::Expand)?;
        let size = self.provider.lock().volume(OPERATION, &request.volume)?.size;
        self.here(OPERATION, &request.volume, &request.volume_path)?;
        Ok(size)
    }

    async fn volume_stats(&self, volume: &VolumeRef, path: &Path) -> Result<VolumeStats> {
        const OPERATION: &str = "volume_stats";
        self.require(OPERATION, NodeCapability::Stats)?;
        let (total, used, condition) = {
            let state = self.provider.lock();
            let found = state.volume(OPERATION, volume)?;
            let used = u64::try_from(found.content.len()).unwrap_or(u64::MAX);
            (found.size.as_bytes(), used, found.condition.clone())
        };
        self.here(OPERATION, volume, path)?;
        let bytes = Usage::new(total, used, total.saturating_sub(used));
        let stats = VolumeStats::new(bytes, None);
        let tells = self.capabilities.contains(&NodeCapability::Condition);
        Ok(if tells { stats.with_condition(condition) } else { stats })
    }
}
