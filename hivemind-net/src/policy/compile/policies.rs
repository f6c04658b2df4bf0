//! The policies of a domain, with their rules resolved to selectors and port ranges. No I/O, no clock, no async.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hivemind_core::Namespace;

use super::super::{Action, AnyPolicy, Direction, NamedPort, PolicyRef, PortMatch, Profile, Tier};
use super::selectors::{Axis, LabelAt, label_of};
use super::slab::Slab;

/// The whole range of [`Traffic`](super::super::Traffic)'s keys.
pub(super) const ALL_KEYS: (u32, u32) = (0, 0x00ff_ffff);

/// When a rule is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Admin,
    Network,
    Baseline,
    /// At the border, beside all others.
    Grant,
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) action: Action,
    /// The selectors, any of which must match; `None` is everybody.
    pub(super) peers: Option<Vec<u32>>,
    pub(super) ranges: Vec<(u32, u32)>,
    pub(super) names: Vec<NamedPort>,
}

impl Rule {
    pub(super) fn new(action: Action, peers: Option<Vec<u32>>, ports: &[PortMatch]) -> Self {
        let ranges: Vec<_> = if ports.is_empty() {
            vec![ALL_KEYS]
        } else {
            ports.iter().filter_map(PortMatch::keys).collect()
        };
        let names = ports.iter().filter_map(PortMatch::name).cloned().collect();
        Self { action, peers, ranges, names }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) source: Arc<AnyPolicy>,
    pub(super) stage: Stage,
    /// Of each direction; `None` leaves it alone.
    pub(super) ingress: Option<Vec<Rule>>,
    pub(super) egress: Option<Vec<Rule>>,
    /// The sets it is in.
    pub(super) sets: BTreeSet<u32>,
}

impl Policy {
    pub(super) fn new(source: Arc<AnyPolicy>) -> Self {
        let stage = match &*source {
            AnyPolicy::Cluster(policy) if policy.tier() == Tier::Admin => Stage::Admin,
            AnyPolicy::Cluster(_) => Stage::Baseline,
            AnyPolicy::Network(_) => Stage::Network,
            AnyPolicy::Grant(_) => Stage::Grant,
        };
        Self { source, stage, ingress: None, egress: None, sets: BTreeSet::new() }
    }

    pub(super) fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        direction.of((self.ingress.as_deref(), self.egress.as_deref()))
    }

    pub(super) fn names(&self, direction: Direction) -> impl Iterator<Item = &NamedPort> {
        self.rules(direction).into_iter().flatten().flat_map(|rule| &rule.names)
    }

    pub(super) fn selects(&self, profile: &Profile) -> bool {
        match &*self.source {
            AnyPolicy::Cluster(policy) => policy.selects(profile),
            AnyPolicy::Network(policy) => policy.selects(profile),
            AnyPolicy::Grant(grant) => grant.selects(profile),
        }
    }
}

type Place = (Namespace, Option<LabelAt>);

fn place(policy: &AnyPolicy) -> Option<Place> {
    match policy {
        AnyPolicy::Network(policy) => {
            Some((policy.namespace().clone(), label_of(Axis::Workload, policy.spec().selector())))
        }
        AnyPolicy::Cluster(_) | AnyPolicy::Grant(_) => None,
    }
}

/// By number, by name, and by whom they select.
#[derive(Debug, Clone, Default)]
pub(super) struct Policies {
    all: Slab<Policy>,
    numbers: HashMap<PolicyRef, u32, FixedState>,
    /// In the order in which they are asked.
    cluster: Vec<u32>,
    grants: BTreeSet<u32>,
    network: HashMap<Place, BTreeSet<u32>, FixedState>,
    /// Those with named ports in egress.
    named: BTreeSet<u32>,
}

impl Policies {
    pub(super) fn insert(&mut self, policy: Policy) -> u32 {
        self.all.insert(policy)
    }

    /// From now on it is found.
    pub(super) fn show(&mut self, number: u32) {
        let Some(policy) = self.all.get(number) else { return };
        self.numbers.insert(policy.source.key(), number);
        if policy.names(Direction::Egress).next().is_some() {
            self.named.insert(number);
        }
        match &*policy.source {
            AnyPolicy::Network(_) => {
                if let Some(place) = place(&policy.source) {
                    self.network.entry(place).or_default().insert(number);
                }
            }
            AnyPolicy::Grant(_) => {
                self.grants.insert(number);
            }
            AnyPolicy::Cluster(one) => {
                let order = |at: &u32| match self.all.get(*at).map(|policy| &*policy.source) {
                    Some(AnyPolicy::Cluster(other)) => other.cmp(one),
                    _ => std::cmp::Ordering::Less,
                };
                let at = self.cluster.partition_point(|other| order(other).is_lt());
                self.cluster.insert(at, number);
            }
        }
    }

    /// From now on it is not found; what uses it still has it.
    pub(super) fn hide(&mut self, number: u32) {
        let Some(policy) = self.all.get(number) else { return };
        let key = policy.source.key();
        if self.numbers.get(&key) == Some(&number) {
            self.numbers.remove(&key);
        }
        self.named.remove(&number);
        self.grants.remove(&number);
        self.cluster.retain(|other| *other != number);
        if let Some(place) = place(&policy.source)
            && let Some(found) = self.network.get_mut(&place)
        {
            found.remove(&number);
            if found.is_empty() {
                self.network.remove(&place);
            }
        }
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Policy> {
        self.all.remove(number)
    }

    pub(super) fn number(&self, key: &PolicyRef) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Policy> {
        self.all.get(number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Policy> {
        self.all.get_mut(number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Policy)> {
        self.all.iter()
    }

    /// Whether there is one of the tenant.
    pub(super) fn any_own(&self) -> bool {
        !self.network.is_empty() || !self.grants.is_empty()
    }

    pub(super) fn grants(&self) -> impl Iterator<Item = &Policy> {
        self.grants.iter().filter_map(|number| self.all.get(*number))
    }

    /// Those with a named port in egress that is one of `profile`'s.
    pub(super) fn naming(&self, profile: &Profile) -> impl Iterator<Item = &Policy> {
        let all = self.named.iter().filter_map(|number| self.all.get(*number));
        all.filter(|policy| {
            let mut names = policy.names(Direction::Egress);
            names.any(|named| profile.ports().number(named.protocol, &named.name).is_some())
        })
    }

    /// Those that select `profile`: of the cluster in their order, then of the tenant, then grants.
    pub(super) fn selecting(&self, profile: &Profile) -> Vec<u32> {
        let selects = |number: &u32| self.all.get(*number).is_some_and(|policy| policy.selects(profile));
        let mut found: Vec<u32> = self.cluster.iter().copied().filter(selects).collect();
        let cluster = found.len();
        let labels = profile.labels().iter().map(|(k, v)| Some((Axis::Workload, k.clone(), v.clone())));
        for label in labels.chain([None]) {
            let place = (profile.namespace().clone(), label);
            found.extend(self.network.get(&place).into_iter().flatten().copied().filter(selects));
        }
        if let Some(network) = found.get_mut(cluster..) {
            network.sort_unstable();
        }
        found.extend(self.grants.iter().copied().filter(selects));
        found
    }
}
