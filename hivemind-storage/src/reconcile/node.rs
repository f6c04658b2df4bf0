//! Nodes that a provider is to keep out, or to let in again.

use hivemind_core::store::{Key, Txn};
use hivemind_core::{OpToken, Result, Stamped};

use super::{Did, VolumeController, read};
use crate::Capability;
use crate::records::{Todo, nodes, volume_at, volumes};

impl VolumeController {
    pub(super) async fn node_step(&self, todo: &Stamped<Todo>, at: &Key) -> Result<Did> {
        let view = self.records(std::slice::from_ref(at)).await?;
        let there = read(&nodes()?, &view, at)?;
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
        provider.capabilities().require(&name, Capability::Fence)?;
        let token = OpToken::new(format!("{at}#fence@{}", there.revision.unwrap_or_default()));
        let node = &there.info.node;
        let done = match there.fence {
            Some(epoch) => {
                let keys = there.volumes.iter().map(volume_at).collect::<Result<Vec<_>>>()?;
                let view = self.records(&keys).await?;
                let (mut had, mut newest) = (Vec::new(), epoch);
                for key in &keys {
                    let Some(volume) = read(&volumes()?, &view, key)? else { continue };
                    // A volume may have been taken from another node by force since the fence was wished for.
                    newest = newest.max(volume.epoch.next());
                    had.extend(volume.made());
                }
                provider.fence_node(&token, node, newest, &had).await?
            }
            None => provider.unfence_node(&token, node).await?,
        };
        if done.ready().is_none() {
            return Ok(Did::Pending);
        }
        let (mut txn, mut new) = (Txn::new(), (*there.value).clone());
        new.fenced = there.fence.is_some();
        nodes()?.update(&mut txn, &there, &new)?;
        self.done(txn, todo, false).await?;
        Ok(Did::Fenced)
    }
}
