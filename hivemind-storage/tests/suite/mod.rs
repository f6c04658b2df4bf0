//! The memory provider in a fixture, with what reads and writes its volumes.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::sync::Arc;

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Generation, NodeId, OpToken, Result, TenantRef, async_trait};
use hivemind_storage::conformance::{Content, Fixture};
use hivemind_storage::{
    AccessMode, AttachVolume, Capabilities, Capability, DetachVolume, MemoryNode, MemoryProvider,
    NodeCapability, NodeInfo, NodeRef, SizeRange, StorageProvider, Topology, VolumeKey, VolumeRef,
};

pub(crate) fn memory() -> MemoryProvider {
    MemoryProvider::new("memory".parse().unwrap())
}

pub(crate) fn size() -> SizeRange {
    SizeRange::at_least(ByteSize::from_bytes(64 << 10)).unwrap()
}

pub(crate) fn nodes() -> [NodeId; 2] {
    ["n1".parse().unwrap(), "n2".parse().unwrap()]
}

pub(crate) fn tenant_key(volume: &str) -> VolumeKey {
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    VolumeKey::new(tenant, volume.parse().unwrap())
}

pub(crate) fn everything() -> Capabilities {
    Capabilities::new(Capability::ALL).with_access_modes(AccessMode::ALL).with_volume_modes(true, true)
}

/// A memory provider to make a fixture of.
pub(crate) struct Setup {
    pub(crate) able: Capabilities,
    pub(crate) node: Vec<NodeCapability>,
    pub(crate) places: bool,
    pub(crate) delay: u64,
    pub(crate) loss: u64,
}

impl Default for Setup {
    fn default() -> Self {
        use NodeCapability::{Condition, Expand, Stage, Stats};
        let node = vec![Stage, Expand, Stats, Condition];
        Self { able: everything(), node, places: true, delay: 0, loss: 0 }
    }
}

impl Setup {
    pub(crate) fn provider(&self) -> MemoryProvider {
        let provider = memory()
            .with_capabilities(self.able.clone())
            .with_capacity(ByteSize::from_mib(8))
            .delaying_one_in(self.delay)
            .losing_one_in(self.loss);
        let placed = self.places && self.able.has(Capability::Topology);
        if placed { provider.with_places(places()) } else { provider }
    }

    pub(crate) fn fixture(&self) -> Fixture {
        self.fixture_of(Arc::new(self.provider()))
    }

    /// A fixture of `provider` as it is; its twin is itself, which is the storage, too.
    pub(crate) fn fixture_of(&self, provider: Arc<MemoryProvider>) -> Fixture {
        let node = MemoryNode::new(provider.clone(), NodeInfo::new(nodes()[0].clone()))
            .with_capabilities(self.node.clone());
        let placed = self.places && self.able.has(Capability::Topology);
        let fixture = Fixture::new(provider.clone(), nodes(), size())
            .with_twin(provider.clone())
            .with_node(Arc::new(node), "/nonexistent/conformance");
        let fixture = if placed { fixture.with_places(places()) } else { fixture };
        fixture.with_content(Arc::new(MemoryContent(provider)))
    }
}

pub(crate) fn places() -> [Topology; 2] {
    ["z1", "z2"].map(|zone| Topology::everywhere().with("zone", zone))
}

/// What is in the volumes of a memory provider: past the port where it has no attaching.
#[derive(Debug)]
pub(crate) struct MemoryContent(pub(crate) Arc<MemoryProvider>);

impl MemoryContent {
    async fn settle<T, F: Future<Output = Result<hivemind_core::Progress<T>>>>(
        call: impl Fn() -> F,
    ) -> Result<T> {
        for _ in 0..100 {
            match call().await {
                Ok(hivemind_core::Progress::Ready(done)) => return Ok(done),
                Err(e) if e.effect() != hivemind_core::Effect::Unknown => return Err(e),
                _ => {}
            }
        }
        Err(Error::internal("settle", "never answered"))
    }
}

#[async_trait]
impl Content for MemoryContent {
    async fn write(&self, volume: &VolumeRef, bytes: &[u8]) -> Result<()> {
        let able = self.0.capabilities();
        let node = NodeRef::from(nodes()[0].clone());
        if !able.has(Capability::Attach) {
            return self.0.write(volume, &node.handle, bytes);
        }
        let token = OpToken::new(format!("content-{}", volume.key));
        let mode = able.access_modes.iter().find(|mode| mode.writes() && !mode.is_shared());
        let mode = mode.copied().unwrap_or_default();
        let bring = AttachVolume::new(token.clone(), volume.clone(), node.clone())
            .with_access_mode(mode)
            .of_epoch(hivemind_storage::FenceEpoch::from_u64(0));
        Self::settle(|| self.0.attach_volume(&bring)).await?;
        let written = self.0.write(volume, &node.handle, bytes);
        let take = DetachVolume::new(token, volume.clone(), node);
        Self::settle(|| self.0.detach_volume(&take)).await?;
        written
    }

    async fn read(&self, volume: &VolumeRef) -> Result<Vec<u8>> {
        self.0.content(volume)
    }

    async fn fill(&self, volume: &VolumeRef, size: ByteSize) -> Result<()> {
        let size = usize::try_from(size.as_bytes())
            .map_err(|_| Error::new(ErrorKind::Exhausted, "fill", "more than memory has"))?;
        self.write(volume, &vec![7; size]).await
    }
}
