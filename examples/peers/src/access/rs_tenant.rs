//! rs-tenant: its engine on its own in-memory source, without a cache.

use futures::executor::block_on;
use rs_tenant::{
    AccessDecision, AuthSubject, Engine, EngineBuilder, GrantScope, MembershipStatus, MemorySource, NoCache,
    Permission, PrincipalId, RoleId, TenantAccessRequest, TenantId, TenantStatus,
};

use super::{Question, USERS, tenant_name, user_name};

/// An engine over the grants.
pub struct RsTenant {
    engine: Engine<MemorySource, NoCache>,
}

impl RsTenant {
    /// Loads the grants.
    pub fn new(bindings: usize) -> rs_tenant::Result<Self> {
        let source = MemorySource::new();
        let role = RoleId::parse("reader")?;
        for tenant in 0..(bindings / USERS).max(1) {
            let id = TenantId::parse(tenant_name(tenant))?;
            source.set_tenant_status(id.clone(), TenantStatus::Active);
            for permission in ["workload:get", "workload:list"] {
                source.add_role_permission(id.clone(), role.clone(), Permission::parse(permission)?);
            }
        }
        for user in 0..bindings {
            let tenant = TenantId::parse(tenant_name(user / USERS))?;
            let principal = PrincipalId::parse(user_name(user))?;
            source.set_membership_status(tenant.clone(), principal.clone(), MembershipStatus::Active);
            source.add_role_assignment(tenant, principal, role.clone(), GrantScope::tenant());
        }
        Ok(Self { engine: EngineBuilder::new(source).build() })
    }

    /// The answers to prepared questions, one after the other.
    pub fn asker(&self, questions: &[Question]) -> rs_tenant::Result<impl FnMut() -> bool + use<'_>> {
        let permission = Permission::parse("workload:get")?;
        let asked = questions
            .iter()
            .map(|q| {
                Ok(TenantAccessRequest {
                    subject: AuthSubject::new(
                        TenantId::parse(tenant_name(q.tenant))?,
                        PrincipalId::parse(user_name(q.user))?,
                    ),
                    permission: permission.clone(),
                })
            })
            .collect::<rs_tenant::Result<Vec<_>>>()?;
        let mut at = 0;
        Ok(move || {
            let request = asked[at % asked.len()].clone();
            at += 1;
            matches!(block_on(self.engine.can_tenant(request)), Ok(AccessDecision::Allow))
        })
    }
}
