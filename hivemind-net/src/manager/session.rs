//! One request's work on blocks: each is read once, changed in memory, and staged at the end. No I/O, no clock, no async.

use std::sync::Arc;

use hivemind_core::store::{Guard, Key, Snapshot, Staged, Txn};
use hivemind_core::{Error, NodeId, PoolName, Result, Stamped, TenantContext, Timestamp, WorkloadId};

use super::take::Found;
use crate::NetworkConfig;
use crate::addr::{Cidr, IpFamily};
use crate::config::FamilyConfig;
use crate::ipam::{BlockSpace, Wish};
use crate::records::{Block, Keys, Node, Pools, SubnetNumber, blocks, nodes, pools, regions};

/// What a request reads and changes. Dropped, it leaves nothing; only [`close`](Self::close) stages.
#[derive(Clone)]
pub(super) struct Session<'a> {
    pub(super) view: &'a Snapshot,
    pub(super) txn: Txn,
    pub(super) keys: Keys,
    pub(super) now: Timestamp,
    /// In order of subnets.
    open: Vec<OpenSubnet>,
    /// Where the subnet is that was looked at last, of each family: the next workload mostly goes there, too.
    near: [usize; 2],
    /// The node that was asked about last, and what it has: requests come node by node.
    own: Option<(NodeId, Vec<Own>)>,
}

/// The subnets of a node that are of one family of a pool, and not being drained.
#[derive(Clone)]
struct Own {
    pool: PoolName,
    family: IpFamily,
    subnets: Arc<[Cidr]>,
}

/// What was looked at of a subnet.
#[derive(Clone)]
struct OpenSubnet {
    subnet: Cidr,
    pool: PoolName,
    /// The blocks that it is known to have, in order, with those only this request knows; `None` if nobody asked yet.
    known: Option<Vec<Cidr>>,
    /// In order.
    blocks: Vec<OpenBlock>,
}

/// A block that was read.
#[derive(Clone)]
struct OpenBlock {
    cidr: Cidr,
    found: Option<Stamped<Block>>,
    space: BlockSpace,
    changed: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(view: &'a Snapshot, txn: &Txn, ctx: &TenantContext, now: Timestamp) -> Self {
        let (txn, keys) = (txn.clone(), Keys::of(ctx));
        Self { view, txn, keys, now, open: Vec::new(), near: [0; 2], own: None }
    }

    /// The tenant's pools; guarded, so that they are still so when the transaction commits.
    pub(super) fn pools(&mut self, ctx: &TenantContext) -> Result<Stamped<Pools>> {
        let found = self.pools_of(ctx)?;
        pools()?.expect(&mut self.txn, &found)?;
        Ok(found)
    }

    /// The tenant's pools.
    pub(super) fn pools_of(&self, ctx: &TenantContext) -> Result<Stamped<Pools>> {
        let missing = || {
            let message = format!("tenant {} has no address pool: create one first", ctx.tenant().id);
            Error::not_found("address pool", message)
        };
        pools()?.get(self.view, &self.txn, &self.keys.pools()?)?.ok_or_else(missing)
    }

    pub(super) fn node(&self, node: &NodeId) -> Result<Option<Stamped<Node>>> {
        nodes()?.get(self.view, &self.txn, &self.keys.node(node)?)
    }

    /// The node is still as it was found when the transaction commits: also not declared lost, which makes a record.
    pub(super) fn expect_node(&mut self, id: &NodeId, found: Option<&Stamped<Node>>) -> Result<()> {
        if let Some(found) = found {
            return nodes()?.expect(&mut self.txn, found);
        }
        let key = self.keys.node(id)?;
        self.expect_absent(&key)
    }

    /// There is still no record when the transaction commits, unless this request stages one.
    pub(super) fn expect_absent(&mut self, key: &Key) -> Result<()> {
        match self.txn.staged(key) {
            Staged::Untouched => self.txn.guard(key, Guard::Absent),
            _ => Ok(()),
        }
    }

