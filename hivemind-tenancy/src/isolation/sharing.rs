//! May two tenants be on one node? No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::{NodeId, TenantRef};

use super::{Intents, NodeIntent};

/// Says whether two tenants may run on one node at the same time.
///
/// A host that knows more than levels says, such as of sibling threads, of a GPU or of a shared image cache, brings its
/// own; a function will do.
///
/// # Contract
///
/// The answer is the same for `a` and `b` in either order, and true for a tenant and itself.
pub trait NodeSharing {
    /// Whether `a` and `b` may both run on `node`.
    fn may_share(&self, node: &NodeId, a: &TenantRef, b: &TenantRef) -> bool;
}

impl<F: Fn(&NodeId, &TenantRef, &TenantRef) -> bool> NodeSharing for F {
    fn may_share(&self, node: &NodeId, a: &TenantRef, b: &TenantRef) -> bool {
        self(node, a, b)
    }
}

/// By levels alone: who has nodes of its own shares with nobody; all others share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LevelSharing {
    /// Who shares with nobody.
    pub alone: BTreeSet<TenantRef>,
}

impl LevelSharing {
    /// As the levels behind `intents` say.
    pub fn of<'a>(intents: impl IntoIterator<Item = &'a Intents>) -> Self {
        let alone = intents.into_iter().filter(|one| matches!(one.node, NodeIntent::Dedicated { .. }));
        Self { alone: alone.map(|one| one.tenant.clone()).collect() }
    }
}

impl NodeSharing for LevelSharing {
    fn may_share(&self, _: &NodeId, a: &TenantRef, b: &TenantRef) -> bool {
        a == b || !(self.alone.contains(a) || self.alone.contains(b))
    }
}
