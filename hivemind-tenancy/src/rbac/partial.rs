//! The part of a policy that decides for one asker, read from a view: what others hold is left out.
//! No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{GroupName, Principal, Result, TenantContext, TenantRef};

use super::index::spoken_of;
use super::{AccessIndex, RoleBinding, Scope, Subject, bindings, bindings_of, role_key, roles};
use crate::tenant::{key as tenant_key, tenants};

type Parents = BTreeMap<TenantRef, Option<TenantRef>>;

/// The policy as far as it decides what `ctx` may do in its own tenant. It costs as much as there are bindings of the
/// tenant, of those above it, and for the whole cluster.
///
/// # Errors
/// As [`AccessIndex::of`].
pub(crate) fn index_for(view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<AccessIndex> {
    let mut parents = Parents::new();
    read(view, txn, ctx, above(view, txn, ctx, &mut parents)?, parents)
}

/// The same, and as far as it decides what `ctx` holds in `scope` and in the tenants `below` it. It costs as much as there
/// are bindings of those tenants, too; of the whole cluster, as much as there are bindings at all.
///
/// # Errors
/// As [`AccessIndex::of`].
pub(crate) fn index_around(
    view: &Snapshot,
    txn: &Txn,
    ctx: &TenantContext,
    scope: &Scope,
    below: &[TenantRef],
) -> Result<AccessIndex> {
    let mut parents = Parents::new();
    let mut prefixes = above(view, txn, ctx, &mut parents)?;
    match scope {
        Scope::Global => prefixes = BTreeSet::from([bindings()?.prefix().clone()]),
        Scope::Tenant(tenant) => {
            for one in chain(view, txn, tenant, &mut parents)? {
                prefixes.insert(bindings_of(&Scope::Tenant(one))?);
            }
        }
    }
    for tenant in below {
        chain(view, txn, tenant, &mut parents)?;
        prefixes.insert(bindings_of(&Scope::Tenant(tenant.clone()))?);
    }
    read(view, txn, ctx, prefixes, parents)
}

/// Where there are bindings that decide what `ctx` may do.
fn above(view: &Snapshot, txn: &Txn, ctx: &TenantContext, parents: &mut Parents) -> Result<BTreeSet<Prefix>> {
    let mut prefixes = BTreeSet::from([bindings_of(&Scope::Global)?]);
    // An account is impersonated where it belongs.
    let home = match ctx.principal() {
        Principal::ServiceAccount { tenant, .. } => Some(tenant),
        _ => None,
    };
    for tenant in std::iter::once(ctx.tenant()).chain(home) {
        for one in chain(view, txn, tenant, parents)? {
            prefixes.insert(bindings_of(&Scope::Tenant(one))?);
        }
    }
    if let Some(Principal::ServiceAccount { tenant, .. }) = ctx.actor().map(|actor| &actor.principal) {
        chain(view, txn, tenant, parents)?;
    }
    Ok(prefixes)
}

/// The tenant and all above it, as far as they exist; `parents` has them then.
fn chain(view: &Snapshot, txn: &Txn, tenant: &TenantRef, parents: &mut Parents) -> Result<Vec<TenantRef>> {
    if *tenant == TenantRef::system() {
        return Ok(vec![TenantRef::system()]);
    }
    let (mut found, mut next) = (Vec::new(), Some(tenant.clone()));
    while let Some(tenant) = next.filter(|tenant| !found.contains(tenant)) {
        next = match parents.get(&tenant) {
            Some(parent) => parent.clone(),
            None => {
                let record = tenants()?.get(view, txn, &tenant_key(&tenant.id)?)?;
                let Some(record) = record.filter(|record| record.tenant == tenant) else { break };
                parents.insert(tenant.clone(), record.parent.clone());
                record.parent.clone()
            }
        };
        found.push(tenant);
    }
    Ok(found)
}

/// The policy of the asker's bindings below `prefixes`.
fn read(
    view: &Snapshot,
    txn: &Txn,
    ctx: &TenantContext,
    prefixes: BTreeSet<Prefix>,
    mut parents: Parents,
) -> Result<AccessIndex> {
    let asker = |principal: &Principal, groups: &BTreeSet<GroupName>| -> Vec<Subject> {
        let groups = groups.iter().cloned().map(Subject::Group);
        groups.chain([Subject::Principal(principal.clone())]).collect()
    };
    let mut askers = asker(ctx.principal(), ctx.groups());
    askers.extend(ctx.actor().into_iter().flat_map(|actor| asker(&actor.principal, &actor.groups)));
    let (mut held, mut given) = (Vec::new(), BTreeMap::new());
    for prefix in prefixes {
        for binding in bindings()?.list(view, txn, &prefix)? {
            let own: BTreeSet<_> =
                askers.iter().filter(|one| binding.subjects.contains(one)).cloned().collect();
            if own.is_empty() {
                continue;
            }
            let binding = RoleBinding { subjects: own, ..(*binding.value).clone() };
            for tenant in spoken_of(&binding) {
                chain(view, txn, tenant, &mut parents)?;
            }
            let key = role_key(binding.role_of.as_ref(), &binding.role)?;
            if let Some(role) = roles()?.get(view, txn, &key)? {
                given.insert(key, role.value);
            }
            held.push(Arc::new(binding));
        }
    }
    Ok(AccessIndex::new(view.revision(), parents, given.into_values(), held))
}
