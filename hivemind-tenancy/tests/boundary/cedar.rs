//! Decisions by policies, whatever they forbid and however they are broken.

use hivemind_core::store::Revision;
use hivemind_core::{AccessRequest, Authorizer, Result, TenantContext, Verb};
use hivemind_tenancy::cedar::{CedarAuthorizer, PolicySet};

use crate::scene::{Case, Own, Scene};

/// What is asked in the tenant that the scene is about, by policies that permit what is in the tenant of the context.
fn told(s: &Scene, more: &str, change: fn(TenantContext) -> TenantContext) -> Result<String> {
    let own = format!("permit(principal, action, resource in Tenant::\"{}\");", s.ctx.tenant());
    let cedar = CedarAuthorizer::new(PolicySet::parse(&format!("{own}{more}")).unwrap(), Revision::ZERO);
    let (ctx, view) = (change(s.ctx.clone().for_tenant(s.itself.clone())), s.world.view());
    let ask = AccessRequest::new(Verb::Get, "apps".parse().unwrap()).named(s.name);
    let decided = cedar.decide(&view, &ctx, &ask);
    Ok(format!("{:?} {decided:?}", cedar.authorize(&view, &ctx, &ask)))
}

pub const CASES: &[Case] = &[
    Case { name: "cedar", own: Own::Works, run: |s| told(s, "", |ctx| ctx) },
    Case {
        name: "cedar, forbidden wherever there is a tenant",
        own: Own::Works,
        run: |s| {
            told(s, "forbid(principal, action, resource) when { resource.tenant.depth >= 0 };", |ctx| ctx)
        },
    },
    Case {
        name: "cedar, with a forbid that cannot be evaluated",
        own: Own::Works,
        run: |s| {
            told(s, "forbid(principal, action, resource) when { context.source.isLoopback() };", |ctx| ctx)
        },
    },
    Case {
        name: "cedar, with a permit that cannot be evaluated",
        own: Own::Works,
        run: |s| {
            told(s, "permit(principal, action, resource) when { context.source.isLoopback() };", |ctx| ctx)
        },
    },
    Case {
        name: "cedar in an emergency",
        own: Own::Works,
        run: |s| {
            let forbid = "forbid(principal, action, resource) unless { context has emergency };";
            told(s, forbid, |ctx| ctx.with_emergency("fire"))
        },
    },
    Case {
        name: "cedar, in another's name",
        own: Own::Works,
        run: |s| {
            let forbid =
                "forbid(principal == User::\"ada\", action, resource) when { resource.tenant.depth >= 0 };";
            told(s, forbid, |ctx| ctx.impersonating(crate::common::user("eve"), []))
        },
    },
];
