//! What time frees: rested addresses, leases kept long enough, empty subnets.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Result, TenantContext, WorkloadId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::nodes::{BATCH, is_empty};
use super::{IpamManager, release};
use crate::records::{blocks, holders, nodes, regions};

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Swept {
    /// How many addresses have rested long enough.
    pub rested: u64,
    /// Workloads for which addresses were kept, and no longer are.
    pub dropped: Vec<WorkloadId>,
    /// Subnets that were empty and are free again.
    pub freed: Vec<IpNet>,
    /// Whether there is more to do: commit, and call again.
    pub more: bool,
}

impl IpamManager {
    /// Stages what time has freed, in batches. Nothing depends on it to be right: it only keeps records few, and gives
    /// subnets that nobody uses to others. The subnets of [`stage_node_subnets`](Self::stage_node_subnets) stay until
    /// their network is drained.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](hivemind_core::ErrorKind::NotFound) if the tenant has no pools.
    pub fn stage_sweep(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext) -> Result<Swept> {
        self.stage(view, txn, ctx, |session| {
            // What is free again has to be found by the index of the pools as they are.
            let pools = session.pools(ctx)?;
            let (mut swept, now) = (Swept::default(), session.now);
            let mut budget = BATCH;
            for holder in holders()?.list(view, &session.txn, &session.keys.holders()?)? {
                if holder.kept_until.is_none_or(|until| until > now) {
                    continue;
                }
                if budget == 0 {
                    swept.more = true;
                    break;
                }
                budget -= 1;
                release::drop_lease(session, &pools, &holder)?;
                swept.dropped.push(holder.workload.clone());
            }
            for block in blocks()?.list(view, &session.txn, &session.keys.blocks()?)? {
                if block.resting().all(|until| until > now) && !block.is_empty() {
                    continue;
                }
                let Some((config, _)) = pools.subnet_of(block.cidr) else { continue };
                if budget == 0 {
                    swept.more = true;
                    break;
                }
                budget -= 1;
                let thawed = session.block(config, block.subnet, block.cidr)?.thaw(now);
                session.changed(block.subnet, block.cidr);
                swept.rested = swept.rested.saturating_add(u64::try_from(thawed).unwrap_or(u64::MAX));
            }
            // A subnet whose blocks change in this request is looked at in the next.
            for (config, subnet) in self.idle_subnets(session, &pools)? {
                if !is_empty(session, subnet)? {
                    continue;
                }
                if budget == 0 {
                    swept.more = true;
                    break;
                }
                budget -= 1;
                session.drop_subnet(config, subnet, true)?;
                swept.freed.push(IpNet::from(subnet));
            }
            swept.more |= !swept.dropped.is_empty() || swept.rested > 0;
            Ok(swept)
        })
    }

    /// Subnets that need not stay where they are: of lost nodes, those that nobody asked for by themselves, and all of a
    /// network that is being drained.
    fn idle_subnets<'a>(
        &self,
        session: &super::Session<'_>,
        pools: &'a crate::records::Pools,
    ) -> Result<Vec<(&'a crate::NetworkConfig, crate::addr::Cidr)>> {
        let mut idle = Vec::new();
        for config in pools.pools.values() {
            for family in config.families() {
                let prefix = session.keys.regions(config.name(), family.family())?;
                for region in regions()?.list(session.view, &session.txn, &prefix)? {
                    for (subnet, owner) in region.subnets(family) {
                        let node = match owner {
                            Some(owner) => {
                                nodes()?.get(session.view, &session.txn, &session.keys.node(owner)?)?
                            }
                            None => None,
                        };
                        let pinned = node.and_then(|node| node.subnets.get(&subnet).map(|s| s.pinned));
                        let active = family.active().any(|cidr| cidr.covers(subnet));
                        if !(active && pinned.unwrap_or_default()) {
                            idle.push((config, subnet));
                        }
                    }
                }
            }
        }
        Ok(idle)
    }
}
