//! Where new ids come from.

use std::fmt;

use crate::{Generation, RequestId, ReservationId};

/// A source of numbers that do not repeat.
///
/// # Contract
///
/// Two calls never give the same number with more than negligible probability, also across restarts and processes,
/// unless the source is seeded. Adapters: [`SystemIds`](crate::SystemIds) (the operating system's randomness) and
/// [`SeededIds`](crate::SeededIds) (for tests).
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait IdSource: fmt::Debug + Send + Sync + 'static {
    /// 128 fresh bits.
    fn next_u128(&self) -> u128;
}

/// Ids made from an [`IdSource`]'s numbers.
pub trait IdSourceExt {
    /// 64 fresh bits.
    fn next_u64(&self) -> u64;
    /// A generation for a new tenant.
    fn generation(&self) -> Generation;
    /// An id for a new request: `req-` and 32 hexadecimal digits.
    fn request(&self) -> RequestId;
    /// An id for a new reservation: `res-` and 32 hexadecimal digits.
    fn reservation(&self) -> ReservationId;
}

impl<I: IdSource + ?Sized> IdSourceExt for I {
    fn next_u64(&self) -> u64 {
        u64::try_from(self.next_u128() >> 64).unwrap_or_default()
    }

    fn generation(&self) -> Generation {
        Generation::from_u64(self.next_u64())
    }

    fn request(&self) -> RequestId {
        RequestId::numbered(self.next_u128())
    }

    fn reservation(&self) -> ReservationId {
        ReservationId::numbered(self.next_u128())
    }
}
