//! The overlay of a cluster: what it was told, checked, and what follows for each node. No I/O, no clock, no async.

mod change;
mod check;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hivemind_core::{NodeId, TenantRef, WorkloadId};
use ipnet::IpNet;

use super::error::InvalidOverlay;
use super::model::{OverlayChange, OverlayConfig, OverlayNode, OverlayWorkload, TenantNetwork};
use super::mtu::inner_mtu;
use super::peering::{self, Peering};
use super::tenant::TenantState;
use super::vni::Vni;
use crate::dataplane::state::{LinkName, Mac, Netns};
use crate::policy::rules::PeerNetwork;

pub use change::NodeChange;

/// The networks of all tenants on all nodes, and what each node's kernel needs for them.
///
/// On every node that has workloads of a tenant there is a network namespace that routes for it; tenants never share one,
/// so equal addresses and connection states stay apart. A workload has a link of its own to it, with its addresses as
/// `/32` and `/128` and one link-local gateway for both IP versions. Other nodes of the tenant are next hops behind one
/// VXLAN link: one permanent neighbour and one forwarding entry for each node, one route for each block, and a route of
/// its own for each address outside the blocks of its node. Nothing is learnt, flooded or resolved on the wire.
/// Between two tenants there is a way only by a [`Peering`]; with direct routing, where all are routed in the machine's own
/// namespace, a node has routes to the tenants that are there and to their peers.
///
/// A change says what is different on which node. Nothing is told twice: [`apply`](Self::apply) of a change that is true
/// already is empty.
///
/// ```
/// use hivemind_core::{Generation, TenantRef};
/// use hivemind_net::dataplane::KernelState;
/// use hivemind_net::overlay::{
///     OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, OverlayWorkload, TenantNetwork, UnderlayFamily, Vni,
/// };
///
/// // Without policies; otherwise `OverlayState::enforce` comes before.
/// let config = OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_links_up_without_rules();
/// let mut overlay = OverlayNetwork::new(config)?;
/// let acme = TenantRef::new("acme".parse()?, Generation::from_u64(1));
/// for (node, address) in [("n1", "2001:db8::1"), ("n2", "2001:db8::2")] {
///     let node = OverlayNode::new(node.parse()?, 1500).with_address(address.parse()?);
///     overlay.apply(OverlayChange::PutNode(node))?;
/// }
/// let network = TenantNetwork::new(acme.clone(), Vni::new(5000)?).with_pool("fd00:1::/64".parse()?);
/// overlay.apply(OverlayChange::PutTenant(network))?;
///
/// let web = OverlayWorkload::new(acme.clone(), "web".parse()?, "n1".parse()?).with_address("fd00:1::2".parse()?);
/// let changes = overlay.apply(OverlayChange::PutWorkload(web.clone()))?;
/// let mut kernel = KernelState::new();
/// for op in changes["n1"].ops() {
///     kernel.apply(&op)?;
/// }
/// assert_eq!(kernel, overlay.node_state(&"n1".parse()?)?.into_kernel());
/// assert!(overlay.apply(OverlayChange::PutWorkload(web))?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct OverlayNetwork {
    config: OverlayConfig,
    mtu: u32,
    nodes: BTreeMap<NodeId, OverlayNode>,
    tenants: BTreeMap<TenantRef, TenantState>,
    /// Which tenants are routed on a node: those with workloads there, and their peers.
    on_node: BTreeMap<NodeId, BTreeSet<TenantRef>>,
    underlay: BTreeMap<IpAddr, NodeId>,
    vnis: BTreeMap<Vni, TenantRef>,
    /// Between whom there is a way, from both sides. With direct routing it is whose routes a node has.
    peers: BTreeMap<TenantRef, BTreeSet<TenantRef>>,
    /// Whose tunnel end has a MAC in a network; nodes where it is not routed included no more.
    vteps: BTreeMap<(Vni, Mac), NodeId>,
    /// Whose the links and the namespaces are that workloads have on a node.
    links: BTreeMap<(NodeId, LinkName), (TenantRef, WorkloadId)>,
    netns: BTreeMap<(NodeId, Netns), (TenantRef, WorkloadId)>,
    /// The pools of all tenants by their first address, where they share one address space.
    shared: BTreeMap<IpAddr, (IpNet, TenantRef)>,
}

impl OverlayNetwork {
    /// An overlay without nodes and tenants.
    ///
    /// # Errors
    /// [`InvalidOverlay::Mtu`] if too little of the underlay's MTU is left for IPv6.
    pub fn new(config: OverlayConfig) -> Result<Self, InvalidOverlay> {
        let mtu = inner_mtu(config.underlay_mtu, config.overhead())?;
        Ok(Self {
            config,
            mtu,
            nodes: BTreeMap::new(),
            tenants: BTreeMap::new(),
            on_node: BTreeMap::new(),
            underlay: BTreeMap::new(),
            vnis: BTreeMap::new(),
            peers: BTreeMap::new(),
            vteps: BTreeMap::new(),
            links: BTreeMap::new(),
            netns: BTreeMap::new(),
            shared: BTreeMap::new(),
        })
    }

