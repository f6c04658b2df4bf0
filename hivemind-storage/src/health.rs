//! Whether a volume is well, without believing every single answer. No I/O, no clock, no async.

use hivemind_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::VolumeCondition;

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
