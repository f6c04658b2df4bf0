//! cedar-policy: one `permit` per grant, the tenant tree as entities. Asked with the whole policy set, and with the set
//! cut to the tenant that is asked for, as its users are told to do.

use std::error::Error;

use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request};

use super::{Question, USERS, tenant_name, user_name};

/// A policy set over the grants.
pub struct Cedar {
    whole: PolicySet,
    by_tenant: Vec<PolicySet>,
    entities: Entities,
}

impl Cedar {
    /// Compiles the grants.
    pub fn new(bindings: usize) -> Result<Self, Box<dyn Error>> {
        let tenants = (bindings / USERS).max(1);
        let mut by_tenant = Vec::new();
        let mut everything = String::new();
        for tenant in 0..tenants {
            let text: String = (tenant * USERS..(tenant + 1) * USERS)
                .filter(|user| *user < bindings)
                .map(|user| {
                    format!(
                        "permit(principal == User::\"{}\", action in [Action::\"get\", Action::\"list\"], resource in Tenant::\"{}\");\n",
                        user_name(user),
                        tenant_name(tenant)
                    )
                })
                .collect();
            by_tenant.push(text.parse()?);
            everything.push_str(&text);
        }
        let objects: Vec<_> = (0..tenants)
            .map(|tenant| {
                format!(
                    r#"{{"uid":{{"type":"Workload","id":"{0}/web"}},"attrs":{{}},"parents":[{{"type":"Tenant","id":"{0}"}}]}}"#,
                    tenant_name(tenant)
                )
            })
            .collect();
        let entities = Entities::from_json_str(&format!("[{}]", objects.join(",")), None)?;
        Ok(Self { whole: everything.parse()?, by_tenant, entities })
    }

    fn asked(questions: &[Question]) -> Result<Vec<(usize, Request)>, Box<dyn Error>> {
        let uid = |kind: &str, id: &str| format!("{kind}::\"{id}\"").parse::<EntityUid>();
        questions
            .iter()
            .map(|q| {
                let request = Request::new(
                    uid("User", &user_name(q.user))?,
                    uid("Action", "get")?,
                    uid("Workload", &format!("{}/web", tenant_name(q.tenant)))?,
                    Context::empty(),
                    None,
                )?;
                Ok((q.tenant, request))
            })
            .collect()
    }

    /// The answers of the whole set.
    pub fn asker(&self, questions: &[Question]) -> Result<impl FnMut() -> bool + use<'_>, Box<dyn Error>> {
        let asked = Self::asked(questions)?;
        let authorizer = Authorizer::new();
        let mut at = 0;
        Ok(move || {
            let (_, request) = &asked[at % asked.len()];
            at += 1;
            authorizer.is_authorized(request, &self.whole, &self.entities).decision() == Decision::Allow
        })
    }

    /// The answers of the set cut to the tenant.
    pub fn sliced_asker(
        &self,
        questions: &[Question],
    ) -> Result<impl FnMut() -> bool + use<'_>, Box<dyn Error>> {
        let asked = Self::asked(questions)?;
        let authorizer = Authorizer::new();
        let mut at = 0;
        Ok(move || {
            let (tenant, request) = &asked[at % asked.len()];
            at += 1;
            let policies = &self.by_tenant[*tenant];
            authorizer.is_authorized(request, policies, &self.entities).decision() == Decision::Allow
        })
    }
}
