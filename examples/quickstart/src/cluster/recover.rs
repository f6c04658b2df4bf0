//! What happens when a node is lost.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    AppId, Error, ErrorKind, NodeId, Once, Result, TenantContext, TenantRef, Timestamp, WorkloadId,
};
use hivemind_storage::Fenced;
use hivemind_tenancy::Tenant;
use hivemind_tenancy::placement::{NodeState, WorkloadRequest};

use super::app::{apps, key, of_tenant};
use super::{App, Cluster, deploy};

/// What became of the workloads of a lost node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moves {
    /// So many run elsewhere now.
    pub moved: u64,
    /// So many fit nowhere else, and wait for the node.
    pub waiting: u64,
}

impl Cluster {
    /// The node that runs the most workloads of these tenants, and is shared; ties go to the first name.
    pub async fn busiest_node(&mut self, tenants: &[TenantRef]) -> Result<NodeId> {
        let count = |_: &Self, view: &Snapshot| {
            let mut running: BTreeMap<NodeId, usize> = BTreeMap::new();
            for tenant in tenants {
                for app in of_tenant(view, tenant)? {
                    for workload in app.workloads.values() {
                        *running.entry(workload.node.clone()).or_default() += 1;
                    }
                }
            }
            let busiest =
                running.into_iter().max_by_key(|(node, count)| (*count, std::cmp::Reverse(node.clone())));
            busiest
                .map(|(node, _)| node)
                .ok_or_else(|| Error::internal("busiest node", "no workload runs anywhere"))
        };
        self.read(count).await
    }

    /// Takes `lost` out of service and moves what ran there: addresses stay, volumes follow. What fits nowhere else
    /// stays, and waits for its node.
    pub async fn fail_node(&mut self, lost: &NodeId, tenants: &[(TenantRef, String)]) -> Result<Moves> {
        self.set_node_state(lost, NodeState::Failed, &format!("lose-{lost}")).await?;
        let mut moves = Moves::default();
        for (tenant, user) in tenants {
            let ctx = self.ctx(tenant, user, &format!("move-{}", tenant.id))?;
            for (app, workload) in self.affected(&ctx, lost).await? {
                let moved = self.move_workload(&ctx, lost, &app, &workload).await?;
                *(if moved { &mut moves.moved } else { &mut moves.waiting }) += 1;
            }
        }
        Ok(moves)
    }

    /// What runs on `lost`, or was decided on before a crash.
    async fn affected(&mut self, ctx: &TenantContext, lost: &NodeId) -> Result<Vec<(AppId, WorkloadId)>> {
        self.read(|_, view| {
            let mut affected = Vec::new();
            for app in of_tenant(view, ctx.tenant())? {
                for (id, workload) in &app.workloads {
                    let once = Once::new(ctx, &operation(id), Timestamp::EPOCH)?;
                    if workload.node == *lost || once.answer::<bool>(view)?.is_some() {
                        affected.push((app.name.clone(), id.clone()));
                    }
                }
            }
            Ok(affected)
        })
        .await
    }

    /// Whether there is another node for it. That is decided once, also if there is room later.
    async fn move_workload(
        &mut self,
        ctx: &TenantContext,
        lost: &NodeId,
        app: &AppId,
        id: &WorkloadId,
    ) -> Result<bool> {
        let at = key(ctx.tenant(), app)?;
        let decide = |this: &Self, view: &Snapshot, txn: &mut Txn| {
            let app = apps()?.require(view, txn, &at)?;
            let mut new = (*app.value).clone();
            this.stage_move(view, txn, ctx, &mut new, lost, id)?;
            apps()?.update(txn, &app, &new)?;
            Ok(true)
        };
        match self.request(ctx, &operation(id), decide).await {
            Err(e) if e.kind() == ErrorKind::Exhausted => {
                Ok(self.request(ctx, &operation(id), |_, _, _| Ok(false)).await?.value)
            }
            outcome => Ok(outcome?.value),
        }
    }

    fn stage_move(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        app: &mut App,
        lost: &NodeId,
        id: &WorkloadId,
    ) -> Result<()> {
        let missing = || Error::new(ErrorKind::Internal, "move", format!("{id} has no node"));
        let others: BTreeSet<_> = app
            .workloads
            .iter()
            .filter(|(other, workload)| *other != id && workload.node == *lost)
            .flat_map(|(_, workload)| workload.claims.clone())
            .collect();
        let workload = app.workloads.get_mut(id).ok_or_else(missing)?;
        let on = deploy::pool_of(&*Tenant::of(view, txn, ctx)?)?;
        let request = WorkloadRequest::new(id.clone(), workload.resources.clone())
            .on(on)
            .spread_by(format!("{}/{}", app.name, workload.service));
        self.tenants.stage_unplace(view, txn, ctx, [(id, lost)])?;
        let nodes = self.stage_place(view, txn, ctx, &[request])?;
        let node = nodes.get(id).ok_or_else(missing)?;
        for claim in &workload.claims {
            if others.contains(claim) {
                // Somebody who shares it still waits for the lost node.
                self.storage.stage_attach(view, txn, ctx, claim, node)?;
            } else {
                // The simulated node is off: it cannot write any more.
                self.storage.stage_move(view, txn, ctx, claim, lost, node, &Fenced::PowerOff)?;
            }
        }
        workload.node = node.clone();
        Ok(())
    }
}

/// The name of the move of a workload in the request to move everything.
fn operation(workload: &WorkloadId) -> String {
    format!("move-{workload}")
}
