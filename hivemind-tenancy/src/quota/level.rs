//! The arithmetic of one level of the tenant tree and one resource. No I/O, no clock, no async.
//!
//! A level has a pool: what it and everything below it may take together. It asks of the pool of the level above
//! what it uses, and at least what it holds back of its guarantee even while idle. Everything that decides about
//! quotas decides by these functions.

use super::QuotaRule;

/// Stands for "no limit".
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// What one level may take of one resource, in base units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LevelRules {
    /// The size of the pool.
    pub(crate) max: u64,
    /// What it gets, whatever its siblings do.
    pub(crate) guaranteed: u64,
    /// How much beyond its guarantee it may take of what others leave.
    pub(crate) borrowing: u64,
    /// How much of its guarantee others may take while it is idle.
    pub(crate) lending: u64,
    /// How much of the pool may be asked for, in thousandths of its size.
    pub(crate) overcommit: u32,
}

impl Default for LevelRules {
    fn default() -> Self {
        Self { max: UNLIMITED, guaranteed: 0, borrowing: UNLIMITED, lending: UNLIMITED, overcommit: 1000 }
    }
}

impl LevelRules {
    /// What a rule says, with its defaults.
    pub(crate) fn of(rule: &QuotaRule) -> Self {
        Self {
            max: rule.max.unwrap_or(UNLIMITED),
            guaranteed: rule.guaranteed,
            borrowing: rule.borrowing_limit.unwrap_or(UNLIMITED),
            lending: rule.lending_limit.unwrap_or(UNLIMITED),
            overcommit: rule.overcommit_per_mille.unwrap_or(1000),
        }
    }

    /// What it asks of the level above even while idle.
    pub(crate) fn held(&self) -> u64 {
        self.guaranteed.saturating_sub(self.lending)
    }

    /// The limits of a level that is a part of another, from which it may take no more than its ceiling; or of a
    /// root.
    pub(crate) fn limits(&self, part: bool) -> Limits {
        let ceiling = self.max.min(self.guaranteed.saturating_add(self.borrowing));
        let pool = u128::from(self.max) * u128::from(self.overcommit) / 1000;
        Limits {
            own: if part { ceiling } else { UNLIMITED },
            pool: if self.max == UNLIMITED { UNLIMITED } else { u64::try_from(pool).unwrap_or(UNLIMITED) },
        }
    }
}

/// What the rules of a level come down to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The most it may use itself and below.
    pub(crate) own: u64,
    /// The most that may be asked of its pool.
    pub(crate) pool: u64,
}

/// What is taken at one level.
///
/// Wider than what is stored, so that no sum of stored amounts can wrap before it is compared with a limit. No limit
/// is above [`UNLIMITED`], so whatever passes [`shortage`] can be stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// In use or reserved, at this level and below.
    pub(crate) usage: i128,
    /// What is asked of the pool: the usage, and what idle levels below hold back.
    pub(crate) load: i128,
}

/// What a level that asks `load` of its own pool asks of the one above.
#[inline]
pub(crate) fn charge(load: i128, held: u64) -> i128 {
    load.max(i128::from(held))
}

/// Why a level has too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short {
    pub(crate) limit: u64,
    pub(crate) by: u64,
}

/// What is short if a level of these limits goes from `before` to `after`; `None` if that is within them.
///
/// What does not rise is never refused: a limit may have been lowered below what is taken.
#[inline]
pub(crate) fn shortage(limits: Limits, before: Taken, after: Taken) -> Option<Short> {
    let own = over(limits.own, before.usage, after.usage);
    let pool = over(limits.pool, before.load, after.load);
    match (own, pool) {
        (Some(own), Some(pool)) if pool.by > own.by => Some(pool),
        (own, pool) => own.or(pool),
    }
}

/// Whether `by` more fits where `taken` is taken of `limit`: [`shortage`] without the reasons, of one sum.
///
/// This and what follows say in plain words of 64 bits what the above says in wide ones, for amounts that only rise or
/// only fall; every sum of what is admitted fits in such a word, as no limit is above [`UNLIMITED`].
#[inline]
pub(crate) fn has_room(limit: u64, taken: u64, by: u64) -> bool {
    by <= limit.saturating_sub(taken)
}

/// By how much more a level asks of the one above once its load rises by `by` from `before`.
#[inline]
pub(crate) fn rise(before: u64, held: u64, by: u64) -> u64 {
    by.saturating_sub(held.saturating_sub(before))
}

/// By how much less a level asks of the one above once its load fell by `by` to `after`.
#[inline]
pub(crate) fn fall(after: u64, held: u64, by: u64) -> u64 {
    rise(after, held, by)
}

#[inline]
fn over(limit: u64, before: i128, after: i128) -> Option<Short> {
    if after <= before || after <= i128::from(limit) {
        return None;
    }
    Some(Short { limit, by: u64::try_from(after - i128::from(limit)).unwrap_or(UNLIMITED) })
}

#[cfg(test)]
mod tests;
