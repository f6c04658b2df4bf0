//! What a tenant of a tree may have of one resource.
//!
//! No I/O, no clock, no async.

/// Limits of one tenant for one resource, in the resource's smallest unit. What is not set is not limited.
///
/// The terms are Kueue's: `guaranteed` is its nominal quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TreeLimit {
    /// The most that the tenant and everything below it may have.
    pub max: Option<u64>,
    /// What is the tenant's by right. The rest, up to [`max`](Self::max), is borrowed from its siblings.
    pub guaranteed: u64,
    /// The most it may have beyond [`guaranteed`](Self::guaranteed).
    pub borrowing: Option<u64>,
    /// How much of [`guaranteed`](Self::guaranteed) its siblings may use while it does not. Not set: all of it.
    pub lending: Option<u64>,
    /// By how much [`max`](Self::max) may be exceeded, in thousandths: 1500 admits one and a half times of it.
    pub overcommit_per_mille: Option<u32>,
}

impl TreeLimit {
    /// No limit.
    pub fn none() -> Self {
        Self::default()
    }

    /// At most `max`.
    pub fn at_most(max: u64) -> Self {
        Self { max: Some(max), ..Self::default() }
    }

    /// With that much by right.
    #[must_use]
    pub fn with_guaranteed(mut self, guaranteed: u64) -> Self {
        self.guaranteed = guaranteed;
        self
    }

    /// With at most that much beyond what is guaranteed.
    #[must_use]
    pub fn with_borrowing(mut self, borrowing: u64) -> Self {
        self.borrowing = Some(borrowing);
        self
    }

    /// Lending at most that much of what is guaranteed.
    #[must_use]
    pub fn with_lending(mut self, lending: u64) -> Self {
        self.lending = Some(lending);
        self
    }

    /// Admitting that many thousandths of the maximum.
    #[must_use]
    pub fn with_overcommit_per_mille(mut self, per_mille: u32) -> Self {
        self.overcommit_per_mille = Some(per_mille);
        self
    }

    /// The most that may be charged here.
    pub(super) fn ceiling(&self) -> u64 {
        let max = self.max.map_or(u64::MAX, |max| {
            let ratio = u128::from(self.overcommit_per_mille.unwrap_or(1000));
            u64::try_from(u128::from(max) * ratio / 1000).unwrap_or(u64::MAX)
        });
        self.borrowing.map_or(max, |borrowing| max.min(self.guaranteed.saturating_add(borrowing)))
    }

    /// What is kept from the siblings even while it is idle.
    pub(super) fn held(&self) -> u64 {
        self.lending.map_or(0, |lending| self.guaranteed.saturating_sub(lending))
    }
}
