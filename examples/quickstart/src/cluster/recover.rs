//! What happens when a node is lost.

use std::collections::BTreeMap;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, NodeId, Result, TenantContext, TenantRef};
use hivemind_storage::Fenced;
use hivemind_tenancy::{NodeState, Tenant, WorkloadRequest};

use super::app::{apps, key, of_tenant};
use super::{App, Cluster, deploy};

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

    /// Takes `lost` out of service and moves what ran there: addresses stay, volumes follow. Returns how many
    /// workloads moved.
    pub async fn fail_node(&mut self, lost: &NodeId, tenants: &[(TenantRef, String)]) -> Result<u64> {
        self.set_node_state(lost, NodeState::Failed, &format!("lose-{lost}")).await?;
        let mut moved = 0;
        for (tenant, user) in tenants {
            let names: Vec<_> = self
                .read(|_, view| Ok(of_tenant(view, tenant)?.iter().map(|app| app.name.clone()).collect()))
                .await?;
            for (number, name) in names.into_iter().enumerate() {
                // An app that runs nothing there, and never did in this failure, is passed over without a request.
                let ctx = self.ctx(tenant, user, &format!("move-{}-{number}", tenant.id))?;
                let at = key(tenant, &name)?;
                let affected = self
                    .read(|_, view| {
                        let app = apps()?.require(view, &Txn::new(), &at)?;
                        let moved_before = hivemind_core::Once::new(&ctx, "move", Default::default())?
                            .answer::<u64>(view)?
                            .is_some();
                        Ok(moved_before || app.workloads.values().any(|workload| workload.node == *lost))
                    })
                    .await?;
                if affected {
                    let decide = |this: &Self, view: &Snapshot, txn: &mut Txn| {
                        let app = apps()?.require(view, txn, &at)?;
                        let new = this.stage_move(view, txn, &ctx, &app, lost)?;
                        apps()?.update(txn, &app, &new.0)?;
                        Ok(new.1)
                    };
                    moved += self.request(&ctx, "move", decide).await?.value;
                }
            }
        }
        Ok(moved)
    }

    fn stage_move(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        app: &App,
        lost: &NodeId,
    ) -> Result<(App, u64)> {
        let mut new = app.clone();
        let affected: Vec<_> = app.workloads.iter().filter(|(_, workload)| workload.node == *lost).collect();
        self.tenants.stage_unplace(
            view,
            txn,
            ctx,
            affected.iter().map(|(id, workload)| (*id, &workload.node)),
        )?;
        let on = deploy::pool_of(&*Tenant::of(view, txn, ctx)?)?;
        let requests: Vec<_> = affected
            .iter()
            .map(|(id, workload)| {
                WorkloadRequest::new((*id).clone(), workload.resources.clone())
                    .on(on.clone())
                    .spread_by(format!("{}/{}", app.name, workload.service))
            })
            .collect();
        let nodes = self.tenants.stage_place(view, txn, ctx, &requests)?;
        for (id, workload) in &affected {
            let missing = || Error::new(ErrorKind::Internal, "move", format!("{id} has no new node"));
            let node = nodes.get(*id).ok_or_else(missing)?;
            for claim in &workload.claims {
                // The simulated node is off: it cannot write any more.
                self.storage.stage_move(view, txn, ctx, claim, lost, node, &Fenced::PowerOff)?;
            }
            if let Some(moved) = new.workloads.get_mut(*id) {
                moved.node = node.clone();
            }
        }
        Ok((new, u64::try_from(affected.len()).unwrap_or(u64::MAX)))
    }
}
