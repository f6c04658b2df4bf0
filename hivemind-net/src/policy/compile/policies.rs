//! The policies of a domain, with their rules resolved to selectors and port ranges. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::smallvec;

use crate::slab::Slab;

use super::super::digest::{hash_of, short};
use super::super::model::name_mark;
use super::super::{Action, AnyPolicy, Direction, NamedPort, PolicyRef, PortMatch, Profile, Tier};
use super::groups::{Groups, Has, Joined};
use super::index::{Index, OneOrMore};

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
    pub(super) peers: Option<OneOrMore<u32>>,
    pub(super) ranges: OneOrMore<(u32, u32)>,
    pub(super) names: Box<[NamedPort]>,
}

impl Rule {
    pub(super) fn new(action: Action, peers: Option<OneOrMore<u32>>, ports: &[PortMatch]) -> Self {
        let ranges = if ports.is_empty() {
            smallvec![ALL_KEYS]
        } else {
            ports.iter().filter_map(PortMatch::keys).collect()
        };
        let names = ports.iter().filter_map(PortMatch::name).cloned().collect();
        Self { action, peers, ranges, names }
    }

    /// The selectors, any of which must match.
    pub(super) fn selectors(&self) -> &[u32] {
        self.peers.as_deref().unwrap_or_default()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) source: Arc<AnyPolicy>,
    pub(super) stage: Stage,
    /// Of each direction; `None` leaves it alone.
    rules: [Option<Box<[Rule]>>; 2],
    /// With those that select the same workloads.
    pub(super) group: u32,
}

impl Policy {
    /// With its rules of ingress and of egress.
    pub(super) fn new(source: Arc<AnyPolicy>, rules: [Option<Box<[Rule]>>; 2]) -> Self {
        let stage = match &*source {
            AnyPolicy::Cluster(policy) if policy.tier() == Tier::Admin => Stage::Admin,
            AnyPolicy::Cluster(_) => Stage::Baseline,
            AnyPolicy::Network(_) => Stage::Network,
            AnyPolicy::Grant(_) => Stage::Grant,
        };
        Self { source, stage, rules, group: u32::MAX }
    }

    pub(super) fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        let [ingress, egress] = &self.rules;
        direction.of((ingress, egress)).as_deref()
    }

    /// The selectors of all its rules, one for each use.
    pub(super) fn selectors(&self) -> impl Iterator<Item = u32> {
        let rules = self.rules.iter().flatten().flatten();
        rules.flat_map(Rule::selectors).copied()
    }

    pub(super) fn names(&self, direction: Direction) -> impl Iterator<Item = &NamedPort> {
        self.rules(direction).into_iter().flatten().flat_map(|rule| &rule.names)
    }

    /// Whether policies of a tenant have no order among themselves, and it is one.
    pub(super) fn is_unordered(&self) -> bool {
        matches!(self.stage, Stage::Network | Stage::Grant)
    }

    /// What it brings into its group.
    pub(super) fn has(&self) -> Has {
        let network = self.stage == Stage::Network;
        let rules = |direction| self.rules(direction).filter(|_| network);
        let always = |rules: &[Rule]| rules.is_empty() || rules.iter().any(|rule| rule.peers.is_none());
        let count = |direction| rules(direction).map_or(0, <[_]>::len);
        Has {
            naming: self.names(Direction::Ingress).count(),
            rules: (count(Direction::Ingress), count(Direction::Egress)),
            always: !network || Direction::ALL.into_iter().filter_map(rules).any(always),
        }
    }
}

/// The hash of a policy's name among those of a domain, all of whose own policies are of one tenant.
fn name_hash(policy: &Policy) -> u64 {
    match &*policy.source {
        AnyPolicy::Network(one) => short(one.name_mark()),
        AnyPolicy::Cluster(one) => hash_of(&(1_u8, one.name())),
        AnyPolicy::Grant(one) => hash_of(&(2_u8, one.name())),
    }
}

