//! Why there is no address. No I/O, no clock, no async.

use std::net::IpAddr;
use std::time::Duration;

use hivemind_core::{Error, ErrorKind, Retry, Timestamp, WorkloadId};

use crate::addr::IpFamily;

/// Why an address was refused; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Another workload has the address that was asked for.
    #[error("{address} is taken by workload {owner}: ask for another, or release it there")]
    Taken {
        /// Asked for.
        address: IpAddr,
        /// Who has it.
        owner: WorkloadId,
    },
    /// The address asked for was given back lately.
    #[error("{address} was given back lately and may be used again at {until}: ask again then")]
    Cooling {
        /// Asked for.
        address: IpAddr,
        /// When it is free.
        until: Timestamp,
        /// How long that is from now.
        retry_after: Duration,
    },
    /// The address asked for is in no pool that may be used.
    #[error("{address} is outside the pool: ask for one inside, or grow the pool")]
    Outside {
        /// Asked for.
        address: IpAddr,
    },
    /// The address asked for is in the pool and never given to a workload.
    #[error("{address} is kept out of use ({why}): ask for another")]
    Excluded {
        /// Asked for.
        address: IpAddr,
        /// An excluded range, a pool being drained, or a special address of its subnet.
        why: &'static str,
    },
    /// The workload has other addresses already.
    #[error("workload {owner} has {has} already: release it before asking for {asked}")]
    HasAnother {
        /// The workload.
        owner: WorkloadId,
        /// What it has.
        has: IpAddr,
        /// What it asked for.
        asked: IpAddr,
    },
    /// All addresses are taken or cooling, and some will be free by themselves.
    #[error(
        "no {family} address is free; {cooling} were given back lately, the first is free in {} ms: ask again then, \
         or allow emergency use", retry_after.as_millis()
    )]
    OnlyCooling {
        /// The family.
        family: IpFamily,
        /// How many are cooling.
        cooling: u64,
        /// When the first of them is free.
        retry_after: Duration,
    },
    /// All addresses are taken.
    #[error("no {family} address is left, {held} are taken: release workloads, or grow the pool")]
    Exhausted {
        /// The family.
        family: IpFamily,
        /// How many are taken.
        held: u64,
    },
}

impl Refusal {
    /// When asking again can help by itself.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Cooling { retry_after, .. } | Self::OnlyCooling { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// As an error of `operation`, with this as its detail.
    pub fn into_error(self, operation: &'static str) -> Error {
        let kind = match self {
            Self::Taken { .. } | Self::Cooling { .. } | Self::HasAnother { .. } => ErrorKind::AlreadyExists,
            Self::Outside { .. } | Self::Excluded { .. } => ErrorKind::Invalid,
            Self::OnlyCooling { .. } | Self::Exhausted { .. } => ErrorKind::Exhausted,
        };
        let retry = if self.retry_after().is_some() { Retry::Later } else { Retry::AfterChange };
        Error::of(kind, operation, self).with_retry(retry)
    }
}
