//! A context for a test, in one word.

use crate::{Generation, Principal, TenantContext, TenantRef};

/// The system component `test` asks for `tenant`, generation 1, in `request`.
///
/// ```
/// let ctx = hivemind_core::testkit::context("acme", "req-1");
/// assert_eq!(ctx.to_string(), "system component test for tenant acme in request req-1");
/// ```
///
/// # Panics
/// If `tenant` or `request` is no valid name.
#[allow(clippy::expect_used, reason = "a test helper fails by panicking")]
pub fn context(tenant: &str, request: &str) -> TenantContext {
    let tenant = TenantRef::new(tenant.parse().expect("a valid tenant"), Generation::from_u64(1));
    let principal = Principal::System("test".parse().expect("a constant name"));
    TenantContext::new(tenant, principal, request.parse().expect("a valid request id"))
}
