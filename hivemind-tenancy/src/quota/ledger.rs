//! What is charged, as it is stored. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::resources::{ResourceName, Resources};
use hivemind_core::store::Key;
use hivemind_core::{Collection, Principal, ReservationId, Result, Stored, TenantRef, Timestamp};
use serde::{Deserialize, Serialize};

use super::level::Taken;
use super::node_slices::Lease;
use super::{BudgetState, RequestAttributes, SoftState};

/// What counts against one quota.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Charged {
    /// In use.
    pub used: Resources,
    /// Held for requests that are not committed yet.
    pub reserved: Resources,
}

/// What a tenant and everything below it has charged: its ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// In use.
    pub used: Resources,
    /// Held for requests that are not committed yet.
    pub reserved: Resources,
    /// Held back for the guarantees of tenants below that are idle.
    #[serde(default)]
    pub held: Resources,
    /// What counts against each scoped quota.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scoped: BTreeMap<String, Charged>,
    /// Of which resources the soft limit is exceeded, and since when.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub soft: BTreeMap<ResourceName, SoftState>,
    /// What is spent of each budget; of one that was removed, what was spent until then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub budgets: BTreeMap<ResourceName, BudgetState>,
    /// How many slices were granted to nodes so far.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub grants: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Stored for Usage {
    const KIND: &'static str = "quota ledger";
}

impl Usage {
    pub(crate) fn taken(&self, resource: &ResourceName) -> Taken {
        let usage = i128::from(self.used.amount(resource)) + i128::from(self.reserved.amount(resource));
        Taken { usage, load: usage + i128::from(self.held.amount(resource)) }
    }
}

/// What a tenant has charged in one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reservation {
    pub(crate) amount: Resources,
    pub(crate) state: ReservationState,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<Principal>,
    /// What scoped quotas look at.
    #[serde(default)]
    pub(crate) attributes: RequestAttributes,
    /// Whether it was charged by demands that limit ranges allow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) bounded: bool,
    /// Of a slice: until when, and which grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) slice: Option<Lease>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReservationState {
    /// Held until it is committed, released, or the deadline passes.
    Reserved { deadline: Timestamp },
    /// In use until it is released.
    Committed,
}

impl Reservation {
    /// Whether it was held, and is no longer at `now`: what is left of it is to be given back.
    pub(crate) fn is_over(&self, now: Option<Timestamp>) -> bool {
        let ReservationState::Reserved { deadline } = self.state else { return false };
        now.is_some_and(|now| deadline <= now)
    }
}

impl Stored for Reservation {
    const KIND: &'static str = "reservation";
}

pub(crate) fn ledgers() -> Result<Collection<Usage>> {
    crate::collection("ledgers")
}

pub(crate) fn reservations() -> Result<Collection<Reservation>> {
    crate::collection("reservations")
}

pub(crate) fn ledger_key(tenant: &TenantRef) -> Result<Key> {
    ledgers()?.key([tenant.to_string()])
}

pub(crate) fn reservation_key(tenant: &TenantRef, id: &ReservationId) -> Result<Key> {
    reservations()?.key([&tenant.to_string(), id.as_str()])
}

/// An amount of each resource that is added, or taken away.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    pub(crate) used: BTreeMap<ResourceName, i128>,
    pub(crate) reserved: BTreeMap<ResourceName, i128>,
}

impl Change {
    /// `times` (such as 1 or -1) what `reservation` has charged, and what else was there.
    pub(crate) fn with(mut self, reservation: &Reservation, times: i128) -> Self {
        let sums = match reservation.state {
            ReservationState::Committed => &mut self.used,
            ReservationState::Reserved { .. } => &mut self.reserved,
        };
        for (resource, amount) in reservation.amount.iter() {
            *sums.entry(resource).or_default() += times * i128::from(amount);
        }
        self
    }

    /// `times` what `all` have charged together.
    pub(crate) fn of<'a>(all: impl IntoIterator<Item = &'a Reservation>, times: i128) -> Self {
        let (mut change, mut alike) = (Self::default(), None::<(&Reservation, i128)>);
        let is_held = |one: &Reservation| matches!(one.state, ReservationState::Reserved { .. });
        for one in all {
            // Most are replicas of the one before.
            alike = match alike {
                Some((first, n)) if first.amount == one.amount && is_held(first) == is_held(one) => {
                    Some((first, n + times))
                }
                Some((first, n)) => {
                    change = change.with(first, n);
                    Some((one, times))
                }
                None => Some((one, times)),
            };
        }
        match alike {
            Some((first, n)) => change.with(first, n),
            None => change,
        }
    }

    /// `amount` more in use.
    pub(crate) fn adding(mut self, amount: &Resources) -> Self {
        for (resource, amount) in amount.iter() {
            *self.used.entry(resource).or_default() += i128::from(amount);
        }
        self
    }

    /// Every resource that changes, with the change of use and of what is reserved.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ResourceName, i128, i128)> {
        let names: std::collections::BTreeSet<_> = self.used.keys().chain(self.reserved.keys()).collect();
        let of = |sums: &BTreeMap<ResourceName, i128>, name| sums.get(name).copied().unwrap_or_default();
        names.into_iter().map(move |name| (name, of(&self.used, name), of(&self.reserved, name)))
    }
}
