//! Calendar months of an instant, in UTC. No I/O, no clock, no async.
//!
//! Days are counted from 1 March of the year 0, so that the day that leap years add is the last of its year. Reference:
//! Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days` and `days_from_civil`.

use hivemind_core::Timestamp;

const SECONDS_A_DAY: u64 = 86_400;
/// Days of 400 years, after which the calendar repeats.
const DAYS_AN_ERA: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: u64 = 719_468;

/// Months since March of the year 0 that are over at `at`.
fn month_of(at: Timestamp) -> u64 {
    let days = at.as_secs() / SECONDS_A_DAY + EPOCH;
    let (era, day) = (days / DAYS_AN_ERA, days % DAYS_AN_ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    (era * 400 + year) * 12 + (5 * day + 2) / 153
}

/// The first instant of a month; the last of all time if that is earlier.
fn start_of(month: u64) -> Timestamp {
    let (year, month) = (month / 12, month % 12);
    let (era, year) = (year / 400, year % 400);
    let day = 365 * year + year / 4 - year / 100 + (153 * month + 2) / 5;
    let days = (era * DAYS_AN_ERA + day).saturating_sub(EPOCH);
    Timestamp::from_secs(days * SECONDS_A_DAY)
}

/// The first instant of the month of `at`.
pub(super) fn month_start(at: Timestamp) -> Timestamp {
    start_of(month_of(at))
}

/// The first instant after the month of `at`; the last of all time if that is earlier.
pub(super) fn month_end(at: Timestamp) -> Timestamp {
    start_of(month_of(at) + 1)
}
