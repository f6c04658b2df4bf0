//! Hivemind's decisions beside those of other crates, on the same data and in the same run.
//!
//! The contestants of one table take turns, a few milliseconds each, many rounds long, so that whatever else the machine
//! does meets all of them. What counts is the ratio within a table; the absolute figures belong to the machine.

pub mod access;
pub mod contest;
pub mod placement;
