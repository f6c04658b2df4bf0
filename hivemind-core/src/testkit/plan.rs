//! What a faulty store is to do wrong, and what it did.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::Runtime;

/// What goes wrong, how often. Rates are in parts per million of the calls concerned.
///
/// ```
/// use hivemind_core::testkit::FaultPlan;
///
/// let plan = FaultPlan::new(7).with_lost_replies(100_000).with_crash_at(12);
/// assert_eq!((plan.lost_replies, plan.crash_at), (100_000, Some(12)));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FaultPlan {
    /// Decides which calls fail, and how.
    pub seed: u64,
    /// Guarded commits refused with a conflict although every guard holds.
    pub conflicts: u32,
    /// Commits and compactions refused as unavailable, before anything happened.
    pub unavailable: u32,
    /// Commits that happened, and whose reply is lost.
    pub lost_replies: u32,
    /// Commits that did not happen, which the caller cannot know.
    pub lost_requests: u32,
    /// Reads, and starts of a watch, that fail as unavailable.
    pub read_failures: u32,
    /// Batches in place of which a watch breaks off as unavailable.
    pub watch_failures: u32,
    /// Batches in place of which a watch just ends.
    pub watch_ends: u32,
    /// At which call, counted from 1, the process dies: before or after it took effect, by the seed.
    pub crash_at: Option<u64>,
    /// How long a request and its reply take, each.
    pub latency: Option<(Arc<dyn Runtime>, RangeInclusive<Duration>)>,
}

impl FaultPlan {
    /// Nothing goes wrong.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            conflicts: 0,
            unavailable: 0,
            lost_replies: 0,
            lost_requests: 0,
            read_failures: 0,
            watch_failures: 0,
            watch_ends: 0,
            crash_at: None,
            latency: None,
        }
    }

    /// A bad day: a few percent of everything that can go wrong, but no crash and no latency.
    pub fn rough(seed: u64) -> Self {
        Self::new(seed)
            .with_conflicts(50_000)
            .with_unavailable(30_000)
            .with_lost_replies(50_000)
            .with_lost_requests(50_000)
            .with_read_failures(20_000)
            .with_watch_failures(50_000)
            .with_watch_ends(50_000)
    }

    /// Refuses `ppm` of the guarded commits with a conflict.
    #[must_use]
    pub fn with_conflicts(mut self, ppm: u32) -> Self {
        self.conflicts = ppm;
        self
    }

    /// Refuses `ppm` of the commits and compactions as unavailable, before anything happened.
    #[must_use]
    pub fn with_unavailable(mut self, ppm: u32) -> Self {
        self.unavailable = ppm;
        self
    }

    /// Makes `ppm` of the commits and loses the reply.
    #[must_use]
    pub fn with_lost_replies(mut self, ppm: u32) -> Self {
        self.lost_replies = ppm;
        self
    }

    /// Loses `ppm` of the commits on the way, with an unknown effect.
    #[must_use]
    pub fn with_lost_requests(mut self, ppm: u32) -> Self {
        self.lost_requests = ppm;
        self
    }

    /// Fails `ppm` of the reads and starts of a watch.
    #[must_use]
    pub fn with_read_failures(mut self, ppm: u32) -> Self {
        self.read_failures = ppm;
        self
    }

    /// Breaks a watch off with an error in place of `ppm` of the batches.
    #[must_use]
    pub fn with_watch_failures(mut self, ppm: u32) -> Self {
        self.watch_failures = ppm;
        self
    }

    /// Ends a watch in place of `ppm` of the batches.
    #[must_use]
    pub fn with_watch_ends(mut self, ppm: u32) -> Self {
        self.watch_ends = ppm;
        self
    }

    /// The process dies at call number `call`, counted from 1.
    #[must_use]
    pub fn with_crash_at(mut self, call: u64) -> Self {
        self.crash_at = Some(call);
        self
    }

    /// Each request, each reply and each watch batch takes a time from `range`, slept on `runtime`.
    #[must_use]
    pub fn with_latency(mut self, runtime: Arc<dyn Runtime>, range: RangeInclusive<Duration>) -> Self {
        self.latency = Some((runtime, range));
        self
    }
}

/// What went wrong so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Calls of any kind, the good ones too.
    pub calls: u64,
    /// Conflicts that were none.
    pub conflicts: u64,
    /// Commits and compactions refused beforehand.
    pub unavailable: u64,
    /// Commits sent on whose reply was lost.
    pub lost_replies: u64,
    /// Commits lost on the way.
    pub lost_requests: u64,
    /// Reads and starts of a watch that failed.
    pub read_failures: u64,
    /// Watches that broke off.
    pub watch_failures: u64,
    /// Watches that ended.
    pub watch_ends: u64,
    /// Crashes: none or one.
    pub crashes: u64,
}
