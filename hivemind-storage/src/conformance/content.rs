//! What is in volumes, as a workload sees it.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Result};

use super::Fixture;
use super::support::Why;
use crate::{Capability, NodeCapability, NodeStorage, PublishVolume, StageVolume, VolumeRef};

/// Reads and writes what is in a volume that is on no node, and leaves it on none.
#[async_trait]
pub trait Content: fmt::Debug + Send + Sync + 'static {
    /// Makes `bytes` the content of the volume.
    async fn write(&self, volume: &VolumeRef, bytes: &[u8]) -> Result<()>;

    /// What was written last; empty for a volume to which nobody wrote.
    async fn read(&self, volume: &VolumeRef) -> Result<Vec<u8>>;

    /// Writes as much as `size`; [`Exhausted`](ErrorKind::Exhausted) if there is no room for it.
    async fn fill(&self, volume: &VolumeRef, size: ByteSize) -> Result<()>;
}

/// Content in a file of a volume that is published, for providers whose node side shows directories.
#[derive(Debug)]
pub struct PublishedContent {
    fixture: Fixture,
    node: Arc<dyn NodeStorage>,
}

const FILE: &str = "conformance.bin";

fn io(error: std::io::Error) -> Error {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let kind = match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => ErrorKind::Exhausted,
        _ => ErrorKind::Unavailable,
    };
    Error::of(kind, "content", error)
}

fn own(why: Why) -> Error {
    Error::internal("content", why.0)
}

impl PublishedContent {
    /// For volumes of the provider of `fixture`, below its directory; `None` without a node side.
    pub fn new(fixture: &Fixture) -> Option<Self> {
        let node = fixture.node.clone()?;
        Some(Self { fixture: fixture.clone(), node })
    }

    async fn with<T: Send>(
        &self,
        volume: &VolumeRef,
        work: impl FnOnce(PathBuf) -> Result<T> + Send,
    ) -> Result<T> {
        let f = &self.fixture;
        let attachment = match f.has(Capability::Attach) {
            true => Some(f.attach(volume, &f.nodes[0]).await?),
            false => None,
        };
        let target = f.directory.join("content-target");
        let mut publish = PublishVolume::new(volume.clone(), attachment.clone(), &target)
            .with_access_mode(f.mode())
            .with_volume_mode(f.volume_mode());
        if self.node.node_capabilities().contains(&NodeCapability::Stage) {
            let staging = f.staging("content-staging").map_err(own)?;
            let stage = StageVolume::new(volume.clone(), attachment.clone(), &staging)
                .with_access_mode(f.mode())
                .with_volume_mode(f.volume_mode());
            self.node.stage_volume(&stage).await?;
            publish = publish.staged_at(staging);
        }
        self.node.publish_volume(&publish).await?;
        let done = work(target.join(FILE));
        self.node.unpublish_volume(volume, &target).await?;
        if let Some(staging) = &publish.staging_path {
            self.node.unstage_volume(volume, staging).await?;
        }
        if attachment.is_some() {
            f.detach(volume, &f.nodes[0]).await?;
        }
        done
    }
}

#[async_trait]
impl Content for PublishedContent {
    async fn write(&self, volume: &VolumeRef, bytes: &[u8]) -> Result<()> {
        let bytes = bytes.to_vec();
        self.with(volume, move |file| std::fs::write(file, bytes).map_err(io)).await
    }

    async fn read(&self, volume: &VolumeRef) -> Result<Vec<u8>> {
        self.with(volume, |file| match std::fs::read(file) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(io),
        })
        .await
    }

    async fn fill(&self, volume: &VolumeRef, size: ByteSize) -> Result<()> {
        self.with(volume, move |file| {
            let mut file = std::fs::File::create(file).map_err(io)?;
            // Not all the same, lest it be compressed away.
            let mut state = 0x9e37_79b9_7f4a_7c15_u64;
            for _ in 0..size.as_bytes().div_ceil(4096) {
                let mut block = Vec::with_capacity(4096);
                while block.len() < 4096 {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    block.extend_from_slice(&state.to_le_bytes());
                }
                file.write_all(&block).map_err(io)?;
            }
            // Where writing is deferred, only this tells that there is no room.
            file.sync_all().map_err(io)
        })
        .await
    }
}
