//! A question, and its answer. No I/O, no clock, no async.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use hivemind_core::NodeId;
use serde::{Deserialize, Serialize};

use crate::addr::IpFamily;

use super::{Action, Direction, EndpointKey, PolicyRef, Traffic};

/// One end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Party {
    /// A workload.
    Workload(EndpointKey),
    /// A host of the cluster, by one of its addresses. The workloads it runs always let it in.
    Host(NodeId, IpAddr),
    /// Whatever has this address, and is neither.
    Outside(IpAddr),
}

/// May the first packet of a connection pass?
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Flow {
    /// Who opens the connection.
    pub from: Party,
    /// Who is to get it.
    pub to: Party,
    /// Over which protocol of the two.
    pub family: IpFamily,
    /// What it is.
    pub traffic: Traffic,
}

impl Flow {
    /// `traffic` of `family` from `from` to `to`.
    pub fn new(from: Party, to: Party, family: IpFamily, traffic: Traffic) -> Self {
        Self { from, to, family, traffic }
    }
}

/// There is no such flow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidFlow {
    /// No such workload.
    #[error("there is no workload {} of tenant {}", .0.id, .0.tenant.id)]
    NoWorkload(EndpointKey),
    /// It has no address of that family.
    #[error("workload {} has no {family:?} address", key.id)]
    NoAddress {
        /// The workload.
        key: EndpointKey,
        /// The family asked for.
        family: IpFamily,
    },
    /// An address of the other family.
    #[error("{address} is not of family {family:?}")]
    WrongFamily {
        /// The address.
        address: IpAddr,
        /// The family asked for.
        family: IpFamily,
    },
    /// Traffic that the family does not have.
    #[error("{family:?} has no {traffic}")]
    NoSuchTraffic {
        /// The traffic.
        traffic: Traffic,
        /// The family asked for.
        family: IpFamily,
    },
    /// The address is that of a workload.
    #[error("{address} is that of workload {}: ask about the workload", key.id)]
    IsWorkload {
        /// The address.
        address: IpAddr,
        /// Who has it.
        key: EndpointKey,
    },
    /// Neither end is a workload.
    #[error("no end of the flow is a workload: policies say nothing about it")]
    NotOurs,
}

/// Whether something passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_enums, reason = "it passes or it does not")]
pub enum Verdict {
    /// It passes.
    Allow,
    /// It does not.
    Deny,
}

impl Verdict {
    /// Allow if `passes`.
    pub fn of(passes: bool) -> Self {
        if passes { Self::Allow } else { Self::Deny }
    }

    /// Whether it is Allow.
    pub fn passes(self) -> bool {
        self == Self::Allow
    }
}

/// Why one end of a flow lets it pass, or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Because {
    /// A workload always reaches itself.
    ToItself,
    /// The host that runs a workload always reaches it.
    OwnHost,
    /// Between two tenants, and this side's tenant has no grant that covers it.
    Border,
    /// Only routers send such messages, and a workload is none.
    RouterOnly,
    /// IP itself needs it ([`Traffic::is_essential`]).
    Essential,
    /// This rule allows or denies it.
    Rule {
        /// The policy.
        policy: PolicyRef,
        /// Which of its rules of this direction, from 0.
        rule: usize,
    },
    /// These policies select the workload in this direction, and no rule of theirs allows it.
    Isolated(#[serde(with = "shared")] Arc<[PolicyRef]>),
    /// No policy decides, so it passes.
    Unselected,
}

/// A shared list in the form of a list of its own.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::PolicyRef;

    pub(super) fn serialize<S: Serializer>(all: &Arc<[PolicyRef]>, to: S) -> Result<S::Ok, S::Error> {
        (**all).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[PolicyRef]>, D::Error> {
        Vec::<PolicyRef>::deserialize(from).map(Arc::from)
    }
}

/// What one end of a flow says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Side {
    /// Whether it passes there.
    pub verdict: Verdict,
    /// Why.
    pub because: Because,
}

/// What both ends say. An end that is no workload says nothing, and is `None`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Decision {
    /// What the sender's egress says.
    pub egress: Option<Side>,
    /// What the receiver's ingress says.
    pub ingress: Option<Side>,
}

impl Decision {
    pub(crate) fn new(egress: Option<Side>, ingress: Option<Side>) -> Self {
        Self { egress, ingress }
    }

    /// Allow if every end that says something says so.
    pub fn verdict(&self) -> Verdict {
        let mut sides = self.egress.iter().chain(&self.ingress);
        Verdict::of(sides.all(|side| side.verdict.passes()))
    }

    /// What the side of `direction` says.
    pub fn side(&self, direction: Direction) -> Option<&Side> {
        direction.of((self.ingress.as_ref(), self.egress.as_ref()))
    }
}

/// What became of one rule, or of a policy as a whole, on the way to a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// It is about the flow, and does this.
    Applied(Action),
    /// Its peers are others.
    OtherPeers,
    /// Its ports are others.
    OtherPorts,
    /// It isolates the workload, and has no rule.
    NoRules,
}

/// One rule that was asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Asked {
    /// Of which policy.
    pub policy: PolicyRef,
    /// Which of its rules of the direction, from 0.
    pub rule: usize,
    /// What became of it.
    pub outcome: Outcome,
}

impl Asked {
    pub(crate) fn new(policy: PolicyRef, rule: usize, outcome: Outcome) -> Self {
        Self { policy, rule, outcome }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if self.passes() { "allowed" } else { "denied" })
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToItself => f.pad("a workload always reaches itself"),
            Self::OwnHost => f.pad("the host that runs a workload always reaches it"),
            Self::Border => {
                f.pad("it crosses the border between two tenants, and no grant of this side covers it")
            }
            Self::RouterOnly => f.pad("only routers send router advertisements and redirects"),
            Self::Essential => f.pad("IP itself needs it (RFC 4890)"),
            Self::Rule { policy, rule } => write!(f, "rule {rule} of {policy}"),
            Self::Isolated(policies) => {
                f.write_str("no rule allows it, of ")?;
                for (index, policy) in policies.iter().enumerate() {
                    write!(f, "{}{policy}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::Unselected => f.pad("no policy is about it"),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.verdict, self.because)
    }
}
