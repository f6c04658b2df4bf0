//! Who a rule is about. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use hivemind_core::labels::Selector;
use hivemind_core::{Namespace, TenantRef};
use serde::{Deserialize, Serialize};

use super::super::digest::{Axis, Digest};
use super::forms::PeerForm;
use super::{DnsName, IpBlock, NamePattern, Profile};

/// Workloads by their labels, those of their namespaces and those of their tenants. At least one is given.
///
/// | tenants | namespaces | workloads | meant |
/// |---|---|---|---|
/// | - | - | given | those of the policy's own namespace |
/// | - | given | - | all of those namespaces of the own tenant |
/// | - | given | given | both must match, in the own tenant |
/// | given | - | any | all namespaces of those tenants |
/// | given | given | any | all must match |
///
/// An empty selector matches everything; an absent one is no condition, or the default of the table. In a
/// [`ClusterPolicy`](super::ClusterPolicy) an absent namespace selector is all namespaces. Another tenant's workload
/// is only reached if both tenants grant it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadPeer {
    pub(super) tenants: Option<Selector>,
    pub(super) namespaces: Option<Selector>,
    pub(super) workloads: Option<Selector>,
    digest: Digest,
}

/// Where a rule is written: whose workload it is about, and for a namespaced policy in which namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_structs, reason = "a tenant and perhaps a namespace")]
pub struct Home<'a> {
    /// The tenant of the workload that the rule protects.
    pub tenant: &'a TenantRef,
    /// The policy's namespace; none for a cluster policy.
    pub namespace: Option<&'a Namespace>,
}

impl WorkloadPeer {
    /// Workloads that each selector matches that is there.
    pub(super) fn all_of(
        tenants: Option<Selector>,
        namespaces: Option<Selector>,
        workloads: Option<Selector>,
    ) -> Self {
        let digest = Digest::of([
            (Axis::Workload, workloads.as_ref()),
            (Axis::Namespace, namespaces.as_ref()),
            (Axis::Tenant, tenants.as_ref()),
        ]);
        Self { tenants, namespaces, workloads, digest }
    }

    /// Workloads whose own labels match.
    pub fn workloads(selector: Selector) -> Self {
        Self::all_of(None, None, Some(selector))
    }

    /// All workloads of namespaces whose labels match.
    pub fn namespaces(selector: Selector) -> Self {
        Self::all_of(None, Some(selector), None)
    }

    /// All workloads of tenants whose labels match.
    pub fn tenants(selector: Selector) -> Self {
        Self::all_of(Some(selector), None, None)
    }

    /// Only of tenants whose labels match.
    #[must_use]
    pub fn of_tenants(self, selector: Selector) -> Self {
        Self::all_of(Some(selector), self.namespaces, self.workloads)
    }

    /// Only in namespaces whose labels match.
    #[must_use]
    pub fn in_namespaces(self, selector: Selector) -> Self {
        Self::all_of(self.tenants, Some(selector), self.workloads)
    }

    /// Only workloads whose own labels match.
    #[must_use]
    pub fn labelled(self, selector: Selector) -> Self {
        Self::all_of(self.tenants, self.namespaces, Some(selector))
    }

    /// The selectors, as tables know them.
    pub(in crate::policy) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The condition on the tenants' labels.
    pub fn tenant_selector(&self) -> Option<&Selector> {
        self.tenants.as_ref()
    }

    /// The condition on the namespaces' labels.
    pub fn namespace_selector(&self) -> Option<&Selector> {
        self.namespaces.as_ref()
    }

    /// The condition on the workloads' own labels.
    pub fn workload_selector(&self) -> Option<&Selector> {
        self.workloads.as_ref()
    }

    /// Whether a workload of `profile` is meant by a rule written at `home`.
    pub fn matches(&self, home: Home<'_>, profile: &Profile) -> bool {
        let tenant_fits = match &self.tenants {
            None => profile.tenant() == home.tenant,
            Some(selector) => selector.matches(profile.tenant_labels()),
        };
        let namespace_fits = match (&self.namespaces, &self.tenants, home.namespace) {
            (Some(selector), _, _) => selector.matches(profile.namespace_labels()),
            (None, None, Some(own)) => profile.namespace() == own,
            (None, ..) => true,
        };
        tenant_fits && namespace_fits && self.labels_match(profile)
    }

    /// Whether a workload of `profile` is a subject of a cluster policy: here an absent selector is no condition.
    pub fn selects(&self, profile: &Profile) -> bool {
        let fits = |selector: &Option<Selector>, labels| selector.as_ref().is_none_or(|s| s.matches(labels));
        fits(&self.tenants, profile.tenant_labels())
            && fits(&self.namespaces, profile.namespace_labels())
            && self.labels_match(profile)
    }

    fn labels_match(&self, profile: &Profile) -> bool {
        self.workloads.as_ref().is_none_or(|selector| selector.matches(profile.labels()))
    }
}

impl fmt::Display for WorkloadPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts =
            [("workloads", &self.workloads), ("namespaces", &self.namespaces), ("tenants", &self.tenants)];
        let mut before = "";
        for (what, selector) in parts.into_iter().filter_map(|(what, one)| Some((what, one.as_ref()?))) {
            let all = if selector.is_everything() { "all" } else { "" };
            write!(f, "{before}{what} {{{selector}{all}}}")?;
            before = " of ";
        }
        Ok(())
    }
}

/// One of a rule's peers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "PeerForm", into = "PeerForm")]
#[non_exhaustive]
pub enum Peer {
    /// Workloads.
    Workloads(WorkloadPeer),
    /// Addresses.
    Block(IpBlock),
    /// The addresses that domain names have at present; for egress.
    Names(NamePattern),
}

/// The other end of a flow, as a rule sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Other<'a> {
    /// Its profile, if it is a workload.
    pub(crate) profile: Option<&'a Profile>,
    /// Its address in the network of the subject's tenant; none for another tenant's workload.
    pub(crate) address: Option<IpAddr>,
    /// The domain names that the address has at present for the subject's tenant.
    pub(crate) names: Option<&'a BTreeSet<DnsName>>,
}

impl Peer {
    /// Whether `other` is meant by a rule written at `home`.
    pub(crate) fn matches(&self, home: Home<'_>, other: Other<'_>) -> bool {
        match self {
            Self::Workloads(peer) => other.profile.is_some_and(|profile| peer.matches(home, profile)),
            Self::Block(block) => other.address.is_some_and(|address| block.contains(address)),
            Self::Names(pattern) => {
                other.names.is_some_and(|names| names.iter().any(|name| pattern.matches(name)))
            }
        }
    }
}

impl From<WorkloadPeer> for Peer {
    fn from(peer: WorkloadPeer) -> Self {
        Self::Workloads(peer)
    }
}

impl From<IpBlock> for Peer {
    fn from(block: IpBlock) -> Self {
        Self::Block(block)
    }
}

impl From<NamePattern> for Peer {
    fn from(pattern: NamePattern) -> Self {
        Self::Names(pattern)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workloads(peer) => peer.fmt(f),
            Self::Block(block) => block.fmt(f),
            Self::Names(pattern) => pattern.fmt(f),
        }
    }
}
