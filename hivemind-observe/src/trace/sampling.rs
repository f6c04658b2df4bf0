//! Which traces are recorded. A trace that began elsewhere goes on as it began; of those that begin here a share is
//! taken by the trace's id, so that all nodes decide alike, and a tenant cannot take more than its rate.
//! No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::time::Duration;

use hivemind_core::{TenantId, Timestamp};

/// How many traces of a tenant are recorded.
///
/// ```
/// use hivemind_observe::trace::Sampling;
///
/// // One in a hundred, and never more than ten a second.
/// let sampling = Sampling::share(0.01)?.at_most_per_second(10);
/// # Ok::<(), hivemind_observe::trace::InvalidSampling>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Trace ids whose last 56 bits are not below it are taken.
    threshold: u64,
    per_second: Option<u32>,
}

/// A share that is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a share of {0}: give 0 (none) to 1 (all)")]
pub struct InvalidSampling(f64);

/// The random bits of a trace id (W3C Trace Context, level 2, random-trace-id flag).
const RANDOM_BITS: u32 = 56;

impl Sampling {
    /// All traces.
    pub const ALL: Self = Self { threshold: 0, per_second: None };
    /// None of those that begin here.
    pub const NONE: Self = Self { threshold: 1 << RANDOM_BITS, per_second: None };

    /// A share of all traces, 0 to 1.
    ///
    /// # Errors
    /// [`InvalidSampling`]: it is less, more, or no number.
    pub fn share(share: f64) -> Result<Self, InvalidSampling> {
        if !(0.0..=1.0).contains(&share) {
            return Err(InvalidSampling(share));
        }
        let all = (1_u64 << RANDOM_BITS) as f64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^56")]
        let threshold = ((1.0 - share) * all).round() as u64;
        Ok(Self { threshold, per_second: None })
    }

    /// Of these, so many a second, evenly; as many may come at once.
    #[must_use]
    pub fn at_most_per_second(self, traces: u32) -> Self {
        Self { per_second: Some(traces), ..self }
    }

    fn takes(self, trace_id: u128) -> bool {
        #[allow(clippy::cast_possible_truncation, reason = "56 bits")]
        let random = (trace_id & ((1 << RANDOM_BITS) - 1)) as u64;
        random >= self.threshold
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self::ALL
    }
}

/// What a tenant may still take: so many traces a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    /// In nanoseconds of waiting, up to about a second.
    saved: u64,
    at: Timestamp,
}

const SECOND: u64 = 1_000_000_000;

impl Bucket {
    fn take(&mut self, per_second: u32, now: Timestamp) -> bool {
        let waited = u64::try_from(now.since(self.at).as_nanos()).unwrap_or(u64::MAX);
        // A clock that went back does not count, neither now nor when it has caught up.
        self.at = self.at.max(now);
        if per_second == 0 {
            return false;
        }
        let price = SECOND.div_ceil(per_second.into());
        self.saved = self.saved.saturating_add(waited).min(price.saturating_mul(per_second.into()));
        let enough = self.saved >= price;
        if enough {
            self.saved -= price;
        }
        enough
    }
}

/// How traces are sampled, by tenant.
#[derive(Debug, Clone, Default)]
pub(super) struct Sampler {
    others: Sampling,
    tenants: BTreeMap<TenantId, Sampling>,
}

impl Sampler {
    pub(super) fn new(others: Sampling, tenants: BTreeMap<TenantId, Sampling>) -> Self {
        Self { others, tenants }
    }

    /// Whether a trace that begins is recorded; `within` is asked if it is one of a number that is limited.
    pub(super) fn decide(
        &self,
        tenant: Option<&TenantId>,
        trace_id: u128,
        within: impl FnOnce(u32) -> bool,
    ) -> bool {
        let sampling = tenant.and_then(|tenant| self.tenants.get(tenant)).unwrap_or(&self.others);
        sampling.takes(trace_id) && sampling.per_second.is_none_or(within)
    }
}

/// What each tenant has taken of what it may take in a second.
#[derive(Debug, Default)]
pub(super) struct Budgets(BTreeMap<Option<TenantId>, Bucket>);

impl Budgets {
    /// Takes one, if there is one left.
    pub(super) fn take(&mut self, tenant: Option<&TenantId>, per_second: u32, now: Timestamp) -> bool {
        let tenant = tenant.cloned();
        if !self.0.contains_key(&tenant) {
            self.forget(now);
        }
        let full = Bucket { saved: u64::MAX, at: now };
        self.0.entry(tenant).or_insert(full).take(per_second, now)
    }

