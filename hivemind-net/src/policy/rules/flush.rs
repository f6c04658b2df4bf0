//! What happens to connections that are there when policies become stricter. No I/O, no clock, no async.

use hivemind_core::TenantRef;
use serde::{Deserialize, Serialize};

use super::super::{EndpointKey, Engine, Flow, Party, Traffic};
use crate::addr::IpFamily;

/// What happens to connections that are there when policies become stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Established {
    /// They go on; only new ones are stopped.
    Keep,
    /// Those that would not be let in now are cut: their entries are taken out of the kernel's connection tracking, in
    /// both families, so that their next packet is judged as the first of a new connection.
    Cut,
}

/// A connection that the kernel tracks in a tenant's zone: the addresses and the traffic of its first packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Connection {
    /// In whose network; the zone tells.
    pub tenant: TenantRef,
    /// Who opened it.
    pub from: std::net::IpAddr,
    /// Who got it.
    pub to: std::net::IpAddr,
    /// What it is.
    pub traffic: Traffic,
}

impl Connection {
    /// A connection in the network of `tenant`.
    pub fn new(tenant: TenantRef, from: std::net::IpAddr, to: std::net::IpAddr, traffic: Traffic) -> Self {
        Self { tenant, from: from.to_canonical(), to: to.to_canonical(), traffic }
    }

    fn flow(&self, engine: &Engine) -> Flow {
        let party = |address| match engine.world().at(&self.tenant, address) {
            Some(key) => Party::Workload(EndpointKey::clone(key)),
            None => Party::Outside(address),
        };
        Flow::new(party(self.from), party(self.to), IpFamily::of(self.from), self.traffic)
    }
}

/// The connections to be taken out of connection tracking, now that `engine` is in force. `is_host` tells the
/// addresses of hosts, whose connections to their workloads are never cut.
///
/// A connection of which no end is a workload is left alone.
pub fn stale_connections<'a>(
    engine: &'a Engine,
    established: Established,
    is_host: impl Fn(std::net::IpAddr) -> bool + 'a,
    connections: impl IntoIterator<Item = Connection> + 'a,
) -> impl Iterator<Item = Connection> + 'a {
    let all = connections.into_iter().filter(move |_| established == Established::Cut);
    all.filter(move |one| {
        let known = !is_host(one.from) && one.traffic.fits(IpFamily::of(one.from));
        known && engine.reach(&one.flow(engine)).is_ok_and(|verdict| !verdict.passes())
    })
}
