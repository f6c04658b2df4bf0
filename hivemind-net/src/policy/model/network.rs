//! A tenant's network policy, with Kubernetes' semantics. No I/O, no clock, no async.

use std::fmt;

use hivemind_core::labels::{InvalidLabel, InvalidRequirement, InvalidSelector, Selector};
use hivemind_core::{Namespace, TenantRef};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::super::digest::{Axis, Digest, Mark, mark_of};
use super::forms::{PolicyForm, SpecForm};
use super::peer::{Home, Other};
use super::profile::NamedPorts;
use super::{
    InvalidBlock, InvalidDnsName, InvalidPort, InvalidProtocol, Peer, PolicyName, PortMatch, Profile, Traffic,
};

/// Which way a flow goes, as its subject sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_enums, reason = "there are two")]
pub enum Direction {
    /// To the subject.
    Ingress,
    /// From the subject.
    Egress,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// Of `pair`, that of this direction.
    pub(crate) fn of<T>(self, (ingress, egress): (T, T)) -> T {
        match self {
            Self::Ingress => ingress,
            Self::Egress => egress,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.of(("ingress", "egress")))
    }
}

/// Why there is no such policy, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
#[non_exhaustive]
pub struct InvalidPolicy {
    /// Where, such as `egress[1].to[0]`.
    pub at: String,
    /// What is wrong.
    pub problem: PolicyProblem,
}

