//! The evaluator: what policies mean, in the plainest words. It looks at every policy; [`Engine`](super::Engine) gives
//! the same answers from tables. No I/O, no clock, no async.

use std::net::IpAddr;
use std::sync::Arc;

use hivemind_core::NodeId;

use crate::addr::IpFamily;

use super::model::Other;
use super::{
    Action, AnyPolicy, Asked, Because, ClusterPolicy, Decision, Direction, Endpoint, Flow, Grant, Home,
    InvalidFlow, NamedPorts, NetworkPolicy, Outcome, Party, PolicyRef, Side, Tier, Traffic, Verdict, World,
};

/// One end of a flow, looked up.
#[derive(Clone, Copy)]
pub(super) enum End<'a> {
    Workload(&'a Endpoint),
    Host(&'a NodeId, IpAddr),
    Outside(IpAddr),
}

/// Of more rules of a tenant's policies than this, those that mean another end are counted and not listed.
pub(super) const LISTED: usize = 64;

/// The policies to be asked about one workload; the evaluator takes all there are, the engine those that select it.
#[derive(Default)]
pub(super) struct Applicable<'a> {
    /// In the order in which they are asked.
    pub(super) cluster: Vec<&'a ClusterPolicy>,
    pub(super) network: Vec<&'a NetworkPolicy>,
    pub(super) grants: Vec<&'a Grant>,
    /// If `network` has those alone that mean the other end or have no rules: what there is in all.
    pub(super) all: Option<All>,
}

/// The policies of a tenant that select a workload, in one direction.
pub(super) struct All {
    /// Those that isolate it, in order.
    pub(super) isolating: Arc<[PolicyRef]>,
    /// How many rules they have: more than [`LISTED`].
    pub(super) rules: usize,
}

/// What an end tells while it decides.
pub(super) enum Told {
    Rule(Asked),
    /// So many rules mean other ends than this one.
    Others(usize),
}

impl<'a> Applicable<'a> {
    pub(super) fn of(policies: impl Iterator<Item = &'a AnyPolicy>) -> Self {
        let mut all = Self::default();
        for policy in policies {
            match policy {
                AnyPolicy::Cluster(policy) => all.cluster.push(policy),
                AnyPolicy::Network(policy) => all.network.push(policy),
                AnyPolicy::Grant(grant) => all.grants.push(grant),
            }
        }
        all.cluster.sort_unstable();
        all.network.sort_unstable();
        all.grants.sort_unstable();
        all
    }
}

/// One end's question: may `traffic` pass between `subject` and `peer`?
pub(super) struct Question<'a> {
    pub(super) direction: Direction,
    pub(super) subject: &'a Endpoint,
    pub(super) peer: End<'a>,
    pub(super) other: Other<'a>,
    pub(super) traffic: Traffic,
    pub(super) receiver: &'a NamedPorts,
}

