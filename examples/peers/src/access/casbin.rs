//! casbin: RBAC with domains, one `p` line per tenant and one `g` line per user.

use casbin::{CoreApi, DefaultModel, Enforcer, MemoryAdapter, MgmtApi};
use futures::executor::block_on;

use super::{Question, USERS, tenant_name, user_name};

const MODEL: &str = "
[request_definition]
r = sub, dom, obj, act
[policy_definition]
p = sub, dom, obj, act
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.obj == p.obj && r.act == p.act
";

/// An enforcer over the grants.
pub struct Casbin {
    enforcer: Enforcer,
}

impl Casbin {
    /// Loads the grants.
    pub fn new(bindings: usize) -> Result<Self, casbin::Error> {
        block_on(async {
            let model = DefaultModel::from_str(MODEL).await?;
            let mut enforcer = Enforcer::new(model, MemoryAdapter::default()).await?;
            let tenants = (bindings / USERS).max(1);
            let mut rules = Vec::new();
            for tenant in 0..tenants {
                for act in ["get", "list"] {
                    rules.push(["reader", &tenant_name(tenant), "workload", act].map(str::to_owned).to_vec());
                }
            }
            enforcer.add_policies(rules).await?;
            let members = (0..bindings)
                .map(|user| vec![user_name(user), "reader".to_owned(), tenant_name(user / USERS)])
                .collect();
            enforcer.add_grouping_policies(members).await?;
            Ok(Self { enforcer })
        })
    }

    /// The answers to prepared questions, one after the other.
    pub fn asker(&self, questions: &[Question]) -> impl FnMut() -> bool + use<'_> {
        let asked: Vec<_> = questions.iter().map(|q| (user_name(q.user), tenant_name(q.tenant))).collect();
        let mut at = 0;
        move || {
            let (user, tenant) = &asked[at % asked.len()];
            at += 1;
            self.enforcer.enforce((user.as_str(), tenant.as_str(), "workload", "get")).unwrap_or(false)
        }
    }
}
