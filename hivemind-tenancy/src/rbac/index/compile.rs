//! From roles and bindings to the index. No I/O, no clock, no async.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hivemind_core::{ResourceKind, RoleName, TenantRef};

use super::super::tree::{CLUSTER, Place, Tree};
use super::super::{Inherit, Role, RoleBinding, Rule, Scope, Stop, Subject};
use super::decide::verb_bit;
use super::{CompiledRole, CompiledRule, Grant, ImpersonatedKinds, Limit, NONE, Policy, Span};

pub(super) fn policy(tree: Tree, roles: Vec<Arc<Role>>, bindings: Vec<Arc<RoleBinding>>) -> Policy {
    let mut policy = Policy { tree, ..Policy::default() };
    let mut numbers = BTreeMap::new();
    for role in roles {
        numbers.insert((role.tenant.clone(), role.name.clone()), number(policy.roles.len()));
        let rules = role.rules.iter().map(|rule| compiled(rule, &mut policy.kinds)).collect();
        policy.roles.push(CompiledRole { role, rules });
    }
    policy.impersonated = ImpersonatedKinds {
        users: known(&policy.kinds, "users"),
        service_accounts: known(&policy.kinds, "service-accounts"),
        nodes: known(&policy.kinds, "nodes"),
        components: known(&policy.kinds, "system-components"),
        groups: known(&policy.kinds, "groups"),
    };
    let mut held: Vec<(Subject, Grant)> = Vec::new();
    for binding in &bindings {
        match grant(&mut policy, &numbers, binding) {
            Some(grant) => held.extend(binding.subjects.iter().map(|subject| (subject.clone(), grant))),
            None => policy.dangling.push(number(policy.bindings.len())),
        }
        policy.bindings.push(Arc::clone(binding));
    }
    held.sort_unstable_by(|(a, x), (b, y)| (a, x.from, x.end, x.binding).cmp(&(b, y.from, y.end, y.binding)));
    spread(&mut policy, held);
    policy
}

/// Lays out the grants, subject by subject.
fn spread(policy: &mut Policy, held: Vec<(Subject, Grant)>) {
    policy.grants.reserve_exact(held.len());
    for (subject, grant) in held {
        match policy.subjects.last_mut() {
            Some((last, span)) if *last == subject => span.len += 1,
            _ => policy.subjects.push((subject, Span { start: number(policy.grants.len()), len: 1 })),
        }
        policy.grants.push(grant);
    }
    for (subject, span) in &policy.subjects {
        match subject {
            Subject::Principal(principal) => drop(policy.principals.insert(principal.clone(), *span)),
            Subject::Group(group) => drop(policy.groups.insert(group.clone(), *span)),
        }
    }
}

fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(NONE)
}

fn known(kinds: &HashMap<ResourceKind, u32, RandomState>, kind: &str) -> u32 {
    kind.parse::<ResourceKind>().ok().and_then(|kind| kinds.get(&kind).copied()).unwrap_or(NONE)
}

fn compiled(rule: &Rule, kinds: &mut HashMap<ResourceKind, u32, RandomState>) -> CompiledRule {
    let verbs = if rule.verbs.is_empty() {
        u16::MAX
    } else {
        rule.verbs.iter().fold(0, |all, verb| all | verb_bit(*verb))
    };
    let mut intern = |kind: &ResourceKind| {
        let next = number(kinds.len());
        *kinds.entry(kind.clone()).or_insert(next)
    };
    CompiledRule {
        effect: rule.effect,
        verbs,
        kinds: rule.kinds.iter().map(&mut intern).collect(),
        names: rule.names.iter().map(|name| name.as_str().into()).collect(),
    }
}

/// Where the binding reaches; `None` if its tenant or its role does not exist there.
fn grant(
    policy: &mut Policy,
    roles: &BTreeMap<(Option<TenantRef>, RoleName), u32>,
    binding: &RoleBinding,
) -> Option<Grant> {
    let tree = &policy.tree;
    let from = match &binding.scope {
        Scope::Global => CLUSTER,
        Scope::Tenant(tenant) => tree.place(tenant)?,
    };
    let role = *roles.get(&(binding.role_of.clone(), binding.role.clone()))?;
    // A tenant's own role is nothing to tenants that are not below.
    let owned = |owner| tree.place(owner).is_some_and(|owner| from != CLUSTER && tree.is_within(from, owner));
    if !binding.role_of.as_ref().is_none_or(owned) {
        return None;
    }
    let (end, limit) = reach(tree, from, binding);
    let number = number(policy.limits.len());
    let limit = limit.map_or(NONE, |limit| {
        policy.limits.push(limit);
        number
    });
    // A list of the bindings is made beside this one, in the same order.
    Some(Grant { from, end, role, binding: self::number(policy.bindings.len()), limit })
}

fn reach(tree: &Tree, from: Place, binding: &RoleBinding) -> (Place, Option<Limit>) {
    let below = tree.end(from);
    let end =
        if binding.inherit == Inherit::None && from != CLUSTER { from.saturating_add(1) } else { below };
    let conditional = !binding.conditions.is_always() || binding.expires.is_some() || binding.emergency;
    let mut limit = Limit { allow_end: end, stop: (0, 0), deepest: u32::MAX, conditional };
    match &binding.inherit {
        Inherit::DownUntil(Stop::Tenant(stop)) => match tree.place(stop) {
            Some(place) => limit.stop = (place, tree.end(place)),
            None => limit.allow_end = from.saturating_add(1),
        },
        Inherit::DownUntil(Stop::Depth(depth)) => {
            let level = tree.spot(from).map_or(0, |spot| spot.level);
            limit.deepest = level.saturating_add(*depth);
        }
        Inherit::None | Inherit::Down => {}
    }
    let plain = limit.allow_end == end && limit.stop == (0, 0) && limit.deepest == u32::MAX && !conditional;
    (end, (!plain).then_some(limit))
}
