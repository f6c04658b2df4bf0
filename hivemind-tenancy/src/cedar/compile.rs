//! Roles and bindings as Cedar policies. No I/O, no clock, no async.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use cedar_policy::{Policy, PolicyId};
use hivemind_core::{Error, ErrorKind, Principal, Result, RoleName, TenantRef};
use serde_json::{Value, json};

use super::PolicySet;
use super::conditions::conditions;
use super::entities::principal_name;
use super::schema::entity_type;
use super::syntax::{
    all, any, attribute, binary, entity, has, is, literal, not, set, starts_with, value, var,
};
use crate::rbac::{Effect, Inherit, Rule, Scope, Stop, Subject};
use crate::{Role, RoleBinding};

/// A binding says what Cedar's language cannot. Detail of an [`Unsupported`](ErrorKind::Unsupported) error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("binding {binding} for {scope}: {what}")]
#[non_exhaustive]
pub struct NotExpressible {
    /// The binding.
    pub binding: RoleName,
    /// Where it is.
    pub scope: Scope,
    /// What cannot be said.
    pub what: String,
}

/// The policies that decide as `roles` and `bindings` do on `tenants`, each with its parent; of
/// [`CedarAuthorizer`](super::CedarAuthorizer)'s entities and context.
///
/// One policy for each rule of each bound role, called `scope/binding/number of the rule`. A binding whose role is not
/// there, or is another tenant's own, makes none. Compile anew when tenants change, too: a binding may stop at one, or
/// give a role of its own.
///
/// # Errors
/// [`ErrorKind::Unsupported`] with [`NotExpressible`] as detail for labels compared by `<` or `>`.
/// [`ErrorKind::Invalid`] for two bindings of one name and scope.
pub fn compile<R: Borrow<Role>, B: Borrow<RoleBinding>>(
    roles: impl IntoIterator<Item = R>,
    bindings: impl IntoIterator<Item = B>,
    tenants: impl IntoIterator<Item = (TenantRef, Option<TenantRef>)>,
) -> Result<PolicySet> {
    let tenants = Tenants(tenants.into_iter().collect());
    let roles: Vec<R> = roles.into_iter().collect();
    let roles: BTreeMap<_, _> =
        roles.iter().map(Borrow::borrow).map(|role: &Role| ((&role.tenant, &role.name), role)).collect();
    let mut policies = Vec::new();
    for binding in bindings {
        let binding = binding.borrow();
        let Some(role) = roles.get(&(&binding.role_of, &binding.role)) else { continue };
        for (number, rule) in role.rules.iter().enumerate() {
            policies.extend(policy(&tenants, binding, number, rule)?);
        }
    }
    PolicySet::of(policies)
}

/// Every tenant with its parent.
struct Tenants(BTreeMap<TenantRef, Option<TenantRef>>);

impl Tenants {
    /// The tenant and all above it, if it hangs together with a root.
    fn chain<'a>(&'a self, tenant: &'a TenantRef) -> Option<Vec<&'a TenantRef>> {
        let mut chain = vec![tenant];
        if *tenant == TenantRef::system() {
            return Some(chain);
        }
        let mut at = tenant;
        while let Some(parent) = self.0.get(at)? {
            // Longer than there are tenants: it hangs on itself.
            if chain.len() > self.0.len() {
                return None;
            }
            chain.push(parent);
            at = parent;
        }
        Some(chain)
    }

    fn exists(&self, tenant: &TenantRef) -> bool {
        self.chain(tenant).is_some()
    }

    /// Whether roles of `owner` are there in `scope`.
    fn owns(&self, owner: &TenantRef, scope: &Scope) -> bool {
        match scope {
            Scope::Global => false,
            Scope::Tenant(tenant) => self.chain(tenant).is_some_and(|chain| chain.contains(&owner)),
        }
    }
}

