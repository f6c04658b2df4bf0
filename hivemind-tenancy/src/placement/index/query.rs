//! What one workload asks, resolved to the numbers of an index. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::labels::Selector;

use super::ClusterIndex;
use super::counters::Held;
use super::rule::{Counted, Kind, Rule};
use super::scopes::ScopeOf;
use super::slot::Slot;
use super::tree::{Amounts, amounts};
use crate::placement::cluster::Ask;
use crate::placement::filters::fewest_of;
use crate::placement::rules::{AffinityTerm, Stance, TopologySpread, WhenUnsatisfiable};
use crate::placement::scores::{REPLICA, STEP, WISH};
use crate::placement::{NodeState, Rejection, Topology};

/// Everything about the workload that does not depend on the node.
#[derive(Debug)]
pub(super) struct Query<'a> {
    pub(super) ask: Ask<'a>,
    pub(super) tenant: usize,
    pub(super) shape: usize,
    pub(super) group: usize,
    pub(super) need: Amounts,
    /// The rules it must run beside.
    pub(super) beside: Vec<usize>,
    /// It may be the first of its kind.
    first: bool,
    /// What it says about others.
    pub(super) held: Held,
    /// The rules that select it, and what those say who hold them.
    theirs: Held,
    even: Vec<Even>,
    radius: Option<(usize, u64)>,
    /// Where what the tenant has of each place is kept.
    pub(super) share: Option<usize>,
    wishes: Vec<(usize, u64, bool)>,
    mild: Vec<Spreading>,
    replicas: Option<usize>,
}

/// One spread that must be kept.
#[derive(Debug)]
struct Even {
    rule: usize,
    most: u64,
    itself: u64,
    less: BTreeMap<usize, u64>,
}

/// How something is spread now.
#[derive(Debug)]
struct Spreading {
    rule: usize,
    least: u64,
    most: u64,
    /// What the rule counts on nodes that are closed, by place.
    less: BTreeMap<usize, u64>,
}

impl Query<'_> {
    /// Whether nothing but the load tells possible nodes apart, costs of the shape aside.
    pub(super) fn is_plain(&self) -> bool {
        self.wishes.is_empty()
            && self.ask.opinion.is_none()
            && self.mild.is_empty()
            && self.replicas.is_none()
            && self.theirs.iter().all(|(_, stance)| *stance == Stance::Apart)
    }
}

impl ClusterIndex {
    pub(super) fn topology(&mut self, topology: &Topology) -> usize {
        let nodes = self.slots.iter().enumerate().filter_map(|(at, slot)| Some((at, &slot.as_ref()?.node)));
        self.counters.topology(topology, nodes)
    }

    pub(super) fn rule(&mut self, tenant: usize, counted: Counted<'_>, topology: &Topology) -> usize {
        let topology = self.topology(topology);
        let Self { slots, workloads, counters, .. } = self;
        let up = |at: &usize| slots.get(*at).and_then(Option::as_ref).is_some_and(|slot| !slot.is_lost());
        let slot = |number: usize| workloads.get(number).map(|one| one.slot).filter(up);
        counters.rule_for(tenant, counted, topology, slot)
    }

    /// What terms about other workloads say, by rules.
    pub(super) fn held<'t>(
        &mut self,
        tenant: usize,
        terms: impl Iterator<Item = (&'t AffinityTerm, Stance)>,
    ) -> Held {
        let rule = |(term, stance): (&AffinityTerm, Stance)| {
            (self.rule(tenant, Counted::Labelled(&[&term.workloads]), &term.topology), stance)
        };
        terms.map(rule).collect()
    }

    /// Whether who shares no node with whom keeps the tenant of `ask` off the node.
    pub(super) fn excludes(&self, ask: &Ask<'_>, tenant: usize, slot: &Slot) -> Option<Rejection> {
        if slot.marks.iter().any(|mark| self.marks.get(tenant) != Some(mark)) {
            return Some(Rejection::Dedicated);
        }
        if slot.dedicated.is_some_and(|owner| owner != tenant) {
            return Some(Rejection::Dedicated);
        }
        let shared = || slot.tenants().take(2).any(|one| one != tenant);
        (ask.isolated && shared()).then_some(Rejection::Shared)
    }

