//! The same grants for every contestant: each tenant has ten users, and each user one role that may get and list the
//! tenant's workloads. A question is "may this user get this workload of that tenant?"

pub mod casbin;
pub mod cedar;
pub mod hivemind;
pub mod rs_tenant;

/// Users in a tenant.
pub const USERS: usize = 10;

/// One question, as indices.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The user: belongs to tenant `user / USERS`.
    pub user: usize,
    /// The tenant asked for.
    pub tenant: usize,
}

impl Question {
    /// Whether it is to be allowed.
    pub fn expected(self) -> bool {
        self.user / USERS == self.tenant
    }
}

/// `count` questions over `bindings` grants, half of them across tenants, in an order without a pattern.
pub fn questions(bindings: usize, count: usize) -> Vec<Question> {
    let tenants = (bindings / USERS).max(1);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..count)
        .map(|at| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let user = usize::try_from(state % bindings as u64).unwrap_or(0);
            let own = user / USERS;
            let tenant = if at % 2 == 0 { own } else { (own + 1) % tenants };
            Question { user, tenant }
        })
        .collect()
}

/// The name of a tenant.
pub fn tenant_name(tenant: usize) -> String {
    format!("tenant-{tenant}")
}

/// The name of a user.
pub fn user_name(user: usize) -> String {
    format!("user-{user}")
}
