//! How large a volume is to be. No I/O, no clock, no async.

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How large a volume must be at least, and may be at most (CSI's `CapacityRange`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct SizeRange {
    required: ByteSize,
    limit: Option<ByteSize>,
}

#[derive(Serialize, Deserialize)]
struct Raw {
    required: ByteSize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<ByteSize>,
}

impl SizeRange {
    /// At least `required`, at most `limit`.
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) if nothing is required, or the limit is below what is.
    pub fn new(required: ByteSize, limit: Option<ByteSize>) -> Result<Self> {
        if required.as_bytes() == 0 {
            return Err(Error::invalid(
                "size",
                "a volume of no size is asked for: ask for at least one byte",
            ));
        }
        if let Some(limit) = limit.filter(|limit| *limit < required) {
            let message = format!("at least {required} and at most {limit} is asked for: raise the limit");
            return Err(Error::invalid("size", message));
        }
        Ok(Self { required, limit })
    }

    /// At least `required`.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn at_least(required: ByteSize) -> Result<Self> {
        Self::new(required, None)
    }

    /// The least.
    pub fn required(&self) -> ByteSize {
        self.required
    }

    /// The most; `None` for no bound.
    pub fn limit(&self) -> Option<ByteSize> {
        self.limit
    }

    /// Whether a volume of `size` will do.
    pub fn admits(&self, size: ByteSize) -> bool {
        size >= self.required && self.limit.is_none_or(|limit| size <= limit)
    }

    /// The smallest size that will do and is a multiple of `unit` bytes; `None` if there is none.
    ///
    /// Providers that count in gibibytes round up, and must not round over the limit.
    pub fn rounded_up_to(&self, unit: u64) -> Option<ByteSize> {
        let size = self.required.as_bytes().checked_next_multiple_of(unit)?;
        Some(ByteSize::from_bytes(size)).filter(|size| self.admits(*size))
    }
}

impl TryFrom<Raw> for SizeRange {
    type Error = Error;
    fn try_from(raw: Raw) -> Result<Self> {
        Self::new(raw.required, raw.limit)
    }
}

impl From<SizeRange> for Raw {
    fn from(range: SizeRange) -> Self {
        Self { required: range.required, limit: range.limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(n: u64) -> ByteSize {
        ByteSize::from_bytes(n)
    }

    #[test]
    fn a_range_is_not_empty() {
        assert!(SizeRange::at_least(ByteSize::ZERO).is_err());
        assert!(SizeRange::new(bytes(2), Some(bytes(1))).is_err());
        assert!(serde_json::from_str::<SizeRange>(r#"{"required":"0"}"#).is_err());
    }

    #[test]
    fn rounding_up_stays_within_the_limit() -> Result<()> {
        let range = SizeRange::new(bytes(5), Some(bytes(9)))?;
        assert_eq!(range.rounded_up_to(8), Some(bytes(8)));
        assert_eq!(range.rounded_up_to(16), None);
        assert_eq!(range.rounded_up_to(0), None);
        assert_eq!(SizeRange::at_least(bytes(u64::MAX))?.rounded_up_to(4096), None);
        Ok(())
    }
}
