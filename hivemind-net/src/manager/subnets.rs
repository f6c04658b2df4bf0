//! Subnets to nodes and back. No I/O, no clock, no async.

use hivemind_core::store::Key;
use hivemind_core::{Error, ErrorKind, NodeId, Result, Stamped};

use super::session::Session;
use crate::NetworkConfig;
use crate::addr::Cidr;
use crate::config::FamilyConfig;
use crate::records::{Index, Region, SubnetNumber, indexes, regions};

impl Session<'_> {
    /// A free subnet of the pool for the node; `None` if there is none. A few look-ups, at any number of nodes.
    pub(super) fn take_subnet(
        &mut self,
        config: &NetworkConfig,
        family: &FamilyConfig,
        node: &NodeId,
        pinned: bool,
    ) -> Result<Option<Cidr>> {
        let index = self.index(config, family)?;
        let mut changed = (*index.value).clone();
        loop {
            let open = changed.open.first().copied();
            let Some(number) = open.or_else(|| changed.fresh.take_from(0)) else { return Ok(None) };
            let key = self.keys.region(config.name(), family.family(), number)?;
            let found = self.region(&key)?;
            let mut region =
                found.as_ref().map_or_else(|| Region::new(number), |found| (*found.value).clone());
            let Some((slot, subnet)) = region.free(config, family) else {
                changed.open.remove(&number);
                continue;
            };
            region.taken.insert(slot, Some(node.clone()));
            region.next = slot.wrapping_add(1);
            match region.free(config, family) {
                Some(_) => changed.open.insert(number),
                None => changed.open.remove(&number),
            };
            self.put_region(key, found.as_ref(), region)?;
            self.put_index(&index, changed)?;
            self.give_subnet(config, node, subnet, pinned)?;
            return Ok(Some(subnet));
        }
    }

    /// This subnet for the node, if nobody has it; whether the node got it.
    pub(super) fn take_this_subnet(
        &mut self,
        config: &NetworkConfig,
        family: &FamilyConfig,
        node: &NodeId,
        subnet: Cidr,
    ) -> Result<bool> {
        let SubnetNumber { region: number, slot } = SubnetNumber::of(subnet);
        let key = self.keys.region(config.name(), family.family(), number)?;
        let found = self.region(&key)?;
        let mut region = found.as_ref().map_or_else(|| Region::new(number), |found| (*found.value).clone());
        if region.taken.contains(slot) {
            return Ok(false);
        }
        region.taken.insert(slot, Some(node.clone()));
        let index = self.index(config, family)?;
        let mut changed = (*index.value).clone();
        changed.fresh.take(number);
        match region.free(config, family) {
            Some(_) => changed.open.insert(number),
            None => changed.open.remove(&number),
        };
        self.put_region(key, found.as_ref(), region)?;
        self.put_index(&index, changed)?;
        self.give_subnet(config, node, subnet, false)?;
        Ok(true)
    }

    fn put_region(&mut self, key: Key, old: Option<&Stamped<Region>>, new: Region) -> Result<()> {
        match old {
            Some(old) if new.taken.is_empty() => regions()?.delete(&mut self.txn, old),
            Some(old) => regions()?.update_known(self.view, &mut self.txn, old, new),
            None => regions()?.create_known(self.view, &mut self.txn, key, new),
        }
    }

    fn put_index(&mut self, old: &Stamped<Index>, new: Index) -> Result<()> {
        if new == *old.value {
            return Ok(());
        }
        indexes()?.update_known(self.view, &mut self.txn, old, new)
    }

    fn give_subnet(
        &mut self,
        config: &NetworkConfig,
        node: &NodeId,
        subnet: Cidr,
        pinned: bool,
    ) -> Result<()> {
        let found = self.node(node)?;
        let mut changed = found.as_ref().map(|found| (*found.value).clone()).unwrap_or_default();
        changed.add(subnet, config.name(), pinned);
        self.put_node(node, found.as_ref(), &changed)
    }

    /// Whose subnet it is: nobody's, a lost node's, or a node's. Guarded.
    pub(super) fn subnet_owner(
        &mut self,
        config: &NetworkConfig,
        subnet: Cidr,
    ) -> Result<Option<Option<NodeId>>> {
        let SubnetNumber { region, slot } = SubnetNumber::of(subnet);
        let key = self.keys.region(config.name(), subnet.family(), region)?;
        let Some(found) = self.region(&key)? else { return Ok(None) };
        regions()?.expect(&mut self.txn, &found)?;
        Ok(found.taken.get(slot).cloned())
    }

    /// Takes a subnet from its owner, to be free again, or, if somebody still has an address there, nobody's.
    pub(super) fn drop_subnet(&mut self, config: &NetworkConfig, subnet: Cidr, free: bool) -> Result<()> {
        let lost = || {
            let message = format!("subnet {subnet} of pool {} is not where it should be", config.name());
            Error::new(ErrorKind::Corrupt, "subnet", message)
        };
        let family = config.family(subnet.family()).ok_or_else(lost)?;
        let SubnetNumber { region: number, slot } = SubnetNumber::of(subnet);
        let key = self.keys.region(config.name(), subnet.family(), number)?;
        let found = self.region(&key)?.ok_or_else(lost)?;
        let mut region = (*found.value).clone();
        let owner = region.taken.remove(slot).ok_or_else(lost)?;
        if !free {
            region.taken.insert(slot, None);
        }
        self.put_region(key, Some(&found), region.clone())?;
        if free {
            let index = self.index(config, family)?;
            let mut changed = (*index.value).clone();
            changed.open.remove(&number);
            if region.free(config, family).is_some() {
                if region.taken.is_empty() {
                    changed.fresh.put(number);
                } else {
                    changed.open.insert(number);
                }
            }
            self.put_index(&index, changed)?;
        }
        if let Some(node) = owner
            && let Some(found) = self.node(&node)?
        {
            let mut changed = (*found.value).clone();
            changed.subnets.remove(&subnet);
            self.put_node(&node, Some(&found), &changed)?;
        }
        Ok(())
    }
}

impl Session<'_> {
    fn index(&self, config: &NetworkConfig, family: &FamilyConfig) -> Result<Stamped<Index>> {
        #[cfg(test)]
        tests::looked_up();
        indexes()?.require(self.view, &self.txn, &self.keys.index(config.name(), family.family())?)
    }

    fn region(&self, key: &Key) -> Result<Option<Stamped<Region>>> {
        #[cfg(test)]
        tests::looked_up();
        regions()?.get(self.view, &self.txn, key)
    }
}

#[cfg(test)]
mod tests;
