//! Any interleaving of operations against a model that counts everything again each time.

use std::collections::BTreeMap;

use hivemind_core::Timestamp;
use hivemind_tenancy::QuotaTree;
use hivemind_tenancy::quota::{Charge, Hold, QuotaNode, QuotaRule, TreeError};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Limits, Pair, WIDTH, amounts, at_most, name, none, rules, tree};

#[derive(Debug, Clone)]
struct ModelTenant {
    parent: Option<usize>,
    limits: Limits,
    alive: bool,
}

#[derive(Debug, Clone)]
struct ModelEntry {
    tenant: usize,
    amounts: Pair,
    deadline: Option<u64>,
    committed: bool,
}

/// Everything there is, with nothing summed up.
#[derive(Debug, Clone)]
struct Model {
    tenants: Vec<ModelTenant>,
    entries: BTreeMap<usize, ModelEntry>,
}

/// The most a part of another tenant may use.
fn ceiling(rule: &QuotaRule) -> u128 {
    let max = rule.max.map_or(u128::MAX, u128::from);
    rule.borrowing_limit.map_or(max, |most| max.min(u128::from(rule.guaranteed) + u128::from(most)))
}

/// The most that may be asked of a pool.
fn pool(rule: &QuotaRule) -> u128 {
    let ratio = u128::from(rule.overcommit_per_mille.unwrap_or(1000));
    rule.max.map_or(u128::MAX, |max| u128::from(max) * ratio / 1000)
}

fn kept(rule: &QuotaRule) -> u128 {
    rule.lending_limit.map_or(0, |lent| u128::from(rule.guaranteed.saturating_sub(lent)))
}

