//! How many workloads of which kind are in which place, kept current. No I/O, no clock, no async.
//!
//! Workloads that are alike to all selectors are one *group*; a selector with a topology is one *rule*. Which rules
//! select a group is found once. A workload that comes or goes changes one number for each rule that selects it,
//! however many workloads there are.

use std::collections::BTreeMap;

use hivemind_core::labels::{Labels, Selector};

use super::intern::Interner;
use super::rule::{Counted, Kind, Rule};
use super::scopes::Scopes;
use super::shapes::Shapes;
use crate::placement::rules::Stance;
use crate::placement::{Node, Topology};

#[derive(Debug, Clone)]
struct Group {
    tenant: usize,
    labels: Labels,
    generation: u64,
    terminating: bool,
    spread_key: Option<String>,
    /// The rules that select it.
    rules: Vec<usize>,
    /// The workloads, by number.
    members: Vec<usize>,
}

impl Group {
    fn kind(&self) -> Kind<'_> {
        Kind {
            tenant: self.tenant,
            labels: &self.labels,
            generation: self.generation,
            terminating: self.terminating,
            spread_key: self.spread_key.as_deref(),
        }
    }
}

/// What a workload says about others: of those that a rule selects, this.
pub(super) type Held = Vec<(usize, Stance)>;

/// The places of one topology.
#[derive(Debug, Clone)]
struct Places {
    topology: Topology,
    /// By name, unless each node is its own.
    names: BTreeMap<String, usize>,
    /// By slot.
    of: Vec<Option<usize>>,
}

