//! When a binding applies: time, network, labels. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::fmt;

use hivemind_core::labels::{Labels, Selector};
use hivemind_core::{Error, Result, TenantContext, Timestamp};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::RoleBinding;

const DAY: u64 = 24 * 60;
/// The first of January 1970 was a Thursday; weeks are counted from Mondays.
const FIRST_WEEKDAY: u64 = 3;

/// A span of time, in UTC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TimeWindow {
    /// Once: at `from` or later, and before `until`.
    Once {
        /// The first instant of it.
        from: Timestamp,
        /// The first instant after it.
        until: Timestamp,
    },
    /// Every week.
    Weekly {
        /// The days on which it begins, from 0 for Monday to 6 for Sunday.
        days: BTreeSet<u8>,
        /// When it begins: minutes after midnight.
        from: u16,
        /// When it ends: minutes after midnight; of the next day if not later than `from`.
        until: u16,
    },
}

impl TimeWindow {
    /// Why no time is within it, or not those that were meant.
    fn problem(&self) -> Option<String> {
        match self {
            Self::Once { from, until } if until <= from => {
                Some(format!("a window from {from} until {until} is over before it begins"))
            }
            Self::Once { .. } => None,
            Self::Weekly { days, from, until } => {
                let wrong =
                    days.iter().find(|day| **day > 6).map(|day| format!("day {day}: 0 to 6 are allowed"));
                let none = || days.is_empty().then(|| "a weekly window on no days: name some".to_owned());
                let early =
                    || (u64::from(*from) >= DAY).then(|| format!("minute {from}: 0 to 1439 are allowed"));
                let late =
                    || (u64::from(*until) > DAY).then(|| format!("minute {until}: 0 to 1440 are allowed"));
                wrong.or_else(none).or_else(early).or_else(late)
            }
        }
    }

    /// Whether `at` is within it.
    pub fn contains(&self, at: Timestamp) -> bool {
        match self {
            Self::Once { from, until } => *from <= at && at < *until,
            Self::Weekly { days, from, until } => {
                let minutes = at.as_secs() / 60;
                let (day, minute) = (minutes / DAY + FIRST_WEEKDAY, minutes % DAY);
                let on = |day: u64| u8::try_from(day % 7).is_ok_and(|day| days.contains(&day));
                let (from, until) = (u64::from(*from), u64::from(*until));
                if from < until {
                    return on(day) && from <= minute && minute < until;
                }
                (on(day) && from <= minute) || (on(day + 6) && minute < until)
            }
        }
    }
}

/// What must be so for a binding to apply. Empty means always.
///
/// Of what is not known, an allow needs proof and a deny does not: where the context has no time or no source, or the
/// object has no labels at all, a binding that asks for them allows nothing and denies all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Conditions {
    /// The request is decided within one of these; any time if there is none.
    #[serde(default)]
    pub windows: BTreeSet<TimeWindow>,
    /// The request comes from one of these networks; from anywhere if there is none.
    #[serde(default)]
    pub networks: BTreeSet<IpNet>,
    /// The labels of the object; any if empty.
    #[serde(default)]
    pub labels: Selector,
}

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Known {
    No,
    Unknown,
    Yes,
}

impl From<bool> for Known {
    fn from(known: bool) -> Self {
        if known { Self::Yes } else { Self::No }
    }
}

impl Conditions {
    /// And within `window`, or another window named so.
    #[must_use]
    pub fn with_window(mut self, window: TimeWindow) -> Self {
        self.windows.insert(window);
        self
    }

    /// And from `network`, or another network named so. IPv4 addresses mapped into IPv6 count as IPv4.
    #[must_use]
    pub fn with_network(mut self, network: IpNet) -> Self {
        self.networks.insert(network);
        self
    }

    /// And on objects with these labels.
    #[must_use]
    pub fn with_labels(mut self, labels: Selector) -> Self {
        self.labels = labels;
        self
    }

    /// Whether there is none.
    pub fn is_always(&self) -> bool {
        self.windows.is_empty() && self.networks.is_empty() && self.labels.is_everything()
    }

