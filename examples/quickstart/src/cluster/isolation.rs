//! Does the cluster keep its tenants apart as far as they were promised?

use std::collections::BTreeMap;

use hivemind_core::store::Txn;
use hivemind_core::{Error, Result, TenantRef};
use hivemind_tenancy::Tenant;
use hivemind_tenancy::isolation::{
    ClusterFacts, Intents, LevelSharing, NodeFacts, NodeIntent, Violation, VolumeFacts, compile, verify,
};

use super::Cluster;

impl Cluster {
    /// What isolation demands for each of `tenants`, and every way in which the cluster does not do it.
    ///
    /// The facts are those that this cluster has: its nodes and its volumes. It has no network policies and no
    /// backups for single tenants; whoever was promised those finds them missing.
    pub async fn verify_isolation(
        &mut self,
        tenants: &[TenantRef],
    ) -> Result<(Vec<Intents>, Vec<Violation>)> {
        let contexts: Vec<_> =
            tenants.iter().map(|tenant| self.ctx(tenant, "auditor", "verify")).collect::<Result<_>>()?;
        self.read(|this, view| {
            let txn = Txn::new();
            let compiled = contexts.iter().map(|ctx| {
                let chain = Tenant::chain(view, &txn, ctx)?;
                let mut tenants = chain.iter().map(|tenant| &*tenant.value);
                let itself =
                    tenants.next().ok_or_else(|| Error::internal("verify", "a tenant without itself"))?;
                Ok(compile(itself, tenants))
            });
            let intents: Vec<_> = compiled.collect::<Result<_>>()?;
            let mut facts = ClusterFacts::default();
            let marks: BTreeMap<_, _> =
                intents.iter().filter_map(|one| Some((&one.tenant, mark(one)?))).collect();
            for (node, running) in this.tenants.nodes(view, &txn)? {
                let mut here = NodeFacts::default();
                // Here a node's record says whose it is, and placement obeys it: that stands for label and taint.
                here.label = running.dedicated_to.as_ref().and_then(|tenant| marks.get(tenant).cloned());
                here.taint.clone_from(&here.label);
                here.capacity = node.capacity.clone();
                for (tenant, workloads) in &running.workloads {
                    let placed = workloads.iter().map(|(id, placed)| (id.clone(), placed.resources.clone()));
                    here.workloads.insert(tenant.clone(), placed.collect());
                }
                facts.nodes.insert(node.id.clone(), here);
            }
            for ctx in &contexts {
                facts.observers.insert(ctx.tenant().clone(), [ctx.tenant().clone()].into());
                for volume in this.storage.volumes(view, ctx)? {
                    let (tenant, pool) = (ctx.tenant().clone(), volume.provider.to_string());
                    facts.volumes.push(VolumeFacts::new(tenant, volume.key.volume.clone(), pool));
                }
            }
            let found = verify(&intents, &LevelSharing::of(&intents), &facts);
            Ok((intents, found))
        })
        .await
    }
}

fn mark(intents: &Intents) -> Option<String> {
    match &intents.node {
        NodeIntent::Dedicated { mark } => Some(mark.clone()),
        _ => None,
    }
}
