//! Policies of the cluster, above and below those of tenants. No I/O, no clock, no async.

use std::fmt;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::forms::ClusterForm;
use super::network::check_names;
use super::{
    Direction, InvalidPolicy, Peer, PolicyName, PolicyProblem, PolicyRule, PortMatch, Profile, WorkloadPeer,
};

/// Before or after the policies of tenants, as in Kubernetes' `ClusterNetworkPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_enums, reason = "the two tiers of the network policy API")]
pub enum Tier {
    /// Before: tenants cannot change what it decides.
    Admin,
    /// After: what holds where no policy of a tenant says anything.
    Baseline,
}

/// What a rule does with the traffic it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_enums, reason = "the three actions of the network policy API")]
pub enum Action {
    /// It passes; nothing later is asked.
    Allow,
    /// It does not pass; nothing later is asked.
    Deny,
    /// The rest of this tier is not asked.
    Pass,
}

/// One rule of a cluster policy. It names its peers, at least one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterRule {
    pub(super) name: Option<PolicyName>,
    pub(super) action: Action,
    pub(super) rule: PolicyRule,
}

impl ClusterRule {
    /// `action` for the traffic with any of `peers`.
    ///
    /// # Errors
    /// [`PolicyProblem::NoPeers`].
    pub fn new(action: Action, peers: impl IntoIterator<Item = Peer>) -> Result<Self, PolicyProblem> {
        let rule = PolicyRule { peers: peers.into_iter().collect(), ports: SmallVec::new() };
        if rule.peers.is_empty() {
            Err(PolicyProblem::NoPeers)
        } else {
            Ok(Self { name: None, action, rule })
        }
    }

    /// With a name for explanations.
    #[must_use]
    pub fn named(self, name: PolicyName) -> Self {
        Self { name: Some(name), ..self }
    }

    /// Only to `port` too. Without any port, a rule is about all traffic.
    #[must_use]
    pub fn with_port(mut self, port: PortMatch) -> Self {
        self.rule.ports.push(port);
        self
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<&PolicyName> {
        self.name.as_ref()
    }

    /// What it does.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Whom and what it is about.
    pub fn rule(&self) -> &PolicyRule {
        &self.rule
    }
}

/// A policy of the cluster: its rules are asked in order, after those of policies with a lower priority number. Of
/// policies with the same number, the one whose name comes first is asked first.
///
/// An Allow of tier Admin does not open the border between tenants: only grants of both do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "ClusterForm", into = "ClusterForm")]
pub struct ClusterPolicy {
    // The order of these fields is the order in which policies are asked.
    pub(super) tier: Tier,
    pub(super) priority: u16,
    pub(super) name: PolicyName,
    pub(super) subject: WorkloadPeer,
    pub(super) ingress: Vec<ClusterRule>,
    pub(super) egress: Vec<ClusterRule>,
}

/// The last priority.
const LAST_PRIORITY: u16 = 1000;

impl ClusterPolicy {
    /// The policy `name` for the workloads of `subject`, in which an absent selector is no condition.
    ///
    /// # Errors
    /// [`PolicyProblem::Priority`]: more than 1000.
    pub fn new(
        name: PolicyName,
        tier: Tier,
        priority: u16,
        subject: WorkloadPeer,
    ) -> Result<Self, InvalidPolicy> {
        if priority > LAST_PRIORITY {
            return Err(PolicyProblem::Priority(priority).at("priority"));
        }
        Ok(Self { tier, priority, name, subject, ingress: Vec::new(), egress: Vec::new() })
    }

    /// And `rule`, after those given before.
    ///
    /// # Errors
    /// [`PolicyProblem::NamesInIngress`].
    pub fn with_rule(mut self, direction: Direction, rule: ClusterRule) -> Result<Self, InvalidPolicy> {
        let rules = match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        };
        check_names(direction, rules.len(), &rule.rule.peers)?;
        rules.push(rule);
        Ok(self)
    }

    /// Its name, unique in the cluster.
    pub fn name(&self) -> &PolicyName {
        &self.name
    }

    /// Its tier.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Its priority: 0 is asked first.
    pub fn priority(&self) -> u16 {
        self.priority
    }

    /// Which workloads it is about.
    pub fn subject(&self) -> &WorkloadPeer {
        &self.subject
    }

    /// The rules of `direction`, in order.
    pub fn rules(&self, direction: Direction) -> &[ClusterRule] {
        direction.of((&self.ingress, &self.egress))
    }

    /// Whether it is about a workload of `profile`.
    pub fn selects(&self, profile: &Profile) -> bool {
        self.subject.selects(profile)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Pass => "pass",
        })
    }
}
