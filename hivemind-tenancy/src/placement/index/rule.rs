//! What a rule counts, and where. No I/O, no clock, no async.

use hivemind_core::labels::{CompiledSelector, Labels, Selector};

use super::tally::Tally;
use crate::placement::rules::Stance;

/// What selectors can tell of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind<'a> {
    pub(super) tenant: usize,
    pub(super) labels: &'a Labels,
    pub(super) generation: u64,
    pub(super) terminating: bool,
    pub(super) spread_key: Option<&'a str>,
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
pub(super) struct Wanted {
    pub(super) selectors: Vec<Selector>,
    compiled: Vec<CompiledSelector>,
    live: bool,
    generation: Option<u64>,
    pub(super) scope: Option<usize>,
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

    pub(super) fn is(&self, counted: Counted<'_>) -> bool {
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

    pub(super) fn selects(&self, kind: &Kind<'_>) -> bool {
        !(self.live && kind.terminating)
            && self.generation.is_none_or(|generation| kind.generation == generation)
            && self.key.as_deref().is_none_or(|key| kind.spread_key == Some(key))
            && self.compiled.iter().all(|one| one.matches(kind.labels))
    }
}

/// Where workloads are that say something about those a rule selects.
#[derive(Debug, Clone)]
pub(super) struct Holders {
    pub(super) stance: Stance,
    by_place: Tally,
    total: u64,
}

impl Holders {
    /// Whether there are any, wherever.
    pub(super) fn are_there(&self) -> bool {
        self.total > 0
    }

    pub(super) fn at(&self, place: usize) -> u64 {
        self.by_place.at(place)
    }
}

/// A selector with a topology, of one tenant.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) tenant: usize,
    pub(super) wanted: Wanted,
    pub(super) topology: usize,
    /// How many workloads it selects, by place.
    counts: Tally,
    total: u64,
    /// Who says something about those it selects. Most often nobody, or all the same.
    holders: Vec<Holders>,
}

impl Rule {
    pub(super) fn new(tenant: usize, counted: Counted<'_>, topology: usize) -> Self {
        let wanted = Wanted::new(counted);
        Self { tenant, wanted, topology, counts: Tally::default(), total: 0, holders: Vec::new() }
    }

    pub(super) fn count(&self, place: usize) -> u64 {
        self.counts.at(place)
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn holders(&self) -> &[Holders] {
        &self.holders
    }

    /// Who says this about those it selects.
    pub(super) fn holders_of(&self, stance: Stance) -> Option<&Holders> {
        self.holders.iter().find(|one| one.stance == stance)
    }

    /// One that it selects comes to a place, or goes.
    pub(super) fn change(&mut self, place: usize, more: bool) {
        self.counts.change(place, more);
        self.total = if more { self.total.saturating_add(1) } else { self.total.saturating_sub(1) };
    }

    /// One that says `stance` of those it selects comes to a place, or goes.
    pub(super) fn hold(&mut self, stance: Stance, place: usize, more: bool) {
        let at = self.holders.iter().position(|one| one.stance == stance).unwrap_or(self.holders.len());
        if at == self.holders.len() {
            self.holders.push(Holders { stance, by_place: Tally::default(), total: 0 });
        }
        if let Some(holders) = self.holders.get_mut(at) {
            holders.by_place.change(place, more);
            holders.total =
                if more { holders.total.saturating_add(1) } else { holders.total.saturating_sub(1) };
        }
    }
}
