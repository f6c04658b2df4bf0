//! One limit for several regions: each holds a leased slice and charges against it without asking.
//!
//! No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::time::Duration;

use hivemind_core::{Stored, Timestamp};
use serde::{Deserialize, Serialize};

/// What one holder may charge until its lease runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Slice {
    /// How much, in base units of the resource.
    pub amount: u64,
    /// The first instant at which the holder must not charge against it any more.
    pub until: Timestamp,
    /// Which grant it is: higher for each. Messages of an earlier grant are known by it, and change nothing.
    pub grant: u64,
}

impl Slice {
    /// Whether the holder may charge against it at `now`, by the holder's own clock.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

/// A limit split into slices. What is granted never adds up to more than the limit.
///
/// A slice whose lease has run out counts as spent for `grace` more, which must be longer than clocks differ: until
/// then its holder may still be charging.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Escrow {
    limit: u64,
    grace: Duration,
    #[serde(default)]
    slices: BTreeMap<String, Slice>,
    #[serde(default)]
    grants: u64,
}

impl Stored for Escrow {
    const KIND: &'static str = "quota escrow";
}

/// Why slices stay as they are. Amounts are in base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum EscrowError {
    /// Too little is left.
    #[error("{asked} more was asked for, {left} is left: wait for slices to return")]
    TooLittle {
        /// How much more was asked for.
        asked: u64,
        /// How much is not granted.
        left: u64,
    },
    /// The lease would be over at once.
    #[error("a lease until {until} is over at {now}: give a later end")]
    OverAtOnce {
        /// The end of the lease.
        until: Timestamp,
        /// The time of the request.
        now: Timestamp,
    },
    /// The holder has no slice of this grant: it returned, or there is a newer one.
    #[error("{holder} has no slice of grant {grant}: ask for one")]
    NoSlice {
        /// Who.
        holder: String,
        /// Which grant.
        grant: u64,
    },
    /// The slice is smaller already.
    #[error("the slice is {amount} and cannot shrink to {to}: ask for a grant of more")]
    Grows {
        /// How large it is.
        amount: u64,
        /// How large it was to be.
        to: u64,
    },
    /// More is granted than the new limit.
    #[error("{granted} is granted, above a limit of {limit}: wait for slices to return")]
    Granted {
        /// How much is granted.
        granted: u64,
        /// The limit that was wanted.
        limit: u64,
    },
}

impl Escrow {
    /// A limit of which nothing is granted.
    pub fn new(limit: u64, grace: Duration) -> Self {
        Self { limit, grace, slices: BTreeMap::new(), grants: 0 }
    }

    /// The limit, in base units.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Every slice that counts, by holder.
    pub fn slices(&self) -> &BTreeMap<String, Slice> {
        &self.slices
    }

    /// What all slices add up to.
    pub fn granted(&self) -> u64 {
        self.slices.values().fold(0, |sum, slice| sum.saturating_add(slice.amount))
    }

    /// `holder` has a slice of `amount` until `until`, in place of one it may have; and the slice.
    ///
    /// A slice that the holder has must not become smaller by this: see [`shrink`](Self::shrink).
    ///
    /// # Errors
    /// [`EscrowError`] if too little is left, or the lease would end too early.
    pub fn grant(
        &self,
        holder: &str,
        amount: u64,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(Self, Slice), EscrowError> {
        if until <= now {
            return Err(EscrowError::OverAtOnce { until, now });
        }
        let mut next = self.without_expired(now);
        let had = next.slices.get(holder).copied();
        let (had_amount, had_until) = had.map_or((0, until), |slice| (slice.amount, slice.until));
        // The holder may not have heard of this grant yet, and still charge against the old one.
        let amount = amount.max(had_amount);
        let (asked, left) = (amount - had_amount, next.limit.saturating_sub(next.granted()));
        if asked > left {
            return Err(EscrowError::TooLittle { asked, left });
        }
        next.grants = next.grants.saturating_add(1);
        let slice = Slice { amount, until: until.max(had_until), grant: next.grants };
        next.slices.insert(holder.to_owned(), slice);
        Ok((next, slice))
    }

    /// The holder charges against no more than `to` of its slice from now on. Zero returns it whole.
    ///
    /// The holder stops first and then says so. Saying it twice changes nothing more.
    ///
    /// # Errors
    /// [`EscrowError::NoSlice`] if the slice is not of this grant, [`EscrowError::Grows`] if it is smaller.
    pub fn shrink(&self, holder: &str, grant: u64, to: u64) -> Result<Self, EscrowError> {
        let mut next = self.clone();
        let slice = next.slices.get_mut(holder).filter(|slice| slice.grant == grant);
        let Some(slice) = slice else {
            return Err(EscrowError::NoSlice { holder: holder.to_owned(), grant });
        };
        if to > slice.amount {
            return Err(EscrowError::Grows { amount: slice.amount, to });
        }
        slice.amount = to;
        if to == 0 {
            next.slices.remove(holder);
        }
        Ok(next)
    }

    /// Without the slices whose lease and grace are over at `now`: what they held is left again.
    #[must_use]
    pub fn without_expired(&self, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.slices.retain(|_, slice| slice.until.after(self.grace) > now);
        next
    }

    /// With another limit.
    ///
    /// # Errors
    /// [`EscrowError::Granted`] if more is granted: slices cannot be taken back from whoever holds them.
    pub fn with_limit(&self, limit: u64) -> Result<Self, EscrowError> {
        let granted = self.granted();
        if granted > limit {
            return Err(EscrowError::Granted { granted, limit });
        }
        Ok(Self { limit, ..self.clone() })
    }
}

#[cfg(test)]
mod tests;
