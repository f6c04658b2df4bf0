//! What must be backed up, restored and refused. No I/O, no clock, no async.

mod batch;
mod chain;
mod diff;

pub(crate) use batch::{Batch, Batcher, Position, marker_key, markers};
pub(crate) use chain::chain;
pub(crate) use diff::{Step, newest, step};
