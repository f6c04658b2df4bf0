//! What becomes of each rule in the tables: whether it is ever about anybody, and ever decides. No I/O, no clock, no
//! async.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Action, Direction, PolicyRef};
use super::bits::{Peers, Set};
use super::domain::Domain;
use super::policies::Stage;
use super::table::{Line, Sources, Table};

/// A rule, by its policy, its direction and its index.
pub(in crate::policy) type RuleKey = (PolicyRef, Direction, usize);

/// What became of a rule in all tables.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::policy) struct Fate {
    /// It is about some peer and some traffic of a workload.
    pub(in crate::policy) applies: bool,
    /// Some of that had not been decided before it was asked.
    pub(in crate::policy) reached: bool,
    /// Without it, something would be decided otherwise.
    pub(in crate::policy) matters: bool,
}

/// What a look at all tables found.
#[derive(Debug, Clone, Default)]
pub(in crate::policy) struct Fates {
    pub(in crate::policy) rules: BTreeMap<RuleKey, Fate>,
    /// Pairs of rules of one priority whose order decides, the first asked first.
    pub(in crate::policy) ties: BTreeSet<(RuleKey, RuleKey)>,
}

fn is_none(peers: &Peers) -> bool {
    !peers.all_but && peers.bits.is_empty()
}

fn met(one: &Peers, other: &Peers) -> Peers {
    let mut met = one.clone();
    met.meet(other);
    met
}

impl Fates {
    /// Looks at every set of `domain`.
    pub(in crate::policy) fn look(&mut self, domain: &Domain) {
        let sources = domain.sources();
        for (_, policy) in domain.policies.iter() {
            for direction in Direction::ALL {
                for index in 0..policy.rules(direction).map_or(0, <[_]>::len) {
                    self.rules.entry((policy.source.key(), direction, index)).or_default();
                }
            }
        }
        for set in domain.sets.iter() {
            for direction in Direction::ALL {
                self.look_at(sources, direction, set.table(direction));
                self.look_at(sources, direction, set.border(direction));
            }
        }
    }

    fn look_at(&mut self, sources: Sources<'_>, direction: Direction, table: &Table) {
        for lines in table.about(sources, direction) {
            let key = |line: Line| {
                let policy = sources.policies.get(line.policy)?;
                Some((policy.source.key(), direction, line.rule as usize))
            };
            let mut open = Peers::all();
            let mut decided: Vec<(Line, Action, Peers)> = Vec::new();
            let mut passed = Peers::none();
            let mut tier = Stage::Admin;
            for (at, (line, action, about)) in lines.iter().enumerate() {
                if line.stage != tier {
                    tier = line.stage;
                    open.join(&std::mem::take(&mut passed));
                    decided.clear();
                }
                let Some(name) = key(*line) else { continue };
                let hit = met(about, &open);
                let ordered = matches!(tier, Stage::Admin | Stage::Baseline);
                let unique = if ordered { hit.clone() } else { without_others(&hit, &lines, at) };
                let fate = self.rules.entry(name.clone()).or_default();
                fate.applies |= !is_none(about);
                // In the baseline of an isolated workload nothing is asked any more.
                let asked = tier != Stage::Baseline || !table.is_isolated();
                fate.reached |= asked && !is_none(&hit);
                fate.matters |= asked && !is_none(&unique);
                if ordered {
                    for (earlier, other, theirs) in &decided {
                        let tie = sources.same_priority(*earlier, *line) && other != action;
                        if tie
                            && !is_none(&met(theirs, about))
                            && let Some(earlier) = key(*earlier)
                        {
                            self.ties.insert((earlier, name.clone()));
                        }
                    }
                    if *action == Action::Pass {
                        passed.join(&hit);
                    }
                    decided.push((*line, *action, hit.clone()));
                    open.remove(&hit);
                }
            }
        }
    }
}

/// What of `hit` no other rule allows that has no order with it.
fn without_others(hit: &Peers, lines: &[(Line, Action, Peers)], at: usize) -> Peers {
    let mut unique = hit.clone();
    let Some((own, ..)) = lines.get(at) else { return unique };
    let others = lines.iter().filter(|(line, ..)| line != own && line.stage == own.stage);
    others.for_each(|(_, _, about)| unique.remove(about));
    unique
}
