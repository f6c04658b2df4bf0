//! What in a policy has no effect, or not the one that was meant. No I/O, no clock, no async.

use std::fmt;
use std::sync::Arc;

use hivemind_core::{Principal, RoleName, Timestamp};

use super::index::{CompiledRole, Grant, Policy};
use super::tree::Place;
use super::{AccessIndex, Effect, Role, RoleBinding, Rule, Scope, Subject};

/// What is wrong with a role or a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LintKind {
    /// The tenant of the binding does not exist.
    UnknownTenant,
    /// The tenant of the binding was created anew since.
    StaleGeneration,
    /// The role of the binding does not exist there.
    UnknownRole,
    /// The binding has expired.
    Expired,
    /// The binding is for nobody.
    NoSubjects,
    /// A service account in the binding belongs to a tenant that does not exist.
    GoneSubject,
    /// The role has no rules.
    NoRules,
    /// What the rule allows is always denied.
    Unreachable,
}

/// Something to mend in a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Lint {
    /// What is wrong.
    pub kind: LintKind,
    /// The scope and the name of the binding, if it is one.
    pub binding: Option<(Scope, RoleName)>,
    /// The role.
    pub role: RoleName,
    /// One sentence for people.
    pub message: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl AccessIndex {
    /// Everything to mend, as of `at`; without a time, nothing is taken to have expired.
    pub fn lint(&self, at: Option<Timestamp>) -> Vec<Lint> {
        let policy = &*self.policy;
        let mut found = Vec::new();
        for role in policy.roles.iter() {
            lint_role(role, &mut found);
        }
        for (place, _, binding) in policy.bindings.iter() {
            policy.lint_binding(binding, at, &mut found);
            if let Some((kind, what)) = policy.why_dangling(place, binding) {
                found.push(about(kind, binding, &what));
            }
        }
        for (subject, grants) in policy.subjects() {
            policy.lint_grants(&subject, grants, &mut found);
        }
        found.sort();
        found.dedup();
        found
    }
}

fn about(kind: LintKind, binding: &RoleBinding, what: &str) -> Lint {
    let at = Some((binding.scope.clone(), binding.name.clone()));
    Lint { kind, binding: at, role: binding.role.clone(), message: format!("{binding} {what}") }
}

fn lint_role(role: &Role, found: &mut Vec<Lint>) {
    let lint = |kind, message| Lint { kind, binding: None, role: role.name.clone(), message };
    if role.rules.is_empty() {
        found.push(lint(LintKind::NoRules, format!("role {} has no rules", role.name)));
    }
    for (number, rule) in role.rules.iter().enumerate() {
        if let Some(deny) = role.rules.iter().position(|deny| shadows(deny, rule)) {
            let message = format!("rule {number} of role {} is always denied by its rule {deny}", role.name);
            found.push(lint(LintKind::Unreachable, message));
        }
    }
}

/// Whether `deny` denies all that `allow` allows.
fn shadows(deny: &Rule, allow: &Rule) -> bool {
    let covered = |name: &String| {
        deny.names.iter().any(|wide| match (wide.strip_suffix('*'), name.strip_suffix('*')) {
            (Some(wide), Some(start)) => start.starts_with(wide),
            (Some(wide), None) => name.starts_with(wide),
            (None, _) => wide == name,
        })
    };
    deny.effect == Effect::Deny
        && allow.effect == Effect::Allow
        && (deny.verbs.is_empty() || (!allow.verbs.is_empty() && allow.verbs.is_subset(&deny.verbs)))
        && (deny.kinds.is_empty() || (!allow.kinds.is_empty() && allow.kinds.is_subset(&deny.kinds)))
        && (deny.names.is_empty() || (!allow.names.is_empty() && allow.names.iter().all(covered)))
}

impl Policy {
    fn lint_binding(&self, binding: &RoleBinding, at: Option<Timestamp>, found: &mut Vec<Lint>) {
        if let (Some(end), Some(at)) = (binding.expires, at)
            && at >= end
        {
            found.push(about(LintKind::Expired, binding, &format!("expired at {end}")));
        }
        if binding.subjects.is_empty() {
            found.push(about(LintKind::NoSubjects, binding, "is for nobody"));
        }
        for subject in &binding.subjects {
            if let Subject::Principal(account @ Principal::ServiceAccount { .. }) = subject
                && !self.knows(account)
            {
                found.push(about(
                    LintKind::GoneSubject,
                    binding,
                    &format!("is for {account}, whose tenant is gone"),
                ));
            }
        }
    }

    /// Why the binding, of the tenant at `place`, means nothing, if it does not.
    fn why_dangling(&self, place: Place, binding: &RoleBinding) -> Option<(LintKind, String)> {
        match &binding.scope {
            Scope::Tenant(tenant) if !self.tree.is_there(place) => {
                if self.tree.has_named(&tenant.id) {
                    let what = format!("is for generation {} of it, which is gone", tenant.generation);
                    return Some((LintKind::StaleGeneration, what));
                }
                Some((LintKind::UnknownTenant, "is for a tenant that does not exist".to_owned()))
            }
            _ if self.role_at(place, binding.role_of.as_ref(), &binding.role).is_none() => {
                let what = format!("names role {}, which does not exist there", binding.role);
                Some((LintKind::UnknownRole, what))
            }
            _ => None,
        }
    }

    /// Allows of one subject that a deny of the same subject always shadows.
    fn lint_grants(&self, subject: &Subject, grants: &[Grant], found: &mut Vec<Lint>) {
        let rules = |grant: &Grant| self.role_of(grant).map(CompiledRole::written).unwrap_or_default();
        let always: Vec<_> = grants.iter().filter(|grant| grant.is_plain()).collect();
        let denies = || always.iter().flat_map(|grant| rules(grant).iter().map(move |rule| (*grant, rule)));
        for grant in grants {
            let same = |deny: &Grant| Arc::ptr_eq(&deny.binding, &grant.binding);
            let wider = |deny: &Grant| !same(deny) && deny.is_wider(&self.tree, grant);
            let binding = &*grant.binding;
            for (number, rule) in rules(grant).iter().enumerate() {
                let Some((deny, _)) = denies().find(|(deny, by)| wider(deny) && shadows(by, rule)) else {
                    continue;
                };
                let by = &deny.binding;
                let what = format!(
                    "allows {subject} nothing by rule {number} of role {}: {by} denies it",
                    binding.role
                );
                found.push(about(LintKind::Unreachable, binding, &what));
            }
        }
    }
}