    /// The subnets of a node that are not being drained, in order. Reads the node once for all of its requests.
    pub(super) fn own_subnets(
        &mut self,
        config: &NetworkConfig,
        family: &FamilyConfig,
        node: &NodeId,
    ) -> Result<Arc<[Cidr]>> {
        let same = |own: &&Own| own.family == family.family() && own.pool == *config.name();
        let own = self.own.as_ref().filter(|(at, _)| at == node);
        if let Some(found) = own.and_then(|(_, own)| own.iter().find(same)) {
            return Ok(Arc::clone(&found.subnets));
        }
        let found = self.node(node)?;
        let active = |subnet: &Cidr| family.active().any(|cidr| cidr.covers(*subnet));
        let all = found.iter().flat_map(|node| node.of(config.name(), family.family()));
        let subnets: Arc<[Cidr]> = all.filter(active).collect();
        let own = Own { pool: config.name().clone(), family: family.family(), subnets: Arc::clone(&subnets) };
        match &mut self.own {
            Some((at, all)) if at == node => all.push(own),
            others => *others = Some((node.clone(), vec![own])),
        }
        Ok(subnets)
    }

    /// Stages what a node has; a node that has nothing and was never lost needs no record.
    pub(super) fn put_node(&mut self, id: &NodeId, old: Option<&Stamped<Node>>, new: &Node) -> Result<()> {
        self.own = None;
        let nodes = nodes()?;
        match old {
            Some(old) if *new == Node::default() => nodes.delete(&mut self.txn, old),
            Some(old) => nodes.update_known(self.view, &mut self.txn, old, new.clone()),
            None => nodes.create_known(self.view, &mut self.txn, self.keys.node(id)?, new.clone()),
        }
    }

    /// Where a subnet is among those looked at, or where it belongs.
    fn find(&self, subnet: Cidr) -> std::result::Result<usize, usize> {
        let near = self.near.get(usize::from(subnet.family() == IpFamily::V6)).copied().unwrap_or_default();
        match self.open.get(near) {
            Some(open) if open.subnet == subnet => Ok(near),
            _ => self.open.binary_search_by(|open| open.subnet.cmp(&subnet)),
        }
    }

    fn subnet(&mut self, config: &NetworkConfig, subnet: Cidr) -> Result<&mut OpenSubnet> {
        let at = self.find(subnet).unwrap_or_else(|at| {
            let pool = config.name().clone();
            self.open.insert(at, OpenSubnet { subnet, pool, known: None, blocks: Vec::new() });
            at
        });
        if let Some(near) = self.near.get_mut(usize::from(subnet.family() == IpFamily::V6)) {
            *near = at;
        }
        self.open.get_mut(at).ok_or_else(|| Error::internal("subnet", "a subnet just looked at is missing"))
    }

    fn open_block(&mut self, config: &NetworkConfig, subnet: Cidr, cidr: Cidr) -> Result<&mut OpenBlock> {
        if let Err(at) = self.subnet(config, subnet)?.find(cidr) {
            let found = blocks()?.get(self.view, &self.txn, &self.keys.block(subnet, cidr)?)?;
            let space = Block::space(cidr, &config.layout(subnet), found.as_deref());
            let block = OpenBlock { cidr, found, space, changed: false };
            self.subnet(config, subnet)?.blocks.insert(at, block);
        }
        let open = self.subnet(config, subnet)?;
        let at = open.find(cidr).unwrap_or_else(|at| at);
        let missing = || Error::internal("block", "a block that was just read is missing");
        open.blocks.get_mut(at).ok_or_else(missing)
    }

    /// The addresses of a block, to decide on.
    pub(super) fn block(
        &mut self,
        config: &NetworkConfig,
        subnet: Cidr,
        cidr: Cidr,
    ) -> Result<&mut BlockSpace> {
        Ok(&mut self.open_block(config, subnet, cidr)?.space)
    }

