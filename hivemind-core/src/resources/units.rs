//! Numbers that know their unit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{InvalidQuantity, Quantity};

macro_rules! unit_type {
    ($($(#[$doc:meta])* $T:ident, $nanos:expr, $unit:literal, $print:ident, $integer:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// Reads and prints as a [`Quantity`]; arithmetic is checked or saturates.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $T(pub(super) u64);

        impl $T {
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// The sum, or `None` beyond what can be counted.
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// The difference, or `None` below zero.
            pub fn checked_sub(self, other: Self) -> Option<Self> {
                self.0.checked_sub(other.0).map(Self)
            }

            /// The difference, at least zero.
            #[must_use]
            pub fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl FromStr for $T {
            type Err = InvalidQuantity;
            fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
                text.parse::<Quantity>()?.try_into()
            }
        }

        impl TryFrom<Quantity> for $T {
            type Error = InvalidQuantity;
            fn try_from(quantity: Quantity) -> Result<Self, InvalidQuantity> {
                quantity.in_units($nanos, $unit).map(Self)
            }
        }

        impl From<$T> for Quantity {
            fn from(amount: $T) -> Self {
                Quantity::$print(amount.0)
            }
        }

        impl fmt::Display for $T {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&Quantity::from(*self).to_string())
            }
        }

        impl Serialize for $T {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $T {
            /// From a quantity as text, or from a whole number as Kubernetes reads one.
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Form {
                    Integer(u64),
                    Text(String),
                }
                let quantity = match Form::deserialize(deserializer)? {
                    Form::Integer(whole) => Quantity::$integer(whole),
                    Form::Text(text) => text.parse().map_err(de::Error::custom)?,
                };
                quantity.try_into().map_err(de::Error::custom)
            }
        }
    )*};
}

unit_type! {
    /// Processing power, in thousandths of a core.
    MilliCpu, 1_000_000, "thousandth of a core", from_millis, from_integer;
    /// Memory or storage, in bytes.
    ByteSize, 1_000_000_000, "byte", from_bytes, from_bytes;
    /// How many of something.
    Count, 1_000_000_000, "whole", from_integer, from_integer;
}

impl MilliCpu {
    /// From thousandths of a core.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// From whole cores, saturating.
    pub const fn from_cores(cores: u64) -> Self {
        Self(cores.saturating_mul(1000))
    }

    /// Thousandths of a core.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

impl ByteSize {
    /// From bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// From mebibytes (2^20 bytes), saturating.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// From gibibytes (2^30 bytes), saturating.
    pub const fn from_gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }

    /// Bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
}

impl Count {
    /// So many.
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// The number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}
