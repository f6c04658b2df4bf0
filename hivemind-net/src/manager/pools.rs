//! Pools: created, grown, drained, shrunk, deleted.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, PoolName, Result, Retry, TenantContext};

use super::IpamManager;
use super::session::Session;
use crate::NetworkConfig;
use crate::addr::{Cidr, IpFamily};
use crate::records::{Index, Keys, Pools, blocks, indexes, nodes, pools, regions, watermarks};

/// The most records a deletion changes: more than a transaction should hold.
const MOST: usize = 24;

impl IpamManager {
    /// Stages a pool. The same configuration again is a no-op.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the tenant has a pool of that name and another configuration,
    /// [`ErrorKind::Invalid`] with [`InvalidConfig::Overlap`](crate::config::InvalidConfig::Overlap) if another of its
    /// pools has some of the addresses.
    pub fn stage_create_pool(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        config: &NetworkConfig,
    ) -> Result<()> {
        let keys = Keys::of(ctx);
        let found = pools()?.get(view, txn, &keys.pools()?)?;
        let same = found.as_ref().and_then(|found| found.pools.get(config.name()));
        if let (Some(found), true) = (&found, same == Some(config)) {
            return pools()?.expect(txn, found);
        }
        if same.is_some() {
            let message = format!(
                "tenant {} has a pool {} of another configuration: update it, or choose another name",
                ctx.tenant().id,
                config.name()
            );
            return Err(Error::new(ErrorKind::AlreadyExists, "create pool", message));
        }
        self.stage(view, txn, ctx, |session| put_pool(session, config, "create pool"))
    }

    /// Stages another configuration of a pool: it grows by networks, drains or loses them, or gets other options.
    ///
    /// Who has an address keeps it. What is excluded or drained now and still in use is in
    /// [`explain`](Self::explain)'s answer.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such pool; [`ErrorKind::Conflict`] if a network is left out, or the node
    /// subnets change, while nodes have subnets there: drain it, [sweep](Self::stage_sweep), and try again.
    /// [`ErrorKind::Invalid`] for an overlap with another pool.
    pub fn stage_update_pool(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        config: &NetworkConfig,
    ) -> Result<()> {
        self.stage(view, txn, ctx, |session| {
            let found = session.pools_of(ctx)?;
            let old = found.pools.get(config.name()).ok_or_else(|| no_pool(ctx, config.name()))?;
            for family in old.families() {
                let new = config.family(family.family());
                let renumbered = new.is_some_and(|new| new.node_prefix() != family.node_prefix());
                for subnet in taken(session, old, family.family())? {
                    if renumbered || !new.is_some_and(|new| new.cidrs().any(|cidr| cidr.covers(subnet))) {
                        let message = format!(
                            "a node still has {subnet} of pool {}: drain its network, and sweep when it is empty",
                            config.name()
                        );
                        let busy = Error::new(ErrorKind::Conflict, "update pool", message);
                        return Err(busy.with_retry(Retry::AfterChange));
                    }
                }
                if new.is_none() {
                    let key = session.keys.index(config.name(), family.family())?;
                    let index = indexes()?.require(session.view, &session.txn, &key)?;
                    indexes()?.delete(&mut session.txn, &index)?;
                }
            }
            put_pool(session, config, "update pool")
        })
    }

    /// Stages the removal of a pool. The epochs of nodes stay, also with the last one: what a lost node believes is
    /// refused whatever pools come later. [`stage_forget`](Self::stage_forget) is for a tenant that never comes back.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] while somebody has an address of it, or nodes have so many of its subnets that they do
    /// not fit one transaction: [sweep](Self::stage_sweep) first. [`ErrorKind::NotFound`] if there is no such pool.
    pub fn stage_delete_pool(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        name: &PoolName,
    ) -> Result<()> {
        self.stage(view, txn, ctx, |session| {
            let found = session.pools(ctx)?;
            let config = found.pools.get(name).ok_or_else(|| no_pool(ctx, name))?;
            let mut subnets = Vec::new();
            for family in config.families() {
                subnets.extend(taken(session, config, family.family())?);
            }
            let busy = |what: String| {
                let message = format!("pool {name} of tenant {} still has {what}", ctx.tenant().id);
                Error::new(ErrorKind::Conflict, "delete pool", message).with_retry(Retry::AfterChange)
            };
            if subnets.len() > MOST {
                return Err(busy(format!("{} subnets at nodes: sweep first", subnets.len())));
            }
            for subnet in subnets {
                delete_blocks(session, subnet, &busy)?;
                session.drop_subnet(config, subnet, true)?;
            }
            for family in config.families() {
                let key = session.keys.index(name, family.family())?;
                let index = indexes()?.require(session.view, &session.txn, &key)?;
                indexes()?.delete(&mut session.txn, &index)?;
            }
            let mut changed = (*found.value).clone();
            changed.pools.remove(name);
            if changed.pools.is_empty() {
                return pools()?.delete(&mut session.txn, &found);
            }
            pools()?.update(&mut session.txn, &found, &changed)
        })
    }

