//! Why a demand is out of bounds. No I/O, no clock, no async.

use hivemind_core::resources::ResourceName;
use serde::{Deserialize, Serialize};

/// What is wrong with the demand for one resource, in base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "problem")]
#[non_exhaustive]
pub enum Problem {
    /// More is guaranteed than may be used.
    RequestAboveLimit {
        /// The request.
        request: u64,
        /// The limit.
        limit: u64,
    },
    /// Too little is requested.
    BelowMin {
        /// The request.
        request: u64,
        /// The least that may be requested.
        min: u64,
    },
    /// A limit must be given.
    NoLimit {
        /// The highest limit.
        max: u64,
    },
    /// The limit is too high.
    AboveMax {
        /// The limit.
        limit: u64,
        /// The highest limit.
        max: u64,
    },
    /// The limit is too many times the request; a limit of zero is none at all.
    RatioAbove {
        /// The request.
        request: u64,
        /// The limit.
        limit: u64,
        /// How many thousandths of the request the limit may be.
        max_per_mille: u64,
    },
}

/// One resource of which a thing asks for too little or too much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{resource}: {}", self.problem.explain(.resource))]
#[non_exhaustive]
pub struct OutOfBounds {
    /// Of what.
    pub resource: ResourceName,
    /// What is wrong.
    pub problem: Problem,
}

impl Problem {
    pub(super) fn explain(&self, resource: &ResourceName) -> String {
        let print = |amount: &u64| resource.print(*amount);
        match self {
            Self::RequestAboveLimit { request, limit } => {
                format!("request {} is above limit {}", print(request), print(limit))
            }
            Self::BelowMin { request, min } => {
                format!("request {} is below the least, {}", print(request), print(min))
            }
            Self::NoLimit { max } => format!("give a limit of at most {}", print(max)),
            Self::AboveMax { limit, max } => {
                format!("limit {} is above the highest, {}", print(limit), print(max))
            }
            Self::RatioAbove { request, limit: 0, max_per_mille } => {
                format!("give a limit of at most {max_per_mille}/1000 of request {}", print(request))
            }
            Self::RatioAbove { request, limit, max_per_mille } => {
                let (limit, request) = (print(limit), print(request));
                format!("limit {limit} is above {max_per_mille}/1000 of request {request}")
            }
        }
    }
}
