//! Whose a node is now, whoever came to it before. No I/O, no clock, no async.

use hivemind_core::TenantRef;

use super::ClusterIndex;
use super::slot::Slot;

impl ClusterIndex {
    /// A tenant has its nodes to itself from now on, or no longer, by its level or that of one above: where it runs,
    /// nobody else comes any more, or may again. A look at every node.
    pub fn set_isolated(&mut self, tenant: &TenantRef, isolated: bool) {
        let known = self.tenant(tenant);
        if isolated {
            self.isolated.insert(known);
        } else {
            self.isolated.remove(&known);
        }
        let others = self.isolated.clone();
        let there = |slot: &Slot| slot.tenants.contains_key(&known);
        for at in 0..self.slots.len() {
            if self.slots.get(at).and_then(Option::as_ref).is_some_and(there) {
                self.change(at, |slot| match isolated {
                    true => slot.dedicated = Some(known),
                    false => slot.disown(known, &others),
                });
            }
        }
    }

    /// Notes whether a tenant uses the node that may not come there any more.
    pub(super) fn note_mixed(&mut self, at: usize) {
        let Some(slot) = self.slots.get(at).and_then(Option::as_ref) else { return };
        let foreign = |mark: &str| {
            slot.tenants.keys().any(|tenant| self.marks.get(*tenant).is_none_or(|own| own != mark))
        };
        if (slot.dedicated.is_some() && slot.tenants.len() > 1) || slot.node.mark().is_some_and(foreign) {
            self.mixed.insert(at);
        } else if !self.mixed.is_empty() {
            self.mixed.remove(&at);
        }
    }
}
