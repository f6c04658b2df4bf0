//! A dry run: what an adoption would do. No I/O, no clock, no async.

use hivemind_core::store::{Key, Revision, Snapshot, Txn};
use hivemind_core::{ResourceKind, Result, TenantRef};
use serde::{Deserialize, Serialize};

use super::verdict::{Move, Verdict, decide};
use super::{Adoptable, AdoptionRule, LeftBehind};

/// A resource that would go to a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedMove {
    /// Of what kind.
    pub kind: ResourceKind,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub from: Key,
    /// Where it would be.
    pub to: Key,
    /// Whose it would be.
    pub tenant: TenantRef,
}

/// What an adoption by some rules would do to the state of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AdoptionPlan {
    /// Of which state. What is put later is reported, not touched.
    pub revision: Revision,
    /// By which rules.
    pub rules: Vec<AdoptionRule>,
    /// What would go, in the order of keys.
    pub moves: Vec<PlannedMove>,
    /// What rules want and cannot have, in the order of keys.
    pub problems: Vec<LeftBehind>,
    /// What no rule speaks of, in the order of keys.
    pub unmatched: Vec<Key>,
    /// How many resources have a tenant already.
    pub owned: u64,
    /// Whether the adoption may leave the problems as they are.
    pub leave_problems: bool,
}

impl AdoptionPlan {
    /// The adoption may leave the problems as they are and move the rest.
    #[must_use]
    pub fn leaving_problems(mut self) -> Self {
        self.leave_problems = true;
        self
    }
}

pub(super) fn plan(view: &Snapshot, host: &dyn Adoptable, rules: &[AdoptionRule]) -> Result<AdoptionPlan> {
    let mut plan = AdoptionPlan {
        revision: view.revision(),
        rules: rules.to_vec(),
        moves: Vec::new(),
        problems: Vec::new(),
        unmatched: Vec::new(),
        owned: 0,
        leave_problems: false,
    };
    // Never committed: later verdicts see what earlier ones made of it, as they will in the steps.
    let mut scratch = Txn::new();
    for record in view.scan(&host.prefix()) {
        let from = record.key.clone();
        match decide(view, &scratch, host, rules, plan.revision, record)? {
            Verdict::Nothing => {}
            Verdict::Owned => plan.owned += 1,
            Verdict::Unmatched => plan.unmatched.push(from),
            Verdict::Stays(problem) => plan.problems.push(LeftBehind::new(from, problem)),
            Verdict::Goes(goes) => {
                scratch.delete(from.clone());
                scratch.put(goes.to.clone(), Vec::new());
                let Move { resource, to, tenant, .. } = goes;
                let (kind, name) = (resource.kind, resource.name);
                plan.moves.push(PlannedMove { kind, name, from, to, tenant });
            }
        }
    }
    Ok(plan)
}
