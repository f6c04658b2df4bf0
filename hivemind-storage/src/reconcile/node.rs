//! Nodes that a provider is to keep out, or to let in again.

use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{NodeId, OpToken, Progress, Result, Stamped};

use super::{Did, VolumeController, read};
use crate::manager::work_on;
use crate::records::{Todo, nodes, volume_at, volumes};
use crate::{Capability, FenceEpoch, ProviderApi, Volume, steps};

/// An epoch that is newer than the decision by which `node` has the volume.
fn newer_than(volume: &Volume, node: &NodeId) -> FenceEpoch {
    match (volume.desired.get(node), volume.maybe_attached.get(node)) {
        (Some(wish), _) => volume.epoch.max(wish.epoch.next()),
        // Taken by force, by the newest decision.
        (None, Some(leaving)) if leaving.proof.is_some() => volume.epoch,
        (None, _) => volume.epoch.next(),
    }
}

impl VolumeController {
    pub(super) async fn node_step(&self, todo: &Stamped<Todo>, view: &Snapshot, at: &Key) -> Result<Did> {
        let there = read(&nodes()?, view, at)?;
        let Some(there) = there else {
            self.done(Txn::new(), todo, false).await?;
            return Ok(Did::Nothing);
        };
        if there.fence.is_some() == there.fenced {
            let mut txn = Txn::new();
            nodes()?.expect(&mut txn, &there)?;
            self.done(txn, todo, false).await?;
            return Ok(Did::Nothing);
        }
        let name = at.segments().nth(2).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
        let name = name
            .parse()
            .map_err(|e| hivemind_core::Error::of(hivemind_core::ErrorKind::Corrupt, "fence", e))?;
        let provider = &**self.providers.provider(&name)?;
        if let Err(e) = provider.capabilities().require(&name, Capability::Fence) {
            // Nobody was kept out, so nobody has to be let in.
            let mut new = (*there.value).clone();
            new.refused = there.fence.map(|_| e.message().to_owned());
            (new.fence, new.fenced) = (None, false);
            let mut txn = Txn::new();
            nodes()?.update(&mut txn, &there, &new)?;
            self.done(txn, todo, false).await?;
            return Ok(Did::Refused);
        }
        let token = OpToken::new(format!("{at}#fence@{}", there.revision.unwrap_or_default()));
        let node = &there.info.node;
        let done = match there.fence {
            Some(epoch) => {
                let keys = there.volumes.iter().map(volume_at).collect::<Result<Vec<_>>>()?;
                let view = self.records(&keys).await?;
                let mut held = Vec::new();
                for key in &keys {
                    held.extend(read(&volumes()?, &view, key)?);
                }
                // A volume may have been taken from another node by force since the fence was wished for.
                let newest =
                    held.iter().map(|volume| newer_than(volume, &node.node)).fold(epoch, FenceEpoch::max);
                self.raise(&held, &node.node, newest).await?;
                let had: Vec<_> = held.iter().filter_map(|volume| volume.made()).collect();
                let call = provider.fence_node(&token, node, newest, &had);
                self.within(&name, ProviderApi::Attach, call).await?
            }
            None => {
                let call = provider.unfence_node(&token, node);
                self.within(&name, ProviderApi::Attach, call).await?
            }
        };
        if let Progress::Pending(at_it) = done {
            return Ok(Did::pending(&at_it));
        }
        let (mut txn, mut new) = (Txn::new(), (*there.value).clone());
        new.fenced = there.fence.is_some();
        nodes()?.update(&mut txn, &there, &new)?;
        self.done(txn, todo, false).await?;
        Ok(Did::Fenced)
    }

    /// Raises the epoch of volumes that `node` has to that of its fence: the provider refuses whatever is older, and so
    /// all that is decided about them from now on is as new.
    async fn raise(&self, held: &[Stamped<Volume>], node: &NodeId, epoch: FenceEpoch) -> Result<()> {
        for old in held.iter().filter(|volume| volume.epoch < epoch) {
            let mut new = (*old.value).clone();
            new.epoch = epoch;
            // Whoever keeps it has it by the new decision.
            let others = new.desired.iter_mut().filter(|(other, _)| *other != node);
            others.for_each(|(_, wish)| wish.epoch = epoch);
            let mut txn = Txn::new();
            volumes()?.update(&mut txn, old, &new)?;
            if !steps::next(&new, true).is_empty() {
                work_on(&Snapshot::default(), &mut txn, &old.stored_at, true)?;
            }
            self.store.commit(&txn).await?;
        }
        Ok(())
    }
}
