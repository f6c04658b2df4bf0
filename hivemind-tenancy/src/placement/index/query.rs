//! What one workload asks, resolved to the numbers of an index. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::labels::Selector;

use super::ClusterIndex;
use super::counters::{Counted, Kind};
use super::slot::Slot;
use super::tree::{Amounts, amounts};
use crate::placement::cluster::Ask;
use crate::placement::filters::fewest;
use crate::placement::rules::{AffinityTerm, TopologySpread, WhenUnsatisfiable};
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
    /// The rules it must not run beside.
    pub(super) apart: Vec<usize>,
    /// The rules that select it, and that others must not run beside.
    against: Vec<usize>,
    even: Vec<Even>,
    radius: Option<(usize, u64)>,
    wishes: Vec<(usize, u64, bool)>,
    mild: Vec<(usize, u64, u64)>,
    replicas: Option<usize>,
}

/// One spread that must be kept.
#[derive(Debug)]
struct Even {
    rule: usize,
    most: u64,
    itself: u64,
}

impl Query<'_> {
    /// Whether nothing but the load tells possible nodes apart, costs of the shape aside.
    pub(super) fn is_plain(&self) -> bool {
        self.wishes.is_empty() && self.mild.is_empty() && self.replicas.is_none()
    }
}

impl ClusterIndex {
    pub(super) fn topology(&mut self, topology: &Topology) -> usize {
        let nodes = self.slots.iter().enumerate().filter_map(|(at, slot)| Some((at, &slot.as_ref()?.node)));
        self.counters.topology(topology, nodes)
    }

    pub(super) fn rule(&mut self, tenant: usize, counted: Counted<'_>, topology: &Topology) -> usize {
        let topology = self.topology(topology);
        let slots = &self.slots;
        let lost = |at: usize| slots.get(at).and_then(Option::as_ref).is_some_and(Slot::is_lost);
        self.counters.rule_for(tenant, counted, topology, lost)
    }

    /// The rules of required anti-affinity terms.
    pub(super) fn apart(&mut self, tenant: usize, terms: &[AffinityTerm]) -> Vec<usize> {
        let rule =
            |term: &AffinityTerm| self.rule(tenant, Counted::Labelled(&[&term.workloads]), &term.topology);
        terms.iter().map(rule).collect()
    }

    /// The counts of a spread over the places the shape allows: the rule, the fewest and the most.
    fn spread(
        &mut self,
        ask: &Ask<'_>,
        tenant: usize,
        shape: usize,
        spread: &TopologySpread,
    ) -> (usize, u64, u64) {
        let counted = [&spread.workloads];
        let rule = self.rule(tenant, Counted::Live(&counted, ask.workload.generation), &spread.topology);
        let Self { slots, counters, shapes, .. } = self;
        let Some((rule_of, shape)) = counters.rule(rule).zip(shapes.get_mut(shape)) else {
            return (rule, 0, 0);
        };
        shape.places(&spread.topology, |shape| {
            let allowed = |(at, slot): (usize, &Option<Slot>)| {
                let live = slot.as_ref().is_some_and(|slot| slot.node.state != NodeState::Failed);
                (live && shape.labels_match(at)).then(|| counters.place_of(rule_of, at)).flatten()
            };
            let places: BTreeSet<_> = slots.iter().enumerate().filter_map(allowed).collect();
            places.into_iter().collect()
        });
        let counts = shape.known_places(&spread.topology).iter().map(|place| rule_of.count(*place));
        let most = counts.clone().max().unwrap_or_default();
        (rule, fewest(spread, counts), most)
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
        let apart = self.apart(tenant, &affinity.anti_required);
        let mut query = Query {
            ask,
            tenant,
            shape,
            group,
            need: amounts(&workload.resources),
            beside,
            first,
            apart,
            against: Vec::new(),
            even: Vec::new(),
            radius: None,
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
        let held = |at: &usize| self.counters.rule(*at).is_some_and(|rule| rule.is_held());
        query.against = self.counters.rules_of(group).iter().copied().filter(held).collect();
        query
    }

    fn spreads(&mut self, query: &mut Query<'_>) {
        let ask = query.ask;
        for spread in &ask.workload.spread {
            let (rule, least, most) = self.spread(&ask, query.tenant, query.shape, spread);
            match spread.when {
                WhenUnsatisfiable::DoNotSchedule => query.even.push(Even {
                    rule,
                    most: least.saturating_add(u64::from(spread.max_skew.get())),
                    itself: u64::from(spread.workloads.matches(&ask.workload.labels)),
                }),
                WhenUnsatisfiable::ScheduleAnyway => query.mild.push((rule, least, most)),
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

    /// Why the node cannot take the workload, room aside.
    pub(super) fn refuses(&self, query: &Query<'_>, at: usize, slot: &Slot) -> Option<Rejection> {
        if slot.node.state != NodeState::Ready {
            return Some(Rejection::NotReady);
        }
        if slot.dedicated.is_some_and(|owner| owner != query.tenant) {
            return Some(Rejection::Dedicated);
        }
        if query.ask.isolated && slot.tenants.keys().take(2).any(|tenant| *tenant != query.tenant) {
            return Some(Rejection::Shared);
        }
        let by_shape = self.shapes.get(query.shape).and_then(|shape| shape.why_not(at));
        by_shape.or_else(|| self.refuses_company(query, at))
    }

    fn refuses_company(&self, query: &Query<'_>, at: usize) -> Option<Rejection> {
        let met = |rule: &usize| self.meets(*rule, at).is_some_and(|there| there || query.first);
        if !query.beside.iter().all(met) {
            return Some(Rejection::Affinity);
        }
        let held = |rule: &usize| {
            let rule = self.counters.rule(*rule);
            rule.is_some_and(|rule| {
                self.counters.place_of(rule, at).is_some_and(|place| rule.holders(place) > 0)
            })
        };
        if query.apart.iter().any(|rule| self.meets(*rule, at) == Some(true))
            || query.against.iter().any(held)
        {
            return Some(Rejection::AntiAffinity);
        }
        let count = |rule: usize| {
            let rule = self.counters.rule(rule)?;
            Some(rule.count(self.counters.place_of(rule, at)?))
        };
        let even = |even: &Even| count(even.rule).is_some_and(|here| here + even.itself <= even.most);
        if !query.even.iter().all(even) {
            return Some(Rejection::Spread);
        }
        let (rule, allowed) = query.radius?;
        (count(rule)? + 1 > allowed).then_some(Rejection::BlastRadius)
    }

    /// What speaks against the node beside its load.
    pub(super) fn cost(&self, query: &Query<'_>, at: usize) -> u64 {
        let mut cost = self.shapes.get(query.shape).map_or(0, |shape| shape.cost(at));
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
        for (rule, least, most) in &query.mild {
            let here = count(*rule).unwrap_or(most + 1);
            cost = cost.saturating_add(here.saturating_sub(*least).saturating_mul(STEP));
        }
        let replicas = query.replicas.and_then(count).unwrap_or_default();
        cost.saturating_add(replicas.saturating_mul(REPLICA))
    }
}
