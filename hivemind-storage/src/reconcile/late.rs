//! What a provider did for a decision that does not hold any more.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, NodeId, Result, Retry, Stamped};

use super::{VolumeController, read};
use crate::manager::work_on;
use crate::records::{nodes, volumes};
use crate::{Volume, Wish};

/// How often a record may change under our hands before it is left to a later tick.
const ATTEMPTS: usize = 16;

impl VolumeController {
    /// Sees to it that `node` loses `volume` again, which it may have got by `wish`, if that does not hold any more: while
    /// the provider was at it, somebody else may have decided otherwise, and have taken the volume from the node before
    /// it was there.
    ///
    /// It is written down that the node may have it, and so it is taken away like from any other node. Whoever is just
    /// taking it away finds a newer record, and does it again.
    pub(super) async fn take_back(&self, volume: &Stamped<Volume>, node: &NodeId, wish: &Wish) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let at = &volume.stored_at;
            let view = self.records(std::slice::from_ref(at)).await?;
            let Some(now) = read(&volumes()?, &view, at)? else { return Ok(()) };
            if now.revision == volume.revision || now.handle != volume.handle || is_wanted(&now, node, wish) {
                return Ok(());
            }
            let (mut txn, mut new) = (Txn::new(), (*now.value).clone());
            new.attached.remove(node);
            new.maybe_attached.entry(node.clone()).or_default();
            volumes()?.update(&mut txn, &now, &new)?;
            work_on(&Snapshot::default(), &mut txn, at, true)?;
            let (_, known) = self.node(&now.provider, node).await?;
            // It takes a slot there until it is gone.
            if let Some(known) = known.filter(|known| !known.volumes.contains(&now.key)) {
                let mut record = (*known.value).clone();
                record.volumes.insert(now.key.clone());
                nodes()?.update(&mut txn, &known, &record)?;
            }
            match self.store.commit(&txn).await {
                Err(e) if e.retry() == Retry::AfterReread => {}
                outcome => return outcome.map(|_| ()),
            }
        }
        let message = format!("volume {} may be on node {node}, and its record never rests", volume.key);
        Err(Error::new(ErrorKind::Unavailable, "attach", message).with_retry(Retry::Later))
    }
}

/// Whether `node` is to have the volume as `wish` says, or has got it otherwise by now.
fn is_wanted(volume: &Volume, node: &NodeId, wish: &Wish) -> bool {
    let same = |now: &Wish| {
        (now.access_mode, now.read_only, now.epoch) == (wish.access_mode, wish.read_only, wish.epoch)
    };
    volume.desired.get(node).is_some_and(|now| same(now) || volume.attached.contains_key(node))
}