impl Model {
    fn children(&self, of: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.tenants.len())
            .filter(move |at| self.tenants[*at].alive && self.tenants[*at].parent == Some(of))
    }

    fn load(&self, tenant: usize, r: usize) -> u128 {
        let own: u128 = self.own(tenant, |entry| u128::from(entry.amounts[r]));
        let below =
            self.children(tenant).map(|child| self.load(child, r).max(kept(&self.tenants[child].limits[r])));
        own + below.sum::<u128>()
    }

    fn own(&self, tenant: usize, part: impl Fn(&ModelEntry) -> u128) -> u128 {
        self.entries.values().filter(|entry| entry.tenant == tenant).map(part).sum()
    }

    fn sum(&self, tenant: usize, committed: bool, r: usize) -> u128 {
        let part = |e: &ModelEntry| if e.committed == committed { u128::from(e.amounts[r]) } else { 0 };
        self.own(tenant, part)
            + self.children(tenant).map(|child| self.sum(child, committed, r)).sum::<u128>()
    }

    fn usage(&self, tenant: usize, r: usize) -> u128 {
        self.sum(tenant, true, r) + self.sum(tenant, false, r)
    }

    /// Whether a change is in order: nothing that grew by it is over its limit. `moved` may be over itself.
    fn admits(&self, changed: &Self, moved: Option<usize>) -> bool {
        let grew = |of: fn(&Self, usize, usize) -> u128, tenant: usize, r: usize, limit: u128| {
            let before = if tenant < self.tenants.len() { of(self, tenant, r) } else { 0 };
            let after = of(changed, tenant, r);
            after > before && after > limit
        };
        (0..changed.tenants.len()).all(|tenant| {
            let it = &changed.tenants[tenant];
            !it.alive
                || moved == Some(tenant)
                || (0..WIDTH).all(|r| {
                    let own = if it.parent.is_some() { ceiling(&it.limits[r]) } else { u128::MAX };
                    !grew(Self::usage, tenant, r, own) && !grew(Self::load, tenant, r, pool(&it.limits[r]))
                })
        })
    }

    fn is_over(&self, tenant: usize, r: usize) -> bool {
        let it = &self.tenants[tenant];
        let own = it.parent.is_some() && self.usage(tenant, r) > ceiling(&it.limits[r]);
        own || self.load(tenant, r) > pool(&it.limits[r])
    }

    fn is_within(&self, mut tenant: usize, top: usize) -> bool {
        loop {
            if tenant == top {
                return true;
            }
            match self.tenants[tenant].parent {
                Some(parent) => tenant = parent,
                None => return false,
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Add { parent: usize, limits: Limits },
    Remove { tenant: usize },
    Reserve { tenant: usize, amounts: Pair, deadline: Option<u64> },
    Charge { tenant: usize, amounts: Pair },
    WhatIf { tenants: Vec<(usize, Pair)> },
    Commit { entry: usize },
    Abort { entry: usize },
    Release { entry: usize },
    Resize { entry: usize, amounts: Pair },
    Expire { now: u64 },
    SetLimits { tenant: usize, limits: Limits },
    Reparent { tenant: usize, parent: usize },
}

fn limit() -> impl Strategy<Value = QuotaRule> {
    let parts = (
        option::of(0..60_u64),
        0..20_u64,
        option::of(0..30_u64),
        option::of(0..20_u64),
        option::of(500..2000_u32),
    );
    parts.prop_map(|(max, guaranteed, borrowing, lending, ratio)| {
        let mut rule = max.map_or(none(), at_most).with_guaranteed(guaranteed.min(max.unwrap_or(guaranteed)));
        rule.borrowing_limit = borrowing;
        rule.lending_limit = lending.map(|lending| lending.min(rule.guaranteed));
        rule.overcommit_per_mille = ratio;
        rule
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    [limit(), limit()]
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..12_usize;
    let pair = || [0..12_u64, 0..12_u64];
    prop_oneof![
        3 => (n.clone(), limits()).prop_map(|(parent, limits)| Op::Add { parent, limits }),
        1 => n.clone().prop_map(|tenant| Op::Remove { tenant }),
        8 => (n.clone(), pair(), option::of(0..100_u64))
            .prop_map(|(tenant, amounts, deadline)| Op::Reserve { tenant, amounts, deadline }),
        3 => (n.clone(), pair()).prop_map(|(tenant, amounts)| Op::Charge { tenant, amounts }),
        1 => vec((n.clone(), pair()), 1..4).prop_map(|tenants| Op::WhatIf { tenants }),
        5 => (0..40_usize).prop_map(|entry| Op::Commit { entry }),
        2 => (0..40_usize).prop_map(|entry| Op::Abort { entry }),
        3 => (0..40_usize).prop_map(|entry| Op::Release { entry }),
        2 => ((0..40_usize), pair()).prop_map(|(entry, amounts)| Op::Resize { entry, amounts }),
        1 => (0..100_u64).prop_map(|now| Op::Expire { now }),
        1 => (n.clone(), limits()).prop_map(|(tenant, limits)| Op::SetLimits { tenant, limits }),
        2 => (n.clone(), n).prop_map(|(tenant, parent)| Op::Reparent { tenant, parent }),
    ]
}

struct Run<'a> {
    tree: &'a QuotaTree,
    nodes: Vec<QuotaNode>,
    model: Model,
    holds: BTreeMap<usize, Hold<'a>>,
    charges: BTreeMap<usize, Charge>,
    next: usize,
}

impl<'a> Run<'a> {
    fn pick(&self, tenant: usize) -> usize {
        tenant % self.nodes.len()
    }

    fn agree(&mut self, outcome: Result<(), TreeError>, changed: Model, moved: Option<usize>, known: bool) {
        match outcome {
            Ok(()) => {
                assert!(
                    known && self.model.admits(&changed, moved),
                    "the tree admits what the model does not"
                );
                self.model = changed;
            }
            Err(TreeError::Denied(over)) => {
                assert!(!over.in_full().is_empty());
                assert!(
                    known && !self.model.admits(&changed, moved),
                    "the tree denies what the model does not"
                );
            }
            Err(TreeError::UnknownNode) => assert!(!known),
            Err(other) => panic!("{other}"),
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Add { parent, limits } => {
                let parent = self.pick(parent);
                let mut changed = self.model.clone();
                changed.tenants.push(ModelTenant {
                    parent: Some(parent),
                    limits: limits.clone(),
                    alive: true,
                });
                let added = self.tree.add(name("part"), self.nodes[parent], &rules(&limits));
                let itself = self.nodes.len();
                let alive = self.model.tenants[parent].alive;
                self.agree(added.clone().map(|_| ()), changed, Some(itself), alive);
                self.nodes.extend(added.ok());
            }
            Op::Remove { tenant } => self.remove(tenant),
            Op::Reserve { tenant, amounts, deadline } => self.reserve(tenant, amounts, deadline),
            Op::Charge { tenant, amounts } => self.charge(tenant, amounts),
            Op::WhatIf { tenants } => {
                let mut changed = self.model.clone();
                let mut expected = true;
                for (at, (tenant, amounts)) in tenants.iter().enumerate() {
                    let (before, tenant) = (changed.clone(), self.pick(*tenant));
                    let entry = ModelEntry { tenant, amounts: *amounts, deadline: None, committed: false };
                    expected &= changed.tenants[tenant].alive;
                    changed.entries.insert(1_000_000 + at, entry);
                    expected &= before.admits(&changed, None);
                }
                let asked: Vec<_> = tenants
                    .iter()
                    .map(|(tenant, pair)| (self.nodes[self.pick(*tenant)], amounts(self.tree, *pair)))
                    .collect();
                assert_eq!(self.tree.what_if(&asked).is_ok(), expected);
            }
            Op::Commit { entry } => {
                if let Some(hold) = self.holds.remove(&entry) {
                    match (hold.commit(), self.model.entries.get_mut(&entry)) {
                        (Ok(charge), Some(found)) => {
                            found.committed = true;
                            self.charges.insert(entry, charge);
                        }
                        (Err(TreeError::Gone), None) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            Op::Abort { entry } => {
                if let Some(hold) = self.holds.remove(&entry) {
                    hold.abort();
                    self.model.entries.remove(&entry);
                }
            }
            Op::Release { entry } => {
                if let Some(charge) = self.charges.remove(&entry) {
                    assert!(self.tree.release(charge).is_ok());
                    self.model.entries.remove(&entry).unwrap();
                }
            }
            Op::Resize { entry, amounts: pair } => {
                if let Some(charge) = self.charges.get(&entry) {
                    let mut changed = self.model.clone();
                    changed.entries.get_mut(&entry).unwrap().amounts = pair;
                    let outcome = self.tree.resize(charge, &amounts(self.tree, pair));
                    self.agree(outcome, changed, None, true);
                }
            }
            Op::Expire { now } => {
                let due = |e: &ModelEntry| !e.committed && e.deadline.is_some_and(|deadline| deadline <= now);
                let before = self.model.entries.len();
                self.model.entries.retain(|_, entry| !due(entry));
                let expired = self.tree.expire(Timestamp::from_nanos(now));
                assert_eq!(expired, before - self.model.entries.len());
            }
            Op::SetLimits { tenant, limits } => {
                let tenant = self.pick(tenant);
                let mut changed = self.model.clone();
                changed.tenants[tenant].limits = limits.clone();
                let outcome = self.tree.set_rules(self.nodes[tenant], &rules(&limits));
                let alive = self.model.tenants[tenant].alive;
                self.agree(outcome, changed, Some(tenant), alive);
            }
            Op::Reparent { tenant, parent } => self.reparent(tenant, parent),
        }
    }

    fn remove(&mut self, tenant: usize) {
        let tenant = self.pick(tenant);
        let empty = self.model.children(tenant).next().is_none()
            && self.model.entries.values().all(|entry| entry.tenant != tenant);
        match self.tree.remove(self.nodes[tenant]) {
            Ok(()) => {
                assert!(empty && self.model.tenants[tenant].alive);
                self.model.tenants[tenant].alive = tenant == 0;
            }
            Err(TreeError::NotEmpty { .. }) => assert!(!empty),
            Err(TreeError::UnknownNode) => assert!(!self.model.tenants[tenant].alive),
            Err(other) => panic!("{other}"),
        }
    }

    fn reserve(&mut self, tenant: usize, pair: Pair, deadline: Option<u64>) {
        let tenant = self.pick(tenant);
        let mut changed = self.model.clone();
        let entry = self.next;
        self.next += 1;
        changed.entries.insert(entry, ModelEntry { tenant, amounts: pair, deadline, committed: false });
        let asked = amounts(self.tree, pair);
        let held = self.tree.reserve(self.nodes[tenant], &asked, deadline.map(Timestamp::from_nanos));
        let (outcome, hold) = match held {
            Ok(hold) => (Ok(()), Some(hold)),
            Err(e) => (Err(e), None),
        };
        let alive = self.model.tenants[tenant].alive;
        self.agree(outcome, changed, None, alive);
        self.holds.extend(hold.map(|hold| (entry, hold)));
    }

    fn charge(&mut self, tenant: usize, pair: Pair) {
        let tenant = self.pick(tenant);
        let mut changed = self.model.clone();
        let entry = self.next;
        self.next += 1;
        changed.entries.insert(entry, ModelEntry { tenant, amounts: pair, deadline: None, committed: true });
        let charged = self.tree.charge(self.nodes[tenant], &amounts(self.tree, pair));
        let (outcome, charge) = match charged {
            Ok(charge) => (Ok(()), Some(charge)),
            Err(e) => (Err(e), None),
        };
        let alive = self.model.tenants[tenant].alive;
        self.agree(outcome, changed, None, alive);
        self.charges.extend(charge.map(|charge| (entry, charge)));
    }

    fn reparent(&mut self, tenant: usize, parent: usize) {
        let (tenant, parent) = (self.pick(tenant), self.pick(parent));
        let alive = self.model.tenants[tenant].alive && self.model.tenants[parent].alive;
        let outcome = self.tree.reparent(self.nodes[tenant], self.nodes[parent]);
        if let Err(TreeError::Cycle) = outcome {
            assert!(tenant == 0 || self.model.is_within(parent, tenant));
            return;
        }
        assert!(!alive || (tenant != 0 && !self.model.is_within(parent, tenant)));
        // The model moves in two steps, as what is common to both places must not count twice.
        let mut lifted = self.model.clone();
        lifted.tenants[tenant].alive = false;
        let mut changed = self.model.clone();
        changed.tenants[tenant].parent = Some(parent);
        let before = std::mem::replace(&mut self.model, lifted);
        let denied = outcome.is_err();
        self.agree(outcome, changed, Some(tenant), alive);
        if denied {
            self.model = before;
        }
    }

    fn compare(&self) {
        for (tenant, _) in self.model.tenants.iter().enumerate().filter(|(_, tenant)| tenant.alive) {
            let usage = self.tree.usage(self.nodes[tenant]).unwrap();
            for (r, (_, usage)) in usage.iter().enumerate() {
                assert_eq!(u128::from(usage.used), self.model.sum(tenant, true, r));
                assert_eq!(u128::from(usage.reserved), self.model.sum(tenant, false, r));
                assert_eq!(u128::from(usage.load), self.model.load(tenant, r));
                assert_eq!(usage.over, self.model.is_over(tenant, r));
            }
        }
        assert!(self.tree.is_consistent());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_equals_the_model(root in limits(), ops in vec(op(), 1..120)) {
        // The root can be taken out as any other, and then the tree is over.
        let (tree, node) = tree(&root);
        let model = Model {
            tenants: vec![ModelTenant { parent: None, limits: root.clone(), alive: true }],
            entries: BTreeMap::new(),
        };
        let mut run = Run {
            tree: &tree,
            nodes: vec![node],
            model,
            holds: BTreeMap::new(),
            charges: BTreeMap::new(),
            next: 0,
        };
        for op in ops {
            if matches!(op, Op::Remove { tenant } if run.pick(tenant) == 0) {
                continue;
            }
            run.apply(op);
            run.compare();
        }
    }
}