/// The same of a name.
fn ref_hash(name: &PolicyRef) -> u64 {
    match name {
        PolicyRef::Network(_, namespace, name) => short(name_mark(namespace, name)),
        PolicyRef::Cluster(name) => hash_of(&(1_u8, name)),
        PolicyRef::Grant(_, name) => hash_of(&(2_u8, name)),
    }
}

fn is_named(policy: &AnyPolicy, key: &PolicyRef) -> bool {
    match (policy, key) {
        (AnyPolicy::Network(one), PolicyRef::Network(tenant, namespace, name)) => {
            (one.name(), one.namespace(), one.tenant()) == (name, namespace, tenant)
        }
        (AnyPolicy::Cluster(one), PolicyRef::Cluster(name)) => one.name() == name,
        (AnyPolicy::Grant(one), PolicyRef::Grant(tenant, name)) => (one.name(), one.by()) == (name, tenant),
        _ => false,
    }
}

/// By number, by name, and by whom they select.
#[derive(Debug, Clone, Default)]
pub(super) struct Policies {
    all: Slab<Policy>,
    numbers: Index,
    pub(super) groups: Groups,
    /// Those with named ports in egress.
    named: BTreeSet<u32>,
}

impl Policies {
    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.all.reserve(more);
        self.numbers.reserve(more);
    }

    /// The number that the next one gets.
    pub(super) fn next(&self) -> u32 {
        self.all.next()
    }

    pub(super) fn insert(&mut self, policy: Policy) -> u32 {
        self.all.insert(policy)
    }

    /// From now on it is found, and selects workloads with its group; tells whether that is new, or has named ports in
    /// ingress only now.
    pub(super) fn show(&mut self, number: u32) -> Joined {
        let Some(policy) = self.all.get_mut(number) else { return Joined::default() };
        self.numbers.insert(name_hash(policy), number);
        if policy.names(Direction::Egress).next().is_some() {
            self.named.insert(number);
        }
        let (group, joined) = self.groups.join(number, policy);
        policy.group = group;
        joined
    }

    /// From now on it is not found, and no longer in its group; what uses it still has it. It tells whether the group
    /// is empty now, or has no named ports in ingress any more.
    pub(super) fn hide(&mut self, number: u32) -> Joined {
        let Some(policy) = self.all.get(number) else { return Joined::default() };
        self.numbers.remove(name_hash(policy), number);
        self.named.remove(&number);
        self.groups.leave(number, policy)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Policy> {
        self.all.remove(number)
    }

    pub(super) fn number(&self, key: &PolicyRef) -> Option<u32> {
        let is = |number| self.all.get(number).is_some_and(|policy: &Policy| is_named(&policy.source, key));
        self.numbers.find(ref_hash(key), is)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Policy> {
        self.all.get(number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Policy)> {
        self.all.iter()
    }

    /// Whether there is one of the tenant.
    pub(super) fn any_own(&self) -> bool {
        self.groups.any_own()
    }

    pub(super) fn grants(&self) -> impl Iterator<Item = &Policy> {
        self.groups.grants().filter_map(|number| self.all.get(number))
    }

    /// Those with a named port in egress that is one of `profile`'s.
    pub(super) fn naming(&self, profile: &Profile) -> impl Iterator<Item = &Policy> {
        let all = self.named.iter().filter_map(|number| self.all.get(*number));
        all.filter(|policy| {
            let mut names = policy.names(Direction::Egress);
            names.any(|named| profile.ports().number(named.protocol, &named.name).is_some())
        })
    }

    /// The policies of some groups, group by group.
    pub(super) fn of_groups(&self, groups: &[u32]) -> impl Iterator<Item = (u32, &Policy)> {
        let groups = groups.iter().filter_map(|group| self.groups.get(*group));
        let numbers = groups.flat_map(|group| group.policies.iter());
        numbers.filter_map(|number| Some((number, self.all.get(number)?)))
    }
}
