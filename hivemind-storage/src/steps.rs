//! What is to be done next about a volume, and how long to wait after a failure. No I/O, no clock, no async.

use std::time::Duration;

use hivemind_core::{NodeId, Timestamp};

use crate::{Volume, VolumePhase};

/// A step in a volume's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The provider is to make it, or to say again what it is called.
    Create,
    /// It is to be taken from a node.
    Detach(NodeId),
    /// It is to be brought to a node.
    Attach(NodeId),
    /// It is to grow.
    Expand,
    /// Its parameters are to change.
    Modify,
    /// What is there is to be kept as a snapshot, and then replaced by an older one.
    Restore,
    /// It is to be destroyed.
    Delete,
    /// The time to bring it back ends then.
    Expire(Timestamp),
}

/// What is to be done next, in this order; none of it depends on what comes before it. Nothing if all is as intended.
///
/// Taking away comes before bringing: never a node too many, not even for a moment. A volume that cannot grow while a
/// node has it waits with that until none does.
pub(crate) fn next(volume: &Volume, grows_online: bool) -> Vec<Step> {
    if let VolumePhase::Failed(_) = volume.phase {
        return Vec::new();
    }
    if volume.handle.is_none() {
        return vec![Step::Create];
    }
    if !volume.maybe_attached.is_empty() {
        return volume.maybe_attached.keys().cloned().map(Step::Detach).collect();
    }
    match volume.phase {
        VolumePhase::Deleting => return vec![Step::Delete],
        VolumePhase::Archived(until) => return vec![Step::Expire(until)],
        VolumePhase::Creating => return vec![Step::Create],
        VolumePhase::Ready | VolumePhase::Failed(_) => {}
    }
    if volume.is_being_restored() {
        return vec![Step::Restore];
    }
    let mut steps = Vec::new();
    let may_grow = grows_online || volume.attached.is_empty();
    if may_grow && volume.growth.as_ref().is_some_and(|wanted| wanted.refused.is_none() && !wanted.on_node) {
        steps.push(Step::Expand);
    }
    if volume.modification.as_ref().is_some_and(|wanted| wanted.refused.is_none()) {
        steps.push(Step::Modify);
    }
    let missing =
        |node: &&NodeId| volume.attached.get(*node).is_none_or(|there| there.epoch < volume.epoch_for(node));
    steps.extend(volume.desired.keys().filter(missing).cloned().map(Step::Attach));
    steps
}

/// The first pause after a failure.
const FIRST: Duration = Duration::from_millis(200);
/// No pause is longer.
pub(crate) const LONGEST: Duration = Duration::from_secs(5 * 60);

/// How long to wait after so many failures in a row: none after the first, then twice as long each time, up to five
/// minutes; of it a part between a half and the whole, by `salt`, so that what failed together does not come back
/// together.
pub(crate) fn pause(failures: u32, salt: u64) -> Duration {
    let Some(doublings) = failures.checked_sub(2) else { return Duration::ZERO };
    let whole = FIRST.saturating_mul(1u32.checked_shl(doublings.min(20)).unwrap_or(u32::MAX)).min(LONGEST);
    let scattered = salt.wrapping_add(u64::from(failures)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    whole / 2 + (whole / 2).saturating_mul(u32::try_from(scattered).unwrap_or(0)) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_growing() {
        assert_eq!((pause(0, 7), pause(1, 7)), (Duration::ZERO, Duration::ZERO));
        for salt in 0..100 {
            for failures in 2..100 {
                let waits = pause(failures, salt);
                assert!(waits >= FIRST / 2 && waits <= LONGEST, "{failures}: {waits:?}");
                assert!(pause(failures + 2, salt) >= waits || waits > LONGEST / 2);
            }
        }
        assert_ne!(pause(9, 1), pause(9, 2), "all come back together");
    }
}
