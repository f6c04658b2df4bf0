//! What grants call for: which tenants are joined, and what rules on a node must know of it. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::labels::Labels;
use hivemind_core::{NodeId, TenantRef};

use super::error::InvalidOverlay;
use super::model::OverlayChange;
use super::network::OverlayNetwork;
use super::peering::Peering;
use crate::policy::rules::NodeRules;
use crate::policy::{AnyPolicy, Direction, Engine, Grant, GrantTo, World};

impl Peering {
    /// Those that grants call for: one for each two tenants of which one grants the other to be reached, and the other
    /// grants it to reach.
    ///
    /// Which workloads and ports they are about is not looked at: a peering opens nothing. A grant to tenants by their
    /// labels means those that have workloads, since it is workloads that tell the labels.
    pub fn of_grants(world: &World) -> BTreeSet<Self> {
        let (mut out, mut into) = (Vec::new(), BTreeMap::<&TenantRef, Vec<&Grant>>::new());
        for policy in world.policies() {
            let AnyPolicy::Grant(grant) = policy else { continue };
            match grant.direction() {
                Direction::Egress => out.push(grant),
                Direction::Ingress => into.entry(grant.by()).or_default().push(grant),
            }
        }
        let labels = labels(world, out.iter().copied().chain(into.values().flatten().copied()));
        let means = |grant: &Grant, other: &TenantRef| match grant.to() {
            GrantTo::Tenant(tenant) => tenant == other,
            GrantTo::Matching(selector) => {
                let of_other = labels.get(other).into_iter().flatten();
                other != grant.by() && of_other.into_iter().any(|labels| selector.matches(labels))
            }
        };
        let answered = |own: &TenantRef, other: &TenantRef| {
            own != other && into.get(other).is_some_and(|grants| grants.iter().any(|grant| means(grant, own)))
        };
        let mut found = BTreeSet::new();
        for grant in out {
            let own = grant.by();
            // Who is named is looked up; only labels are compared with everybody who lets others in.
            let others: Vec<&TenantRef> = match grant.to() {
                GrantTo::Tenant(tenant) => vec![tenant],
                GrantTo::Matching(_) => into.keys().copied().filter(|other| means(grant, other)).collect(),
            };
            let both = others.into_iter().filter(|other| answered(own, other));
            found.extend(both.map(|other| Self::new(own.clone(), other.clone())));
        }
        found
    }
}

/// The labels of each tenant, as its workloads tell them, if any grant asks for labels.
fn labels<'a>(
    world: &'a World,
    mut grants: impl Iterator<Item = &'a Grant>,
) -> BTreeMap<&'a TenantRef, BTreeSet<&'a Labels>> {
    let mut found = BTreeMap::<_, BTreeSet<_>>::new();
    if grants.any(|grant| matches!(grant.to(), GrantTo::Matching(_))) {
        for profile in world.endpoints().map(|endpoint| endpoint.profile()) {
            found.entry(profile.tenant()).or_default().insert(profile.tenant_labels());
        }
    }
    found
}

impl OverlayNetwork {
    /// What makes the peerings those that grants [call for](Peering::of_grants): the new ones, then those to be removed.
    /// Tenants that have no network are left out.
    ///
    /// Each is applied by itself: one that is refused, for pools that overlap, says nothing about the others. Remove a
    /// peering when all nodes have [rules](Self::node_rules) of the world as it is.
    pub fn follow_grants(&self, world: &World) -> Vec<OverlayChange> {
        let known: BTreeSet<_> = self.tenants().map(|network| &network.tenant).collect();
        let mut wanted = Peering::of_grants(world);
        wanted.retain(|peering| {
            let (one, other) = peering.tenants();
            known.contains(one) && known.contains(other)
        });
        let there: BTreeSet<_> = self.peerings().collect();
        let new = wanted.difference(&there).cloned().map(OverlayChange::PutPeering);
        let old = there.difference(&wanted).cloned().map(OverlayChange::RemovePeering);
        new.chain(old).collect()
    }

    /// The rules of every tenant that needs some on `node`: with the links of its workloads, and the networks of its peers
    /// or, with direct routing, of all others. Each is to be [prepared](NodeRules::prepare), and
    /// [put in force](super::OverlayState::enforce).
    ///
    /// # Errors
    /// None in practice: names were checked when they came in.
    pub fn node_rules<'e>(
        &self,
        engine: &'e Engine,
        node: &NodeId,
    ) -> Result<Vec<NodeRules<'e>>, InvalidOverlay> {
        let direct = self.config().is_direct();
        let mut found = Vec::new();
        for tenant in self.tenants_on(node) {
            let mut rules = NodeRules::new(engine, tenant.clone(), node.clone());
            let here: Vec<_> = self.workloads_on(tenant, node).collect();
            if direct {
                // Where it has routes alone, it is for those of the receiver's node to decide.
                if here.is_empty() {
                    continue;
                }
                rules = rules.in_shared_namespace();
            }
            for workload in here {
                rules = rules.with_link(workload.id.clone(), workload.effective_link()?);
            }
            for peer in self.peer_networks(tenant)? {
                rules = rules.with_peer(peer);
            }
            found.push(rules);
        }
        Ok(found)
    }
}
