//! What a tenant can see.

use std::net::IpAddr;

use hivemind_core::store::Txn;
use hivemind_core::{
    AppId, Error, ErrorKind, Namespace, NodeId, Result, ServiceName, TenantContext, TenantRef,
};
use hivemind_net::RecordType;

use super::Cluster;
use super::app::of_tenant;

impl Cluster {
    /// The full name of a service.
    pub fn service_name(&self, ctx: &TenantContext, app: &AppId, service: &ServiceName) -> Result<String> {
        let namespace = Namespace::new(app.as_str()).map_err(|e| Error::of(ErrorKind::Invalid, "name", e))?;
        Ok(self.names.full_name(ctx, &namespace, service))
    }

    /// The addresses of a name, as the tenant of `ctx` sees it.
    pub async fn resolve(
        &mut self,
        ctx: &TenantContext,
        name: &str,
        kind: RecordType,
    ) -> Result<Vec<IpAddr>> {
        self.read(|this, view| Ok(this.names.resolve(view, ctx, name, kind)?.addresses().to_vec())).await
    }

    /// Whether the tenant of `ctx` can see a volume or a lease of an app of `owner`.
    pub async fn sees(&mut self, ctx: &TenantContext, owner: &TenantRef, app: &AppId) -> Result<bool> {
        self.read(|this, view| {
            let own_app = |name: &AppId| name == app;
            let theirs = of_tenant(view, owner)?;
            let Some(foreign) = theirs.iter().find(|one| own_app(&one.name)) else { return Ok(false) };
            let generations_differ = ctx.tenant() != owner;
            for claim in foreign.claims.keys() {
                let found = this.storage.volume(view, &Txn::new(), ctx, claim);
                // A tenant may have a volume of the same name: it must be another one.
                if found.is_ok_and(|volume| volume.key.tenant == *owner) {
                    return Ok(generations_differ);
                }
            }
            // A tenant may have workloads of the same names, and even the same IPv4 addresses; the IPv6 ones are
            // different everywhere.
            let leases = this.ipam.leases(view, &Txn::new(), ctx, foreign.workloads.keys())?;
            let seen = foreign.workloads.iter().any(|(id, workload)| {
                let v6 = workload.lease.v6;
                let listed = v6.is_some() && leases.get(id).is_some_and(|lease| lease.v6 == v6);
                let mut txn = Txn::new();
                listed || this.ipam.stage_release(view, &mut txn, ctx, [(id, &workload.lease)]).is_ok()
            });
            Ok(seen)
        })
        .await
    }

    /// Remembers `node` under `what` for ever; returns what was remembered first.
    pub async fn remember(&mut self, node: &NodeId, what: &str) -> Result<NodeId> {
        let ctx = self.admin(what)?;
        Ok(self.request(&ctx, "remember", |_, _, _| Ok(node.clone())).await?.value)
    }
}
