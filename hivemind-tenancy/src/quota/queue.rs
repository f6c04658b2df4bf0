//! In which order waiting requests get their turn: weighted dominant resource fairness. No I/O, no clock, no async.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use hivemind_core::resources::Resources;
use hivemind_core::{ReservationId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

/// The dominant share of a tenant by its weight: an exact fraction, ordered by its value.
///
/// Reference: Ghodsi et al., "Dominant Resource Fairness", NSDI 2011.
#[derive(Debug, Clone, Copy)]
pub struct DominantShare {
    used: u64,
    /// What there is in all, times the weight.
    of: u128,
}

impl DominantShare {
    /// Nothing is used.
    pub const ZERO: Self = Self { used: 0, of: 1 };

    /// The largest part that `used` is of `total` in any resource, by `weight`.
    ///
    /// Of a resource of which there is none in all, each unit in use counts as the whole.
    pub fn dominant(used: &Resources, total: &Resources, weight: NonZeroU32) -> Self {
        let shares = used.iter().map(|(resource, used)| Self {
            used,
            of: u128::from(total.amount(&resource).max(1)) * u128::from(weight.get()),
        });
        shares.max().unwrap_or(Self::ZERO)
    }
}

/// Compares `a.0 / a.1` with `b.0 / b.1` exactly, by the whole parts and then the inverses of what is left: products
/// would need more than 128 bits.
fn compare(mut a: (u128, u128), mut b: (u128, u128)) -> Ordering {
    let mut inverted = false;
    loop {
        // Neither divisor is ever zero: a share is of one at least, and the loop ends at a rest of zero.
        let (whole_a, whole_b) = (a.0 / a.1, b.0 / b.1);
        let (rest_a, rest_b) = (a.0 % a.1, b.0 % b.1);
        let found = whole_a.cmp(&whole_b).then_with(|| match (rest_a, rest_b) {
            (0, _) | (_, 0) => rest_a.cmp(&rest_b),
            _ => Ordering::Equal,
        });
        if found != Ordering::Equal || rest_a == 0 {
            return if inverted { found.reverse() } else { found };
        }
        (a, b, inverted) = ((a.1, rest_a), (b.1, rest_b), !inverted);
    }
}

impl Ord for DominantShare {
    fn cmp(&self, other: &Self) -> Ordering {
        compare((u128::from(self.used), self.of), (u128::from(other.used), other.of))
    }
}

impl PartialOrd for DominantShare {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for DominantShare {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for DominantShare {}

/// A request that waits for quota.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct WaitingRequest {
    /// Whose.
    pub tenant: TenantId,
    /// Its name; of one tenant each has its own.
    pub id: ReservationId,
    /// What it asks for.
    pub amount: Resources,
    /// Since when it waits.
    pub arrived: Timestamp,
    /// From when on it does not wait any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Whether it needs more than its tenant is guaranteed.
    #[serde(default)]
    pub borrowing: bool,
}

impl WaitingRequest {
    /// A request within the tenant's guarantee that waits as long as it takes.
    pub fn new(tenant: TenantId, id: ReservationId, amount: Resources, arrived: Timestamp) -> Self {
        Self { tenant, id, amount, arrived, deadline: None, borrowing: false }
    }

    /// WaitingRequest until just before `deadline`.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Timestamp) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Needing more than the guarantee, or not.
    #[must_use]
    pub fn with_borrowing(mut self, borrowing: bool) -> Self {
        self.borrowing = borrowing;
        self
    }

    /// Whether it has waited too long at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// Whether a request can have its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueFit {
    /// There is room for it.
    Fits,
    /// A limit of its own tenant is in the way: waiting for others does not help.
    OverLimit,
    /// Others use what it needs.
    NoRoom,
}

/// Who may pass a request that does not fit, as the queueing strategies of Kueue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum QueuePolicy {
    /// Requests of other tenants, but none of the same tenant that comes later in the order.
    StrictFifo,
    /// Any request that fits.
    #[default]
    BestEffortFifo,
}

/// How waiting requests get their turn.
///
/// Requests within their tenant's guarantee come before those that borrow. Among either, the tenant with the smaller
/// [`DominantShare`] comes first, and of equals whoever arrived first. So that a large request, or a tenant with a large
/// share, does not starve, one that has waited for `patience` comes before all others of its group, in the order of
/// arrival; and while others use what it needs, nobody behind it gets more. A tenant that is over its own limit holds
/// nobody else up.
///
/// Requests that borrow have no right to their turn: they wait while guarantees take everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct FairQueue {
    /// Who may pass a request that does not fit.
    #[serde(default)]
    pub policy: QueuePolicy,
    /// After how long a request comes first.
    pub patience: Duration,
}

