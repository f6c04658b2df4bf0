//! How far observations have been told. No I/O, no clock, no async.

use hivemind_core::{NodeId, Stored, Timestamp};
use serde::{Deserialize, Serialize};

/// The newest observation told of a node, or of all: what an older one missed may have been seen since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watermark {
    /// Of this node only; `None` if of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<NodeId>,
    /// When it was begun.
    pub(crate) at: Timestamp,
}

impl Stored for Watermark {
    const KIND: &'static str = "watermark of observations";
}
