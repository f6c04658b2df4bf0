//! The provider that `docs/writing-a-storage-provider.md` writes, whole: volumes are directories of one node.
//!
//! The guide shows this file piece by piece; a test below keeps the two the same.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hivemind_core::{Error, ErrorKind, NodeId, OpToken, Progress, ProviderName, Result};
use hivemind_core::{async_trait, block_on, resources::ByteSize};
use hivemind_storage::conformance::{self, Fixture, PublishedContent};
use hivemind_storage::{
    Capabilities, Capability, CreateVolume, Cursor, NodeCapability, NodeInfo, NodeStorage, Page,
    ProvisionedVolume, PublishVolume, SizeRange, StorageMetrics, StorageProvider, StorageProviderType,
    VolumeHandle, VolumeKey, VolumeOptions, VolumeRef, VolumeStatus,
};
use serde::{Deserialize, Serialize};

/// What is kept of a volume, beside its data.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: VolumeKey,
    size: ByteSize,
    options: VolumeOptions,
}

/// Volumes are directories below `root`: `<root>/<handle>/{record.json,data}`.
#[derive(Debug)]
struct DirectoryProvider {
    name: ProviderName,
    root: PathBuf,
}

/// The same for the same key, always: so a repeated creation finds what the first one made.
fn handle_of(key: &VolumeKey) -> Result<VolumeHandle> {
    let hash = key.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let text = format!("{}-{hash:016x}", key.volume);
    VolumeHandle::new(text).map_err(|e| Error::internal("handle", e.to_string()))
}

/// A disk that fails may have done it or not: whoever asked should ask again.
fn io_error(error: io::Error) -> Error {
    let effect = hivemind_core::Effect::Unknown;
    Error::of(ErrorKind::Unavailable, "directory", error)
        .with_effect(effect)
        .with_retry(hivemind_core::Retry::Later)
}

impl DirectoryProvider {
    /// The record of what has this handle.
    fn record(&self, handle: &VolumeHandle) -> Result<Option<Record>> {
        match fs::read(self.root.join(handle.as_str()).join("record.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| Error::of(ErrorKind::Corrupt, "record", e)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error(e)),
        }
    }

    /// The volume, if its handle is the one that we gave its key. So no path is ever made of a foreign handle.
    fn find(&self, volume: &VolumeRef) -> Result<Option<Record>> {
        if handle_of(&volume.key)? != volume.handle {
            return Ok(None);
        }
        Ok(self.record(&volume.handle)?.filter(|record| record.key == volume.key))
    }

    /// Every volume, in the order of handles. What begins with a dot is half made, or half deleted.
    fn all(&self) -> Result<Vec<VolumeStatus>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(io_error)? {
            let name = entry.map_err(io_error)?.file_name().to_string_lossy().into_owned();
            let Ok(handle) = VolumeHandle::new(&name) else { continue };
            if let (false, Some(record)) = (name.starts_with('.'), self.record(&handle)?) {
                found.push(VolumeStatus::new(handle, record.size).of(record.key));
            }
        }
        found.sort_by(|a, b| a.handle.cmp(&b.handle));
        Ok(found)
    }
}

#[async_trait]
impl StorageProvider for DirectoryProvider {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn provider_type(&self) -> StorageProviderType {
        StorageProviderType::Local
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new([Capability::ListVolumes])
    }

    async fn probe(&self) -> Result<()> {
        fs::read_dir(&self.root).map(drop).map_err(io_error)
    }

    async fn create_volume(&self, request: &CreateVolume) -> Result<Progress<ProvisionedVolume>> {
        self.capabilities().require_options(&self.name, &request.options)?;
        if request.source.is_some() {
            let message = format!("provider {} makes no volumes of others", self.name);
            return Err(Error::new(ErrorKind::Unsupported, "create_volume", message));
        }
        let handle = handle_of(&request.key)?;
        let record = match self.record(&handle)? {
            Some(there) => {
                let same = there.key == request.key
                    && there.options == request.options
                    && request.size.admits(there.size);
                if !same {
                    let message = format!("volume {} exists, and is another one", request.key);
                    return Err(Error::new(ErrorKind::AlreadyExists, "create_volume", message));
                }
                there
            }
            None => {
                let (key, options) = (request.key.clone(), request.options.clone());
                let record = Record { key, size: request.size.required(), options };
                self.make(&handle, &record).map_err(io_error)?;
                record
            }
        };
        Ok(Progress::Ready(ProvisionedVolume::new(VolumeRef::new(record.key, handle), record.size)))
    }