    /// What a rule counts in each place where `ask` may count, if `less` is left out.
    fn counts<'s>(
        &'s self,
        ask: &'s Ask<'_>,
        tenant: usize,
        rule: &'s Rule,
        less: &'s BTreeMap<usize, u64>,
    ) -> impl Iterator<Item = u64> + 's {
        let open = move |at: &usize| {
            let slot = self.slots.get(*at).and_then(Option::as_ref);
            slot.is_some_and(|slot| self.excludes(ask, tenant, slot).is_none())
        };
        let places = self.counters.places(rule).iter().filter(move |(_, slots)| slots.iter().any(open));
        places
            .map(|(place, _)| rule.count(*place).saturating_sub(less.get(place).copied().unwrap_or_default()))
    }

    /// What a rule counts by place on nodes that are closed to the tenant of `ask`: most often nothing.
    fn closed(&self, ask: &Ask<'_>, tenant: usize, at: usize) -> BTreeMap<usize, u64> {
        let mut less = BTreeMap::new();
        let Some(rule) = self.counters.rule(at).filter(|_| ask.isolated || !self.mixed.is_empty()) else {
            return less;
        };
        for slot_at in self.counters.selected(at).filter_map(|one| Some(self.workloads.get(one)?.slot)) {
            let slot = self.slots.get(slot_at).and_then(Option::as_ref);
            let closed =
                slot.is_some_and(|slot| !slot.is_lost() && self.excludes(ask, tenant, slot).is_some());
            let counts = closed && self.counters.counts_at(rule, slot_at);
            if let Some(place) = self.counters.place_of(rule, slot_at).filter(|_| counts) {
                let sum = less.entry(place).or_insert(0_u64);
                *sum = sum.saturating_add(1);
            }
        }
        less
    }

    /// A spread as the tenant of `ask` sees it.
    fn spread(&mut self, ask: &Ask<'_>, tenant: usize, shape: usize, spread: &TopologySpread) -> Spreading {
        let Self { slots, counters, shapes, .. } = self;
        let nodes = slots.iter().enumerate().filter_map(|(at, slot)| Some((at, &slot.as_ref()?.node)));
        let scope = counters.scopes.number(ScopeOf::new(shape, spread), nodes, shapes);
        let counted = [&spread.workloads];
        let live = Counted::Live(&counted, ask.workload.generation, scope);
        let rule = self.rule(tenant, live, &spread.topology);
        self.counters.learn_places(rule);
        let less = self.closed(ask, tenant, rule);
        let (mut places, mut least, mut most) = (0_usize, u64::MAX, 0);
        if let Some(rule) = self.counters.rule(rule) {
            for count in self.counts(ask, tenant, rule, &less) {
                places += 1;
                (least, most) = (least.min(count), most.max(count));
            }
        }
        Spreading { rule, least: fewest_of(spread, places, least), most, less }
    }

    pub(super) fn query<'a>(&mut self, ask: Ask<'a>) -> Query<'a> {
        self.tidy();
        let workload = ask.workload;
        let tenant = self.tenant(ask.tenant);
        let (shape, new) = self.shapes.of(workload);
        if new && let Some(shape) = self.shapes.get_mut(shape) {
            let nodes = self.slots.iter().enumerate();
            nodes.for_each(|(at, slot)| shape.renew(at, slot.as_ref().map(|slot| &slot.node)));
            self.classify();
        }
        let group = self.counters.group(Kind {
            tenant,
            labels: &workload.labels,
            generation: workload.generation,
            terminating: false,
            spread_key: workload.spread_key.as_deref(),
        });
        let affinity = &workload.affinity;
        let all: Vec<&Selector> = affinity.required.iter().map(|term| &term.workloads).collect();
        let beside: Vec<_> = affinity
            .required
            .iter()
            .map(|term| self.rule(tenant, Counted::Labelled(&all), &term.topology))
            .collect();
        let first = beside.iter().all(|rule| self.counters.rule(*rule).is_none_or(|rule| rule.total() == 0))
            && all.iter().all(|selector| selector.matches(&workload.labels));
        let held = self.held(tenant, affinity.stances());
        let mut query = Query {
            ask,
            tenant,
            shape,
            group,
            need: amounts(&workload.resources),
            beside,
            first,
            held,
            theirs: Vec::new(),
            even: Vec::new(),
            radius: None,
            share: None,
            wishes: Vec::new(),
            mild: Vec::new(),
            replicas: None,
        };
        self.spreads(&mut query);
        self.wishes(&mut query);
        query.radius = ask.blast_radius.map(|radius| {
            let rule = self.rule(tenant, Counted::All, &radius.topology);
            let total = self.counters.rule(rule).map_or(0, |rule| rule.total());
            (rule, radius.allowed(total.saturating_add(1)))
        });
        query.share = ask.domain_share.map(|share| self.share(share));
        for at in self.counters.rules_of(group) {
            let holders = self.counters.rule(*at).into_iter().flat_map(|rule| rule.holders());
            query.theirs.extend(holders.filter(|one| one.are_there()).map(|one| (*at, one.stance)));
        }
        query
    }

    fn spreads(&mut self, query: &mut Query<'_>) {
        let ask = query.ask;
        for spread in &ask.workload.spread {
            let found = self.spread(&ask, query.tenant, query.shape, spread);
            match spread.when {
                WhenUnsatisfiable::DoNotSchedule => query.even.push(Even {
                    most: found.least.saturating_add(u64::from(spread.max_skew.get())),
                    itself: u64::from(spread.workloads.matches(&ask.workload.labels)),
                    rule: found.rule,
                    less: found.less,
                }),
                WhenUnsatisfiable::ScheduleAnyway => query.mild.push(found),
            }
        }
    }

    fn wishes(&mut self, query: &mut Query<'_>) {
        let (affinity, tenant) = (&query.ask.workload.affinity, query.tenant);
        for (wishes, wanted) in [(&affinity.preferred, true), (&affinity.anti_preferred, false)] {
            for wish in wishes {
                let counted = [&wish.term.workloads];
                let rule = self.rule(tenant, Counted::Labelled(&counted), &wish.term.topology);
                query.wishes.push((rule, wish.weight(), wanted));
            }
        }
        if let Some(key) = &query.ask.workload.spread_key {
            query.replicas = Some(self.rule(tenant, Counted::Key(key), &Topology::Node));
        }
    }

    /// Whether a rule selects something where `at` is.
    fn meets(&self, rule: usize, at: usize) -> Option<bool> {
        let rule = self.counters.rule(rule)?;
        Some(rule.count(self.counters.place_of(rule, at)?) > 0)
    }

    /// Whether somebody says this of those that a rule selects, where `at` is.
    fn is_held(&self, rule: usize, stance: Stance, at: usize) -> bool {
        let holders = || {
            let rule = self.counters.rule(rule)?;
            Some(rule.holders_of(stance)?.at(self.counters.place_of(rule, at)?))
        };
        holders().is_some_and(|count| count > 0)
    }

    /// How many a spread counts where `at` is.
    fn spread_count(&self, rule: usize, less: &BTreeMap<usize, u64>, at: usize) -> Option<u64> {
        let rule = self.counters.rule(rule)?;
        let place = self.counters.place_of(rule, at)?;
        Some(rule.count(place).saturating_sub(less.get(&place).copied().unwrap_or_default()))
    }

    /// Why the node cannot take the workload, room aside.
    pub(super) fn refuses(&self, query: &Query<'_>, at: usize, slot: &Slot) -> Option<Rejection> {
        if slot.node.state != NodeState::Ready {
            return Some(Rejection::NotReady);
        }
        let by_shape = || self.shapes.get(query.shape).and_then(|shape| shape.why_not(at));
        let excluded = self.excludes(&query.ask, query.tenant, slot);
        excluded
            .or_else(by_shape)
            .or_else(|| self.refuses_company(query, at))
            .or_else(|| self.refuses_share(query, at, slot))
    }

    pub(super) fn refuses_company(&self, query: &Query<'_>, at: usize) -> Option<Rejection> {
        let met = |rule: &usize| self.meets(*rule, at).is_some_and(|there| there || query.first);
        if !query.beside.iter().all(met) {
            return Some(Rejection::Affinity);
        }
        let apart = |(_, stance): &&(usize, Stance)| *stance == Stance::Apart;
        if query.held.iter().filter(apart).any(|(rule, _)| self.meets(*rule, at) == Some(true))
            || query.theirs.iter().filter(apart).any(|(rule, stance)| self.is_held(*rule, *stance, at))
        {
            return Some(Rejection::AntiAffinity);
        }
        let count = |rule: usize| {
            let rule = self.counters.rule(rule)?;
            Some(rule.count(self.counters.place_of(rule, at)?))
        };
        let even = |even: &Even| {
            let here = self.spread_count(even.rule, &even.less, at);
            here.is_some_and(|here| here.saturating_add(even.itself) <= even.most)
        };
        if !query.even.iter().all(even) {
            return Some(Rejection::Spread);
        }
        let (rule, allowed) = query.radius?;
        (count(rule)? + 1 > allowed).then_some(Rejection::BlastRadius)
    }

    /// What speaks against the node beside its load.
    pub(super) fn cost(&self, query: &Query<'_>, at: usize) -> u64 {
        let shape = self.shapes.get(query.shape).map_or(0, |shape| shape.cost(at));
        shape.saturating_add(self.unmet(query, at))
    }

    /// What speaks against it by wishes about other workloads, its own and theirs.
    pub(super) fn unmet(&self, query: &Query<'_>, at: usize) -> u64 {
        let mut cost = 0_u64;
        if query.is_plain() {
            return cost;
        }
        let count = |rule: usize| {
            let rule = self.counters.rule(rule)?;
            Some(rule.count(self.counters.place_of(rule, at)?))
        };
        for (rule, weight, wanted) in &query.wishes {
            let there = count(*rule).is_some_and(|count| count > 0);
            cost = cost.saturating_add(if there == *wanted { 0 } else { weight * WISH });
        }
        for (rule, stance) in &query.theirs {
            let Some((weight, wanted)) = stance.wish(query.ask.hard_affinity_weight) else { continue };
            let there = self.is_held(*rule, *stance, at);
            cost = cost.saturating_add(if there == wanted { 0 } else { weight * WISH });
        }
        for mild in &query.mild {
            let here = self.spread_count(mild.rule, &mild.less, at).unwrap_or(mild.most.saturating_add(1));
            cost = cost.saturating_add(here.saturating_sub(mild.least).saturating_mul(STEP));
        }
        if let Some(opinion) = query.ask.opinion {
            let against = self.slots.get(at).and_then(Option::as_ref).and_then(|slot| opinion.of(&slot.node));
            cost = cost.saturating_add(against.unwrap_or_default());
        }
        let replicas = query.replicas.and_then(count).unwrap_or_default();
        cost.saturating_add(replicas.saturating_mul(REPLICA))
    }
}
