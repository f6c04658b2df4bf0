//! The decision itself. No I/O, no clock, no async.

use hivemind_core::{AccessDecision, AccessRequest, Stamped, TenantContext};

use super::{Effect, Role, RoleBinding};

/// Decides by the bindings whose subjects include the principal, each with its role if that exists.
pub(super) fn decide(
    ctx: &TenantContext,
    request: &AccessRequest,
    applying: &[(Stamped<RoleBinding>, Option<Stamped<Role>>)],
) -> AccessDecision {
    let (mut allowing, mut denying, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for (binding, role) in applying {
        let via = format!("binding {} for {}", binding.name, binding.scope);
        let Some(role) = role else {
            missing.push(format!("{via} names role {}, which does not exist", binding.role));
            continue;
        };
        let told = (allowing.len(), denying.len());
        for rule in role.rules.iter().filter(|rule| rule.matches(request)) {
            match rule.effect {
                Effect::Allow => allowing.push(format!("role {} by {via} allows it", role.name)),
                Effect::Deny => denying.push(format!("role {} by {via} denies it", role.name)),
            }
        }
        if told == (allowing.len(), denying.len()) {
            missing.push(format!("role {} by {via} {}", role.name, nearest(role, request)));
        }
    }
    if !denying.is_empty() {
        return AccessDecision::deny(denying);
    }
    if !allowing.is_empty() {
        return AccessDecision::allow(allowing);
    }
    if missing.is_empty() {
        missing.push(format!("no role is bound to {} in this tenant", ctx.principal()));
    }
    AccessDecision::deny(missing)
}

/// What the role does allow on the same things.
fn nearest(role: &Role, request: &AccessRequest) -> String {
    let about = role.rules.iter().filter(|rule| rule.effect == Effect::Allow && rule.is_about(request));
    let mut verbs: Vec<_> = about.flat_map(|rule| &rule.verbs).map(ToString::to_string).collect();
    verbs.sort();
    verbs.dedup();
    if verbs.is_empty() {
        return format!("says nothing of {}", request.kind);
    }
    format!("allows {} on {}, not {}", verbs.join(", "), request.kind, request.verb)
}
