//! One request's work on blocks: each is read once, changed in memory, and staged at the end. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::sync::Arc;

use hivemind_core::store::{Guard, Key, Snapshot, Staged, Txn};
use hivemind_core::{Error, NodeId, PoolName, Result, Stamped, TenantContext, Timestamp};

use crate::NetworkConfig;
use crate::addr::{Cidr, IpFamily};
use crate::config::FamilyConfig;
use crate::ipam::Space;
use crate::records::{Block, Keys, Node, Pools, SubnetNumber, blocks, nodes, pools, regions};

/// What a request reads and changes. Dropped, it leaves nothing; only [`close`](Self::close) stages.
#[derive(Clone)]
pub(super) struct Session<'a> {
    pub(super) view: &'a Snapshot,
    pub(super) txn: Txn,
    pub(super) keys: Keys,
    pub(super) now: Timestamp,
    /// By subnet and block.
    open: BTreeMap<(Cidr, Cidr), OpenBlock>,
    /// The blocks that each subnet is known to have, with those only this request knows.
    known: BTreeMap<Cidr, Vec<Cidr>>,
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

#[derive(Clone)]
struct OpenBlock {
    pool: PoolName,
    found: Option<Stamped<Block>>,
    space: Space,
    changed: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(view: &'a Snapshot, txn: &Txn, ctx: &TenantContext, now: Timestamp) -> Self {
        Self {
            view,
            txn: txn.clone(),
            keys: Keys::of(ctx),
            now,
            open: BTreeMap::new(),
            known: BTreeMap::new(),
            own: None,
        }
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
            Some(old) => nodes.update(&mut self.txn, old, new),
            None => nodes.create(self.view, &mut self.txn, self.keys.node(id)?, new),
        }
    }

    /// The addresses of a block, to decide on.
    pub(super) fn block(&mut self, config: &NetworkConfig, subnet: Cidr, cidr: Cidr) -> Result<&mut Space> {
        let at = (subnet, cidr);
        if !self.open.contains_key(&at) {
            let found = blocks()?.get(self.view, &self.txn, &self.keys.block(subnet, cidr)?)?;
            let space = Block::space(cidr, config.layout(subnet), found.as_deref());
            let pool = config.name().clone();
            self.open.insert(at, OpenBlock { pool, found, space, changed: false });
        }
        match self.open.get_mut(&at) {
            Some(block) => Ok(&mut block.space),
            None => Err(Error::internal("block", "a block that was just read is missing")),
        }
    }

    /// Notes that a block is to be staged.
    pub(super) fn changed(&mut self, subnet: Cidr, cidr: Cidr) {
        if let Some(block) = self.open.get_mut(&(subnet, cidr)) {
            block.changed = true;
        }
        if let Some(known) = self.known.get_mut(&subnet)
            && let Err(at) = known.binary_search(&cidr)
        {
            known.insert(at, cidr);
        }
    }

    /// Whether this request has changed a block of the subnet.
    pub(super) fn touched(&self, subnet: Cidr) -> bool {
        self.open.iter().any(|((of, _), open)| *of == subnet && open.changed)
    }

    /// The blocks of a subnet that have a record, in order, with those only this request knows.
    pub(super) fn blocks_of(&mut self, subnet: Cidr) -> Result<&[Cidr]> {
        if !self.known.contains_key(&subnet) {
            let stored = blocks()?.list(self.view, &self.txn, &self.keys.blocks_of(subnet)?)?;
            let mut all: Vec<_> = stored.iter().map(|block| block.cidr).collect();
            let new = |((of, _), open): &(&(Cidr, Cidr), &OpenBlock)| {
                *of == subnet && open.found.is_none() && open.changed
            };
            all.extend(self.open.iter().filter(new).map(|((_, cidr), _)| *cidr));
            all.sort_unstable();
            self.known.insert(subnet, all);
        }
        Ok(self.known.get(&subnet).map(Vec::as_slice).unwrap_or_default())
    }

    /// Stages every changed block, and gives the transaction.
    pub(super) fn close(mut self) -> Result<Txn> {
        let blocks = blocks()?;
        for ((subnet, cidr), open) in std::mem::take(&mut self.open) {
            if !open.changed {
                continue;
            }
            let block = Block::of(cidr, subnet, &open.space);
            match open.found {
                Some(found) if block.is_empty() => blocks.delete(&mut self.txn, &found)?,
                Some(found) => blocks.update(&mut self.txn, &found, &block)?,
                None if block.is_empty() => {}
                None => {
                    blocks.create(self.view, &mut self.txn, self.keys.block(subnet, cidr)?, &block)?;
                    self.touch(&open.pool, subnet)?;
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
