//! The arithmetic of one level of the tenant tree and one resource. No I/O, no clock, no async.
//!
//! A level has a pool: what it and everything below it may take together. It asks of the pool of the level above
//! what it uses, and at least what it holds back of its guarantee even while idle. Everything that decides about
//! quotas decides by these functions.

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
    /// What it asks of the level above even while idle.
    pub(crate) fn held(&self) -> u64 {
        self.guaranteed.saturating_sub(self.lending)
    }

    /// The most it may use itself and below, as a part of another level.
    pub(crate) fn ceiling(&self) -> u64 {
        self.max.min(self.guaranteed.saturating_add(self.borrowing))
    }

    /// The most that may be asked of its pool.
    pub(crate) fn pool(&self) -> u64 {
        if self.max == UNLIMITED {
            return UNLIMITED;
        }
        let pool = u128::from(self.max) * u128::from(self.overcommit) / 1000;
        u64::try_from(pool).unwrap_or(UNLIMITED)
    }
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
pub(crate) fn charge(load: i128, held: u64) -> i128 {
    load.max(i128::from(held))
}

/// Why a level has too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short {
    pub(crate) limit: u64,
    pub(crate) by: u64,
}

/// What is short if a level of these rules goes from `before` to `after`; `None` if that is within them.
///
/// What does not rise is never refused: a limit may have been lowered below what is taken. `part` says whether the
/// level is a part of another, from which it may take no more than its ceiling.
pub(crate) fn shortage(rules: &LevelRules, part: bool, before: Taken, after: Taken) -> Option<Short> {
    let ceiling = if part { rules.ceiling() } else { UNLIMITED };
    let over = |limit: u64, before: i128, after: i128| {
        let by = after - i128::from(limit);
        let by = u64::try_from(by).unwrap_or(UNLIMITED);
        (after > before && after > i128::from(limit)).then_some(Short { limit, by })
    };
    let (own, pool) = (over(ceiling, before.usage, after.usage), over(rules.pool(), before.load, after.load));
    match (own, pool) {
        (Some(own), Some(pool)) if pool.by > own.by => Some(pool),
        (own, pool) => own.or(pool),
    }
}

#[cfg(test)]
mod tests;
