//! A node's part of an overlay: no workload is on it before rules cover it. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::{NodeId, TenantRef, WorkloadId};

use super::model::OverlayWorkload;
use crate::addr::IpFamily;
use crate::dataplane::KernelState;
use crate::dataplane::rules::{Family, TableKey};
use crate::dataplane::state::{InvalidKernelName, LinkName, Netns, NetnsState};
use crate::dataplane::state::{Route, RouteKey};
use crate::policy::rules::{PeerNetwork, PeerWay};
use crate::policy::{Endpoint, Prepared};

/// What a node's kernel shall hold of an overlay, while rules about its workloads are still missing.
///
/// Give it what [`NodeRules::prepare`](crate::policy::rules::NodeRules::prepare) made for each tenant; then it is
/// [what the kernel shall hold](Self::into_kernel), in which the node's end of a workload's link is up only if rules
/// cover the workload as it is, and the way to another tenant open only if they know that tenant as it is. A data plane
/// puts tables in force before it brings links up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct OverlayState {
    pub(super) kernel: KernelState,
    routers: BTreeMap<TenantRef, Netns>,
    places: BTreeMap<(TenantRef, WorkloadId), Place>,
    /// From whom to whom.
    ways: BTreeMap<(TenantRef, TenantRef), Way>,
    /// Whose rules a table has.
    tables: BTreeMap<(Netns, TableKey), TenantRef>,
}

/// A workload on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    workload: OverlayWorkload,
    /// Where its packets are routed: rules are in force there and nowhere else.
    router: Netns,
    link: LinkName,
    cover: Cover,
}

/// A way to another tenant, as a tenant with workloads on the node has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    peer: PeerNetwork,
    router: Netns,
    cover: Cover,
}

/// What keeps a workload from being reached by anybody, or by another tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cover {
    Nothing,
    /// The rules of this table.
    By(TableKey),
    /// What did so before: neither the workload nor the rules are otherwise.
    AsBefore,
    /// Nothing has to.
    Unasked,
}

/// Why rules cannot be put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEnforced {
    /// Tenants that are routed in one namespace need a table each.
    #[error("table {name} of namespace {netns} has the rules of tenant {}: name another one for each tenant", tenant.id)]
    TableTaken {
        /// Where.
        netns: Netns,
        /// The name of the table.
        name: String,
        /// Whose rules it has.
        tenant: TenantRef,
    },
    /// They were prepared for another node.
    #[error("the rules are those of node {rules}, and this is node {node}: prepare them for this one")]
    OtherNode {
        /// For which they were prepared.
        rules: NodeId,
        /// This one.
        node: NodeId,
    },
    /// The name is that of a table which the overlay makes itself.
    #[error("table {name} of namespace {netns} is the overlay's own: name the rules' table otherwise")]
    Reserved {
        /// Where.
        netns: Netns,
        /// The name of the table.
        name: String,
    },
    /// Tables of other families see no packet that is routed.
    #[error("rules about workloads are in a table of the family inet, not {0:?}")]
    Family(Family),
}

impl OverlayState {
    /// Notes where a tenant's packets are routed.
    pub(super) fn route(&mut self, tenant: &TenantRef, router: Netns) {
        self.routers.insert(tenant.clone(), router);
    }

    /// Notes a workload that was just put into the kernel; `unasked` if it needs no rules.
    pub(super) fn add(
        &mut self,
        workload: &OverlayWorkload,
        router: Netns,
        unasked: bool,
    ) -> Result<(), InvalidKernelName> {
        let cover = if unasked { Cover::Unasked } else { Cover::Nothing };
        let place = Place { workload: workload.clone(), router, link: workload.effective_link()?, cover };
        self.places.insert((workload.tenant.clone(), workload.id.clone()), place);
        Ok(())
    }

    /// Notes a way that was just put into the kernel, as `tenant` has it; `unasked` if it needs no rules.
    pub(super) fn join(&mut self, tenant: &TenantRef, router: Netns, peer: PeerNetwork, unasked: bool) {
        let cover = if unasked { Cover::Unasked } else { Cover::Nothing };
        let between = (tenant.clone(), peer.tenant.clone());
        self.ways.insert(between, Way { peer, router, cover });
    }

    /// The namespace that routes for a tenant with workloads here, or with a peer that has: for its services, for
    /// example.
    pub fn router(&mut self, tenant: &TenantRef) -> Option<&mut NetnsState> {
        let router = self.routers.get(tenant)?;
        Some(self.kernel.namespace_mut(router))
    }

    /// The same namespace, by name.
    pub(super) fn router_of(&self, tenant: &TenantRef) -> Option<&Netns> {
        self.routers.get(tenant)
    }