    /// Succeeds if each may hold at some time: what never holds denies nothing, however it was meant.
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) says what is wrong and what to do.
    pub fn check(&self) -> Result<()> {
        let mapped = |network: &IpNet| {
            let IpNet::V6(v6) = network else { return None };
            let (v4, len) = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96))?;
            Some(format!("network {network} is of IPv4 addresses: write it as {v4}/{len}"))
        };
        let windows = self.windows.iter().find_map(TimeWindow::problem);
        match windows.or_else(|| self.networks.iter().find_map(mapped)) {
            Some(problem) => Err(Error::invalid("bind", problem)),
            None => Ok(()),
        }
    }

    /// Whether they hold for the circumstances of `ctx`, whatever the object.
    pub(crate) fn around(&self, ctx: &TenantContext) -> Known {
        let within = |at| self.windows.iter().any(|window| window.contains(at));
        let time = asked(self.windows.is_empty(), ctx.at().map(within));
        let inside = |from: std::net::IpAddr| {
            let from = from.to_canonical();
            self.networks.iter().any(|network| network.contains(&from))
        };
        time.min(asked(self.networks.is_empty(), ctx.source().map(inside)))
    }

    /// Whether they hold for an object with these labels.
    pub(crate) fn on(&self, labels: &Labels) -> Known {
        let known = (!labels.is_empty()).then(|| self.labels.matches(labels));
        asked(self.labels.is_everything(), known)
    }

    /// Whether `self` holds only where `other` does, as far as can be told without trying.
    pub(crate) fn within(&self, other: &Self) -> bool {
        let time =
            other.windows.is_empty() || (!self.windows.is_empty() && self.windows.is_subset(&other.windows));
        let covered = |network: &IpNet| other.networks.iter().any(|wide| wide.contains(network));
        let source =
            other.networks.is_empty() || (!self.networks.is_empty() && self.networks.iter().all(covered));
        let asks = |requirement| self.labels.requirements().contains(requirement);
        time && source && other.labels.requirements().iter().all(asks)
    }
}

fn asked(nothing: bool, known: Option<bool>) -> Known {
    if nothing { Known::Yes } else { known.map_or(Known::Unknown, Known::from) }
}

impl RoleBinding {
    /// Whether it applies in the circumstances of `ctx`, whoever asks for whatever.
    pub(crate) fn applies(&self, ctx: &TenantContext) -> Known {
        let reason = ctx.emergency().is_some_and(|reason| !reason.trim().is_empty());
        if self.emergency && !reason {
            return Known::No;
        }
        let expires = |end| ctx.at().map_or(Known::Unknown, |at| Known::from(at < end));
        self.expires.map_or(Known::Yes, expires).min(self.conditions.around(ctx))
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.windows.is_empty() {
            parts.push("within its time windows".to_owned());
        }
        if !self.networks.is_empty() {
            let all: Vec<_> = self.networks.iter().map(ToString::to_string).collect();
            parts.push(format!("from {}", all.join(" or ")));
        }
        if !self.labels.is_everything() {
            parts.push(format!("on objects with {}", self.labels));
        }
        f.write_str(&if parts.is_empty() { "always".to_owned() } else { parts.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weekly_window_runs_past_midnight_and_into_the_next_week() {
        let monday = |hours: u64| Timestamp::from_secs((4 * 24 + hours) * 3600);
        let night = TimeWindow::Weekly { days: BTreeSet::from([6]), from: 22 * 60, until: 6 * 60 };
        let sunday = |hours: u64| Timestamp::from_secs((3 * 24 + hours) * 3600);
        assert!(!night.contains(sunday(21)) && night.contains(sunday(22)) && night.contains(monday(5)));
        assert!(!night.contains(monday(6)) && !night.contains(monday(22)));
        let office = TimeWindow::Weekly { days: BTreeSet::from([0]), from: 9 * 60, until: 17 * 60 };
        assert!(office.contains(monday(9)) && !office.contains(monday(17)) && !office.contains(sunday(12)));
    }

    #[test]
    fn narrower_conditions_are_within_wider_ones() {
        let net = |text: &str| Conditions::default().with_network(text.parse().unwrap());
        let always = Conditions::default();
        assert!(net("10.1.0.0/16").within(&net("10.0.0.0/8")) && net("10.0.0.0/8").within(&always));
        assert!(!net("10.0.0.0/8").within(&net("10.1.0.0/16")) && !always.within(&net("10.0.0.0/8")));
        let labels = |text: &str| Conditions::default().with_labels(text.parse().unwrap());
        assert!(labels("a=1,b=2").within(&labels("a=1")) && !labels("a=1").within(&labels("a=1,b=2")));
    }
}