    /// Takes an address of a block; if it gives one, the block is to be staged.
    pub(super) fn take_of(
        &mut self,
        config: &NetworkConfig,
        (subnet, cidr): (Cidr, Cidr),
        owner: &WorkloadId,
        wish: Wish,
    ) -> Result<Found> {
        let now = self.now;
        let block = self.open_block(config, subnet, cidr)?;
        let taken = block.space.take(owner, wish, now);
        if taken.is_ok() && !block.changed {
            self.changed(subnet, cidr);
        }
        Ok(taken)
    }

    /// Notes that a block is to be staged.
    pub(super) fn changed(&mut self, subnet: Cidr, cidr: Cidr) {
        let Some(open) = self.find(subnet).ok().and_then(|at| self.open.get_mut(at)) else { return };
        let Some(block) = open.find(cidr).ok().and_then(|at| open.blocks.get_mut(at)) else { return };
        block.changed = true;
        if let Some(known) = &mut open.known
            && let Err(at) = known.binary_search(&cidr)
        {
            known.insert(at, cidr);
        }
    }

    /// Whether this request has changed a block of the subnet.
    pub(super) fn touched(&self, subnet: Cidr) -> bool {
        let open = self.find(subnet).ok().and_then(|at| self.open.get(at));
        open.is_some_and(|open| open.blocks.iter().any(|block| block.changed))
    }

    /// The blocks of a subnet that have a record, in order, with those only this request knows.
    pub(super) fn blocks_of(&mut self, config: &NetworkConfig, subnet: Cidr) -> Result<&[Cidr]> {
        if self.subnet(config, subnet)?.known.is_none() {
            let stored = blocks()?.list(self.view, &self.txn, &self.keys.blocks_of(subnet)?)?;
            let mut all: Vec<_> = stored.iter().map(|block| block.cidr).collect();
            let open = self.subnet(config, subnet)?;
            let new = open.blocks.iter().filter(|block| block.found.is_none() && block.changed);
            all.extend(new.map(|block| block.cidr));
            all.sort_unstable();
            open.known = Some(all);
        }
        Ok(self.subnet(config, subnet)?.known.as_deref().unwrap_or_default())
    }

    /// Stages every changed block, and gives the transaction.
    pub(super) fn close(mut self) -> Result<Txn> {
        let blocks = blocks()?;
        for OpenSubnet { subnet, pool, blocks: all, .. } in std::mem::take(&mut self.open) {
            for OpenBlock { cidr, found, space, .. } in all.into_iter().filter(|block| block.changed) {
                let block = Block::of(subnet, space);
                match found {
                    Some(found) if block.is_empty() => blocks.delete(&mut self.txn, &found)?,
                    Some(found) => blocks.update_known(self.view, &mut self.txn, &found, block)?,
                    None if block.is_empty() => {}
                    None => {
                        let key = self.keys.block(subnet, cidr)?;
                        blocks.create_known(self.view, &mut self.txn, key, block)?;
                        self.touch(&pool, subnet)?;
                    }
                }
            }
        }
        Ok(self.txn)
    }

    /// Writes the region of a subnet again: whoever has seen the subnet without any block decides anew, before it is
    /// taken from its node.
    fn touch(&mut self, pool: &PoolName, subnet: Cidr) -> Result<()> {
        let number = SubnetNumber::of(subnet).region;
        let key = self.keys.region(pool, subnet.family(), number)?;
        regions()?.touch(self.view, &mut self.txn, &key)
    }
}

impl OpenSubnet {
    /// Where a block is, or where it belongs.
    fn find(&self, cidr: Cidr) -> std::result::Result<usize, usize> {
        // Nearly always the last one: the others are full.
        match self.blocks.last() {
            Some(last) if last.cidr == cidr => Ok(self.blocks.len().saturating_sub(1)),
            _ => self.blocks.binary_search_by(|block| block.cidr.cmp(&cidr)),
        }
    }
}