    /// Puts a tenant's rules where its packets are routed, as the table `key`, in place of the one before. Workloads that
    /// they cover may come up, those that only the one before covered may not. Of a tenant that is not here, nothing is
    /// put anywhere.
    ///
    /// # Errors
    /// [`NotEnforced`]; then nothing has changed.
    pub fn enforce(&mut self, rules: &Prepared, key: TableKey) -> Result<(), NotEnforced> {
        let tenant = rules.tenant();
        let Some(netns) = self.routers.get(tenant).cloned() else { return Ok(()) };
        if key.family != Family::Inet {
            return Err(NotEnforced::Family(key.family));
        }
        let at = (netns, key.clone());
        if let Some(other) = self.tables.get(&at).filter(|other| *other != tenant) {
            let (netns, name) = (at.0, key.name.to_string());
            return Err(NotEnforced::TableTaken { netns, name, tenant: other.clone() });
        }
        // Whoever adds one of those later would put it in place of the rules.
        let there = self.kernel.namespaces.get(&at.0).is_some_and(|netns| netns.tables.contains_key(&key));
        let reserved = super::egress::is_reserved(&key) || crate::dataplane::services::is_reserved(&key);
        if reserved || there && !self.tables.contains_key(&at) {
            return Err(NotEnforced::Reserved { netns: at.0, name: key.name.to_string() });
        }
        let own = |(name, _): &(&(TenantRef, WorkloadId), &mut Place)| name.0 == *tenant;
        if let Some((_, place)) = self.places.iter_mut().find(own)
            && place.workload.node != *rules.node()
        {
            let (rules, node) = (rules.node().clone(), place.workload.node.clone());
            return Err(NotEnforced::OtherNode { rules, node });
        }
        self.kernel.namespace_mut(&at.0).tables.insert(key.clone(), rules.table().clone());
        self.tables.insert(at, tenant.clone());
        let covered: BTreeMap<_, _> =
            rules.covered().map(|(endpoint, link)| (endpoint.key().id, (endpoint, link))).collect();
        for ((_, id), place) in self.places.iter_mut().filter(own) {
            let is_covered = covered.get(id).is_some_and(|(endpoint, link)| place.is(endpoint, link));
            place.cover.judge(is_covered, &key);
        }
        for (_, way) in self.ways.iter_mut().filter(|((own, _), _)| own == tenant) {
            way.cover.judge(rules.knows(&way.peer), &key);
        }
        Ok(())
    }

    fn bare(&self) -> impl Iterator<Item = (&(TenantRef, WorkloadId), &Place)> {
        self.places.iter().filter(|(_, place)| place.cover == Cover::Nothing)
    }

    /// The workloads whose links stay down, because no rules cover them as they are.
    pub fn uncovered(&self) -> impl Iterator<Item = (&TenantRef, &WorkloadId)> {
        self.bare().map(|((tenant, workload), _)| (tenant, workload))
    }

    /// The ways that are closed, because the rules of the first tenant do not know the second as it is: neither reaches
    /// the other here.
    pub fn closed_ways(&self) -> impl Iterator<Item = (&TenantRef, &TenantRef)> {
        let closed = self.ways.iter().filter(|(_, way)| way.cover == Cover::Nothing);
        closed.map(|((tenant, peer), _)| (tenant, peer))
    }

    /// Leaves alone the workloads and ways that are as they were: nothing about them is to be judged anew.
    pub(super) fn judge_only_changed(&mut self, before: &Self) {
        for (name, place) in &mut self.places {
            if place.cover == Cover::Nothing && before.places.get(name) == Some(place) {
                place.cover = Cover::AsBefore;
            }
        }
        for (between, way) in &mut self.ways {
            if way.cover == Cover::Nothing && before.ways.get(between) == Some(way) {
                way.cover = Cover::AsBefore;
            }
        }
    }

    /// What the kernel shall hold. The links of workloads that no rules cover are there, and down: nothing is routed to
    /// them.
    #[must_use]
    pub fn into_kernel(mut self) -> KernelState {
        let mut kernel = std::mem::take(&mut self.kernel);
        for (_, place) in self.bare() {
            let netns = kernel.namespace_mut(&place.router);
            if let Some(link) = netns.links.get_mut(&place.link) {
                link.up = false;
            }
            // Over a link that is down the kernel takes neither.
            netns.routes.retain(|_, route| route.dev() != Some(&place.link));
            netns.neighbours.retain(|key, _| key.dev != place.link);
        }
        for way in self.ways.values().filter(|way| way.cover == Cover::Nothing) {
            way.close(kernel.namespace_mut(&way.router));
        }
        kernel
    }
}

impl Cover {
    /// Whether it is what the table `key`, which is new, covers.
    fn judge(&mut self, is_covered: bool, key: &TableKey) {
        match self {
            Self::Unasked => {}
            _ if is_covered => *self = Self::By(key.clone()),
            // By another table, which is there as well.
            Self::By(other) if other != key => {}
            _ => *self = Self::Nothing,
        }
    }
}

impl Way {
    /// Without it: whoever sends to the peer is told that nobody is there, wherever on the way the packet is.
    fn close(&self, router: &mut NetnsState) {
        if let Some(PeerWay { link, .. }) = &self.peer.way {
            if let Some(link) = router.links.get_mut(link) {
                link.up = false;
            }
            router.neighbours.retain(|key, _| key.dev != *link);
        }
        // Of no other network are addresses in its pools.
        router.routes.retain(|key, _| !self.peer.pools.iter().any(|pool| pool.contains(&key.destination)));
        let nowhere = self.peer.pools.iter().map(|pool| (RouteKey::new(*pool), Route::unreachable()));
        router.routes.extend(nowhere);
    }
}

impl Place {
    /// Whether rules that were made with `endpoint` on `link` are about this workload as it is.
    fn is(&self, endpoint: &Endpoint, link: &LinkName) -> bool {
        let Self { workload, link: own, .. } = self;
        let addresses =
            [(IpFamily::V4, workload.v4.map(Into::into)), (IpFamily::V6, workload.v6.map(Into::into))];
        *endpoint.node() == workload.node
            && link == own
            && addresses.into_iter().all(|(family, address)| endpoint.address(family) == address)
    }
}
