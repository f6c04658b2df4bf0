//! Roles, bindings, decisions and reasons.

use hivemind_core::store::Txn;
use hivemind_core::{AccessRequest, Authorizer, MemoryAudit, Result, TenantContext, Verb, block_on};
use hivemind_tenancy::RoleAuthorizer;
use hivemind_tenancy::rbac::{AccessIndex, Scope};

use crate::scene::{Case, Own, Scene, binding, role};

fn index(s: &Scene) -> AccessIndex {
    AccessIndex::of(&s.world.view(), &Txn::new()).unwrap()
}

fn ask(s: &Scene) -> AccessRequest {
    AccessRequest::new(Verb::Get, "apps".parse().unwrap()).named(s.name)
}

pub const CASES: &[Case] = &[
    Case {
        name: "put_role",
        own: Own::Works,
        run: |s| {
            s.commit(|view, txn| s.world.tenants.stage_put_role(view, txn, &s.ctx, &role(s.name, &s.itself)))
        },
    },
    Case {
        name: "delete_role",
        own: Own::Works,
        run: |s| {
            let (name, owner) = (s.name.parse().unwrap(), Some(&s.itself));
            s.commit(|view, txn| s.world.tenants.stage_delete_role(view, txn, &s.ctx, owner, &name))
        },
    },
    Case {
        name: "bind",
        own: Own::Works,
        run: |s| {
            let one = binding(s.name, &s.itself, "ada");
            s.commit(|view, txn| s.world.tenants.stage_bind(view, txn, &s.ctx, &one))
        },
    },
    Case {
        name: "bind another's role here",
        own: Own::Works,
        run: |s| {
            let mut one = binding(s.name, s.ctx.tenant(), "ada");
            one.role_of = Some(s.itself.clone());
            s.commit(|view, txn| s.world.tenants.stage_bind(view, txn, &s.ctx, &one))
        },
    },
    Case {
        name: "unbind",
        own: Own::Works,
        run: |s| {
            let (name, scope) = (s.name.parse().unwrap(), Scope::Tenant(s.itself.clone()));
            s.commit(|view, txn| s.world.tenants.stage_unbind(view, txn, &s.ctx, &scope, &name))
        },
    },
    Case {
        name: "unbind here",
        own: Own::Works,
        run: |s| {
            let (name, scope) = (s.name.parse().unwrap(), Scope::Tenant(s.ctx.tenant().clone()));
            s.commit(|view, txn| s.world.tenants.stage_unbind(view, txn, &s.ctx, &scope, &name))
        },
    },
    Case {
        name: "explain",
        own: Own::Works,
        run: |s| {
            let ctx = s.ctx.clone().for_tenant(s.itself.clone());
            Ok(format!("{:?}", index(s).explain(&ctx, &ask(s))))
        },
    },
    Case {
        name: "authorize",
        own: Own::Works,
        run: |s| {
            let ctx = s.ctx.clone().for_tenant(s.itself.clone());
            Ok(format!("{:?}", RoleAuthorizer::new().authorize(&s.world.view(), &ctx, &ask(s))))
        },
    },
    Case {
        name: "visible",
        own: Own::Works,
        run: |s| {
            let visible = index(s).visible(&s.ctx, Verb::Get, &"apps".parse().unwrap());
            let seen = visible.matches(&s.itself, Some(s.name), &Default::default());
            Ok(format!("{seen} {:?} {:?}", visible.tenants(), visible.names()))
        },
    },
    Case {
        name: "who_can",
        own: Own::Works,
        run: |s| Ok(format!("{:?}", index(s).who_can(&s.ctx, &ask(s)))),
    },
    Case {
        name: "decide",
        own: Own::Works,
        run: |s| {
            let ctx = s.ctx.clone().for_tenant(s.itself.clone());
            Ok(format!("{:?}", index(s).decide(&ctx, &ask(s))))
        },
    },
    Case { name: "authorize_recorded", own: Own::Works, run: |s| recorded(s, s.ctx.clone()) },
    Case {
        name: "authorize_recorded in an emergency",
        own: Own::Works,
        run: |s| recorded(s, s.ctx.clone().with_emergency("fire")),
    },
];

/// The answer, and what is on record then.
fn recorded(s: &Scene, ctx: TenantContext) -> Result<String> {
    let (ctx, audit) = (ctx.for_tenant(s.itself.clone()), MemoryAudit::new());
    let told = block_on(s.world.tenants.authorize_recorded(&index(s), &ctx, &ask(s), &audit));
    Ok(format!("{:?} {:?}", told?, audit.events()))
}
