//! Tenants, finalizers, claims, shares, adoption.

use std::time::Duration;

use hivemind_core::store::Txn;
use hivemind_core::{AccessRequest, MemoryAudit, Timestamp, Verb, block_on};
use hivemind_tenancy::adoption::AdoptionRule;
use hivemind_tenancy::claims::NameStanding;
use hivemind_tenancy::quota::{QuotaSpec, WhenOver};
use hivemind_tenancy::share::{Share, ShareId, ShareOffer};
use hivemind_tenancy::tenant::Finalizer;
use hivemind_tenancy::{Adoption, NameClaims, Shares, TenantSpec, TenantUpdate};

use crate::common::admin;
use crate::scene::{Case, Own, Scene, told};
use crate::things::Things;

const NOW: Timestamp = Timestamp::EPOCH;

const fn works(name: &'static str, run: fn(&Scene) -> hivemind_core::Result<String>) -> Case {
    Case { name, own: Own::Works, run }
}

const fn refused(name: &'static str, run: fn(&Scene) -> hivemind_core::Result<String>) -> Case {
    Case { name, own: Own::Refused, run }
}

fn id(s: &Scene) -> ShareId {
    ShareId::new(s.itself.clone(), s.hooli.clone(), "volumes".parse().unwrap()).named(s.name)
}

fn read(s: &Scene) -> AccessRequest {
    AccessRequest::new(Verb::Get, "volumes".parse().unwrap()).named(s.name)
}

/// An offer of this id, in the terms that every offer of the scene has.
fn terms(s: &Scene, id: ShareId) -> Share {
    let hooli = s.ctx.clone().for_tenant(s.hooli.clone());
    let all = Shares.received(&s.world.view(), &Txn::new(), &hooli).unwrap();
    let mut share = all.first().unwrap().clone();
    share.id = id;
    share
}

fn finalizer(s: &Scene) -> Finalizer {
    Finalizer::new(s.name.parse().unwrap(), 1, Duration::from_secs(1))
}

