//! How many workloads of which kind are in which place, kept current. No I/O, no clock, no async.
//!
//! Workloads that are alike to all selectors are one *group*; a selector with a topology is one *rule*. Which rules
//! select a group is found once. A workload that comes or goes changes one number for each rule that selects it,
//! however many workloads there are.

use std::collections::BTreeMap;

use hivemind_core::labels::{CompiledSelector, Labels, Selector};

use super::intern::Interner;
use super::scopes::Scopes;
use super::shapes::Shapes;
use crate::placement::{Node, Topology};

/// What selectors can tell of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind<'a> {
    pub(super) tenant: usize,
    pub(super) labels: &'a Labels,
    pub(super) generation: u64,
    pub(super) terminating: bool,
    pub(super) spread_key: Option<&'a str>,
}

#[derive(Debug, Clone)]
struct Group {
    tenant: usize,
    labels: Labels,
    generation: u64,
    terminating: bool,
    spread_key: Option<String>,
    /// The rules that select it.
    rules: Vec<usize>,
    /// How many there are, by slot.
    on: BTreeMap<usize, u64>,
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

/// Which workloads of a tenant a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Counted<'a> {
    All,
    /// Those that all these selectors match.
    Labelled(&'a [&'a Selector]),
    /// The same, if they are live and of this generation, on nodes of this scope.
    Live(&'a [&'a Selector], u64, usize),
    /// The same, if they are live.
    Available(&'a [&'a Selector]),
    /// Those with this spread key.
    Key(&'a str),
}

/// What a rule keeps of [`Counted`].
#[derive(Debug, Clone)]
struct Wanted {
    selectors: Vec<Selector>,
    compiled: Vec<CompiledSelector>,
    live: bool,
    generation: Option<u64>,
    scope: Option<usize>,
    key: Option<String>,
}

impl Wanted {
    fn new(counted: Counted<'_>) -> Self {
        let (selectors, live) = match counted {
            Counted::All | Counted::Key(_) => (&[][..], false),
            Counted::Labelled(all) => (all, false),
            Counted::Live(all, ..) | Counted::Available(all) => (all, true),
        };
        let (generation, scope) = match counted {
            Counted::Live(_, generation, scope) => (Some(generation), Some(scope)),
            _ => (None, None),
        };
        let key = if let Counted::Key(key) = counted { Some(key.to_owned()) } else { None };
        let compiled = selectors.iter().map(|one| one.compile()).collect();
        let selectors = selectors.iter().map(|one| (*one).clone()).collect();
        Self { selectors, compiled, live, generation, scope, key }
    }

    fn is(&self, counted: Counted<'_>) -> bool {
        let same = |all: &[&Selector]| self.selectors.iter().eq(all.iter().copied());
        let (plain, any) = (!self.live && self.key.is_none(), self.generation.is_none());
        match counted {
            Counted::All => plain && self.selectors.is_empty(),
            Counted::Labelled(all) => plain && same(all),
            Counted::Live(all, generation, scope) => {
                same(all) && self.generation == Some(generation) && self.scope == Some(scope)
            }
            Counted::Available(all) => self.live && any && same(all),
            Counted::Key(key) => self.key.as_deref() == Some(key),
        }
    }

    fn selects(&self, kind: &Kind<'_>) -> bool {
        !(self.live && kind.terminating)
            && self.generation.is_none_or(|generation| kind.generation == generation)
            && self.key.as_deref().is_none_or(|key| kind.spread_key == Some(key))
            && self.compiled.iter().all(|one| one.matches(kind.labels))
    }
}

/// A selector with a topology, of one tenant.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    tenant: usize,
    wanted: Wanted,
    topology: usize,
    /// How many workloads it selects, by place.
    counts: Vec<u64>,
    total: u64,
    /// How many workloads must not be beside those it selects, by place.
    holders: Vec<u64>,
    held: u64,
}

fn add(counts: &mut Vec<u64>, at: usize, more: bool, by: u64) {
    if at >= counts.len() {
        counts.resize(at + 1, 0);
    }
    if let Some(count) = counts.get_mut(at) {
        *count = if more { count.saturating_add(by) } else { count.saturating_sub(by) };
    }
}

impl Rule {
    pub(super) fn count(&self, place: usize) -> u64 {
        self.counts.get(place).copied().unwrap_or_default()
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn is_held(&self) -> bool {
        self.held > 0
    }

    pub(super) fn holders(&self, place: usize) -> u64 {
        self.holders.get(place).copied().unwrap_or_default()
    }

    fn change(&mut self, place: usize, more: bool, by: u64) {
        add(&mut self.counts, place, more, by);
        self.total = if more { self.total.saturating_add(by) } else { self.total.saturating_sub(by) };
    }
}

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
    /// Groups and rules by tenant.
    of_tenant: BTreeMap<usize, (Vec<usize>, Vec<usize>)>,
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