    /// Stages that what is left of a tenant without pools is forgotten: the epochs of its nodes, and what observations
    /// told. For a tenant that is gone for good. At most some records change with each call; whether there are more:
    /// commit, and call again.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] while the tenant has a pool: [delete](Self::stage_delete_pool) it first.
    pub fn stage_forget(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext) -> Result<bool> {
        self.stage(view, txn, ctx, |session| {
            let key = session.keys.pools()?;
            if pools()?.get(view, &session.txn, &key)?.is_some() {
                let message =
                    format!("tenant {} still has address pools: delete them first", ctx.tenant().id);
                let busy = Error::new(ErrorKind::Conflict, "forget tenant", message);
                return Err(busy.with_retry(Retry::AfterChange));
            }
            session.expect_absent(&key)?;
            let all = nodes()?.list(view, &session.txn, &session.keys.nodes()?)?;
            all.iter().take(MOST).try_for_each(|node| nodes()?.delete(&mut session.txn, node))?;
            let marks = watermarks()?.list(view, &session.txn, &session.keys.watermarks()?)?;
            marks.iter().take(MOST).try_for_each(|mark| watermarks()?.delete(&mut session.txn, mark))?;
            Ok(all.len().max(marks.len()) > MOST)
        })
    }
}

fn no_pool(ctx: &TenantContext, name: &PoolName) -> Error {
    Error::not_found("address pool", format!("tenant {} has no address pool {name}", ctx.tenant().id))
}

/// What was given back still rests is forgotten with the pool; a lease is not.
fn delete_blocks(session: &mut Session<'_>, subnet: Cidr, busy: &dyn Fn(String) -> Error) -> Result<()> {
    let prefix = session.keys.blocks_of(subnet)?;
    for block in blocks()?.list(session.view, &session.txn, &prefix)? {
        if block.held() > 0 {
            return Err(busy(format!("{} addresses in {}: release them first", block.held(), block.cidr)));
        }
        blocks()?.delete(&mut session.txn, &block)?;
    }
    Ok(())
}

/// Every subnet of one family of the pool that a node has.
pub(super) fn taken(session: &Session<'_>, config: &NetworkConfig, family: IpFamily) -> Result<Vec<Cidr>> {
    let Some(networks) = config.family(family) else { return Ok(Vec::new()) };
    let prefix = session.keys.regions(config.name(), family)?;
    let mut all = Vec::new();
    for region in regions()?.list(session.view, &session.txn, &prefix)? {
        all.extend(region.subnets(networks).map(|(subnet, _)| subnet));
    }
    Ok(all)
}

/// Stages a configuration, and where there is room in it; looks at every region of the pool.
fn put_pool(session: &mut Session<'_>, config: &NetworkConfig, operation: &'static str) -> Result<()> {
    let found = pools()?.get(session.view, &session.txn, &session.keys.pools()?)?;
    let mut all = found.as_ref().map(|found| (*found.value).clone()).unwrap_or_default();
    all.pools.remove(config.name());
    for other in all.pools.values() {
        config.apart_from(other).map_err(|e| Error::of(ErrorKind::Invalid, operation, e))?;
    }
    all.pools.insert(config.name().clone(), config.clone());
    put_pools(session, found.as_ref(), &all)?;
    for family in config.families() {
        let prefix = session.keys.regions(config.name(), family.family())?;
        let regions = regions()?.list(session.view, &session.txn, &prefix)?;
        let index = Index::of(config, family, regions.iter().map(|region| &*region.value));
        let key = session.keys.index(config.name(), family.family())?;
        match indexes()?.get(session.view, &session.txn, &key)? {
            Some(old) => indexes()?.update(&mut session.txn, &old, &index)?,
            None => indexes()?.create(session.view, &mut session.txn, key, &index)?,
        }
    }
    Ok(())
}

fn put_pools(
    session: &mut Session<'_>,
    old: Option<&hivemind_core::Stamped<Pools>>,
    new: &Pools,
) -> Result<()> {
    match old {
        Some(old) => pools()?.update(&mut session.txn, old, new),
        None => pools()?.create(session.view, &mut session.txn, session.keys.pools()?, new),
    }
}
