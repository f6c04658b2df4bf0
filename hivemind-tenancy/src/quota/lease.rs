//! Limits that hold for a while, such as more for a sale or less for a repair. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::Timestamp;
use hivemind_core::resources::ResourceName;
use serde::{Deserialize, Serialize};

/// A limit in place of the lasting one, from `from` until just before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct TemporaryLimit {
    /// The first instant at which it holds.
    #[serde(default)]
    pub from: Timestamp,
    /// The first instant at which it does not hold any more.
    pub until: Timestamp,
    /// The limit, in base units of the resource.
    pub limit: u64,
}

impl TemporaryLimit {
    /// `limit` until just before `until`.
    pub fn until(until: Timestamp, limit: u64) -> Self {
        Self { from: Timestamp::EPOCH, until, limit }
    }

    /// Holding from `from` on.
    #[must_use]
    pub fn with_from(mut self, from: Timestamp) -> Self {
        self.from = from;
        self
    }

    /// Whether it holds at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

/// The temporary limits of a tenant, by resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TemporaryLimits(BTreeMap<ResourceName, Vec<TemporaryLimit>>);

impl TemporaryLimits {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// And this one.
    #[must_use]
    pub fn with(mut self, resource: ResourceName, limit: TemporaryLimit) -> Self {
        self.0.entry(resource).or_default().push(limit);
        self
    }

    /// Every temporary limit, in the order of resource names.
    pub fn iter(&self) -> impl Iterator<Item = (&ResourceName, &TemporaryLimit)> {
        self.0.iter().flat_map(|(resource, all)| all.iter().map(move |one| (resource, one)))
    }

    /// The limit of `resource` at `now`, where `lasting` is the one that holds otherwise; `None` is no limit.
    ///
    /// A limit below the lasting one comes before any above it; of several the strictest below, or the highest above.
    /// Without a time nothing is raised, and all that is lowered stays so: what is in doubt never admits more.
    pub fn effective(
        &self,
        resource: &ResourceName,
        lasting: Option<u64>,
        now: Option<Timestamp>,
    ) -> Option<u64> {
        let all = self.0.get(resource).map(Vec::as_slice).unwrap_or_default();
        let lowers = |one: &&TemporaryLimit| lasting.is_none_or(|lasting| one.limit < lasting);
        let holds = |one: &&TemporaryLimit| now.is_none_or(|now| one.holds(now));
        if let Some(lowest) = all.iter().filter(holds).filter(lowers).map(|one| one.limit).min() {
            return Some(lowest);
        }
        let Some(now) = now else { return lasting };
        let highest = all.iter().filter(|one| one.holds(now)).map(|one| one.limit).max();
        lasting.max(highest)
    }

    /// The first instant after `now` at which any effective limit may change: when to look again.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.iter().flat_map(|(_, one)| [one.from, one.until]).filter(|at| *at > now).min()
    }

    /// Without those that are over at `now`.
    #[must_use]
    pub fn without_expired(mut self, now: Timestamp) -> Self {
        self.0.retain(|_, all| {
            all.retain(|one| now < one.until);
            !all.is_empty()
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn cpu(limits: &[TemporaryLimit]) -> TemporaryLimits {
        limits.iter().fold(TemporaryLimits::new(), |all, one| all.with(ResourceName::Cpu, *one))
    }

    fn effective(limits: &TemporaryLimits, lasting: Option<u64>, now: Option<u64>) -> Option<u64> {
        limits.effective(&ResourceName::Cpu, lasting, now.map(at))
    }

    #[test]
    fn a_raise_ends_at_its_instant() {
        let burst = cpu(&[TemporaryLimit::until(at(10), 100).with_from(at(5))]);
        let limits = [4, 5, 9, 10].map(|now| effective(&burst, Some(50), Some(now)));
        assert_eq!(limits, [Some(50), Some(100), Some(100), Some(50)]);
        assert_eq!(burst.effective(&ResourceName::Memory, Some(50), Some(at(7))), Some(50));
        assert_eq!((burst.next_change(at(0)), burst.next_change(at(5))), (Some(at(5)), Some(at(10))));
    }

    #[test]
    fn without_a_time_raises_do_not_count_and_cuts_do() {
        let both = cpu(&[TemporaryLimit::until(at(10), 100), TemporaryLimit::until(at(10), 20)]);
        assert_eq!(effective(&both, Some(50), None), Some(20));
        assert_eq!(effective(&cpu(&[TemporaryLimit::until(at(10), 100)]), Some(50), None), Some(50));
    }

    #[test]
    fn what_is_over_can_be_forgotten() {
        let both = cpu(&[TemporaryLimit::until(at(10), 100), TemporaryLimit::until(at(20), 70)]);
        assert_eq!(both.clone().without_expired(at(10)), cpu(&[TemporaryLimit::until(at(20), 70)]));
        assert!(both.without_expired(at(20)).is_empty());
    }

    proptest! {
        /// The model walks the list once and keeps the strictest and the highest.
        #[test]
        fn cuts_come_before_raises(
            list in proptest::collection::vec((0..9u64, 0..9u64, 0..9u64), 0..6),
            lasting in proptest::option::of(0..9u64),
            now in 0..10u64,
        ) {
            let list: Vec<_> = list
                .into_iter()
                .map(|(from, until, limit)| TemporaryLimit::until(at(until), limit).with_from(at(from)))
                .collect();
            let base = lasting.unwrap_or(u64::MAX);
            let (mut low, mut high) = (base, base);
            for one in &list {
                if one.from <= at(now) && at(now) < one.until {
                    (low, high) = (low.min(one.limit), high.max(one.limit));
                }
            }
            let expected = if low < base { low } else { high };
            let limits = cpu(&list);
            prop_assert_eq!(effective(&limits, lasting, Some(now)).unwrap_or(u64::MAX), expected);
            // Forgetting what is over changes nothing from then on.
            for later in now..10 {
                let kept = limits.clone().without_expired(at(now));
                prop_assert_eq!(effective(&kept, lasting, Some(later)), effective(&limits, lasting, Some(later)));
            }
            // Not knowing the time never admits more than any time would.
            let unknown = effective(&limits, lasting, None).unwrap_or(u64::MAX);
            prop_assert!(unknown <= expected);
        }
    }
}
