//! How usage goes: the highest of each window, and when a limit will be reached. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::time::Duration;

use hivemind_core::{Stored, Timestamp};
use serde::{Deserialize, Serialize};

/// The most windows that are kept: enough for a line, few enough for one record.
const MOST: u16 = 256;

/// Usage changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct UsageEvent {
    /// When.
    pub at: Timestamp,
    /// How much is in use from then on, in base units of the resource.
    pub used: u64,
}

impl UsageEvent {
    /// From `at` on, `used` is in use.
    pub fn new(at: Timestamp, used: u64) -> Self {
        Self { at, used }
    }
}

/// The highest usage within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HighWater {
    /// The first instant of the window.
    pub start: Timestamp,
    /// The highest usage, in base units of the resource.
    pub peak: u64,
}

/// The highest usage of one resource in each of the latest windows. Windows have one length and follow each other from
/// the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Trend(Written);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    window: Duration,
    keep: u16,
    /// What is in use since the last event.
    #[serde(default)]
    used: u64,
    /// Peaks by the number of the window.
    #[serde(default)]
    peaks: BTreeMap<u64, u64>,
}

/// Windows have no length or too great a one, or too few or too many are kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{keep} windows of {window:?}: keep 2 to {MOST}, of more than zero and less than 584 years")]
#[non_exhaustive]
pub struct InvalidWindows {
    /// The length of a window.
    pub window: Duration,
    /// How many are kept.
    pub keep: u16,
}

impl Stored for Trend {
    const KIND: &'static str = "usage trend";
}

impl Trend {
    /// Keeps the last `keep` windows of this length.
    ///
    /// # Errors
    /// [`InvalidWindows`] if `window` is zero or 584 years and more, or `keep` is not 2 to 256.
    pub fn new(window: Duration, keep: u16) -> Result<Self, InvalidWindows> {
        Self::try_from(Written { window, keep, used: 0, peaks: BTreeMap::new() })
    }

    /// The trend after `event`.
    ///
    /// What was in use before stays in use at the start of each window that began since. An event from before the
    /// current window counts in the current one: the past does not change.
    #[must_use]
    pub fn observe(&self, event: UsageEvent) -> Self {
        let mut next = self.advance(event.at);
        next.0.used = event.used;
        if let Some(mut peak) = next.0.peaks.last_entry() {
            let higher = event.used.max(*peak.get());
            peak.insert(higher);
        }
        next
    }

    /// The trend at `now`, if nothing has changed since the last event.
    #[must_use]
    pub fn advance(&self, now: Timestamp) -> Self {
        let Written { keep, used, .. } = self.0;
        let current = now.as_nanos() / self.window_nanos();
        let last = self.0.peaks.last_key_value().map(|(last, _)| *last);
        let mut next = self.clone();
        if last.is_some_and(|last| last >= current) {
            return next;
        }
        let oldest = current.saturating_sub(u64::from(keep) - 1);
        let first_new = last.map_or(current, |last| last + 1).max(oldest);
        next.0.peaks.extend((first_new..=current).map(|window| (window, used)));
        next.0.peaks.retain(|window, _| *window >= oldest);
        next
    }

    /// How long each window is, and how many are kept.
    pub fn windows(&self) -> (Duration, u16) {
        (self.0.window, self.0.keep)
    }

    /// What is in use since the last event.
    pub fn used(&self) -> u64 {
        self.0.used
    }

    /// The highest usage of each window that is kept, oldest first.
    pub fn high_waters(&self) -> impl Iterator<Item = HighWater> {
        self.0.peaks.iter().map(|(window, peak)| HighWater { start: self.start(*window), peak: *peak })
    }

    /// The highest usage in all windows that are kept.
    pub fn peak(&self) -> u64 {
        self.0.peaks.values().copied().max().unwrap_or_default()
    }

    /// The start of the first window in which usage reaches `limit`, if the peaks go on along the straight line that
    /// fits them best (least squares). It is never before the latest window.
    ///
    /// `None` if they do not rise, if there are fewer than two, or if it is beyond the end of time.
    pub fn exhausted_at(&self, limit: u64) -> Option<Timestamp> {
        let (first, _) = self.0.peaks.first_key_value()?;
        let (last, peak) = self.0.peaks.last_key_value()?;
        if *peak >= limit {
            return Some(self.start(*last));
        }
        // At most 256 windows and 64 bits of usage: every number below has less than 120 bits.
        let (mut n, mut sum_x, mut sum_y, mut sum_xy, mut sum_xx) = (0i128, 0i128, 0i128, 0i128, 0i128);
        for (window, peak) in &self.0.peaks {
            let (x, y) = (i128::from(window - first), i128::from(*peak));
            (n, sum_x, sum_y) = (n + 1, sum_x + x, sum_y + y);
            (sum_xy, sum_xx) = (sum_xy + x * y, sum_xx + x * x);
        }
        // The slope is rise / run; the line goes through the mean of x and y.
        let (rise, run) = (n * sum_xy - sum_x * sum_y, n * sum_xx - sum_x * sum_x);
        if rise <= 0 {
            return None;
        }
        let (above, below) = (sum_x * rise + (n * i128::from(limit) - sum_y) * run, n * rise);
        let windows = above.div_euclid(below) + i128::from(above.rem_euclid(below) > 0);
        let window = (windows + i128::from(*first)).max(i128::from(*last));
        let nanos = u64::try_from(window).ok()?.checked_mul(self.window_nanos())?;
        Some(Timestamp::from_nanos(nanos))
    }

    fn window_nanos(&self) -> u64 {
        u64::try_from(self.0.window.as_nanos()).unwrap_or(u64::MAX)
    }

    fn start(&self, window: u64) -> Timestamp {
        Timestamp::from_nanos(window.saturating_mul(self.window_nanos()))
    }
}

impl TryFrom<Written> for Trend {
    type Error = InvalidWindows;
    fn try_from(mut written: Written) -> Result<Self, InvalidWindows> {
        let Written { window, keep, .. } = written;
        let nanos = window.as_nanos();
        if nanos == 0 || nanos > u128::from(u64::MAX) || !(2..=MOST).contains(&keep) {
            return Err(InvalidWindows { window, keep });
        }
        // A record of other hands may hold more, or windows far apart.
        let oldest =
            written.peaks.last_key_value().map_or(0, |(last, _)| last.saturating_sub(u64::from(keep) - 1));
        written.peaks.retain(|window, _| *window >= oldest);
        Ok(Self(written))
    }
}

impl From<Trend> for Written {
    fn from(trend: Trend) -> Self {
        trend.0
    }
}

#[cfg(test)]
mod tests;