/// What can be wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyProblem {
    /// A peer without any condition.
    #[error("a peer needs a selector, an ipBlock or a dnsName; an empty selector {{}} matches everything")]
    NoPeer,
    /// A peer of two kinds.
    #[error("a peer is either selectors, or an ipBlock, or a dnsName: write one peer for each")]
    MixedPeer,
    /// Domain names as sources.
    #[error("a dnsName says where traffic goes: give it in egress rules only")]
    NamesInIngress,
    /// A rule of a cluster policy without peers.
    #[error(
        "a rule of a cluster policy names its peers: all workloads are tenantSelector {{}}, all addresses 0.0.0.0/0 and ::/0"
    )]
    NoPeers,
    /// A priority out of range.
    #[error("priority {0}: give 0 (first) to 1000 (last)")]
    Priority(u16),
    /// The block is wrong.
    #[error(transparent)]
    Block(#[from] InvalidBlock),
    /// The port is wrong.
    #[error(transparent)]
    Port(#[from] InvalidPort),
    /// The protocol is wrong.
    #[error(transparent)]
    Protocol(#[from] InvalidProtocol),
    /// A name is wrong.
    #[error(transparent)]
    Name(#[from] super::InvalidPolicyName),
    /// A domain name is wrong.
    #[error(transparent)]
    DnsName(#[from] InvalidDnsName),
    /// A selector is wrong.
    #[error(transparent)]
    Selector(#[from] InvalidSelector),
    /// A requirement is wrong.
    #[error(transparent)]
    Requirement(#[from] InvalidRequirement),
    /// A label is wrong.
    #[error(transparent)]
    Label(#[from] InvalidLabel),
}

impl PolicyProblem {
    pub(super) fn at(self, at: impl Into<String>) -> InvalidPolicy {
        InvalidPolicy { at: at.into(), problem: self }
    }
}

/// One rule: the traffic with any of the peers to any of the ports is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyRule {
    // Mostly one of each: in one piece, so that whoever reads a rule waits for memory once.
    pub(super) peers: SmallVec<[Peer; 1]>,
    pub(super) ports: SmallVec<[PortMatch; 1]>,
}

impl PolicyRule {
    /// All traffic with everybody, until told otherwise.
    pub fn new() -> Self {
        Self::default()
    }

    /// With `peer` too. Without any peer, a rule is about everybody.
    #[must_use]
    pub fn with_peer(mut self, peer: impl Into<Peer>) -> Self {
        self.peers.push(peer.into());
        self
    }

    /// To `port` too. Without any port, a rule is about all traffic.
    #[must_use]
    pub fn with_port(mut self, port: PortMatch) -> Self {
        self.ports.push(port);
        self
    }

    /// The peers; without any, everybody.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// The ports; without any, all traffic.
    pub fn ports(&self) -> &[PortMatch] {
        &self.ports
    }

    pub(crate) fn has_peer(&self, home: Home<'_>, other: Other<'_>) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|peer| peer.matches(home, other))
    }

    pub(crate) fn has_port(&self, traffic: Traffic, receiver: &NamedPorts) -> bool {
        self.ports.is_empty() || self.ports.iter().any(|port| port.covers(traffic, receiver))
    }
}

/// What a network policy says, in the form of Kubernetes' `NetworkPolicySpec`.
///
/// ```
/// use hivemind_net::policy::{Direction, PolicySpec};
///
/// let spec: PolicySpec = serde_json::from_str(
///     r#"{ "podSelector": {"matchLabels": {"app": "db"}},
///          "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]}] }"#,
/// )?;
/// assert_eq!(spec.rules(Direction::Ingress).map(<[_]>::len), Some(1));
/// assert_eq!(spec.rules(Direction::Egress), None); // not isolated
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "SpecForm", into = "SpecForm")]
pub struct PolicySpec {
    pub(super) selector: Selector,
    pub(super) ingress: Option<Vec<PolicyRule>>,
    pub(super) egress: Option<Vec<PolicyRule>>,
    /// The selector, as tables know it.
    pub(super) digest: Digest,
}

impl PolicySpec {
    /// About neither direction yet.
    pub(super) fn silent(selector: Selector) -> Self {
        let digest = Digest::of([(Axis::Workload, Some(&selector))]);
        Self { selector, ingress: None, egress: None, digest }
    }

    /// The workloads that match `selector` get and send nothing in `directions`, but for what rules allow. Without
    /// any direction it is ingress, as in Kubernetes.
    pub fn isolating(selector: Selector, directions: impl IntoIterator<Item = Direction>) -> Self {
        let mut spec = Self::silent(selector);
        for direction in directions {
            *spec.slot(direction) = Some(Vec::new());
        }
        if spec.ingress.is_none() && spec.egress.is_none() {
            spec.ingress = Some(Vec::new());
        }
        spec
    }

    /// And allows what `rule` says in `direction`; that direction is isolated.
    ///
    /// # Errors
    /// [`PolicyProblem::NamesInIngress`].
    pub fn allowing(mut self, direction: Direction, rule: PolicyRule) -> Result<Self, InvalidPolicy> {
        let slot = self.slot(direction).get_or_insert_default();
        check_names(direction, slot.len(), &rule.peers)?;
        slot.push(rule);
        Ok(self)
    }

    fn slot(&mut self, direction: Direction) -> &mut Option<Vec<PolicyRule>> {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    /// Which workloads of the policy's namespace it is about.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// The selector, as tables know it.
    pub(in crate::policy) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The rules of `direction`: `None` leaves that direction alone, an empty list allows nothing.
    pub fn rules(&self, direction: Direction) -> Option<&[PolicyRule]> {
        direction.of((self.ingress.as_deref(), self.egress.as_deref()))
    }
}

pub(super) fn check_names(direction: Direction, rule: usize, peers: &[Peer]) -> Result<(), InvalidPolicy> {
    let named = peers.iter().position(|peer| matches!(peer, Peer::Names(_)));
    match named {
        Some(peer) if direction == Direction::Ingress => {
            Err(PolicyProblem::NamesInIngress.at(format!("ingress[{rule}].from[{peer}]")))
        }
        _ => Ok(()),
    }
}

/// A network policy of a namespace of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "PolicyForm", into = "PolicyForm")]
pub struct NetworkPolicy {
    pub(super) tenant: TenantRef,
    pub(super) namespace: Namespace,
    pub(super) name: PolicyName,
    pub(super) spec: PolicySpec,
    /// Of the namespace, and of the name in it.
    marks: (Mark, Mark),
}

impl NetworkPolicy {
    /// The policy `name` of `namespace` of `tenant`.
    pub fn new(tenant: TenantRef, namespace: Namespace, name: PolicyName, spec: PolicySpec) -> Self {
        let marks = (mark_of(&namespace), name_mark(&namespace, &name));
        Self { tenant, namespace, name, spec, marks }
    }

    /// Whose it is.
    pub fn tenant(&self) -> &TenantRef {
        &self.tenant
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its name, unique in its namespace.
    pub fn name(&self) -> &PolicyName {
        &self.name
    }

    /// The mark of its namespace.
    pub(in crate::policy) fn namespace_mark(&self) -> Mark {
        self.marks.0
    }

    /// The mark of its name in its namespace.
    pub(in crate::policy) fn name_mark(&self) -> Mark {
        self.marks.1
    }

    /// What it says.
    pub fn spec(&self) -> &PolicySpec {
        &self.spec
    }

    /// Where its rules are written.
    pub fn home(&self) -> Home<'_> {
        Home { tenant: &self.tenant, namespace: Some(&self.namespace) }
    }

    /// Whether it is about a workload of `profile`.
    pub fn selects(&self, profile: &Profile) -> bool {
        *profile.tenant() == self.tenant
            && *profile.namespace() == self.namespace
            && self.spec.selector.matches(profile.labels())
    }
}

/// The mark of a policy's name.
pub(in crate::policy) fn name_mark(namespace: &Namespace, name: &PolicyName) -> Mark {
    mark_of(&(namespace, name))
}
