//! Whose a node is now, whoever came to it before. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::{NodeId, Result, TenantRef};

use super::ClusterIndex;
use super::slot::Slot;
use crate::placement::{Node, NodeAllocations, Packing};

impl ClusterIndex {
    /// These nodes with what runs on them.
    ///
    /// A tenant that has one of them to itself has all that it uses and that are not another's, as after
    /// [`set_isolated`](Self::set_isolated); of one that uses no such node, nothing is known until it is told.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`](hivemind_core::ErrorKind::AlreadyExists) if a node or a workload is there twice.
    pub fn of(packing: Packing, seed: u64, nodes: &[(&Node, &NodeAllocations)]) -> Result<Self> {
        let mut index = Self::new(packing, seed);
        let mut owners = BTreeMap::new();
        for (node, running) in nodes {
            index.add_node((*node).clone())?;
            for (tenant, theirs) in &running.workloads {
                for (id, placed) in theirs {
                    index.assign(tenant, id, placed, false, &node.id)?;
                }
            }
            if let Some(owner) = &running.dedicated_to {
                let owner = index.tenant(owner);
                index.isolated.insert(owner);
                owners.insert(index.at(&node.id)?, owner);
            }
        }
        let isolated = std::mem::take(&mut index.isolated);
        for at in 0..index.slots.len() {
            index.change(at, |slot| {
                let there = || slot.tenants().find(|one| isolated.contains(one));
                slot.dedicated = owners.get(&at).copied().or_else(there);
            });
        }
        index.isolated = isolated;
        Ok(index)
    }

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
        let there = |slot: &Slot| slot.is_used_by(known) || slot.dedicated == Some(known);
        for at in 0..self.slots.len() {
            if self.slots.get(at).and_then(Option::as_ref).is_some_and(there) {
                self.change(at, |slot| match isolated {
                    true => slot.dedicated = Some(known),
                    false => slot.disown(known, &others),
                });
            }
        }
    }

    /// The node is this tenant's alone from now on, or nobody's: told by who knows the levels of all who run there. Not
    /// to be mixed with [`set_isolated`](Self::set_isolated).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](hivemind_core::ErrorKind::NotFound) if it is not there.
    pub(crate) fn set_owner(&mut self, node: &NodeId, owner: Option<&TenantRef>) -> Result<()> {
        let at = self.at(node)?;
        let owner = owner.map(|owner| self.tenant(owner));
        if self.slots.get(at).and_then(Option::as_ref).is_some_and(|slot| slot.dedicated != owner) {
            self.change(at, |slot| slot.dedicated = owner);
        }
        Ok(())
    }

    /// Notes whether a tenant uses the node that may not come there any more.
    pub(super) fn note_mixed(&mut self, at: usize) {
        let Some(slot) = self.slots.get(at).and_then(Option::as_ref) else { return };
        let foreign = |mark: &String| slot.tenants().any(|tenant| self.marks.get(tenant) != Some(mark));
        // Its owner finds it among those that it uses alone, or else here.
        let elsewhere = slot.dedicated.is_some() && slot.sole() != slot.dedicated;
        if elsewhere || slot.marks.iter().any(foreign) {
            self.mixed.insert(at);
        } else if !self.mixed.is_empty() {
            self.mixed.remove(&at);
        }
    }
}
