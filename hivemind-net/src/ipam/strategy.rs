//! Where the search for a free address begins. No I/O, no clock, no async.

use serde::{Deserialize, Serialize};

use super::mix::{hash, mix};

/// Which free address is proposed. Each is a function of the seed, the owner and the state: the same again, the same
/// answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Strategy {
    /// The lowest. Dense, and quick to use an address again: have a quarantine.
    Lowest,
    /// The next after the one proposed last, going round: an address that was released is proposed late.
    #[default]
    Next,
    /// One anywhere: the first free one after a random point. What is behind a used stretch is likelier.
    Random {
        /// The seed: other seeds, other addresses.
        seed: u64,
    },
    /// The first free one after the hash of the owner's name: an owner that comes back usually gets the same.
    Hashed {
        /// The seed: other seeds, other addresses.
        seed: u64,
    },
}

impl Strategy {
    /// A number at which the search begins, to be reduced to the span searched; `None` is the lowest.
    ///
    /// `turn` counts proposals; `last` is the number proposed last.
    pub(crate) fn start(self, owner: &str, turn: u64, last: Option<u128>) -> Start {
        match self {
            Self::Lowest => Start::Lowest,
            Self::Next => {
                last.map_or(Start::Lowest, |last| last.checked_add(1).map_or(Start::Lowest, Start::At))
            }
            Self::Random { seed } => {
                let low = mix(seed ^ mix(turn));
                Start::Anywhere((u128::from(mix(low ^ seed)) << 64) | u128::from(low))
            }
            Self::Hashed { seed } => Start::Anywhere(hash(seed, owner.as_bytes())),
        }
    }
}

/// Where a search begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the lowest free number.
    Lowest,
    /// At this number.
    At(u128),
    /// At this number, reduced to the span searched.
    Anywhere(u128),
}
