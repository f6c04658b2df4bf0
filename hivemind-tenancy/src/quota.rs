//! Quotas: what is charged never exceeds the limit, and is given back exactly once.
//!
//! - In the store: [`TenantQuota`] decides and stages; [`GroupCommit`] commits many callers' decisions at once.
//! - In memory, by the same arithmetic: [`QuotaTree`].
//! - What a limit is: [`QuotaSpec`] of [`QuotaRule`]s; [`SoftLimit`], [`TemporaryLimit`], [`RateLimit`], [`Budget`],
//!   [`QuotaScope`], [`LimitRange`] as pure rules of their own.
//! - What is told: [`OverQuota`] and its [`Shortage`]s, [`Drift`], [`SoftCrossing`], [`Trend`].
//! - Who is next, and what is taken back: [`FairQueue`], [`Escrow`], [`reclaim()`].

mod audit;
mod batch;
mod books;
mod bounds;
mod budget;
mod change;
mod crossings;
mod denial;
mod gate;
mod group;
mod lease;
mod ledger;
mod level;
mod node_slices;
mod queue;
mod ranges;
mod rate;
mod reclaim;
mod samples;
mod scope;
mod slices;
mod soft;
mod spec;
mod throttle;
mod tree;
mod trend;
mod waiting;

pub use self::audit::Drift;
pub use self::bounds::{Bounds, Demand, InvalidLimitRange, LimitRange, OutOfBounds, Problem};
pub use self::budget::{Budget, BudgetExceeded, BudgetState, InvalidPeriod};
pub(crate) use self::change::stage_reparent;
pub use self::change::{QuotaChange, WhenOver};
pub use self::crossings::SoftCrossing;
pub use self::denial::{OverQuota, Shortage};
pub use self::gate::{QuotaRequest, Returned, TenantQuota};
pub use self::group::GroupCommit;
pub use self::lease::{TemporaryLimit, TemporaryLimits};
pub use self::ledger::{Charged, Usage};
pub use self::node_slices::{MAX_SLICES, NodeSlice};
pub use self::queue::{DominantShare, FairQueue, QueueFit, QueuePolicy, WaitingRequest};
pub use self::ranges::{RangeViolation, RangeViolations};
pub use self::rate::{InvalidRate, RateExceeded, RateLimit, RateState, RateStates};
pub use self::reclaim::{Borrower, Reclaim, RunningCharge, reclaim};
pub use self::samples::MAX_SAMPLED;
pub use self::scope::{EmptyPriorityRange, PriorityRange, QuotaScope, RequestAttributes};
pub use self::slices::{Escrow, EscrowError, Slice};
pub use self::soft::{Crossing, SoftExceeded, SoftLimit, SoftState};
pub use self::spec::{QuotaRule, QuotaSpec, ScopedQuota};
pub use self::throttle::{OverRate, SlowDown};
pub use self::tree::{Amounts, Charge, Hold, MAX_RESOURCES, QuotaNode, QuotaTree, TreeError, TreeUsage};
pub use self::trend::{HighWater, InvalidWindows, Trend, UsageEvent};
pub use self::waiting::{MAX_WAITING, Turns};

#[cfg(test)]
mod tests;
