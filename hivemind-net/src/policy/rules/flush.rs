//! What happens to connections that are there when policies become stricter. No I/O, no clock, no async.

use std::net::IpAddr;

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
    pub from: IpAddr,
    /// Who got it.
    pub to: IpAddr,
    /// What it is.
    pub traffic: Traffic,
}

impl Connection {
    /// A connection in the network of `tenant`.
    pub fn new(tenant: TenantRef, from: IpAddr, to: IpAddr, traffic: Traffic) -> Self {
        Self { tenant, from: from.to_canonical(), to: to.to_canonical(), traffic }
    }

    /// Whether the tables do not let it in. A connection with another tenant's workload that is gone is not let in.
    fn is_denied(&self, engine: &Engine, foreign: &impl Fn(IpAddr) -> Option<EndpointKey>) -> bool {
        let party = |address| match (foreign(address), engine.world().at(&self.tenant, address)) {
            (Some(key), _) => (Party::Workload(key), true),
            (None, Some(own)) => (Party::Workload(own.key()), false),
            (None, None) => (Party::Outside(address), false),
        };
        let ((from, from_foreign), (to, to_foreign)) = (party(self.from), party(self.to));
        let flow = Flow::new(from, to, IpFamily::of(self.from), self.traffic);
        engine.reach(&flow).map_or(from_foreign || to_foreign, |verdict| !verdict.passes())
    }
}

/// The connections of workloads that are gone: with an end that is one of a tenant's addresses, and that no workload has.
/// They are to be taken out of connection tracking whatever is to become of those that are established: who gets the
/// address next would be reached by them without being asked.
///
/// `owner` tells whose an address is in the network of a tenant: its own, or a peer's; no one's are those of services, of
/// nodes, and outside. Look for them whenever the engine has changed, and at least once while an address rests.
pub fn orphaned_connections<'a>(
    engine: &'a Engine,
    owner: impl Fn(&TenantRef, IpAddr) -> Option<TenantRef> + 'a,
    connections: impl IntoIterator<Item = Connection> + 'a,
) -> impl Iterator<Item = Connection> + 'a {
    connections.into_iter().filter(move |one| {
        let gone = |address| {
            owner(&one.tenant, address).is_some_and(|owner| engine.world().at(&owner, address).is_none())
        };
        gone(one.from) || gone(one.to)
    })
}

/// The connections to be taken out of connection tracking, now that `engine` is in force. `is_host` tells the
/// addresses of hosts, whose connections to their workloads are never cut; `foreign` tells whose workload of another
/// tenant is reached under an address, as [`NodeRules::with_foreign`](super::NodeRules::with_foreign) does.
///
/// A connection of which no end is a workload is left alone.
pub fn stale_connections<'a>(
    engine: &'a Engine,
    established: Established,
    is_host: impl Fn(IpAddr) -> bool + 'a,
    foreign: impl Fn(IpAddr) -> Option<EndpointKey> + 'a,
    connections: impl IntoIterator<Item = Connection> + 'a,
) -> impl Iterator<Item = Connection> + 'a {
    let all = connections.into_iter().filter(move |_| established == Established::Cut);
    all.filter(move |one| {
        let known = !is_host(one.from) && one.traffic.fits(IpFamily::of(one.from));
        known && one.is_denied(engine, &foreign)
    })
}
