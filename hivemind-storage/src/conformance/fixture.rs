//! What a case runs on, and what it may need of it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use hivemind_core::{NodeId, Runtime};

use super::Content;
use crate::{
    AccessMode, Capability, NodeCapability, NodeRef, NodeStorage, SizeRange, StorageProvider, Topology,
};

/// A provider to try, fresh for each case, with what the cases need around it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Fixture {
    /// The provider, without any volume.
    pub provider: Arc<dyn StorageProvider>,
    /// Another instance over the same storage, as after a restart: it shares nothing else with `provider`.
    pub twin: Option<Arc<dyn StorageProvider>>,
    /// The node side on the first of `nodes`; `None` if it cannot be tried here.
    pub node: Option<Arc<dyn NodeStorage>>,
    /// Two nodes, by the provider's names.
    pub nodes: [NodeRef; 2],
    /// An empty directory of this case alone, in which volumes are staged and published. The cases create what they need
    /// in it and look into it, unless it does not exist.
    pub directory: PathBuf,
    /// How large a small volume is; there is room for at least ten of twice the size.
    pub size: SizeRange,
    /// Two places that the provider has, if it has [`Topology`](Capability::Topology).
    pub places: Option<[Topology; 2]>,
    /// Reads and writes what is in volumes.
    pub content: Option<Arc<dyn Content>>,
    /// A parameter that can be [modified](Capability::Modify), and a value for it.
    pub modification: (String, String),
    /// Whether the provider knows the key of a handle: any CSI driver does not.
    pub knows_keys: bool,
    /// What waits while a call is pending; without one it is repeated at once.
    pub runtime: Option<Arc<dyn Runtime>>,
}

impl Fixture {
    /// A provider with nodes called as we call them, and no node side.
    pub fn new(provider: Arc<dyn StorageProvider>, nodes: [NodeId; 2], size: SizeRange) -> Self {
        Self {
            provider,
            twin: None,
            node: None,
            nodes: nodes.map(NodeRef::from),
            directory: PathBuf::new(),
            size,
            places: None,
            content: None,
            modification: ("conformance".to_owned(), "1".to_owned()),
            knows_keys: true,
            runtime: None,
        }
    }

    /// With these nodes, which the provider calls otherwise than we do.
    #[must_use]
    pub fn with_nodes(mut self, nodes: [NodeRef; 2]) -> Self {
        self.nodes = nodes;
        self
    }

    /// With another instance over the same storage.
    #[must_use]
    pub fn with_twin(mut self, twin: Arc<dyn StorageProvider>) -> Self {
        self.twin = Some(twin);
        self
    }

    /// With the node side of the first node, which stages and publishes in `directory`.
    #[must_use]
    pub fn with_node(mut self, node: Arc<dyn NodeStorage>, directory: impl Into<PathBuf>) -> Self {
        (self.node, self.directory) = (Some(node), directory.into());
        self
    }

    /// With two places that the provider has.
    #[must_use]
    pub fn with_places(mut self, places: [Topology; 2]) -> Self {
        self.places = Some(places);
        self
    }

    /// With what reads and writes volumes.
    #[must_use]
    pub fn with_content(mut self, content: Arc<dyn Content>) -> Self {
        self.content = Some(content);
        self
    }

    /// With a parameter that can be modified, and a value for it.
    #[must_use]
    pub fn with_modification(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.modification = (name.into(), value.into());
        self
    }

    /// Of a provider that does not know the key of a handle.
    #[must_use]
    pub fn without_keys(mut self) -> Self {
        self.knows_keys = false;
        self
    }

    /// With what waits while a call is pending.
    #[must_use]
    pub fn with_runtime(mut self, runtime: Arc<dyn Runtime>) -> Self {
        self.runtime = Some(runtime);
        self
    }
}

/// Without what a case does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// This capability of the provider.
    Capability(Capability),
    /// A provider without this capability, to see that it refuses.
    Without(Capability),
    /// This access mode.
    AccessMode(AccessMode),
    /// A provider without this access mode, to see that it refuses.
    WithoutAccessMode(AccessMode),
    /// Volumes as block devices.
    Block,
    /// A provider without block devices, to see that it refuses.
    WithoutBlock,
    /// Volumes with a file system.
    Filesystem,
    /// A provider without file systems, to see that it refuses.
    WithoutFilesystem,
    /// A node side.
    Node,
    /// This capability of the node side.
    NodeCapability(NodeCapability),
    /// A node side without this capability, to see that it refuses.
    WithoutNodeCapability(NodeCapability),
    /// What reads and writes volumes: [`Fixture::content`].
    Content,
    /// Two places: [`Fixture::places`].
    Places,
    /// Another instance over the same storage: [`Fixture::twin`].
    Twin,
    /// A provider that knows the key of a handle: [`Fixture::knows_keys`].
    Keys,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capability(capability) => write!(f, "a provider with {capability}"),
            Self::Without(capability) => write!(f, "a provider without {capability}"),
            Self::AccessMode(mode) => write!(f, "a provider with access mode {mode}"),
            Self::WithoutAccessMode(mode) => write!(f, "a provider without access mode {mode}"),
            Self::Block => f.write_str("a provider with block devices"),
            Self::WithoutBlock => f.write_str("a provider without block devices"),
            Self::Filesystem => f.write_str("a provider with file systems"),
            Self::WithoutFilesystem => f.write_str("a provider without file systems"),
            Self::Node => f.write_str("a node side"),
            Self::NodeCapability(capability) => write!(f, "a node side with {capability:?}"),
            Self::WithoutNodeCapability(capability) => write!(f, "a node side without {capability:?}"),
            Self::Content => f.write_str("what reads and writes volumes"),
            Self::Places => f.write_str("two places"),
            Self::Twin => f.write_str("another instance over the same storage"),
            Self::Keys => f.write_str("a provider that knows the key of a handle"),
        }
    }
}

impl Need {
    /// Whether it is something around the provider, and nothing that the provider or its node side is like.
    pub(super) fn is_of_the_fixture(self) -> bool {
        matches!(self, Self::Node | Self::Content | Self::Places | Self::Twin)
    }

    /// Whether `fixture` has it.
    pub fn is_met_by(self, fixture: &Fixture) -> bool {
        let able = fixture.provider.capabilities();
        let node_able =
            |capability| fixture.node.as_ref().map(|node| node.node_capabilities().contains(&capability));
        match self {
            Self::Capability(capability) => able.has(capability),
            Self::Without(capability) => !able.has(capability),
            Self::AccessMode(mode) => able.access_modes.contains(&mode),
            Self::WithoutAccessMode(mode) => !able.access_modes.contains(&mode),
            Self::Block => able.block,
            Self::WithoutBlock => !able.block,
            Self::Filesystem => able.filesystem,
            Self::WithoutFilesystem => !able.filesystem,
            Self::Node => fixture.node.is_some(),
            Self::NodeCapability(capability) => node_able(capability) == Some(true),
            Self::WithoutNodeCapability(capability) => node_able(capability) == Some(false),
            Self::Content => fixture.content.is_some(),
            Self::Places => fixture.places.is_some(),
            Self::Twin => fixture.twin.is_some(),
            Self::Keys => fixture.knows_keys,
        }
    }
}