    /// Buckets that are full again are as those that are not there.
    fn forget(&mut self, now: Timestamp) {
        const MANY: usize = 1024;
        if self.0.len() >= MANY && self.0.len().is_power_of_two() {
            self.0.retain(|_, bucket| now.since(bucket.at) < Duration::from_secs(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(name: &str) -> Option<TenantId> {
        Some(name.parse().unwrap())
    }

    #[test]
    fn a_share_is_taken_by_the_id_alone() {
        assert!(
            Sampling::share(1.0).unwrap() == Sampling::ALL && Sampling::share(0.0).unwrap() == Sampling::NONE
        );
        for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Sampling::share(wrong).is_err(), "{wrong}");
        }
        let half = Sampling::share(0.5).unwrap();
        assert!(
            !half.takes(0) && half.takes((1 << 56) - 1) && half.takes(1 << 55) && !half.takes((1 << 55) - 1)
        );
        assert!(!half.takes(0xff << 56), "only the random bits count");
        let (all, none) = (Sampling::ALL, Sampling::NONE);
        assert!(all.takes(0) && !none.takes(u128::MAX));
    }

    proptest! {
        /// What a smaller share takes, a larger takes too: so nodes with different shares keep whole traces.
        #[test]
        fn a_larger_share_takes_all_that_a_smaller_does(id: u128, a in 0.0..=1.0_f64, b in 0.0..=1.0_f64) {
            let (less, more) = (Sampling::share(a.min(b)).unwrap(), Sampling::share(a.max(b)).unwrap());
            prop_assert!(!less.takes(id) || more.takes(id));
        }

        /// In any second no more than the rate, and what the burst had saved.
        #[test]
        fn nobody_takes_more_than_the_rate(
            waits in proptest::collection::vec(0_u64..300_000_000, 1..200),
            rate in 0_u32..20,
        ) {
            let mut budgets = Budgets::default();
            let (mut now, mut taken) = (0_u64, Vec::new());
            for wait in waits {
                now += wait;
                if budgets.take(None, rate, Timestamp::from_nanos(now)) {
                    taken.push(now);
                }
            }
            for (at, first) in taken.iter().enumerate() {
                let within = taken[at..].iter().filter(|one| **one < first + SECOND).count();
                prop_assert!(within <= 2 * rate as usize, "{within} within a second at a rate of {rate}");
            }
            let most = u128::from(rate) * u128::from(now) / u128::from(SECOND) + u128::from(rate);
            prop_assert!(taken.len() as u128 <= most);
        }
    }

    #[test]
    fn a_tenant_that_floods_takes_nothing_from_others() {
        let mut budgets = Budgets::default();
        let now = Timestamp::from_secs(100);
        let flood = (0..1000).filter(|_| budgets.take(tenant("a").as_ref(), 2, now)).count();
        assert_eq!(flood, 2);
        assert!(budgets.take(tenant("b").as_ref(), 2, now) && budgets.take(None, 2, now));
        // A clock that goes back gives nothing for free, and nothing when it returns.
        let past = Timestamp::from_secs(10);
        assert!(!budgets.take(tenant("a").as_ref(), 2, past) && !budgets.take(tenant("a").as_ref(), 2, now));
        assert!(budgets.take(tenant("a").as_ref(), 2, now.after(Duration::from_millis(500))));
    }

    #[test]
    fn tenants_that_come_and_go_leave_nothing_behind() {
        let mut budgets = Budgets::default();
        for number in 0..100_000_u64 {
            let now = Timestamp::from_nanos(number * SECOND / 100);
            budgets.take(tenant(&format!("t{number}")).as_ref(), 1, now);
        }
        assert!(budgets.0.len() <= 2048, "{}", budgets.0.len());
    }

    #[test]
    fn each_tenant_has_its_own_share() {
        let none = [("quiet".parse().unwrap(), Sampling::NONE)].into();
        let sampler = Sampler::new(Sampling::ALL.at_most_per_second(7), none);
        let within = |per_second| per_second == 7;
        assert!(sampler.decide(tenant("loud").as_ref(), 1, within) && sampler.decide(None, 1, within));
        assert!(!sampler.decide(tenant("loud").as_ref(), 1, |_| false));
        assert!(!sampler.decide(tenant("quiet").as_ref(), u128::MAX, |_| true));
    }
}
