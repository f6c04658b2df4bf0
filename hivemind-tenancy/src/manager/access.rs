//! Roles and their bindings. Nobody hands out more than they hold.

use std::collections::BTreeSet;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    AccessDecision, AccessRequest, Error, ErrorKind, Result, RoleName, Stamped, TenantContext, TenantRef,
    Verb,
};

use super::TenantManager;
use super::tenants::subtree;
use crate::rbac::{AccessIndex, Inherit, Rule, Subject};
use crate::rbac::{Change, Scope, bindings, bindings_of, index_around, index_for, role_key, roles};
use crate::tenant::VerbClass;
use crate::{Role, RoleBinding, Tenant};

/// The role and the binding of the first administrator.
const FIRST_ADMIN: &str = "cluster-admin";

impl TenantManager {
    /// Stages the first administrator, who may do everything everywhere and from whom all other grants come. The host
    /// names one when it sets up the cluster; nobody is asked whether it may.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] once there is a binding for the whole cluster.
    pub fn stage_first_admin(&self, view: &Snapshot, txn: &mut Txn, admin: &Subject) -> Result<()> {
        if !bindings()?.list(view, txn, &bindings_of(&Scope::Global)?)?.is_empty() {
            let message = "there is an administrator already: ask them for a binding";
            return Err(Error::new(ErrorKind::AlreadyExists, "first admin", message));
        }
        let name: RoleName =
            FIRST_ADMIN.parse().map_err(|e| Error::of(ErrorKind::Internal, "first admin", e))?;
        let role = Role::new(name.clone(), [Rule::allow()]);
        roles()?.create(view, txn, role_key(None, &name)?, &role)?;
        let binding = RoleBinding::new(name.clone(), name, Scope::Global, [admin.clone()]);
        bindings()?.create(view, txn, bindings()?.key([&Scope::Global.segment(), FIRST_ADMIN])?, &binding)
    }

    /// Stages a role, in place of one of that name.
    ///
    /// Asks for [`Verb::Create`] or [`Verb::Update`] on `roles`. What it adds to the role, whoever asks must hold
    /// wherever the role may be bound: in the whole cluster, or in the tenant whose own it is and all below.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`], with [`Escalation`](crate::rbac::Escalation) as detail if it would hand out more than the
    /// grantor holds; [`ErrorKind::Denied`] for a role of every tenant outside the system tenant's context;
    /// [`ErrorKind::NotFound`] for another tenant's own; [`ErrorKind::Conflict`] if the state of the tenant does not
    /// allow it; [`ErrorKind::Invalid`] if it has more than 256 rules, or
    /// they name more than 256 kinds or names.
    pub fn stage_put_role(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        role: &Role,
    ) -> Result<()> {
        let key = role_key(role.tenant.as_ref(), &role.name)?;
        let scope = role.tenant.clone().map_or(Scope::Global, Scope::Tenant);
        own_scope(ctx, &scope)?;
        let own = index_for(view, txn, ctx)?;
        // Who may do neither is told the same, whether there is such a role or not.
        let create = may(&own, ctx, Verb::Create, &role.name);
        let update = may(&own, ctx, Verb::Update, &role.name);
        if update.is_err() {
            create?;
        }
        let old = roles()?.get(view, txn, &key)?;
        may(&own, ctx, if old.is_some() { Verb::Update } else { Verb::Create }, &role.name)?;
        role.check()?;
        takes_grants(view, txn, ctx, &scope)?;
        let before = old.as_ref().map_or(&[][..], |old| &old.rules);
        let index = index_at(view, txn, ctx, &scope, true)?;
        edit(&index, view, txn, ctx, (role, &scope), (before, &role.rules))?;
        match &old {
            Some(old) => roles()?.update(txn, old, role),
            None => roles()?.create(view, txn, key, role),
        }
    }

    /// Stages the removal of a role. Its bindings stay and grant nothing.
    ///
    /// Asks for [`Verb::Delete`] on `roles`. What the role denies, whoever asks must hold, as for
    /// [`stage_put_role`](Self::stage_put_role).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, and as [`stage_put_role`](Self::stage_put_role).
    pub fn stage_delete_role(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        tenant: Option<&TenantRef>,
        name: &RoleName,
    ) -> Result<()> {
        let scope = tenant.cloned().map_or(Scope::Global, Scope::Tenant);
        own_scope(ctx, &scope)?;
        may(&index_for(view, txn, ctx)?, ctx, Verb::Delete, name)?;
        let old = roles()?.require(view, txn, &role_key(tenant, name)?)?;
        let index = index_at(view, txn, ctx, &scope, true)?;
        edit(&index, view, txn, ctx, (&old, &scope), (&old.rules, &[]))?;
        roles()?.delete(txn, &old)
    }

