//! Whether a volume is well, without believing every single answer. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::{NodeId, Stored, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Usage, VolumeCondition, VolumeStats};

/// How often in a row a volume must look ill to be called ill, and well to be called well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HealthThresholds {
    /// So many abnormal answers in a row make it abnormal.
    pub abnormal_after: u32,
    /// So many normal ones in a row make it normal again.
    pub normal_after: u32,
}

impl Default for HealthThresholds {
    fn default() -> Self {
        Self { abnormal_after: 3, normal_after: 2 }
    }
}

/// What is believed of a volume's condition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeHealth {
    /// What is believed.
    pub condition: VolumeCondition,
    /// Since when.
    pub since: Timestamp,
    /// How many answers in a row said otherwise.
    pub doubts: u32,
}

impl VolumeHealth {
    /// Takes one more answer into account; whether what is believed changed by it.
    ///
    /// The first answer is believed at once. "Unknown" changes nothing: a provider that does not answer says nothing of its
    /// volumes. Another reason for being abnormal is taken over, and is no change.
    pub fn observe(&mut self, seen: &VolumeCondition, thresholds: &HealthThresholds, now: Timestamp) -> bool {
        let needed = match (&self.condition, seen) {
            (_, VolumeCondition::Unknown) => return false,
            (VolumeCondition::Unknown, _) => 1,
            (VolumeCondition::Normal, VolumeCondition::Abnormal(_)) => thresholds.abnormal_after,
            (VolumeCondition::Abnormal(_), VolumeCondition::Normal) => thresholds.normal_after,
            (VolumeCondition::Normal, VolumeCondition::Normal)
            | (VolumeCondition::Abnormal(_), VolumeCondition::Abnormal(_)) => {
                self.condition = seen.clone();
                self.doubts = 0;
                return false;
            }
        };
        self.doubts += 1;
        if self.doubts < needed {
            return false;
        }
        *self = Self { condition: seen.clone(), since: now, doubts: 0 };
        true
    }
}

/// Something else is believed of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HealthChange {
    /// Since when.
    pub at: Timestamp,
    /// Which node says so; `None` for the provider.
    pub node: Option<NodeId>,
    /// What was believed before.
    pub from: VolumeCondition,
    /// What is believed now, and why.
    pub to: VolumeCondition,
}

/// How many changes are kept.
const CHANGES: usize = 16;

/// How a volume is: what is believed of it, and how full it was when that was seen last.
///
/// The provider and each node are believed apart: of two of which always one says that all is well, the other one may be
/// right.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeReport {
    /// What is believed of the provider's answers.
    pub provider: VolumeHealth,
    /// What is believed of the answers of each node that has it.
    pub nodes: BTreeMap<NodeId, VolumeHealth>,
    /// How full it is, in bytes, and when that was seen; `None` before any node has told.
    pub used: Option<(Usage, Timestamp)>,
    /// The last changes of what is believed, the newest last.
    pub changes: Vec<HealthChange>,
}

impl Stored for VolumeReport {
    const KIND: &'static str = "health of a volume";
}

impl VolumeReport {
    /// What is believed of the volume: it is well if somebody says so and nobody says otherwise.
    pub fn condition(&self) -> &VolumeCondition {
        let rank = |condition: &&VolumeCondition| match condition {
            VolumeCondition::Unknown => 0,
            VolumeCondition::Normal => 1,
            VolumeCondition::Abnormal(_) => 2,
        };
        let nodes = self.nodes.values().map(|health| &health.condition);
        nodes.chain([&self.provider.condition]).max_by_key(rank).unwrap_or(&self.provider.condition)
    }

    /// The provider says how it is; what is believed otherwise since, if anything is.
    pub(crate) fn provider_says(
        &mut self,
        seen: &VolumeCondition,
        thresholds: &HealthThresholds,
        now: Timestamp,
    ) -> Option<HealthChange> {
        let from = self.provider.condition.clone();
        let changed = self.provider.observe(seen, thresholds, now);
        changed.then(|| self.note(None, from, seen, now))
    }

    /// A node says how it is, and how full.
    pub(crate) fn node_says(
        &mut self,
        node: &NodeId,
        stats: &VolumeStats,
        thresholds: &HealthThresholds,
        now: Timestamp,
    ) -> Option<HealthChange> {
        // Of a block device only the total is known.
        if stats.bytes.used > 0 || stats.bytes.available > 0 {
            self.used = Some((stats.bytes, now));
        }
        let health = self.nodes.entry(node.clone()).or_default();
        let from = health.condition.clone();
        let changed = health.observe(&stats.condition, thresholds, now);
        changed.then(|| self.note(Some(node.clone()), from, &stats.condition, now))
    }

    fn note(
        &mut self,
        node: Option<NodeId>,
        from: VolumeCondition,
        to: &VolumeCondition,
        at: Timestamp,
    ) -> HealthChange {
        let change = HealthChange { at, node, from, to: to.clone() };
        self.changes.push(change.clone());
        let surplus = self.changes.len().saturating_sub(CHANGES);
        self.changes.drain(..surplus);
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_answer_changes_nothing_but_the_first() {
        let (ill, well) = (VolumeCondition::Abnormal("slow".to_owned()), VolumeCondition::Normal);
        let (mut health, thresholds) = (VolumeHealth::default(), HealthThresholds::default());
        let mut observe = |seen: &VolumeCondition, second| {
            health.observe(seen, &thresholds, Timestamp::from_secs(second)).then(|| health.condition.clone())
        };
        assert_eq!(observe(&VolumeCondition::Unknown, 0), None);
        assert_eq!(observe(&well, 1), Some(well.clone()));
        // It flaps: ill and well in turn, and never three times in a row.
        for second in 2..100 {
            assert_eq!(observe(if second % 3 == 0 { &well } else { &ill }, second), None);
        }
        assert_eq!(observe(&well, 100), None);
        let changes: Vec<_> = (101..105).filter_map(|second| observe(&ill, second)).collect();
        assert_eq!(changes, std::slice::from_ref(&ill));
        assert_eq!(observe(&well, 105), None);
        assert_eq!(observe(&VolumeCondition::Unknown, 106), None);
        assert_eq!(observe(&well, 107), Some(well));
    }
}
