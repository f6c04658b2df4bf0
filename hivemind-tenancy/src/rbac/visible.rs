//! Which objects may be seen, as a predicate to query by, and who may do something. No I/O, no clock, no async.

use std::sync::Arc;

use hivemind_core::labels::{Labels, Selector};
use hivemind_core::{AccessRequest, ResourceKind, TenantContext, TenantRef, Verb};

use super::conditions::Known;
use super::index::{Asked, Asker, Grant, Policy};
use super::model::named;
use super::tree::Place;
use super::{AccessIndex, Effect, Subject};

/// Which objects of one kind a request may touch: query by it, so that nothing else is ever read, listed or counted.
#[derive(Debug, Clone)]
pub struct Predicate {
    policy: Arc<Policy>,
    /// An object must meet each; one for the principal, more if it is impersonated.
    each: Vec<Vec<Clause>>,
}

/// What a rule says of objects, with everything decided that does not depend on them.
#[derive(Debug, Clone)]
struct Clause {
    effect: Effect,
    grant: Grant,
    names: Vec<Box<str>>,
    labels: Selector,
    /// Whether the binding applies, as far as the circumstances go.
    around: Known,
}

impl Clause {
    fn counts(&self, policy: &Policy, place: Place, name: Option<&str>, labels: &Labels) -> bool {
        let named = self.names.is_empty()
            || name.is_some_and(|name| self.names.iter().any(|pattern| named(pattern, name)));
        if !named || !self.grant.reaches(&policy.tree, place, self.effect) {
            return false;
        }
        let meets = if self.labels.is_everything() {
            Known::Yes
        } else if labels.is_empty() {
            Known::Unknown
        } else {
            self.labels.matches(labels).into()
        };
        match self.effect {
            Effect::Allow => meets.min(self.around) == Known::Yes,
            Effect::Deny => meets.min(self.around) != Known::No,
        }
    }
}

impl Predicate {
    /// Whether the object of that name and labels in `tenant` may be seen: exactly if the request would be allowed.
    pub fn matches(&self, tenant: &TenantRef, name: Option<&str>, labels: &Labels) -> bool {
        let Some(place) = self.policy.tree.place(tenant) else { return false };
        let has = |all: &[Clause], effect| {
            let mut of = all.iter().filter(|clause| clause.effect == effect);
            of.any(|clause| clause.counts(&self.policy, place, name, labels))
        };
        !self.each.is_empty()
            && self.each.iter().all(|all| has(all, Effect::Allow) && !has(all, Effect::Deny))
    }

    /// The tenants in which there may be something to see: list these and no others.
    pub fn tenants(&self) -> Vec<TenantRef> {
        let reaches = |place| {
            let allows = |clause: &Clause| {
                clause.effect == Effect::Allow
                    && clause.around == Known::Yes
                    && clause.grant.reaches(&self.policy.tree, place, Effect::Allow)
            };
            !self.each.is_empty() && self.each.iter().all(|all| all.iter().any(allows))
        };
        self.policy
            .tree
            .tenants()
            .filter(|(place, _)| reaches(*place))
            .map(|(_, tenant)| tenant.clone())
            .collect()
    }

    /// The names that may be seen, with `*` at the end for any rest; `None` if they are not limited.
    pub fn names(&self) -> Option<Vec<String>> {
        let allows = |clause: &&Clause| clause.effect == Effect::Allow && clause.around == Known::Yes;
        let own = self.each.first()?;
        let mut names = Vec::new();
        for clause in own.iter().filter(allows) {
            if clause.names.is_empty() {
                return None;
            }
            names.extend(clause.names.iter().map(ToString::to_string));
        }
        names.sort();
        names.dedup();
        Some(names)
    }
}

impl AccessIndex {
    /// What `ctx` may do `verb` to, of things of `kind`, in whatever tenant: for every object this equals the decision
    /// on it in the object's tenant.
    ///
    /// What an emergency allows is included if `ctx` claims one: put that on record.
    pub fn visible(&self, ctx: &TenantContext, verb: Verb, kind: &ResourceKind) -> Predicate {
        let policy = &*self.policy;
        let request = AccessRequest::new(verb, kind.clone());
        let asked = policy.asked(0, &request);
        let own = policy.asker(ctx.principal(), ctx.groups());
        let mut each = vec![policy.clauses(own, &asked, ctx, false)];
        let mut possible = policy.knows(ctx.principal());
        if let Some(actor) = ctx.actor() {
            let asker = policy.asker(&actor.principal, &actor.groups);
            possible &= policy.knows(&actor.principal);
            each.push(policy.clauses(asker, &asked, ctx, false));
            let nothing = Labels::new();
            for wanted in policy.impersonation(ctx, 0, &nothing) {
                match wanted {
                    // A service account is impersonated where it belongs, wherever the object is.
                    Some(wanted) if wanted.place != 0 => possible &= policy.allows(asker, &wanted, ctx),
                    Some(wanted) => each.push(policy.clauses(asker, &wanted, ctx, true)),
                    None => possible = false,
                }
            }
        }
        Predicate { policy: Arc::clone(&self.policy), each: if possible { each } else { Vec::new() } }
    }

    /// Everybody to whom the request is allowed in the tenant and the circumstances of `ctx`, whoever that names: each
    /// user, account or group by what it holds itself. A member of a group that denies it is denied all the same.
    pub fn who_can(&self, ctx: &TenantContext, request: &AccessRequest) -> Vec<Subject> {
        let policy = &*self.policy;
        let Some(place) = policy.tree.place(ctx.tenant()) else { return Vec::new() };
        let asked = policy.asked(place, request);
        let may = |subject: &Subject, grants| {
            let alive = match subject {
                Subject::Principal(principal) => policy.knows(principal),
                Subject::Group(_) => true,
            };
            let (mut allowed, mut denied) = (false, false);
            policy.hits_among(grants, &asked, ctx, &mut |hit| {
                allowed |= hit.counts() && hit.effect == Effect::Allow;
                denied |= hit.counts() && hit.effect == Effect::Deny;
                denied
            });
            alive && allowed && !denied
        };
        let all = policy.subjects().filter(|(subject, grants)| may(subject, grants));
        let mut can: Vec<_> = all.map(|(subject, _)| subject).collect();
        can.sort();
        can
    }
}

impl Policy {
    /// What the asker's rules say of the verb and the kind asked for; of the very name, if `fixed`.
    fn clauses(&self, asker: Asker<'_>, asked: &Asked<'_>, ctx: &TenantContext, fixed: bool) -> Vec<Clause> {
        let mut found = Vec::new();
        for grant in self.held(asker).flatten() {
            let Some(role) = self.role_of(grant) else { continue };
            let binding = &grant.binding;
            for rule in role.rules.iter() {
                if !(if fixed { rule.matches(asked) } else { rule.is_about(asked.verb, asked.kind) }) {
                    continue;
                }
                let mut clause = Clause {
                    effect: rule.effect,
                    grant: grant.clone(),
                    names: rule.names().to_vec(),
                    labels: binding.conditions.labels.clone(),
                    around: binding.applies(ctx),
                };
                if fixed {
                    clause.around = clause.around.min(binding.conditions.on(asked.labels));
                    clause.names.clear();
                    clause.labels = Selector::everything();
                }
                found.push(clause);
            }
        }
        found
    }
}
