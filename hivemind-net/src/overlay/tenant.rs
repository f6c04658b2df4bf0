//! One tenant's part of an overlay, indexed. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hivemind_core::{NodeId, WorkloadId};
use ipnet::IpNet;

use super::model::{OverlayWorkload, TenantNetwork};

/// A part of a pool that is on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) prefix: IpNet,
    pub(super) node: NodeId,
}

impl Block {
    /// Whether one route leads to all of it. A block of one address has none of its own: its workload's is the same.
    fn is_routed(&self) -> bool {
        self.prefix.prefix_len() < self.prefix.max_prefix_len()
    }
}

/// A tenant's network with everything in it.
#[derive(Debug, Clone)]
pub(super) struct TenantState {
    pub(super) network: TenantNetwork,
    pub(super) workloads: BTreeMap<WorkloadId, OverlayWorkload>,
    /// The nodes with workloads.
    pub(super) present: BTreeMap<NodeId, BTreeSet<WorkloadId>>,
    addresses: BTreeMap<IpAddr, WorkloadId>,
    /// By their first address; no two overlap.
    blocks: BTreeMap<IpAddr, Block>,
    blocks_of: BTreeMap<NodeId, BTreeSet<IpNet>>,
    /// Addresses of workloads that no block of their node covers, by node.
    borrowed: BTreeMap<NodeId, BTreeSet<IpAddr>>,
}

impl TenantState {
    pub(super) fn new(network: TenantNetwork) -> Self {
        Self {
            network,
            workloads: BTreeMap::new(),
            present: BTreeMap::new(),
            addresses: BTreeMap::new(),
            blocks: BTreeMap::new(),
            blocks_of: BTreeMap::new(),
            borrowed: BTreeMap::new(),
        }
    }

    /// The block that covers `address`.
    pub(super) fn covering(&self, address: IpAddr) -> Option<&Block> {
        let (_, block) = self.blocks.range(..=address).next_back()?;
        block.prefix.contains(&address).then_some(block)
    }

    /// A block that has an address in common with `prefix`.
    pub(super) fn overlapping(&self, prefix: &IpNet) -> Option<&Block> {
        self.covering(prefix.network()).or_else(|| {
            let (_, block) = self.blocks.range(prefix.network()..=prefix.broadcast()).next()?;
            Some(block)
        })
    }

    /// The block that is exactly `prefix`.
    pub(super) fn block(&self, prefix: &IpNet) -> Option<&Block> {
        self.blocks.get(&prefix.network()).filter(|block| block.prefix == *prefix)
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.values()
    }

    /// The blocks of `node` that have a route.
    pub(super) fn routed_blocks_of(&self, node: &NodeId) -> impl Iterator<Item = IpNet> {
        let blocks = self.blocks_of.get(node).into_iter().flatten();
        blocks.filter(|prefix| prefix.prefix_len() < prefix.max_prefix_len()).copied()
    }

    /// Whether `node` has a block of IPv6 that has a route.
    pub(super) fn has_v6_block(&self, node: &NodeId) -> bool {
        self.routed_blocks_of(node).any(|prefix| prefix.addr().is_ipv6())
    }

    pub(super) fn count_blocks_of(&self, node: &NodeId) -> usize {
        self.blocks_of.get(node).map_or(0, BTreeSet::len)
    }

    /// Whose `address` is.
    pub(super) fn holder(&self, address: IpAddr) -> Option<&WorkloadId> {
        self.addresses.get(&address)
    }

    /// The node of the workload that has `address`.
    pub(super) fn node_of(&self, address: IpAddr) -> Option<&NodeId> {
        self.workloads.get(self.addresses.get(&address)?).map(|workload| &workload.node)
    }

    /// The addresses of workloads within `prefix`.
    pub(super) fn addresses_in(&self, prefix: &IpNet) -> impl Iterator<Item = IpAddr> {
        self.addresses.range(prefix.network()..=prefix.broadcast()).map(|(address, _)| *address)
    }

    /// Whether `address`, on `node`, needs a route of its own.
    pub(super) fn is_borrowed(&self, address: IpAddr, node: &NodeId) -> bool {
        !self.covering(address).is_some_and(|block| block.is_routed() && block.node == *node)
    }

    /// The addresses on `node` that need routes of their own.
    pub(super) fn borrowed_on(&self, node: &NodeId) -> impl Iterator<Item = IpAddr> {
        self.borrowed.get(node).into_iter().flatten().copied()
    }

    /// Puts `workload` in place of the one of its name.
    pub(super) fn put_workload(&mut self, workload: OverlayWorkload) {
        self.remove_workload(&workload.id);
        for address in workload.addresses() {
            self.addresses.insert(address, workload.id.clone());
            self.judge(address, &workload.node);
        }
        self.present.entry(workload.node.clone()).or_default().insert(workload.id.clone());
        self.workloads.insert(workload.id.clone(), workload);
    }

    pub(super) fn remove_workload(&mut self, id: &WorkloadId) {
        let Some(workload) = self.workloads.remove(id) else { return };
        for address in workload.addresses() {
            self.addresses.remove(&address);
            drop_from(&mut self.borrowed, &workload.node, &address);
        }
        drop_from(&mut self.present, &workload.node, id);
    }

    /// Puts a block in place of the one that is there.
    pub(super) fn put_block(&mut self, prefix: IpNet, node: NodeId) {
        self.remove_block(&prefix);
        self.blocks_of.entry(node.clone()).or_default().insert(prefix);
        self.blocks.insert(prefix.network(), Block { prefix, node });
        self.judge_all(&prefix);
    }

    pub(super) fn remove_block(&mut self, prefix: &IpNet) {
        if self.block(prefix).is_none() {
            return;
        }
        if let Some(block) = self.blocks.remove(&prefix.network()) {
            drop_from(&mut self.blocks_of, &block.node, prefix);
            self.judge_all(prefix);
        }
    }

    fn judge_all(&mut self, prefix: &IpNet) {
        let addresses: Vec<_> = self.addresses_in(prefix).collect();
        for address in addresses {
            if let Some(node) = self.node_of(address).cloned() {
                self.judge(address, &node);
            }
        }
    }

    /// Notes whether `address` is borrowed by `node`.
    fn judge(&mut self, address: IpAddr, node: &NodeId) {
        if self.is_borrowed(address, node) {
            self.borrowed.entry(node.clone()).or_default().insert(address);
        } else {
            drop_from(&mut self.borrowed, node, &address);
        }
    }
}

/// Takes `value` out of the set at `key`, and the set out of the map if it is empty then.
fn drop_from<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            map.remove(key);
        }
    }
}