    /// Stages a binding, in place of one of that name and scope.
    ///
    /// Asks for [`Verb::Grant`] on the role. What the binding hands out, whoever asks must hold as far down, as long
    /// and under no more conditions; what an older one in its place denied, likewise.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`], with [`Escalation`](crate::rbac::Escalation) as detail if it would hand out more than the
    /// grantor holds; [`ErrorKind::NotFound`] if there is no such role or tenant, or it is not below the tenant of
    /// `ctx` to use: only the system tenant's context binds elsewhere than in its own tenant; [`ErrorKind::Conflict`] if
    /// the state of the tenant does not allow it; [`ErrorKind::Invalid`] for [conditions](crate::rbac::Conditions::check) that
    /// never hold.
    pub fn stage_bind(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        binding: &RoleBinding,
    ) -> Result<()> {
        own_scope(ctx, &binding.scope)?;
        may(&index_for(view, txn, ctx)?, ctx, Verb::Grant, &binding.role)?;
        let role = role_for(view, txn, ctx, binding)?;
        binding.conditions.check()?;
        takes_grants(view, txn, ctx, &binding.scope)?;
        let key = bindings()?.key([&binding.scope.segment(), binding.name.as_str()])?;
        let old = bindings()?.get(view, txn, &key)?;
        let down = |one: &RoleBinding| one.inherit != Inherit::None;
        let deep = down(binding) || old.as_ref().is_some_and(|old| down(old));
        let index = index_at(view, txn, ctx, &binding.scope, deep)?;
        let kept = old.as_ref().filter(|old| same_shape(old, binding));
        if kept.is_none_or(|old| !binding.subjects.is_subset(&old.subjects)) {
            prove(&index, view, txn, ctx, &Change { before: &[], after: &role.rules, reach: binding })?;
        }
        // The role must not change under the decision: whoever edits it answers for its bindings from then on.
        roles()?.expect(txn, &role)?;
        match &old {
            Some(old) => {
                if kept.is_none_or(|kept| !kept.subjects.is_subset(&binding.subjects)) {
                    release(&index, view, txn, ctx, old)?;
                }
                bindings()?.update(txn, old, binding)
            }
            None => bindings()?.create(view, txn, key, binding),
        }
    }

    /// Stages the removal of a binding. Asks for [`Verb::Grant`] on the role; what the binding denies, whoever asks
    /// must hold.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, or it is of a role that whoever asks may not grant;
    /// [`ErrorKind::Denied`], there or not, to whom may grant no role at all; and as [`stage_bind`](Self::stage_bind).
    pub fn stage_unbind(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        scope: &Scope,
        name: &RoleName,
    ) -> Result<()> {
        own_scope(ctx, scope)?;
        let key = bindings()?.key([&scope.segment(), name.as_str()])?;
        let own = index_for(view, txn, ctx)?;
        let old = bindings()?.get(view, txn, &key)?;
        let old = old.filter(|old| may(&own, ctx, Verb::Grant, &old.role).is_ok());
        let Some(old) = old else { return Err(no_binding(&own, ctx, scope, name)?) };
        let index = index_at(view, txn, ctx, scope, old.inherit != Inherit::None)?;
        release(&index, view, txn, ctx, &old)?;
        bindings()?.delete(txn, &old)
    }

    /// Puts a role.
    ///
    /// # Errors
    /// As [`stage_put_role`](Self::stage_put_role), and those of the store.
    pub async fn put_role(&self, ctx: &TenantContext, role: Role) -> Result<()> {
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_put_role(view, txn, ctx, &role);
        let scope = role.tenant.clone().map_or(Scope::Global, Scope::Tenant);
        self.commit(ctx, &format!("put-role-{}-{}", scope.segment(), role.name), decide).await
    }

    /// Binds a role.
    ///
    /// # Errors
    /// As [`stage_bind`](Self::stage_bind), and those of the store.
    pub async fn bind(&self, ctx: &TenantContext, binding: RoleBinding) -> Result<()> {
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_bind(view, txn, ctx, &binding);
        let operation = format!("bind-{}-{}", binding.scope.segment(), binding.name);
        self.commit(ctx, &operation, decide).await
    }

    /// Takes a binding back.
    ///
    /// # Errors
    /// As [`stage_unbind`](Self::stage_unbind), and those of the store.
    pub async fn unbind(&self, ctx: &TenantContext, scope: &Scope, name: &RoleName) -> Result<()> {
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_unbind(view, txn, ctx, scope, name);
        self.commit(ctx, &format!("unbind-{}-{name}", scope.segment()), decide).await
    }
}

