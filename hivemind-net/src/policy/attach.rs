//! No interface comes up before its rules are in force: the types see to it. No I/O, no clock, no async.
//!
//! ```text
//! NodeRules --prepare--> Prepared --confirm(what the kernel has)--> InForce
//!                                                                      |
//! Attachment (the link is down) ------------- up(&InForce) ------------+--> the link, up
//! ```
//!
//! Whoever describes the whole of a node gives what is prepared to the overlay's
//! [`OverlayState`](crate::overlay::OverlayState): only what it covers is up there, and a data plane puts tables in force
//! before it brings links up.
//!
//! Nothing else makes an [`InForce`]:
//!
//! ```compile_fail
//! let forged = hivemind_net::policy::InForce { covers: Default::default() };
//! ```

use std::collections::BTreeMap;

use hivemind_core::{NodeId, TenantRef, WorkloadId};

use super::rules::{NodeRules, PeerNetwork};
use super::{Endpoint, EndpointKey};
use crate::dataplane::rules::RuleTable;
use crate::dataplane::state::{InvalidKernelName, Link, LinkName};

/// The rules of a tenant on a node, to be put in force.
#[derive(Debug, Clone)]
pub struct Prepared {
    table: RuleTable,
    covers: BTreeMap<WorkloadId, Endpoint>,
    links: BTreeMap<WorkloadId, LinkName>,
    peers: BTreeMap<TenantRef, PeerNetwork>,
    tenant: TenantRef,
    node: NodeId,
}

/// The rules for some workloads are in force.
#[derive(Debug, Clone)]
pub struct InForce {
    covers: BTreeMap<WorkloadId, Endpoint>,
    tenant: TenantRef,
}

/// The link of a workload that is not up yet.
#[derive(Debug, Clone)]
pub struct Attachment {
    endpoint: Endpoint,
    link: Link,
}

/// Why an interface stays down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotInForce {
    /// The kernel has other rules, or none.
    #[error("the kernel of node {node} has other rules for tenant {} than were prepared: apply them again", tenant.id)]
    OtherRules {
        /// Whose rules.
        tenant: TenantRef,
        /// Where.
        node: NodeId,
    },
    /// The rules in force were made without the workload or its link, or with another state of it.
    #[error(
        "the rules in force do not know workload {} as it is now, and its link: prepare and apply them again", .0.id
    )]
    NotCovered(EndpointKey),
}

impl NodeRules<'_> {
    /// The table, with what it covers: the workloads of the node whose [links](NodeRules::with_link) were given.
    ///
    /// # Errors
    /// None in practice, as for [`NodeRules::table`].
    pub fn prepare(&self) -> Result<Prepared, InvalidKernelName> {
        let all = self.engine.world().endpoints_of(&self.tenant);
        // Without its link anybody may pass for it.
        let here = all.filter(|one| *one.node() == self.node && self.links.contains_key(one.id()));
        let covers = here.map(|one| (one.id().clone(), one.clone())).collect();
        let (links, peers) = (self.links.clone(), self.peers.clone());
        let (tenant, node) = (self.tenant.clone(), self.node.clone());
        Ok(Prepared { table: self.table()?, covers, links, peers, tenant, node })
    }
}

impl Prepared {
    /// What is to be put in force.
    pub fn table(&self) -> &RuleTable {
        &self.table
    }

    /// Whose workloads it is about.
    pub fn tenant(&self) -> &TenantRef {
        &self.tenant
    }

    /// On which node.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The workloads that it was made with, each with its link.
    pub(crate) fn covered(&self) -> impl Iterator<Item = (&Endpoint, &LinkName)> {
        self.covers.iter().filter_map(|(id, endpoint)| Some((endpoint, self.links.get(id)?)))
    }

    /// Whether it was made with that network of another tenant.
    pub(crate) fn knows(&self, peer: &PeerNetwork) -> bool {
        self.peers.get(&peer.tenant) == Some(peer)
    }

    /// Compares it with what was read back from the kernel.
    ///
    /// # Errors
    /// [`NotInForce::OtherRules`].
    pub fn confirm(self, read_back: Option<&RuleTable>) -> Result<InForce, NotInForce> {
        if read_back == Some(&self.table) {
            return Ok(InForce { covers: self.covers, tenant: self.tenant });
        }
        Err(NotInForce::OtherRules { tenant: self.tenant, node: self.node })
    }
}

impl InForce {
    /// Whether they were made with the workload as it is now.
    pub fn covers(&self, endpoint: &Endpoint) -> bool {
        let key = endpoint.key();
        key.tenant == self.tenant && self.covers.get(&key.id) == Some(endpoint)
    }
}

impl Attachment {
    /// The workload's link, down whatever it says.
    pub fn new(endpoint: Endpoint, mut link: Link) -> Self {
        link.up = false;
        Self { endpoint, link }
    }

    /// The link as it is until then: to be made, and to be given its addresses.
    pub fn down(&self) -> &Link {
        &self.link
    }

    /// The link, up.
    ///
    /// # Errors
    /// [`NotInForce::NotCovered`].
    pub fn up(&self, rules: &InForce) -> Result<Link, NotInForce> {
        if !rules.covers(&self.endpoint) {
            return Err(NotInForce::NotCovered(self.endpoint.key()));
        }
        Ok(self.link.clone().with_up())
    }
}
