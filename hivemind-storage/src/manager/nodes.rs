//! What providers know of nodes: slots, places, and who is kept out.

use std::collections::BTreeSet;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, NodeId, ProviderName, Result};

use super::{StorageManager, work_on};
use crate::records::{NodeRecord, node_at, nodes, volume_at, volumes};
use crate::{FenceEpoch, NodeInfo, Volume};

impl NodeRecord {
    /// Whether the provider is known to keep it out, and is not just letting it in; an error if it cannot.
    pub(crate) fn is_fenced(&self) -> Result<bool> {
        match &self.refused {
            None => Ok(self.fence.is_some() && self.fenced),
            Some(why) => {
                let message =
                    format!("node {} cannot be kept out: {why}; power it off instead", self.info.node.node);
                Err(Error::new(ErrorKind::Unsupported, "fence", message))
            }
        }
    }

    /// Refuses a volume that the node has no slot for, or cannot reach.
    pub(crate) fn check(&self, node: &NodeId, volume: &Volume) -> Result<()> {
        const OPERATION: &str = "attach";
        if self.fence.is_some() || self.fenced {
            let message = format!("provider {} keeps node {node} out: let it in first", volume.provider);
            return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
        }
        if !volume.reachable_from(&self.info.topology) {
            let message = format!(
                "volume {} cannot be reached from node {node}, which is at {}",
                volume.key.volume, self.info.topology
            );
            return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
        }
        let taken = u64::try_from(self.volumes.len()).unwrap_or(u64::MAX).saturating_add(self.foreign);
        match self.info.max_volumes.filter(|max| taken > *max) {
            None => Ok(()),
            Some(max) => {
                let message =
                    format!("node {node} has {max} slots for volumes of {}, all taken", volume.provider);
                Err(Error::new(ErrorKind::Exhausted, OPERATION, message))
            }
        }
    }
}

impl StorageManager {
    /// Stages what `provider` knows of a node: how it calls it, where it is, how many volumes it can have.
    ///
    /// A node of which nothing is known is called as we do, reaches everything and has no bound.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown provider.
    pub fn stage_node(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        provider: &ProviderName,
        info: &NodeInfo,
    ) -> Result<()> {
        self.provider(Some(provider))?;
        let at = node_at(provider, &info.node.node)?;
        match nodes()?.get(view, txn, &at)? {
            Some(there) if there.info == *info => nodes()?.expect(txn, &there),
            Some(there) => {
                let busy = !there.volumes.is_empty() || there.fence.is_some() || there.fenced;
                if busy && there.info.node.handle != info.node.handle {
                    let message = format!(
                        "provider {provider} calls node {} {}, and it has volumes there or is kept out: take them from it \
                         before it is called {}",
                        info.node.node, there.info.node.handle, info.node.handle
                    );
                    return Err(Error::new(ErrorKind::Conflict, "node", message));
                }
                let mut new = (*there.value).clone();
                new.info = info.clone();
                nodes()?.update(txn, &there, &new)
            }
            None => {
                let mut fresh = NodeRecord::new(info.clone());
                // What it got before anything was known of it.
                for volume in volumes()?.list(view, txn, volumes()?.prefix())? {
                    let node = &info.node.node;
                    let holds = volume.desired.contains_key(node) || volume.maybe_attached.contains_key(node);
                    if holds && volume.provider == *provider {
                        fresh.volumes.insert(volume.key.clone());
                    }
                }
                nodes()?.create(view, txn, at, &fresh)
            }
        }
    }

    /// Stages how many slots of a node are taken by volumes that are not ours, as was just seen.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if nothing is known of the node.
    pub fn stage_foreign_volumes(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        provider: &ProviderName,
        node: &NodeId,
        foreign: u64,
    ) -> Result<()> {
        let there = self.node_record(view, txn, provider, node)?;
        let mut new = (*there.value).clone();
        new.foreign = foreign;
        nodes()?.update(txn, &there, &new)
    }

    /// Stages that `provider` is to keep `node` out, before volumes are taken from it. Whether it does so is told by
    /// [`is_fenced`](Self::is_fenced), later; a provider that cannot leaves the node as it was.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if nothing is known of the node.
    pub fn stage_fence(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        provider: &ProviderName,
        node: &NodeId,
    ) -> Result<()> {
        let there = self.node_record(view, txn, provider, node)?;
        if there.fence.is_some() {
            return nodes()?.expect(txn, &there);
        }
        let mut new = (*there.value).clone();
        let mut epoch = FenceEpoch::default();
        for key in &there.volumes {
            if let Some(volume) = volumes()?.get(view, txn, &volume_at(key)?)? {
                epoch = epoch.max(volume.epoch);
            }
        }
        (new.fence, new.fenced, new.refused) = (Some(epoch.next()), false, None);
        nodes()?.update(txn, &there, &new)?;
        work_on(view, txn, &there.stored_at, true)
    }

    /// Stages that `node`, which has lost all it had, is let in again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if nothing is known of the node; [`ErrorKind::Conflict`] while it may still have volumes.
    pub fn stage_unfence(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        provider: &ProviderName,
        node: &NodeId,
    ) -> Result<()> {
        let there = self.node_record(view, txn, provider, node)?;
        if there.fence.is_none() {
            return nodes()?.expect(txn, &there);
        }
        if let Some(volume) = there.volumes.first() {
            let message =
                format!("node {node} may still have volume {volume}: move or detach it by force first");
            return Err(Error::new(ErrorKind::Conflict, "unfence", message));
        }
        let mut new = (*there.value).clone();
        // Until the provider has let it in, it stays out, whether it was known to be kept out or not.
        (new.fence, new.fenced) = (None, true);
        nodes()?.update(txn, &there, &new)?;
        work_on(view, txn, &there.stored_at, true)
    }

    /// Whether `provider` is known to keep `node` out.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the provider was asked to, and cannot; [`ErrorKind::Corrupt`] if the record cannot be
    /// read.
    pub fn is_fenced(
        &self,
        view: &Snapshot,
        txn: &Txn,
        provider: &ProviderName,
        node: &NodeId,
    ) -> Result<bool> {
        let there = nodes()?.get(view, txn, &node_at(provider, node)?)?;
        there.map_or(Ok(false), |there| there.is_fenced())
    }

    fn node_record(
        &self,
        view: &Snapshot,
        txn: &Txn,
        provider: &ProviderName,
        node: &NodeId,
    ) -> Result<hivemind_core::Stamped<NodeRecord>> {
        let missing =
            || Error::not_found("node", format!("provider {provider} knows nothing of node {node}"));
        nodes()?.get(view, txn, &node_at(provider, node)?)?.ok_or_else(missing)
    }
}

impl NodeRecord {
    pub(crate) fn new(info: NodeInfo) -> Self {
        Self { info, volumes: BTreeSet::new(), foreign: 0, fence: None, fenced: false, refused: None }
    }
}