impl FairQueue {
    /// A queue of this policy and patience.
    pub fn new(policy: QueuePolicy, patience: Duration) -> Self {
        Self { policy, patience }
    }

    /// The requests that still wait at `now`, in their order. A tenant without a share has used nothing.
    pub fn order<'a>(
        &self,
        waiting: impl IntoIterator<Item = &'a WaitingRequest>,
        shares: &BTreeMap<TenantId, DominantShare>,
        now: Timestamp,
    ) -> Vec<&'a WaitingRequest> {
        let share = |one: &WaitingRequest| shares.get(&one.tenant).copied().unwrap_or(DominantShare::ZERO);
        let overdue = |one: &WaitingRequest| self.is_overdue(one, now);
        let mut order: Vec<_> = waiting.into_iter().filter(|one| !one.is_expired(now)).collect();
        order.sort_by(|a, b| {
            let by_share = || if overdue(a) { Ordering::Equal } else { share(a).cmp(&share(b)) };
            a.borrowing
                .cmp(&b.borrowing)
                .then_with(|| overdue(b).cmp(&overdue(a)))
                .then_with(by_share)
                .then_with(|| a.arrived.cmp(&b.arrived))
                .then_with(|| (&a.tenant, &a.id).cmp(&(&b.tenant, &b.id)))
        });
        order
    }

    /// Whose turn it is at `now`, where `fits` says what is in the way of a request.
    ///
    /// Call it again with new shares after each that got its turn. A request that never fits should say
    /// [`QueueFit::OverLimit`], so that it holds up nobody else.
    pub fn next<'a>(
        &self,
        waiting: impl IntoIterator<Item = &'a WaitingRequest>,
        shares: &BTreeMap<TenantId, DominantShare>,
        now: Timestamp,
        fits: impl Fn(&WaitingRequest) -> QueueFit,
    ) -> Option<&'a WaitingRequest> {
        let mut held_up = Vec::new();
        for one in self.order(waiting, shares, now) {
            if held_up.contains(&&one.tenant) {
                continue;
            }
            match fits(one) {
                QueueFit::Fits => return Some(one),
                QueueFit::NoRoom if self.is_overdue(one, now) => return None,
                QueueFit::NoRoom | QueueFit::OverLimit if self.policy == QueuePolicy::StrictFifo => {
                    held_up.push(&one.tenant);
                }
                QueueFit::NoRoom | QueueFit::OverLimit => {}
            }
        }
        None
    }

    /// The first instant after `now` at which the order changes by itself or a request stops waiting.
    pub fn next_change<'a>(
        &self,
        waiting: impl IntoIterator<Item = &'a WaitingRequest>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let instants = |one: &WaitingRequest| [Some(one.arrived.after(self.patience)), one.deadline];
        waiting.into_iter().flat_map(instants).flatten().filter(|at| *at > now).min()
    }

    fn is_overdue(&self, one: &WaitingRequest, now: Timestamp) -> bool {
        now >= one.arrived.after(self.patience)
    }
}

#[cfg(test)]
mod tests;