impl Places {
    fn renew(&mut self, slot: usize, node: Option<&Node>) {
        let place = node.and_then(|node| match &self.topology {
            Topology::Node => Some(slot),
            topology => {
                let (name, next) = (topology.domain(node)?, self.names.len());
                Some(match self.names.get(name) {
                    Some(place) => *place,
                    None => *self.names.entry(name.to_owned()).or_insert(next),
                })
            }
        });
        if slot >= self.of.len() {
            self.of.resize(slot + 1, None);
        }
        if let Some(of) = self.of.get_mut(slot) {
            *of = place;
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    topologies: Vec<Places>,
    pub(super) scopes: Scopes,
    groups: Vec<Group>,
    group_index: Interner,
    rules: Vec<Rule>,
    rule_index: Interner,
    of_tenant: BTreeMap<usize, OfTenant>,
}

/// The groups and rules of one tenant.
#[derive(Debug, Clone, Default)]
struct OfTenant {
    groups: Vec<usize>,
    /// Those that ask for no spread key.
    rules: Vec<usize>,
    /// By spread key. Each service may have one of its own: who asks for one must not look at all the others.
    keyed: BTreeMap<String, Keyed>,
}

/// The groups that have a spread key, and the rules that ask for it.
#[derive(Debug, Clone, Default)]
struct Keyed {
    groups: Vec<usize>,
    rules: Vec<usize>,
}

impl Counters {
    /// How many groups and rules there are.
    pub(super) fn len(&self) -> usize {
        self.groups.len() + self.rules.len()
    }

    /// The kind of a group.
    pub(super) fn kind(&self, group: usize) -> Option<Kind<'_>> {
        self.groups.get(group).map(Group::kind)
    }

    /// The selectors and the topology of a rule.
    pub(super) fn term(&self, rule: usize) -> Option<(Vec<&Selector>, &Topology)> {
        let rule = self.rules.get(rule)?;
        Some((rule.wanted.selectors.iter().collect(), &self.topologies.get(rule.topology)?.topology))
    }

    /// Where `slot` is, by the topology of that number.
    pub(super) fn place(&self, topology: usize, slot: usize) -> Option<usize> {
        self.topologies.get(topology)?.of.get(slot).copied().flatten()
    }

    pub(super) fn rule(&self, at: usize) -> Option<&Rule> {
        self.rules.get(at)
    }

    /// Where `slot` is for a rule.
    pub(super) fn place_of(&self, rule: &Rule, slot: usize) -> Option<usize> {
        self.place(rule.topology, slot)
    }

    /// The rules that select a group.
    pub(super) fn rules_of(&self, group: usize) -> &[usize] {
        self.groups.get(group).map_or(&[], |group| &group.rules)
    }

    /// The workloads that a rule selects, by number.
    pub(super) fn selected(&self, at: usize) -> impl Iterator<Item = usize> {
        let of = self.rules.get(at).and_then(|rule| self.of_tenant.get(&rule.tenant));
        let groups = of.into_iter().flat_map(|of| &of.groups).filter_map(|group| self.groups.get(*group));
        groups.filter(move |group| group.rules.contains(&at)).flat_map(|group| group.members.iter().copied())
    }

    /// Finds the places where a rule counts, if they are not known.
    pub(super) fn learn_places(&mut self, rule: usize) {
        let Some(rule) = self.rules.get(rule) else { return };
        if let Some((scope, places)) = rule.wanted.scope.zip(self.topologies.get(rule.topology)) {
            self.scopes.learn_places(scope, rule.topology, &places.of);
        }
    }

    /// The places where a rule counts, with the nodes that do.
    pub(super) fn places(&self, rule: &Rule) -> &[(usize, Vec<usize>)] {
        rule.wanted.scope.map_or(&[], |scope| self.scopes.places(scope, rule.topology))
    }

    /// Whether a rule counts what runs at `slot`.
    pub(super) fn counts_at(&self, rule: &Rule, slot: usize) -> bool {
        rule.wanted.scope.is_none_or(|scope| self.scopes.counts(scope, slot))
    }

    /// `node` is at `slot` now, or nothing is. What runs there must not be counted at this time.
    pub(super) fn renew(&mut self, slot: usize, node: Option<&Node>, shapes: &Shapes) {
        self.topologies.iter_mut().for_each(|places| places.renew(slot, node));
        self.scopes.renew(slot, node, shapes);
    }

    /// The number of a topology.
    pub(super) fn topology<'n>(
        &mut self,
        topology: &Topology,
        nodes: impl Iterator<Item = (usize, &'n Node)>,
    ) -> usize {
        if let Some(at) = self.topologies.iter().position(|places| places.topology == *topology) {
            return at;
        }
        let mut places = Places { topology: topology.clone(), names: BTreeMap::new(), of: Vec::new() };
        nodes.for_each(|(slot, node)| places.renew(slot, Some(node)));
        self.topologies.push(places);
        self.topologies.len() - 1
    }

    /// The number of a group.
    pub(super) fn group(&mut self, kind: Kind<'_>) -> usize {
        let hash = self.group_index.hash(&kind);
        let same = |at: usize| self.groups.get(at).is_some_and(|group| group.kind() == kind);
        if let Some(at) = self.group_index.find(hash, same) {
            return at;
        }
        let new = self.groups.len();
        let of = self.of_tenant.entry(kind.tenant).or_default();
        of.groups.push(new);
        let mut rules = of.rules.clone();
        if let Some(key) = kind.spread_key {
            let keyed = of.keyed.entry(key.to_owned()).or_default();
            keyed.groups.push(new);
            rules.extend(&keyed.rules);
        }
        rules.retain(|at| self.rules.get(*at).is_some_and(|rule| rule.wanted.selects(&kind)));
        let group = Group {
            tenant: kind.tenant,
            labels: kind.labels.clone(),
            generation: kind.generation,
            terminating: kind.terminating,
            spread_key: kind.spread_key.map(str::to_owned),
            rules,
            members: Vec::new(),
        };
        self.groups.push(group);
        self.group_index.add(hash, new)
    }

    /// The group of those that are like `group`, and on their way out.
    pub(super) fn leaving(&mut self, group: usize) -> usize {
        let Some(like) = self.groups.get(group) else { return group };
        let (labels, spread_key) = (like.labels.clone(), like.spread_key.clone());
        let (tenant, generation) = (like.tenant, like.generation);
        let spread_key = spread_key.as_deref();
        self.group(Kind { tenant, labels: &labels, generation, terminating: true, spread_key })
    }

    /// The number of a rule. A new one counts what is there; `slot` tells where a workload is, unless its node is lost.
    pub(super) fn rule_for(
        &mut self,
        tenant: usize,
        counted: Counted<'_>,
        topology: usize,
        slot: impl Fn(usize) -> Option<usize>,
    ) -> usize {
        let hash = self.rule_index.hash(&(tenant, counted, topology));
        let same = |at: usize| {
            self.rules.get(at).is_some_and(|rule| {
                rule.tenant == tenant && rule.topology == topology && rule.wanted.is(counted)
            })
        };
        if let Some(at) = self.rule_index.find(hash, same) {
            return at;
        }
        let new = self.rules.len();
        let mut rule = Rule::new(tenant, counted, topology);
        let of = self.of_tenant.entry(tenant).or_default();
        let groups = if let Counted::Key(key) = counted {
            let keyed = of.keyed.entry(key.to_owned()).or_default();
            keyed.rules.push(new);
            &keyed.groups
        } else {
            of.rules.push(new);
            &of.groups
        };
        let places = self.topologies.get(topology);
        let place = |slot: usize| places?.of.get(slot).copied().flatten();
        for at in groups {
            let Some(group) = self.groups.get_mut(*at) else { continue };
            if !rule.wanted.selects(&group.kind()) {
                continue;
            }
            group.rules.push(new);
            let scope = rule.wanted.scope;
            let counts = |slot: &usize| scope.is_none_or(|one| self.scopes.counts(one, *slot));
            for place in group.members.iter().filter_map(|one| slot(*one)).filter(counts).filter_map(place) {
                rule.change(place, true);
            }
        }
        self.rules.push(rule);
        self.rule_index.add(hash, new)
    }

    /// The workload of that number is one of `group` now; returns which.
    pub(super) fn join(&mut self, group: usize, number: usize) -> usize {
        let Some(group) = self.groups.get_mut(group) else { return 0 };
        group.members.push(number);
        group.members.len() - 1
    }

    /// The member of `group` in that place is none any more; returns who has its place now.
    pub(super) fn leave(&mut self, group: usize, member: usize) -> Option<usize> {
        let members = &mut self.groups.get_mut(group)?.members;
        if member < members.len() {
            members.swap_remove(member);
        }
        members.get(member).copied()
    }

    /// A workload of `group` that says `held` about others counts at `slot` now, or no longer. On a lost node none does.
    pub(super) fn count(&mut self, slot: usize, group: usize, held: &[(usize, Stance)], more: bool) {
        let Self { topologies, scopes, groups, rules, .. } = self;
        let place = |rule: &Rule| {
            let counts = rule.wanted.scope.is_none_or(|scope| scopes.counts(scope, slot));
            topologies.get(rule.topology)?.of.get(slot).copied().flatten().filter(|_| counts)
        };
        for at in groups.get(group).map_or(&[][..], |group| &group.rules) {
            let Some(rule) = rules.get_mut(*at) else { continue };
            if let Some(place) = place(rule) {
                rule.change(place, more);
            }
        }
        for (at, stance) in held {
            let Some(rule) = rules.get_mut(*at) else { continue };
            if let Some(place) = place(rule) {
                rule.hold(*stance, place, more);
            }
        }
    }
}