    /// Where workloads run that a rule selects, and how many; a slot may come more than once.
    pub(super) fn selected(&self, at: usize) -> impl Iterator<Item = (usize, u64)> {
        let of = self.rules.get(at).and_then(|rule| self.of_tenant.get(&rule.tenant));
        let groups =
            of.into_iter().flat_map(|(groups, _)| groups).filter_map(|group| self.groups.get(*group));
        let selected = groups.filter(move |group| group.rules.contains(&at));
        selected.flat_map(|group| group.on.iter().map(|(slot, count)| (*slot, *count)))
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
        let (groups, rules) = self.of_tenant.entry(kind.tenant).or_default();
        let selects = |at: &usize| self.rules.get(*at).is_some_and(|rule| rule.wanted.selects(&kind));
        let group = Group {
            tenant: kind.tenant,
            labels: kind.labels.clone(),
            generation: kind.generation,
            terminating: kind.terminating,
            spread_key: kind.spread_key.map(str::to_owned),
            rules: rules.iter().copied().filter(selects).collect(),
            on: BTreeMap::new(),
        };
        self.groups.push(group);
        groups.push(self.groups.len() - 1);
        self.group_index.add(hash, self.groups.len() - 1)
    }

    /// The group of those that are like `group`, and on their way out.
    pub(super) fn leaving(&mut self, group: usize) -> usize {
        let Some(like) = self.groups.get(group).cloned() else { return group };
        self.group(Kind { terminating: true, ..like.kind() })
    }

    /// The number of a rule. A new one counts what is there, except where `lost` says.
    pub(super) fn rule_for(
        &mut self,
        tenant: usize,
        counted: Counted<'_>,
        topology: usize,
        lost: impl Fn(usize) -> bool,
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
        let wanted = Wanted::new(counted);
        let mut rule =
            Rule { tenant, wanted, topology, counts: Vec::new(), total: 0, holders: Vec::new(), held: 0 };
        let (groups, rules) = self.of_tenant.entry(tenant).or_default();
        rules.push(new);
        let places = self.topologies.get(topology);
        for at in groups {
            let Some(group) = self.groups.get_mut(*at) else { continue };
            if !rule.wanted.selects(&group.kind()) {
                continue;
            }
            group.rules.push(new);
            let counts =
                |slot| !lost(slot) && rule.wanted.scope.is_none_or(|one| self.scopes.counts(one, slot));
            let on: Vec<_> = group.on.iter().filter(|(slot, _)| counts(**slot)).collect();
            for (slot, count) in on {
                if let Some(place) = places.and_then(|places| places.of.get(*slot).copied().flatten()) {
                    rule.change(place, true, *count);
                }
            }
        }
        self.rules.push(rule);
        self.rule_index.add(hash, new)
    }

    /// A workload of `group`, which must not be beside what the rules `apart` select, comes to `slot` or goes. On a
    /// `lost` node it is there, and counts nowhere.
    pub(super) fn change(&mut self, slot: usize, group: usize, apart: &[usize], more: bool, lost: bool) {
        if let Some(group) = self.groups.get_mut(group) {
            let count = group.on.entry(slot).or_default();
            *count = if more { count.saturating_add(1) } else { count.saturating_sub(1) };
            if *count == 0 {
                group.on.remove(&slot);
            }
        }
        if !lost {
            self.count(slot, group, apart, more);
        }
    }

    /// The same for the counts alone: its node is lost, or comes back.
    pub(super) fn count(&mut self, slot: usize, group: usize, apart: &[usize], more: bool) {
        let Self { topologies, scopes, groups, rules, .. } = self;
        let place = |rule: &Rule| {
            let counts = rule.wanted.scope.is_none_or(|scope| scopes.counts(scope, slot));
            topologies.get(rule.topology)?.of.get(slot).copied().flatten().filter(|_| counts)
        };
        for at in groups.get(group).map_or(&[][..], |group| &group.rules) {
            let Some(rule) = rules.get_mut(*at) else { continue };
            if let Some(place) = place(rule) {
                rule.change(place, more, 1);
            }
        }
        for at in apart {
            let Some(rule) = rules.get_mut(*at) else { continue };
            if let Some(place) = place(rule) {
                add(&mut rule.holders, place, more, 1);
                rule.held = if more { rule.held.saturating_add(1) } else { rule.held.saturating_sub(1) };
            }
        }
    }
}