fn own_scope(ctx: &TenantContext, scope: &Scope) -> Result<()> {
    match scope {
        _ if *ctx.tenant() == TenantRef::system() => Ok(()),
        Scope::Tenant(tenant) => ctx.owns("grant", tenant, format_args!("tenant {} in it", tenant.id)),
        Scope::Global => {
            let message = format!("what is for {scope} is not for tenant {} to grant", ctx.tenant().id);
            Err(Error::new(ErrorKind::Denied, "grant", message))
        }
    }
}

/// The role that `binding` names, if it may be bound there.
fn role_for(view: &Snapshot, txn: &Txn, ctx: &TenantContext, binding: &RoleBinding) -> Result<Stamped<Role>> {
    let missing =
        || Error::not_found("bind", format!("there is no role {} for {}", binding.role, binding.scope));
    if let Scope::Tenant(tenant) = &binding.scope
        && *tenant != TenantRef::system()
    {
        let above = Tenant::chain(view, txn, &ctx.clone().for_tenant(tenant.clone()))?;
        let owned = |owner: &TenantRef| above.iter().any(|tenant| tenant.tenant == *owner);
        if !binding.role_of.as_ref().is_none_or(owned) {
            return Err(missing());
        }
    } else if binding.role_of.is_some() {
        return Err(missing());
    }
    roles()?.get(view, txn, &role_key(binding.role_of.as_ref(), &binding.role)?)?.ok_or_else(missing)
}