    /// What holds for all of it.
    pub fn config(&self) -> &OverlayConfig {
        &self.config
    }

    /// The MTU inside, in bytes.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &OverlayNode> {
        self.nodes.values()
    }

    /// The tenants' networks, by tenant.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantNetwork> {
        self.tenants.values().map(|tenant| &tenant.network)
    }

    /// The workloads of `tenant`, by name.
    pub fn workloads(&self, tenant: &TenantRef) -> impl Iterator<Item = &OverlayWorkload> {
        self.tenants.get(tenant).into_iter().flat_map(|tenant| tenant.workloads.values())
    }

    /// The workloads of `tenant` on `node`, by name.
    pub(super) fn workloads_on(
        &self,
        tenant: &TenantRef,
        node: &NodeId,
    ) -> impl Iterator<Item = &OverlayWorkload> {
        let state = self.tenants.get(tenant);
        let here = state.and_then(|state| state.present.get(node)).into_iter().flatten();
        here.filter_map(move |id| state?.workloads.get(id))
    }

    /// The tenants that are routed on `node`.
    pub(super) fn tenants_on(&self, node: &NodeId) -> impl Iterator<Item = &TenantRef> {
        self.on_node.get(node).into_iter().flatten()
    }

    /// The blocks of `tenant` with their nodes, by address.
    pub fn blocks(&self, tenant: &TenantRef) -> impl Iterator<Item = (IpNet, &NodeId)> {
        let blocks = self.tenants.get(tenant).into_iter().flat_map(|tenant| tenant.blocks());
        blocks.map(|block| (block.prefix, &block.node))
    }

    /// Between whom there is a way, in order.
    pub fn peerings(&self) -> impl Iterator<Item = Peering> {
        let pairs = self.peers.iter().flat_map(|(one, others)| others.iter().map(move |other| (one, other)));
        pairs.filter(|(one, other)| one < other).map(|(one, other)| Peering::new(one.clone(), other.clone()))
    }

    /// What rules about `tenant` must know of those to which there is a way, which with direct routing are all others:
    /// [`NodeRules::with_peer`](crate::policy::rules::NodeRules::with_peer), as in [`node_rules`](Self::node_rules).
    ///
    /// # Errors
    /// None in practice: names that are made here are valid.
    pub fn peer_networks(&self, tenant: &TenantRef) -> Result<Vec<PeerNetwork>, InvalidOverlay> {
        let Some(own) = self.tenants.get(tenant) else { return Ok(Vec::new()) };
        if self.config.is_direct() {
            let others = self.tenants.values().filter(|other| other.network.tenant != *tenant);
            return Ok(others.map(|other| peering::in_one_network(&other.network)).collect());
        }
        let peers = self.peers_of(tenant).map(|peer| peering::peer_network(&own.network, &peer.network));
        Ok(peers.collect::<Result<_, _>>()?)
    }

    fn peers_of(&self, tenant: &TenantRef) -> impl Iterator<Item = &TenantState> {
        let peers = self.peers.get(tenant).into_iter().flatten();
        peers.filter_map(|peer| self.tenants.get(peer))
    }

    /// Takes in many changes without saying what follows from each: for a start, before
    /// [`node_state`](Self::node_state).
    ///
    /// # Errors
    /// The first refusal; those before it are in.
    pub fn load(&mut self, changes: impl IntoIterator<Item = OverlayChange>) -> Result<(), InvalidOverlay> {
        for change in changes {
            self.check(&change)?;
            self.admit(change);
        }
        Ok(())
    }

    /// Every change that leads from an empty overlay of some configuration to this one, for making another of the same
    /// parts.
    pub fn parts(&self) -> impl Iterator<Item = OverlayChange> {
        let nodes = self.nodes.values().cloned().map(OverlayChange::PutNode);
        let tenants = self.tenants.iter().flat_map(|(tenant, state)| {
            let blocks = state.blocks().map(|block| OverlayChange::PutBlock {
                tenant: tenant.clone(),
                prefix: block.prefix,
                node: block.node.clone(),
            });
            let workloads = state.workloads.values().cloned().map(OverlayChange::PutWorkload);
            std::iter::once(OverlayChange::PutTenant(state.network.clone())).chain(blocks).chain(workloads)
        });
        nodes.chain(tenants).chain(self.peerings().map(OverlayChange::PutPeering))
    }
}