pub const CASES: &[Case] = &[
    works("tenant", |s| told(s.world.tenants.tenant(&s.world.view(), &s.ctx, &s.tenant.id))),
    works("get", |s| told(block_on(s.world.tenants.get(&s.ctx, &s.tenant.id)))),
    works("visible", |s| told(s.world.tenants.visible(&s.world.view(), &s.ctx))),
    works("list", |s| told(block_on(s.world.tenants.list(&s.ctx)))),
    works("ceiling", |s| told(s.world.tenants.ceiling(&s.world.view(), &s.ctx, &s.tenant.id))),
    works("drain_plan", |s| told(s.world.tenants.drain_plan(&s.world.view(), &s.ctx, &s.tenant.id, NOW))),
    works("plan_drain", |s| told(block_on(s.world.tenants.plan_drain(&s.ctx, &s.tenant.id, NOW)))),
    works("drains", |s| told(s.world.tenants.drains(&s.world.view(), &s.ctx))),
    works("deletion_progress", |s| {
        told(s.world.tenants.deletion_progress(&s.world.view(), &s.ctx, &s.tenant.id, NOW))
    }),
    works("create", |s| {
        let spec = TenantSpec::new("new".parse().unwrap()).below(s.tenant.clone());
        told(block_on(s.world.tenants.create(&s.ctx, spec)))
    }),
    works("update", |s| {
        told(block_on(s.world.tenants.update(&s.ctx, &s.tenant.id, TenantUpdate::name("other"))))
    }),
    works("protect", |s| {
        told(block_on(s.world.tenants.update(&s.ctx, &s.tenant.id, TenantUpdate::protection(true))))
    }),
    works("reparent", |s| {
        told(block_on(s.world.tenants.reparent(&s.ctx, &s.tenant.id, Some(s.ctx.tenant()))))
    }),
    refused("reparent to", |s| {
        let team = "team".parse().unwrap();
        told(block_on(s.world.tenants.reparent(&s.ctx, &team, Some(&s.tenant))))
    }),
    works("suspend", |s| told(block_on(s.world.tenants.suspend(&s.ctx, &s.tenant.id, None)))),
    works("resume", |s| told(block_on(s.world.tenants.resume(&s.ctx, &s.tenant.id)))),
    works("delete", |s| told(block_on(s.world.tenants.delete(&s.ctx, &s.tenant.id)))),
    refused("advance_deletion", |s| told(block_on(s.world.tenants.advance_deletion(&s.ctx, &s.tenant)))),
    refused("add_finalizer", |s| {
        told(block_on(s.world.tenants.add_finalizer(&s.ctx, &s.tenant, finalizer(s))))
    }),
    refused("finalizer_done", |s| {
        told(block_on(s.world.tenants.finalizer_done(&s.ctx, &s.tenant, &s.name.parse().unwrap())))
    }),
    refused("finalizer_failed", |s| {
        told(block_on(s.world.tenants.finalizer_failed(&s.ctx, &s.tenant, &s.name.parse().unwrap(), "x")))
    }),
    refused("retry_finalizer", |s| {
        told(block_on(s.world.tenants.retry_finalizer(&s.ctx, &s.tenant, &s.name.parse().unwrap())))
    }),
    refused("force_finalizer", |s| {
        let (audit, name) = (MemoryAudit::new(), s.name.parse().unwrap());
        told(block_on(s.world.tenants.force_finalizer(&s.ctx, &audit, &s.tenant, &name, "x")))
    }),
    refused("set_quota", |s| {
        let quota = QuotaSpec::new();
        told(block_on(s.world.tenants.set_quota(&s.ctx, &s.tenant.id, quota, WhenOver::Flag)))
    }),
    // A claim itself says that a name is taken: there is one of each in the cluster. It does not say by whom.
    works("release claim", |s| s.commit(|view, txn| NameClaims.stage_release(view, txn, &s.ctx, &s.claim()))),
    works("lookup claim", |s| told(NameClaims.lookup(&s.world.view(), &Txn::new(), &s.ctx, &s.claim()))),
    works("list claims", |s| told(NameClaims.list(&s.world.view(), &Txn::new(), &s.ctx))),
    works("release claims", |s| s.commit(|view, txn| NameClaims.stage_release_all(view, txn, &s.ctx, 9))),
    refused("sweep claims", |s| s.commit(|view, txn| NameClaims.stage_sweep(view, txn, &s.ctx, 9))),
    works("offer share", |s| {
        let offer = ShareOffer::new(s.tenant.clone(), "apps".parse().unwrap(), [Verb::Get]).named(s.name);
        s.commit(|view, txn| Shares.stage_offer(view, txn, &s.ctx, &offer))
    }),
    refused("lookup share", |s| {
        told(Shares.lookup(&s.world.view(), &Txn::new(), &s.ctx, &s.tenant, &read(s)))
    }),
    refused("use share", |s| s.commit(|view, txn| Shares.stage_use(view, txn, &s.ctx, &s.tenant, &read(s)))),
    works("offered shares", |s| {
        let all = Shares.offered(&s.world.view(), &Txn::new(), &s.ctx);
        // Whom they were offered to, the owner has said itself.
        let own = |share: &hivemind_tenancy::share::Share| {
            (share.id.owner.clone(), share.id.name.clone(), share.id.recipient == s.hooli)
        };
        told(all.map(|all| all.iter().map(own).collect::<Vec<_>>()))
    }),
    refused("accept share", |s| {
        let id = ShareId::new(s.tenant.clone(), s.ctx.tenant().clone(), "volumes".parse().unwrap());
        s.commit(|view, txn| Shares.stage_accept(view, txn, &s.ctx, &terms(s, id.named(s.name))))
    }),
    works("received shares", |s| told(Shares.received(&s.world.view(), &Txn::new(), &s.ctx))),
    refused("sweep shares", |s| s.commit(|view, txn| Shares.stage_sweep(view, txn, &s.ctx, 9))),
    refused("end share", |s| {
        let id = ShareId::new(s.tenant.clone(), s.ctx.tenant().clone(), "volumes".parse().unwrap());
        s.commit(|view, txn| Shares.stage_end(view, txn, &s.ctx, &id.named(s.name)))
    }),
    refused("plan adoption", |s| {
        let rules = [AdoptionRule::to(s.tenant.clone())];
        told(Adoption::new().plan(&s.world.view(), &s.ctx, &Things, &rules))
    }),
    refused("start adoption", |s| {
        let (id, rules) = (s.name.parse().unwrap(), [AdoptionRule::to(s.ctx.tenant().clone())]);
        let plan = Adoption::new().plan(&s.world.view(), &admin("plan"), &Things, &rules).unwrap();
        s.commit(|view, txn| Adoption::new().stage_start(view, txn, &s.ctx, &id, &plan))
    }),
    refused("adopt", |s| {
        let id = s.name.parse().unwrap();
        s.commit(|view, txn| Adoption::new().stage_step(view, txn, &s.ctx, &id, &Things))
    }),
    refused("undo adoption", |s| {
        let id = s.name.parse().unwrap();
        s.commit(|view, txn| Adoption::new().stage_undo(view, txn, &s.ctx, &id))
    }),
    refused("forget adoption", |s| {
        let id = s.name.parse().unwrap();
        s.commit(|view, txn| Adoption::new().stage_forget(view, txn, &s.ctx, &id))
    }),
    refused("adoption status", |s| {
        told(Adoption::new().status(&s.world.view(), &s.ctx, &s.name.parse().unwrap()))
    }),
];

#[test]
fn a_share_of_others_is_not_ended_or_accepted() {
    let [foreign, nothing] = [Scene::foreign(), Scene::nothing()].map(|s| {
        let before = s.theirs();
        let end = s.commit(|view, txn| Shares.stage_end(view, txn, &s.ctx, &id(&s)));
        let terms = terms(&s, id(&s));
        let accept = s.commit(|view, txn| Shares.stage_accept(view, txn, &s.ctx, &terms));
        assert!(s.theirs() == before && end.is_err() && accept.is_err());
        let end = format!("{end:?} {accept:?}");
        end.replace(s.tenant.id.as_str(), "TENANT").replace(s.name, "NAME")
    });
    assert_eq!(foreign, nothing);
    assert!(foreign.contains("NotFound"), "{foreign}");
}

#[test]
fn a_name_that_is_taken_is_not_said_to_be_anybodys() {
    let scene = Scene::foreign();
    let taken = scene.commit(|view, txn| NameClaims.stage_claim(view, txn, &scene.ctx, &scene.claim()));
    let taken = taken.unwrap_err();
    assert_eq!(taken.message(), "hosts:theirs.globex.org is taken: choose another");
    // That it is taken is all there is to say: there is one of each in the cluster.
    for (scene, expected) in [
        (Scene::foreign(), NameStanding::Taken),
        (Scene::nothing(), NameStanding::Free),
        (Scene::own(), NameStanding::Own),
    ] {
        let (before, view) = (scene.theirs(), scene.world.view());
        let standing = NameClaims.standing(&view, &Txn::new(), &scene.ctx, &scene.claim()).unwrap();
        assert_eq!(standing, expected);
        assert!(scene.theirs() == before);
    }
}
