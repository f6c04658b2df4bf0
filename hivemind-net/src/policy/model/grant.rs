//! One tenant's half of an opening in the border to another. No I/O, no clock, no async.

use hivemind_core::TenantRef;
use hivemind_core::labels::Selector;
use serde::{Deserialize, Serialize};

use super::profile::NamedPorts;
use super::{Direction, PolicyName, PortMatch, Profile, Traffic};

/// To whom a tenant grants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GrantTo {
    /// Just this tenant. One that is created later under its name is another.
    Tenant(TenantRef),
    /// Every tenant whose labels match: for services that many use.
    Matching(Selector),
}

/// What a tenant lets pass between its own workloads and those of another, in one direction as it sees it.
///
/// A flow from A to B crosses the border when an egress grant of A and an ingress grant of B both cover it. A grant only
/// opens the border: the policies of both then decide as for any other flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    by: TenantRef,
    name: PolicyName,
    direction: Direction,
    to: GrantTo,
    /// Absent selectors are no condition.
    #[serde(default, skip_serializing_if = "Selector::is_everything")]
    own: Selector,
    #[serde(default, skip_serializing_if = "Selector::is_everything")]
    peers: Selector,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<PortMatch>,
}

impl Grant {
    /// All traffic of `direction` between all workloads of `by` and all of `to`, until narrowed.
    pub fn new(by: TenantRef, name: PolicyName, direction: Direction, to: GrantTo) -> Self {
        let (own, peers) = (Selector::everything(), Selector::everything());
        Self { by, name, direction, to, own, peers, ports: Vec::new() }
    }

    /// Only for own workloads with matching labels.
    #[must_use]
    pub fn for_own(self, own: Selector) -> Self {
        Self { own, ..self }
    }

    /// Only with workloads of the other tenant with matching labels.
    #[must_use]
    pub fn with_peers(self, peers: Selector) -> Self {
        Self { peers, ..self }
    }

    /// Only to `port` too. Without any port, all traffic is meant.
    #[must_use]
    pub fn with_port(mut self, port: PortMatch) -> Self {
        self.ports.push(port);
        self
    }

    /// Whose it is.
    pub fn by(&self) -> &TenantRef {
        &self.by
    }

    /// Its name, unique in its tenant.
    pub fn name(&self) -> &PolicyName {
        &self.name
    }

    /// Its direction, as its tenant sees it.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Which of the own workloads.
    pub(crate) fn own(&self) -> &Selector {
        &self.own
    }

    /// To whom.
    pub fn to(&self) -> &GrantTo {
        &self.to
    }

    /// The ports; without any, all traffic.
    pub fn ports(&self) -> &[PortMatch] {
        &self.ports
    }

    /// Whether it is about own workloads of `own`.
    pub fn selects(&self, own: &Profile) -> bool {
        *own.tenant() == self.by && self.own.matches(own.labels())
    }

    /// Whether it is about workloads of `other`, of another tenant.
    pub fn reaches(&self, other: &Profile) -> bool {
        let meant = match &self.to {
            GrantTo::Tenant(tenant) => other.tenant() == tenant,
            GrantTo::Matching(selector) => selector.matches(other.tenant_labels()),
        };
        meant && *other.tenant() != self.by && self.peers.matches(other.labels())
    }

    /// Whether it is about `traffic` to a workload with the ports `receiver`.
    pub fn covers(&self, traffic: Traffic, receiver: &NamedPorts) -> bool {
        self.ports.is_empty() || self.ports.iter().any(|port| port.covers(traffic, receiver))
    }
}