impl Question<'_> {
    /// What this end says. Every rule that is asked is told to `tell`.
    pub(super) fn decide(&self, policies: &Applicable<'_>, tell: &mut impl FnMut(Told)) -> Side {
        let (passes, because) = self
            .fixed_rules(policies, tell)
            .or_else(|| self.cluster(Tier::Admin, policies, tell))
            .or_else(|| self.network(policies, tell))
            .or_else(|| self.cluster(Tier::Baseline, policies, tell))
            .unwrap_or((true, Because::Unselected));
        Side { verdict: Verdict::of(passes), because }
    }

    /// Why it passes whatever policies say, if it does.
    pub(super) fn always(&self) -> Option<Because> {
        match self.peer {
            End::Workload(peer) if peer.key() == self.subject.key() => Some(Because::ToItself),
            End::Host(node, _) if self.direction == Direction::Ingress && node == self.subject.node() => {
                Some(Because::OwnHost)
            }
            _ => None,
        }
    }

    fn fixed_rules(&self, policies: &Applicable<'_>, tell: &mut impl FnMut(Told)) -> Option<(bool, Because)> {
        if let Some(because) = self.always() {
            return Some((true, because));
        }
        if let End::Workload(peer) = self.peer
            && peer.profile().tenant() != self.subject.profile().tenant()
            && !self.is_granted(peer, policies, tell)
        {
            return Some((false, Because::Border));
        }
        if self.direction == Direction::Egress && self.traffic.is_from_routers() {
            return Some((false, Because::RouterOnly));
        }
        self.traffic.is_essential().then_some((true, Because::Essential))
    }

    fn is_granted(&self, peer: &Endpoint, policies: &Applicable<'_>, tell: &mut impl FnMut(Told)) -> bool {
        let own = self.subject.profile();
        let mut granted = false;
        for grant in &policies.grants {
            if grant.direction() != self.direction || !grant.selects(own) {
                continue;
            }
            let outcome = if !grant.reaches(peer.profile()) {
                Outcome::OtherPeers
            } else if !grant.covers(self.traffic, self.receiver) {
                Outcome::OtherPorts
            } else {
                granted = true;
                Outcome::Applied(Action::Allow)
            };
            let name = PolicyRef::Grant(grant.by().clone(), grant.name().clone());
            tell(Told::Rule(Asked::new(name, 0, outcome)));
        }
        granted
    }

    /// The first rule of the tier that allows or denies; `None` if none does, or if one says to pass on.
    fn cluster(
        &self,
        tier: Tier,
        policies: &Applicable<'_>,
        tell: &mut impl FnMut(Told),
    ) -> Option<(bool, Because)> {
        let subject = self.subject.profile();
        let home = Home { tenant: subject.tenant(), namespace: None };
        for policy in
            policies.cluster.iter().filter(|policy| policy.tier() == tier && policy.selects(subject))
        {
            let name = PolicyRef::Cluster(policy.name().clone());
            for (index, one) in policy.rules(self.direction).iter().enumerate() {
                let outcome = self.outcome(one.rule(), home, one.action());
                tell(Told::Rule(Asked::new(name.clone(), index, outcome)));
                let because = || Because::Rule { policy: name.clone(), rule: index };
                match outcome {
                    Outcome::Applied(Action::Allow) => return Some((true, because())),
                    Outcome::Applied(Action::Deny) => return Some((false, because())),
                    Outcome::Applied(Action::Pass) => return None,
                    _ => {}
                }
            }
        }
        None
    }

    /// Whether one of the policies that isolate the workload allows it; `None` if it is not isolated.
    fn network(&self, policies: &Applicable<'_>, tell: &mut impl FnMut(Told)) -> Option<(bool, Because)> {
        let selecting = policies.network.iter().filter(|policy| policy.selects(self.subject.profile()));
        let selecting: Vec<_> =
            selecting.filter_map(|policy| Some((*policy, policy.spec().rules(self.direction)?))).collect();
        let count = || selecting.iter().map(|(_, rules)| rules.len()).sum();
        let total = policies.all.as_ref().map_or_else(count, |all| all.rules);
        let (mut others, mut allowed) = (total, None);
        for (policy, rules) in &selecting {
            if rules.is_empty() {
                tell(Told::Rule(Asked::new(policy.key(), 0, Outcome::NoRules)));
            }
            for (index, rule) in rules.iter().enumerate() {
                let outcome = self.outcome(rule, policy.home(), Action::Allow);
                if outcome == Outcome::OtherPeers && total > LISTED {
                    continue;
                }
                others = others.saturating_sub(1);
                if matches!(outcome, Outcome::Applied(_)) && allowed.is_none() {
                    allowed = Some(Because::Rule { policy: policy.key(), rule: index });
                }
                tell(Told::Rule(Asked::new(policy.key(), index, outcome)));
            }
        }
        if others > 0 {
            tell(Told::Others(others));
        }
        let isolating = || match &policies.all {
            Some(all) => all.isolating.clone(),
            None => selecting.iter().map(|(policy, _)| policy.key()).collect(),
        };
        match allowed {
            Some(because) => Some((true, because)),
            None if selecting.is_empty() && policies.all.is_none() => None,
            None => Some((false, Because::Isolated(isolating()))),
        }
    }

    fn outcome(&self, rule: &super::PolicyRule, home: Home<'_>, action: Action) -> Outcome {
        if !rule.has_peer(home, self.other) {
            Outcome::OtherPeers
        } else if !rule.has_port(self.traffic, self.receiver) {
            Outcome::OtherPorts
        } else {
            Outcome::Applied(action)
        }
    }
}

