//! Roles and their bindings.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, RoleName, TenantContext, TenantRef};

use super::TenantManager;
use crate::rbac::{Scope, bindings, role_key, roles};
use crate::{Role, RoleBinding};

impl TenantManager {
    /// Stages a role, in place of one of that name.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] outside the system tenant's context: roles are global.
    pub fn stage_put_role(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        role: &Role,
    ) -> Result<()> {
        if *ctx.tenant() != TenantRef::system() {
            let message =
                format!("roles are administered in the context of tenant {}", TenantRef::system().id);
            return Err(Error::new(ErrorKind::Denied, "put role", message));
        }
        let key = role_key(role.tenant.as_ref(), &role.name)?;
        match roles()?.get(view, txn, &key)? {
            Some(old) => roles()?.update(txn, &old, role),
            None => roles()?.create(view, txn, key, role),
        }
    }

    /// Stages a binding, in place of one of that name and scope.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] for another scope than the tenant of `ctx`, unless that is the system tenant.
    pub fn stage_bind(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        binding: &RoleBinding,
    ) -> Result<()> {
        own_scope(ctx, &binding.scope)?;
        let key = bindings()?.key([&binding.scope.segment(), binding.name.as_str()])?;
        match bindings()?.get(view, txn, &key)? {
            Some(old) => bindings()?.update(txn, &old, binding),
            None => bindings()?.create(view, txn, key, binding),
        }
    }

    /// Stages the removal of a binding.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, [`ErrorKind::Denied`] as for [`stage_bind`](Self::stage_bind).
    pub fn stage_unbind(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        scope: &Scope,
        name: &RoleName,
    ) -> Result<()> {
        own_scope(ctx, scope)?;
        let old = bindings()?.require(view, txn, &bindings()?.key([&scope.segment(), name.as_str()])?)?;
        bindings()?.delete(txn, &old)
    }

    /// Puts a role.
    ///
    /// # Errors
    /// As [`stage_put_role`](Self::stage_put_role), and those of the store.
    pub async fn put_role(&self, ctx: &TenantContext, role: Role) -> Result<()> {
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_put_role(view, txn, ctx, &role);
        self.commit(ctx, &format!("put-role-{}", role.name), decide).await
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
}

fn own_scope(ctx: &TenantContext, scope: &Scope) -> Result<()> {
    let own = matches!(scope, Scope::Tenant(tenant) if tenant == ctx.tenant());
    if own || *ctx.tenant() == TenantRef::system() {
        return Ok(());
    }
    let message = format!("a binding in {scope} is not for tenant {} to make", ctx.tenant().id);
    Err(Error::new(ErrorKind::Denied, "bind", message))
}
