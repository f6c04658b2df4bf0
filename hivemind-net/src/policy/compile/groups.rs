//! Policies that select the same workloads, together: however many there are, a workload is matched with each way of
//! selecting once. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::sync::Arc;

use hivemind_core::labels::Selector;

use crate::slab::Slab;

use super::super::digest::{Mark, hash_of, short};
use super::super::{AnyPolicy, ClusterPolicy, Direction, PolicyName, Profile};
use super::index::{Few, Index, Lists};
use super::policies::Policy;

/// Whom a policy selects. Policies of the cluster have an order, so each is on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject<'a> {
    Cluster(&'a PolicyName),
    /// The namespace and the selector.
    Network(Mark, Mark),
    Grant(&'a Selector),
}

impl<'a> Subject<'a> {
    fn of(policy: &'a AnyPolicy) -> Self {
        match policy {
            AnyPolicy::Cluster(one) => Self::Cluster(one.name()),
            AnyPolicy::Network(one) => Self::Network(one.namespace_mark(), one.spec().digest().id),
            AnyPolicy::Grant(one) => Self::Grant(one.own()),
        }
    }

    /// The hash by which it is found.
    fn hash(self) -> u64 {
        match self {
            Self::Network(namespace, selector) => short(namespace).rotate_left(32) ^ short(selector),
            other => hash_of(&other),
        }
    }
}

/// Where policies of a tenant are looked for: in their namespace, by a label that all they select have.
fn place(namespace: Mark, label: Option<Mark>) -> u64 {
    short(namespace).rotate_left(32) ^ label.map_or(0, short)
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    /// One of its policies, of the past or the present: all select the same.
    like: Arc<AnyPolicy>,
    pub(super) policies: Few,
    /// How many named ports they have in ingress.
    naming: usize,
    /// How many rules they have in ingress and in egress, if they are network policies.
    rules: (usize, usize),
    /// Those that are asked about any peer: with a rule for everybody, or a direction without rules; and all that are no
    /// network policies.
    always: Few,
    /// The sets it is in.
    pub(super) sets: Few,
}

impl Group {
    fn like(policy: &Arc<AnyPolicy>) -> Self {
        Self {
            like: policy.clone(),
            policies: Few::default(),
            naming: 0,
            rules: (0, 0),
            always: Few::default(),
            sets: Few::default(),
        }
    }

    /// Whether they select workloads of this tenant that have `profile`.
    pub(super) fn selects(&self, profile: &Profile) -> bool {
        match &*self.like {
            AnyPolicy::Cluster(policy) => policy.selects(profile),
            AnyPolicy::Network(policy) => {
                let digest = policy.spec().digest();
                policy.namespace_mark() == profile.namespace_mark()
                    && digest.may_mean(profile)
                    && (digest.exact || policy.spec().selector().matches(profile.labels()))
            }
            AnyPolicy::Grant(grant) => grant.selects(profile),
        }
    }

    /// The namespace of those it selects, and perhaps a label of theirs; `None` if they may be anywhere.
    pub(super) fn where_about(&self) -> Option<(Mark, Option<Mark>)> {
        match &*self.like {
            AnyPolicy::Network(policy) => Some((policy.namespace_mark(), policy.spec().digest().label())),
            AnyPolicy::Cluster(_) | AnyPolicy::Grant(_) => None,
        }
    }

    /// How many rules its network policies have.
    pub(super) fn rules(&self, direction: Direction) -> usize {
        direction.of(self.rules)
    }

    /// The policies that are asked about any peer.
    pub(super) fn always(&self) -> impl Iterator<Item = u32> {
        self.always.iter()
    }

    fn take(&mut self, number: u32, has: Has) {
        self.policies.insert(number);
        self.naming += has.naming;
        self.rules = (self.rules.0 + has.rules.0, self.rules.1 + has.rules.1);
        if has.always {
            self.always.insert(number);
        }
    }

    fn give(&mut self, number: u32, has: Has) {
        self.policies.remove(number);
        self.naming = self.naming.saturating_sub(has.naming);
        self.rules = (self.rules.0.saturating_sub(has.rules.0), self.rules.1.saturating_sub(has.rules.1));
        self.always.remove(number);
    }

    /// Whether a policy has a named port in ingress.
    pub(super) fn names_ports(&self) -> bool {
        self.naming > 0
    }
}

/// What a policy brings into its group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Has {
    /// How many named ports it has in ingress.
    pub(super) naming: usize,
    /// How many rules it has in ingress and in egress, if it is a network policy.
    pub(super) rules: (usize, usize),
    /// Whether it is asked about any peer.
    pub(super) always: bool,
}