/// A flow with both of its ends looked up.
pub(super) struct Ends<'a> {
    world: &'a World,
    from: End<'a>,
    to: End<'a>,
    family: IpFamily,
    traffic: Traffic,
}

const NO_PORTS: &NamedPorts = &NamedPorts::NONE;

impl<'a> Ends<'a> {
    pub(super) fn find(world: &'a World, flow: &'a Flow) -> Result<Self, InvalidFlow> {
        let Flow { from, to, family, traffic } = flow;
        if !traffic.fits(*family) {
            return Err(InvalidFlow::NoSuchTraffic { traffic: *traffic, family: *family });
        }
        let (from, to) = (end(world, from, *family)?, end(world, to, *family)?);
        let ends = Self { world, from, to, family: *family, traffic: *traffic };
        ends.check_outside(from, to)?;
        ends.check_outside(to, from)?;
        match (from, to) {
            (End::Workload(_), _) | (_, End::Workload(_)) => Ok(ends),
            _ => Err(InvalidFlow::NotOurs),
        }
    }

    /// An outside address must not be that of a workload in the network of the other end.
    fn check_outside(&self, end: End<'_>, other: End<'_>) -> Result<(), InvalidFlow> {
        if let (End::Outside(address) | End::Host(_, address), End::Workload(other)) = (end, other)
            && let Some(found) = self.world.at(other.profile().tenant(), address)
        {
            return Err(InvalidFlow::IsWorkload { address, key: found.key() });
        }
        Ok(())
    }

    pub(super) fn both(&self) -> (End<'a>, End<'a>) {
        (self.from, self.to)
    }

    /// Whether it is from a workload to itself, or from its host to it.
    pub(super) fn is_always_open(&self) -> bool {
        match (self.from, self.to) {
            (End::Workload(from), End::Workload(to)) => from.key() == to.key(),
            (End::Host(node, _), End::Workload(to)) => node == to.node(),
            _ => false,
        }
    }

    /// The question of the end that `direction` is about, if it is a workload.
    pub(super) fn question(&self, direction: Direction) -> Option<Question<'a>> {
        let (subject, peer) = direction.of(((self.to, self.from), (self.from, self.to)));
        let End::Workload(subject) = subject else { return None };
        let tenant = subject.profile().tenant();
        let (profile, address) = match peer {
            End::Workload(peer) => {
                let own = peer.profile().tenant() == tenant;
                (Some(peer.profile().as_ref()), peer.address(self.family).filter(|_| own))
            }
            End::Host(_, address) | End::Outside(address) => (None, Some(address)),
        };
        let names = address.and_then(|address| self.world.names(tenant, address));
        let receiver = match self.to {
            End::Workload(receiver) => receiver.profile().ports(),
            End::Host(..) | End::Outside(_) => NO_PORTS,
        };
        let other = Other { profile, address, names };
        Some(Question { direction, subject, peer, other, traffic: self.traffic, receiver })
    }
}

fn end<'a>(world: &'a World, party: &'a Party, family: IpFamily) -> Result<End<'a>, InvalidFlow> {
    let checked = |address: &IpAddr| {
        let address = address.to_canonical();
        let fits = IpFamily::of(address) == family;
        if fits { Ok(address) } else { Err(InvalidFlow::WrongFamily { address, family }) }
    };
    match party {
        Party::Workload(key) => {
            let found = world.endpoint(key).ok_or_else(|| InvalidFlow::NoWorkload(key.clone()))?;
            let has = found.address(family).is_some();
            if has {
                Ok(End::Workload(found))
            } else {
                Err(InvalidFlow::NoAddress { key: key.clone(), family })
            }
        }
        Party::Host(node, address) => Ok(End::Host(node, checked(address)?)),
        Party::Outside(address) => Ok(End::Outside(checked(address)?)),
    }
}

impl World {
    /// May this pass, and why? It looks at every policy; the answer is what policies mean.
    ///
    /// # Errors
    /// [`InvalidFlow`]: there is no such flow.
    pub fn reach(&self, flow: &Flow) -> Result<Decision, InvalidFlow> {
        let ends = Ends::find(self, flow)?;
        let policies = Applicable::of(self.policies());
        let side = |direction| Some(ends.question(direction)?.decide(&policies, &mut |_| ()));
        Ok(Decision::new(side(Direction::Egress), side(Direction::Ingress)))
    }
}
