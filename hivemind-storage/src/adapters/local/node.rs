//! The node side of a local pool: what is staged and published where.

mod volume;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use hivemind_core::resources::ByteSize;
use hivemind_core::{Result, Worker};

use self::volume::NodePool;
use super::pool::canonical;
use crate::{
    ExpandOnNode, NodeCapability, NodeInfo, NodeStorage, PublishVolume, StageVolume, VolumeRef, VolumeStats,
};

/// The node side of a [`LocalProvider`](crate::LocalProvider), in its process or in another one on the same node.
///
/// Statistics of images tell `reads`, `read-bytes`, `writes` and `written-bytes` since staging, as the kernel counts them.
///
/// Volumes with a file system are mounted at the staging path, and from there bound to each target. It must be in the
/// mount namespace in which volumes are wanted, and be allowed to mount (`CAP_SYS_ADMIN`). Calls run one after the
/// other on a thread of its own.
#[derive(Debug)]
pub struct LocalNode {
    info: NodeInfo,
    pool: Arc<NodePool>,
    worker: Worker,
}

impl LocalNode {
    /// The node side of the pool in `directory`, on the node `info`. This blocks.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](hivemind_core::ErrorKind::Invalid) if there is no such directory;
    /// [`ErrorKind::Unavailable`](hivemind_core::ErrorKind::Unavailable) as the system says.
    pub fn open(info: NodeInfo, directory: impl AsRef<Path>) -> Result<Self> {
        let pool = Arc::new(NodePool::new(canonical(directory.as_ref())?)?);
        let worker = Worker::start(&format!("local-node-{}", info.node))?;
        Ok(Self { info: super::placed(info), pool, worker })
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&NodePool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let pool = Arc::clone(&self.pool);
        self.worker.run(move || job(&pool)).await
    }
}

#[async_trait]
impl NodeStorage for LocalNode {
    fn node_capabilities(&self) -> BTreeSet<NodeCapability> {
        use NodeCapability::{Condition, Expand, Stage, Stats};
        BTreeSet::from([Stage, Expand, Stats, Condition])
    }

    async fn node_info(&self) -> Result<NodeInfo> {
        Ok(self.info.clone())
    }

    async fn stage_volume(&self, request: &StageVolume) -> Result<()> {
        let request = request.clone();
        self.run(move |pool| pool.stage(&request)).await
    }

    async fn unstage_volume(&self, volume: &VolumeRef, staging_path: &Path) -> Result<()> {
        let (volume, path) = (volume.clone(), PathBuf::from(staging_path));
        self.run(move |pool| pool.unstage(&volume, &path)).await
    }

    async fn publish_volume(&self, request: &PublishVolume) -> Result<()> {
        let request = request.clone();
        self.run(move |pool| pool.publish(&request)).await
    }

    async fn unpublish_volume(&self, volume: &VolumeRef, target_path: &Path) -> Result<()> {
        let (volume, path) = (volume.clone(), PathBuf::from(target_path));
        self.run(move |pool| pool.unpublish(&volume, &path)).await
    }

    async fn expand_on_node(&self, request: &ExpandOnNode) -> Result<ByteSize> {
        let request = request.clone();
        self.run(move |pool| pool.expand(&request)).await
    }

    async fn volume_stats(&self, volume: &VolumeRef, path: &Path) -> Result<VolumeStats> {
        let (volume, path) = (volume.clone(), PathBuf::from(path));
        self.run(move |pool| pool.stats(&volume, &path)).await
    }
}
