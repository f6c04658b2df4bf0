//! Kubernetes' resource quantities: `250m`, `1.5`, `2Gi`, `1e3`
//! (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An exact amount, in billionths.
///
/// Unlike Kubernetes, which rounds up, an amount finer than a billionth is refused: what is read is exactly what is
/// counted. The family of suffix is remembered for printing only; two quantities of equal amount are equal.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Quantity {
    nanos: i128,
    family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// `k`, `M`, `G` ...: powers of 1000.
    Decimal,
    /// `Ki`, `Mi`, `Gi` ...: powers of 1024.
    Binary,
    /// `e3`, `e6` ...
    Exponent,
}

const NANO: i128 = 1_000_000_000;
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// Why a text is not a quantity, or a quantity not an amount of that unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidQuantity {
    /// There is no digit where one is needed.
    #[error("quantity {text:?}: expected a digit at byte {position}")]
    NoDigit {
        /// The text.
        text: String,
        /// Where.
        position: usize,
    },
    /// What follows the digits is no suffix.
    #[error(
        "quantity {text:?}: {suffix:?} is not one of n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or an exponent"
    )]
    Suffix {
        /// The text.
        text: String,
        /// What follows the digits.
        suffix: String,
    },
    /// The amount is finer than can be counted.
    #[error("{text:?} is finer than one {unit}, which is the smallest that is counted")]
    TooFine {
        /// The text.
        text: String,
        /// The smallest unit.
        unit: &'static str,
    },
    /// The amount is larger than can be counted.
    #[error("{text:?} is too large to be counted by the {unit}")]
    TooLarge {
        /// The text.
        text: String,
        /// The unit.
        unit: &'static str,
    },
    /// The amount is negative where only zero and more make sense.
    #[error("{text:?} is negative")]
    Negative {
        /// The text.
        text: String,
    },
}

fn bounded(text: &str) -> String {
    text.chars().take(64).collect()
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, family: Family::Decimal };

    /// A whole number.
    pub fn from_integer(amount: u64) -> Self {
        Self { nanos: i128::from(amount) * NANO, family: Family::Decimal }
    }

    /// A number of thousandths.
    pub fn from_millis(millis: u64) -> Self {
        Self { nanos: i128::from(millis) * (NANO / 1000), family: Family::Decimal }
    }

    /// A whole number that prints in powers of 1024.
    pub fn from_bytes(bytes: u64) -> Self {
        Self { nanos: i128::from(bytes) * NANO, family: Family::Binary }
    }

    /// The amount in billionths.
    pub fn as_nanos(self) -> i128 {
        self.nanos
    }

    /// The amount in whole parts of `nanos_per_unit` billionths each.
    pub(super) fn in_units(self, nanos_per_unit: i128, unit: &'static str) -> Result<u64, InvalidQuantity> {
        let text = || self.to_string();
        if self.nanos < 0 {
            return Err(InvalidQuantity::Negative { text: text() });
        }
        if self.nanos % nanos_per_unit != 0 {
            return Err(InvalidQuantity::TooFine { text: text(), unit });
        }
        u64::try_from(self.nanos / nanos_per_unit)
            .map_err(|_| InvalidQuantity::TooLarge { text: text(), unit })
    }

    /// The sum, or `None` beyond what can be counted.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self { nanos: self.nanos.checked_add(other.nanos)?, ..self })
    }

    /// The difference, or `None` beyond what can be counted.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        Some(Self { nanos: self.nanos.checked_sub(other.nanos)?, ..self })
    }
}

/// Digits with an optional point: the number without the point, how many digits followed it, and what is left.
fn number(text: &str, from: usize) -> Result<(i128, u32, &str), InvalidQuantity> {
    let (mut mantissa, mut fraction, mut digits, mut point) = (0i128, 0u32, 0usize, false);
    let mut end = from;
    for c in text.get(from..).unwrap_or_default().chars() {
        match c {
            '0'..='9' => {
                let digit = i128::from(c.to_digit(10).unwrap_or_default());
                mantissa = mantissa
                    .checked_mul(10)
                    .and_then(|m| m.checked_add(digit))
                    .ok_or_else(|| InvalidQuantity::TooLarge { text: bounded(text), unit: "billionth" })?;
                digits += 1;
                fraction += u32::from(point);
            }
            '.' if !point => point = true,
            _ => break,
        }
        end += c.len_utf8();
    }
    if digits == 0 {
        return Err(InvalidQuantity::NoDigit { text: bounded(text), position: from });
    }
    Ok((mantissa, fraction, text.get(end..).unwrap_or_default()))
}