/// What the coming or going of a policy does to its group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Joined {
    /// The group is new, or empty now.
    pub(super) alone: bool,
    /// It has named ports in ingress only now, or no longer.
    pub(super) naming: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Groups {
    all: Slab<Group>,
    numbers: Index,
    /// In the order in which they are asked.
    cluster: Vec<u32>,
    grants: BTreeSet<u32>,
    network: Lists,
    /// How many groups of network policies there are.
    networks: usize,
}

impl Groups {
    /// Takes a policy; tells its group.
    pub(super) fn join(&mut self, number: u32, policy: &Policy) -> (u32, Joined) {
        let (has, policy) = (policy.has(), &policy.source);
        let subject = Subject::of(policy);
        let hash = subject.hash();
        let same =
            |group| self.all.get(group).is_some_and(|found: &Group| Subject::of(&found.like) == subject);
        if let Some(group) = self.numbers.find(hash, same)
            && let Some(found) = self.all.get_mut(group)
        {
            let before = found.naming;
            found.take(number, has);
            return (group, Joined { alone: false, naming: before == 0 && has.naming > 0 });
        }
        let mut group = Group::like(policy);
        group.take(number, has);
        let group = self.all.insert(group);
        self.numbers.insert(hash, group);
        match &**policy {
            AnyPolicy::Network(one) => {
                self.network.insert(place(one.namespace_mark(), one.spec().digest().label()), group);
                self.networks += 1;
            }
            AnyPolicy::Grant(_) => {
                self.grants.insert(group);
            }
            AnyPolicy::Cluster(one) => {
                let at = self.cluster.partition_point(|other| self.is_before(*other, one));
                self.cluster.insert(at, group);
            }
        }
        (group, Joined { alone: true, naming: has.naming > 0 })
    }

    fn is_before(&self, group: u32, policy: &ClusterPolicy) -> bool {
        match self.all.get(group).map(|found| &*found.like) {
            Some(AnyPolicy::Cluster(other)) => other < policy,
            _ => true,
        }
    }

    /// Lets a policy go. An empty group selects nobody any more; it stays until [`Groups::remove`].
    pub(super) fn leave(&mut self, number: u32, policy: &Policy) -> Joined {
        let (group, has) = (policy.group, policy.has());
        let Some(found) = self.all.get_mut(group) else { return Joined::default() };
        let before = found.naming;
        found.give(number, has);
        let joined = Joined { alone: found.policies.is_empty(), naming: before > 0 && found.naming == 0 };
        if joined.alone {
            self.numbers.remove(Subject::of(&found.like).hash(), group);
            match &*found.like {
                AnyPolicy::Network(one) => {
                    self.network.remove(place(one.namespace_mark(), one.spec().digest().label()), group);
                    self.networks = self.networks.saturating_sub(1);
                }
                AnyPolicy::Grant(_) => {
                    self.grants.remove(&group);
                }
                AnyPolicy::Cluster(_) => self.cluster.retain(|other| *other != group),
            }
        }
        joined
    }

    pub(super) fn remove(&mut self, group: u32) {
        self.all.remove(group);
    }

    pub(super) fn get(&self, group: u32) -> Option<&Group> {
        self.all.get(group)
    }

    pub(super) fn get_mut(&mut self, group: u32) -> Option<&mut Group> {
        self.all.get_mut(group)
    }

    /// Whether there is one of the tenant.
    pub(super) fn any_own(&self) -> bool {
        self.networks > 0 || !self.grants.is_empty()
    }

    /// The grants, by number.
    pub(super) fn grants(&self) -> impl Iterator<Item = u32> {
        self.grants.iter().filter_map(|group| self.all.get(*group)).flat_map(|group| group.policies.iter())
    }

    /// Those that select `profile`: of the cluster in their order, then of the tenant, then of grants.
    pub(super) fn selecting(&self, profile: &Profile) -> Vec<u32> {
        let selects = |number: &u32| self.all.get(*number).is_some_and(|group| group.selects(profile));
        let mut found: Vec<u32> = self.cluster.iter().copied().filter(selects).collect();
        let cluster = found.len();
        let namespace = profile.namespace_mark();
        for label in profile.own_marks().iter().copied().map(Some).chain([None]) {
            found.extend(self.network.all(place(namespace, label)).filter(selects));
        }
        if let Some(network) = found.get_mut(cluster..) {
            network.sort_unstable();
        }
        // Two labels with one place would find a group twice.
        found.dedup();
        found.extend(self.grants.iter().copied().filter(selects));
        found
    }
}