/// Stages the demand that the tenant of `scope`, and those above it, let things be prepared in it: what is granted in one
/// that is being deleted would outlive it.
fn takes_grants(view: &Snapshot, txn: &mut Txn, ctx: &TenantContext, scope: &Scope) -> Result<()> {
    match scope {
        Scope::Tenant(tenant) if *tenant != TenantRef::system() => {
            let theirs = ctx.clone().for_tenant(tenant.clone());
            Tenant::allowing(view, txn, &theirs, VerbClass::Configure).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// Whether they differ in their subjects alone.
fn same_shape(old: &RoleBinding, new: &RoleBinding) -> bool {
    let bare = |one: &RoleBinding| RoleBinding { subjects: BTreeSet::new(), ..one.clone() };
    bare(old) == bare(new)
}

/// The policy as far as it decides what `ctx` holds in `scope`, and if `deep` also below.
fn index_at(
    view: &Snapshot,
    txn: &Txn,
    ctx: &TenantContext,
    scope: &Scope,
    deep: bool,
) -> Result<AccessIndex> {
    let below: Vec<_> = match scope {
        Scope::Tenant(tenant) if deep => {
            subtree(view, txn, tenant)?.into_iter().map(|(one, _)| one.tenant.clone()).collect()
        }
        _ => Vec::new(),
    };
    index_around(view, txn, ctx, scope, &below)
}

fn of_roles(verb: Verb) -> Result<AccessRequest> {
    let kind = "roles".parse().map_err(|e| Error::of(ErrorKind::Internal, "grant", e))?;
    Ok(AccessRequest::new(verb, kind))
}

fn may(index: &AccessIndex, ctx: &TenantContext, verb: Verb, role: &RoleName) -> Result<()> {
    decided(index, ctx, &of_roles(verb)?.named(role.as_str()))
}

fn decided(index: &AccessIndex, ctx: &TenantContext, request: &AccessRequest) -> Result<()> {
    let told = index.explain(ctx, request);
    let decision = match (told.decision.allowed, told.decision.emergency) {
        (true, false) => AccessDecision::allow(told.because),
        (true, true) => AccessDecision::deny(["an emergency is no reason to hand out roles".to_owned()]),
        (false, _) => AccessDecision::deny(told.because),
    };
    decision.into_result(ctx, request)
}

/// What is answered where there is no binding, or one that is not for `ctx` to take back: it does not depend on which.
fn no_binding(index: &AccessIndex, ctx: &TenantContext, scope: &Scope, name: &RoleName) -> Result<Error> {
    let request = of_roles(Verb::Grant)?;
    let some = index.visible(ctx, request.verb, &request.kind);
    if some.tenants().contains(ctx.tenant()) {
        return Ok(Error::not_found(
            "unbind",
            format!("there is no binding {name} for {scope} to take back"),
        ));
    }
    Ok(match decided(index, ctx, &request) {
        Err(denied) => denied,
        Ok(()) => Error::new(ErrorKind::Denied, "unbind", "no role is granted here"),
    })
}

/// Demands that whoever asks holds what is handed out, and still does when the transaction commits.
fn prove(
    index: &AccessIndex,
    view: &Snapshot,
    txn: &mut Txn,
    ctx: &TenantContext,
    change: &Change<'_>,
) -> Result<()> {
    for proof in index.holds(ctx, change)? {
        let key = bindings()?.key([&proof.scope.segment(), proof.name.as_str()])?;
        let binding = bindings()?.require(view, txn, &key)?;
        bindings()?.expect(txn, &binding)?;
        let role = roles()?.require(view, txn, &role_key(proof.role_of.as_ref(), &proof.role)?)?;
        roles()?.expect(txn, &role)?;
    }
    Ok(())
}

/// Demands what an edit of a role from the rules `before` to those `after` hands out.
fn edit(
    index: &AccessIndex,
    view: &Snapshot,
    txn: &mut Txn,
    ctx: &TenantContext,
    (role, scope): (&Role, &Scope),
    (before, after): (&[Rule], &[Rule]),
) -> Result<()> {
    let reach =
        RoleBinding::new(role.name.clone(), role.name.clone(), scope.clone(), []).with_inherit(Inherit::Down);
    prove(index, view, txn, ctx, &Change { before, after, reach: &reach })
}

/// Demands what a move of `moved` hands out: whoever moves it must hold there what it inherits from tenants that were not
/// above it before, and what those denied that no longer are.
pub(super) fn stage_inherit(
    view: &Snapshot,
    txn: &mut Txn,
    ctx: &TenantContext,
    moved: &TenantRef,
    (before, after): (&[Stamped<Tenant>], &[Stamped<Tenant>]),
) -> Result<()> {
    let index = AccessIndex::of(view, txn)?;
    let here = |one: &RoleBinding| RoleBinding {
        scope: Scope::Tenant(moved.clone()),
        inherit: Inherit::Down,
        ..one.clone()
    };
    for one in inherited(view, txn, after, before)? {
        if let Some(role) = roles()?.get(view, txn, &role_key(one.role_of.as_ref(), &one.role)?)? {
            roles()?.expect(txn, &role)?;
            let change = Change { before: &[], after: &role.rules, reach: &here(&one) };
            prove(&index, view, txn, ctx, &change)?;
        }
    }
    for one in inherited(view, txn, before, after)? {
        release(&index, view, txn, ctx, &here(&one))?;
    }
    // A role of a tenant that is no longer above means nothing any more, so what it denied is free, too.
    let lost = |owner: &TenantRef| contains(before, owner) && !contains(after, owner);
    for (inside, _) in subtree(view, txn, moved)? {
        let theirs = bindings_of(&Scope::Tenant(inside.tenant.clone()))?;
        for one in bindings()?.list(view, txn, &theirs)? {
            if one.role_of.as_ref().is_some_and(lost) {
                release(&index, view, txn, ctx, &one)?;
            }
        }
    }
    Ok(())
}

fn contains(tenants: &[Stamped<Tenant>], tenant: &TenantRef) -> bool {
    tenants.iter().any(|one| one.tenant == *tenant)
}

/// The bindings that come down from those of `these` that are not among `others`.
fn inherited(
    view: &Snapshot,
    txn: &Txn,
    these: &[Stamped<Tenant>],
    others: &[Stamped<Tenant>],
) -> Result<Vec<Stamped<RoleBinding>>> {
    let mut found = Vec::new();
    for one in these.iter().filter(|one| !contains(others, &one.tenant)) {
        let all = bindings()?.list(view, txn, &bindings_of(&Scope::Tenant(one.tenant.clone()))?)?;
        found.extend(all.into_iter().filter(|binding| binding.inherit != Inherit::None));
    }
    Ok(found)
}

/// Demands what `old` denies: once it is gone, others may allow it.
fn release(
    index: &AccessIndex,
    view: &Snapshot,
    txn: &mut Txn,
    ctx: &TenantContext,
    old: &RoleBinding,
) -> Result<()> {
    let Some(role) = roles()?.get(view, txn, &role_key(old.role_of.as_ref(), &old.role)?)? else {
        return Ok(());
    };
    roles()?.expect(txn, &role)?;
    // Where something is not known a deny applies all the same: it is released without conditions.
    let reach = RoleBinding::new(old.name.clone(), old.role.clone(), old.scope.clone(), []);
    let down = if old.inherit == Inherit::None { Inherit::None } else { Inherit::Down };
    let denied: Vec<Rule> =
        role.rules.iter().filter(|rule| rule.effect == crate::rbac::Effect::Deny).cloned().collect();
    prove(index, view, txn, ctx, &Change { before: &denied, after: &[], reach: &reach.with_inherit(down) })
}