/// The power of ten or of two that a suffix stands for.
enum Scale {
    Ten(i32, Family),
    Two(u32),
}

fn scale(text: &str, suffix: &str) -> Result<Scale, InvalidQuantity> {
    if let Some((_, power)) = DECIMAL.iter().find(|(known, _)| *known == suffix) {
        return Ok(Scale::Ten(*power, Family::Decimal));
    }
    if let Some((_, power)) = BINARY.iter().find(|(known, _)| *known == suffix) {
        return Ok(Scale::Two(*power));
    }
    suffix
        .strip_prefix(['e', 'E'])
        .filter(|digits| !digits.is_empty() && digits.len() <= 4)
        .and_then(|digits| digits.parse().ok())
        .map(|power| Scale::Ten(power, Family::Exponent))
        .ok_or_else(|| InvalidQuantity::Suffix { text: bounded(text), suffix: bounded(suffix) })
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;
    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let too_large = || InvalidQuantity::TooLarge { text: bounded(text), unit: "billionth" };
        let too_fine = || InvalidQuantity::TooFine { text: bounded(text), unit: "billionth" };
        let signed = text.starts_with(['+', '-']);
        let (mantissa, fraction, suffix) = number(text, usize::from(signed))?;
        let mantissa = if text.starts_with('-') { -mantissa } else { mantissa };
        let (family, scaled, power) = match scale(text, suffix)? {
            Scale::Ten(power, family) => (family, mantissa, power),
            Scale::Two(power) => {
                let factor = 1i128.checked_shl(power).ok_or_else(too_large)?;
                (Family::Binary, mantissa.checked_mul(factor).ok_or_else(too_large)?, 0)
            }
        };
        let power = 9 + power - i32::try_from(fraction).map_err(|_| too_fine())?;
        let factor = 10i128.checked_pow(power.unsigned_abs());
        let nanos = match (scaled, factor) {
            (0, _) => 0,
            (_, Some(factor)) if power >= 0 => scaled.checked_mul(factor).ok_or_else(too_large)?,
            (_, Some(factor)) if scaled % factor == 0 => scaled / factor,
            (_, None) if power >= 0 => return Err(too_large()),
            _ => return Err(too_fine()),
        };
        Ok(Self { nanos, family })
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that allows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.family == Family::Binary
            && self.nanos % NANO == 0
            && self.nanos.unsigned_abs() >= 1024 * NANO.unsigned_abs()
        {
            let whole = self.nanos / NANO;
            let fitting = BINARY.iter().rev().find(|(_, power)| whole % (1i128 << power) == 0);
            return match fitting {
                Some((suffix, power)) => write!(f, "{}{suffix}", whole >> power),
                None => write!(f, "{whole}"),
            };
        }
        let fitting = DECIMAL.iter().rev().find_map(|(suffix, power)| {
            let unit = 10i128.checked_pow(u32::try_from(9 + power).ok()?)?;
            (self.nanos % unit == 0).then_some((self.nanos / unit, suffix, power))
        });
        match fitting {
            _ if self.nanos == 0 => f.write_str("0"),
            Some((mantissa, _, power)) if self.family == Family::Exponent && *power != 0 => {
                write!(f, "{mantissa}e{power}")
            }
            Some((mantissa, suffix, _)) => write!(f, "{mantissa}{suffix}"),
            None => write!(f, "{}n", self.nanos),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl TryFrom<String> for Quantity {
    type Error = InvalidQuantity;
    fn try_from(text: String) -> Result<Self, InvalidQuantity> {
        text.parse()
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.to_string()
    }
}
