//! hivemind-tenancy: the access index.

use std::error::Error;
use std::sync::Arc;

use hivemind_core::store::Revision;
use hivemind_core::{AccessRequest, Generation, Principal, TenantContext, TenantRef, Verb};
use hivemind_tenancy::{Role, RoleBinding};
use hivemind_tenancy::rbac::{AccessIndex, Rule, Scope, Subject};

use super::{Question, USERS, tenant_name, user_name};

/// An index over the grants.
pub struct Hivemind {
    index: AccessIndex,
}

fn tenant(number: usize) -> Result<TenantRef, Box<dyn Error>> {
    Ok(TenantRef::new(tenant_name(number).parse()?, Generation::from_u64(1)))
}

impl Hivemind {
    /// Compiles the grants.
    pub fn new(bindings: usize) -> Result<Self, Box<dyn Error>> {
        let rule = Rule::allow().verbs([Verb::Get, Verb::List]).kind("workload".parse()?);
        let reader = Arc::new(Role::new("reader".parse()?, [rule]));
        let tenants: Result<Vec<_>, Box<dyn Error>> =
            (0..(bindings / USERS).max(1)).map(|number| Ok((tenant(number)?, None))).collect();
        let bound: Result<Vec<_>, Box<dyn Error>> = (0..bindings)
            .map(|user| {
                let subject = Subject::Principal(Principal::User(user_name(user).parse()?));
                let scope = Scope::Tenant(tenant(user / USERS)?);
                Ok(RoleBinding::new(format!("b-{user}").parse()?, "reader".parse()?, scope, [subject]))
            })
            .collect();
        Ok(Self { index: AccessIndex::new(Revision::new(1), tenants?, [reader], bound?) })
    }

    /// The answers to prepared questions, one after the other.
    pub fn asker(&self, questions: &[Question]) -> Result<impl FnMut() -> bool + use<'_>, Box<dyn Error>> {
        let request = AccessRequest::new(Verb::Get, "workload".parse()?).named("web");
        let asked: Result<Vec<_>, Box<dyn Error>> = questions
            .iter()
            .map(|q| {
                let user = Principal::User(user_name(q.user).parse()?);
                Ok(TenantContext::new(tenant(q.tenant)?, user, "req-1".parse()?))
            })
            .collect();
        let (asked, mut at) = (asked?, 0);
        Ok(move || {
            let ctx = &asked[at % asked.len()];
            at += 1;
            self.index.decide(ctx, &request).allowed
        })
    }
}