/// `None` if the rule says nothing anywhere.
fn policy(tenants: &Tenants, binding: &RoleBinding, number: usize, rule: &Rule) -> Result<Option<Policy>> {
    let Some(place) = place(tenants, binding, rule.effect) else { return Ok(None) };
    let inexpressible = |what| {
        let (binding, scope) = (binding.name.clone(), binding.scope.clone());
        Error::of(ErrorKind::Unsupported, "compile", NotExpressible { binding, scope, what })
    };
    let mut truths = vec![place, subjects(binding)?];
    truths.extend(things(rule));
    truths.extend(conditions(binding, rule.effect).map_err(inexpressible)?);
    let effect = match rule.effect {
        Effect::Allow => "permit",
        Effect::Deny => "forbid",
    };
    let id = format!("{}/{}/{number}", binding.scope.segment(), binding.name);
    let policy = json!({
        "effect": effect,
        "principal": { "op": "All" },
        "action": actions(rule),
        "resource": { "op": "All" },
        "conditions": [{ "kind": "when", "body": all(truths) }],
        "annotations": { "id": id },
    });
    let policy = Policy::from_json(Some(PolicyId::new(&id)), policy)
        .map_err(|e| Error::of(ErrorKind::Internal, "compile", e))?;
    Ok(Some(policy))
}

fn actions(rule: &Rule) -> Value {
    if rule.verbs.is_empty() {
        return json!({ "op": "All" });
    }
    let actions: Vec<_> = rule.verbs.iter().map(|verb| entity("Action", &verb.to_string())).collect();
    json!({ "op": "in", "entities": actions })
}

fn subjects(binding: &RoleBinding) -> Result<Value> {
    let mut subjects = Vec::new();
    for subject in &binding.subjects {
        subjects.push(match subject {
            Subject::Principal(principal) => binary("==", var("principal"), principal_literal(principal)?),
            Subject::Group(group) => binary("in", var("principal"), literal("Group", group.as_str())),
        });
    }
    Ok(any(subjects))
}

fn principal_literal(principal: &Principal) -> Result<Value> {
    let (type_name, id) = principal_name(principal)?;
    Ok(literal(type_name, &id))
}

/// Which kinds and names.
fn things(rule: &Rule) -> Vec<Value> {
    let mut truths = Vec::new();
    if !rule.kinds.is_empty() {
        truths.push(any(rule.kinds.iter().map(|kind| is(var("resource"), &entity_type(kind))).collect()));
    }
    if !rule.names.is_empty() {
        let name = || attribute(var("resource"), "name");
        let (starts, whole): (Vec<&String>, Vec<&String>) =
            rule.names.iter().partition(|name| name.ends_with('*'));
        let mut named: Vec<_> = starts
            .iter()
            .filter_map(|start| start.strip_suffix('*'))
            .map(|s| starts_with(name(), s))
            .collect();
        if !whole.is_empty() {
            named.push(binary("contains", set(whole.iter().map(|name| name.as_str())), name()));
        }
        truths.push(binary("&&", has(var("resource"), "name"), any(named)));
    }
    truths
}

/// Where what the binding says with `effect` reaches; `None` for nowhere.
fn place(tenants: &Tenants, binding: &RoleBinding, effect: Effect) -> Option<Value> {
    let owned = binding.role_of.as_ref().is_none_or(|owner| tenants.owns(owner, &binding.scope));
    if !owned {
        return None;
    }
    let tenant = || attribute(var("resource"), "tenant");
    let there = |scope| binary("==", tenant(), literal("Tenant", scope));
    let below = |scope| binary("in", var("resource"), literal("Tenant", scope));
    let scope = match &binding.scope {
        Scope::Global => None,
        Scope::Tenant(tenant) => Some(tenant.to_string()),
    };
    let scope = scope.as_deref();
    let everywhere = scope.map_or_else(|| value(true), below);
    let more = match &binding.inherit {
        Inherit::None => return Some(scope.map_or_else(|| value(true), there)),
        Inherit::Down => return Some(everywhere),
        Inherit::DownUntil(Stop::Tenant(stop)) if tenants.exists(stop) => not(below(&stop.to_string())),
        // Nobody knows any more where to stop.
        Inherit::DownUntil(Stop::Tenant(_)) if effect == Effect::Deny => return Some(everywhere),
        Inherit::DownUntil(Stop::Tenant(_)) => return scope.map(there),
        Inherit::DownUntil(Stop::Depth(depth)) => {
            let depth = value(*depth);
            let its = attribute(tenant(), "depth");
            match scope {
                Some(scope) => {
                    binary("<=", its, binary("+", attribute(literal("Tenant", scope), "depth"), depth))
                }
                // A root is one level below the whole cluster.
                None => binary("<", its, depth),
            }
        }
    };
    Some(binary("&&", everywhere, more))
}