    async fn delete_volume(&self, _: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        if self.find(volume)?.is_some() {
            self.remove(&volume.handle).map_err(io_error)?;
        }
        Ok(Progress::Ready(()))
    }

    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        let Some(record) = self.find(volume)? else {
            return Err(Error::not_found("get_volume_status", format!("there is no volume {}", volume.key)));
        };
        Ok(VolumeStatus::new(volume.handle.clone(), record.size).of(record.key))
    }

    async fn get_provider_metrics(&self) -> Result<StorageMetrics> {
        let all = self.all()?;
        let bytes = all.iter().map(|status| status.size.as_bytes()).sum();
        let volumes = u64::try_from(all.len()).unwrap_or(u64::MAX);
        Ok(StorageMetrics::new(volumes, 0, ByteSize::from_bytes(bytes), None))
    }

    async fn list_volumes<'a>(&self, after: Option<&'a Cursor>, limit: usize) -> Result<Page<VolumeStatus>> {
        let after = match after {
            None => "",
            Some(cursor) => cursor
                .as_str()
                .strip_prefix("after:")
                .ok_or_else(|| Error::invalid("list_volumes", "this cursor is not of this list"))?,
        };
        let mut rest: Vec<_> =
            self.all()?.into_iter().filter(|status| status.handle.as_str() > after).collect();
        let more = rest.len() > limit;
        rest.truncate(limit);
        let next = rest.last().filter(|_| more).map(|last| Cursor::new(format!("after:{}", last.handle)));
        Ok(Page::new(rest, next))
    }
}

impl DirectoryProvider {
    /// Makes the whole volume aside, and shows it by one rename: a crash leaves it made or not, never by half.
    fn make(&self, handle: &VolumeHandle, record: &Record) -> io::Result<()> {
        let aside = self.root.join(format!(".new-{handle}"));
        fs::create_dir_all(aside.join("data"))?;
        fs::write(aside.join("record.json"), serde_json::to_vec(record)?)?;
        fs::rename(aside, self.root.join(handle.as_str()))
    }

    /// Hides the volume by one rename, and deletes it then.
    fn remove(&self, handle: &VolumeHandle) -> io::Result<()> {
        let aside = self.root.join(format!(".gone-{handle}"));
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        fs::rename(self.root.join(handle.as_str()), &aside)?;
        fs::remove_dir_all(aside)
    }
}

/// Shows volumes to workloads, as links to their directories.
#[derive(Debug)]
struct DirectoryNode {
    provider: Arc<DirectoryProvider>,
    info: NodeInfo,
}

#[async_trait]
impl NodeStorage for DirectoryNode {
    fn node_capabilities(&self) -> BTreeSet<NodeCapability> {
        BTreeSet::new()
    }

    async fn node_info(&self) -> Result<NodeInfo> {
        Ok(self.info.clone())
    }

    async fn publish_volume(&self, request: &PublishVolume) -> Result<()> {
        const OPERATION: &str = "publish_volume";
        let volume = &request.volume;
        if self.provider.find(volume)?.is_none() {
            return Err(Error::not_found(OPERATION, format!("there is no volume {}", volume.key)));
        }
        // A link cannot be read-only; what it is for is in its name's target, so that a repetition can be told.
        let mode = if request.read_only { "data/." } else { "data" };
        let data = self.provider.root.join(volume.handle.as_str()).join(mode);
        match std::os::unix::fs::symlink(&data, &request.target_path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read_link(&request.target_path)
                    .is_ok_and(|there| there.as_os_str() == data.as_os_str())
                {
                    return Ok(());
                }
                let message = format!("{} has something else already", request.target_path.display());
                Err(Error::new(ErrorKind::AlreadyExists, OPERATION, message))
            }
            other => other.map_err(io_error),
        }
    }

    async fn unpublish_volume(&self, volume: &VolumeRef, target_path: &Path) -> Result<()> {
        let data = self.provider.root.join(volume.handle.as_str()).join("data");
        // Only the link goes, and only if it is this volume's: nothing is ever deleted through it.
        if fs::read_link(target_path).is_ok_and(|there| there == data) {
            fs::remove_file(target_path).map_err(io_error)?;
        }
        Ok(())
    }
}

#[test]
fn the_directory_provider_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let cases = std::sync::atomic::AtomicU32::new(0);
    let report = block_on(conformance::run_all(|| async {
        let case = cases.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let case = directory.path().join(case.to_string());
        let (root, targets) = (case.join("volumes"), case.join("targets"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(&targets).unwrap();
        let new = |root| DirectoryProvider { name: "directory".parse().unwrap(), root };
        let provider = Arc::new(new(root.clone()));
        let nodes: [NodeId; 2] = ["node-1".parse().unwrap(), "node-2".parse().unwrap()];
        let info = NodeInfo::new(nodes[0].clone());
        let node = Arc::new(DirectoryNode { provider: provider.clone(), info });
        let size = SizeRange::at_least(ByteSize::from_mib(1)).unwrap();
        let fixture = Fixture::new(provider, nodes, size).with_node(node, targets);
        let content = Arc::new(PublishedContent::new(&fixture).unwrap());
        fixture.with_content(content).with_twin(Arc::new(new(root)))
    }));
    assert_eq!(report.failed, vec![]);
    assert!(report.passed.len() >= 70, "{} cases passed", report.passed.len());
}

/// Blocks of Rust in the guide, without what indents them here.
fn blocks(guide: &str) -> Vec<String> {
    let rust = guide.split("```rust\n").skip(1);
    rust.map(|block| block.split("```").next().unwrap().trim().to_owned()).collect()
}

#[test]
fn the_guide_shows_this_file() {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let this = squeeze(include_str!("directory_provider.rs"));
    let blocks = blocks(include_str!("../../docs/writing-a-storage-provider.md"));
    assert!(blocks.len() >= 6, "the guide has {} blocks", blocks.len());
    for block in blocks {
        assert!(this.contains(&squeeze(&block)), "the guide shows what is not here:\n{block}");
    }
}
