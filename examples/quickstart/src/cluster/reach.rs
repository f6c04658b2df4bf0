//! Who reaches whom in the cluster's network.

use hivemind_core::labels::Labels;
use hivemind_core::{Error, ErrorKind, Namespace, Result, TenantRef};
use hivemind_net::addr::IpFamily;
use hivemind_net::policy::{
    Change, Endpoint, EndpointKey, Explanation, Flow, Party, Profile, Traffic, World,
};

use super::{Cluster, app};

fn invalid<E: std::error::Error + Send + Sync + 'static>(e: E) -> Error {
    Error::of(ErrorKind::Invalid, "reach", e)
}

impl Cluster {
    /// What the network's policies speak of: every workload of `tenants`, and no policy yet.
    pub async fn network(&mut self, tenants: &[TenantRef]) -> Result<World> {
        let namespace: Namespace = "default".parse().map_err(invalid)?;
        self.read(|_, view| {
            let mut world = World::new();
            for tenant in tenants {
                for app in app::of_tenant(view, tenant)? {
                    for (id, workload) in &app.workloads {
                        let labels = Labels::new()
                            .with("app", app.name.as_str())
                            .and_then(|labels| labels.with("service", workload.service.as_str()))
                            .map_err(invalid)?;
                        let profile = Profile::new(tenant.clone(), namespace.clone(), labels);
                        let endpoint = Endpoint::new(id.clone(), workload.node.clone(), profile);
                        let (v4, v6) = (workload.lease.v4, workload.lease.v6);
                        let endpoint = v4.into_iter().fold(endpoint, |all, one| all.at(one.into()));
                        let endpoint = v6.into_iter().fold(endpoint, |all, one| all.at(one.into()));
                        world.apply(Change::Endpoint(endpoint));
                    }
                }
            }
            Ok(world)
        })
        .await
    }
}

/// May `from` open a connection to the TCP port of `to`, over IPv6, and why?
pub fn reach(world: &World, from: &EndpointKey, to: &EndpointKey, port: u16) -> Result<Explanation> {
    let (from, to) = (Party::Workload(from.clone()), Party::Workload(to.clone()));
    world.explain(&Flow::new(from, to, IpFamily::V6, Traffic::tcp(port))).map_err(invalid)
}
