//! Owners: they create tenants below their own, within its limits, and no more.

use hivemind_core::labels::Labels;
use hivemind_core::resources::MilliCpu;
use hivemind_core::{Error, ErrorKind, Principal, TenantContext, TenantRef, block_on};
use hivemind_tenancy::rbac::Subject;
use hivemind_tenancy::tenant::{
    Breach, Delegation, LabelPolicy, LabelViolations, OverCeiling, ValuePattern, check_labels,
};
use hivemind_tenancy::{IsolationLevel, IsolationSettings, ResourceQuotas, Tenant, TenantSpec, TenantUpdate};

use crate::common::{World, admin, ctx, user};

fn spec(id: &str) -> TenantSpec {
    TenantSpec::new(id.parse().unwrap())
}

fn cores(cores: u64) -> ResourceQuotas {
    ResourceQuotas::default().with_cpu_limit(MilliCpu::from_cores(cores))
}

/// A world with `acme`, which ada owns, of eight cores and a network of its own.
fn acme() -> (World, Tenant) {
    let world = World::new();
    let spec = spec("acme")
        .with_owner(Subject::Principal(user("ada")))
        .with_quotas(cores(8))
        .with_isolation(IsolationLevel::NetworkOnly);
    let acme = world.tenant(spec);
    (world, acme)
}

fn create(world: &World, ctx: &TenantContext, spec: TenantSpec) -> Result<Tenant, Error> {
    block_on(world.tenants.create(ctx, spec))
}

#[test]
fn an_owner_creates_below_and_only_within_the_limits_above() {
    let (world, acme) = acme();
    let team =
        spec("team").below(acme.tenant.clone()).with_isolation(IsolationLevel::Hard).with_quotas(cores(4));
    let team = create(&world, &ctx(&acme.tenant, "r1"), team).unwrap();
    // Two levels down, the tightest limit counts, and everything that is wrong is said at once.
    let greedy = spec("greedy").below(team.tenant.clone()).with_quotas(cores(5));
    let refused = create(&world, &ctx(&acme.tenant, "r2"), greedy).unwrap_err();
    assert_eq!(
        refused.message(),
        "tenant greedy: cpu: limit 5 is above the limit 4 of tenant team; isolation: network isolation is demanded from \
         above; isolation: storage isolation is demanded from above; isolation: compute isolation is demanded from above"
    );
    assert_eq!(refused.detail::<OverCeiling>().unwrap().breaches.len(), 4);
    // Who administers the cluster may promise more, and may not weaken either.
    let much = spec("much").below(acme.tenant.clone()).with_quotas(cores(99));
    let weak = create(&world, &admin("r3"), much.clone()).unwrap_err();
    assert_eq!(
        weak.detail::<OverCeiling>().unwrap().breaches,
        [Breach::Isolation { dimension: "network".to_owned() }]
    );
    create(&world, &admin("r4"), much.with_isolation(IsolationLevel::NetworkOnly)).unwrap();
    let ceiling = world.tenants.ceiling(&world.view(), &ctx(&acme.tenant, "r5"), &team.tenant.id).unwrap();
    assert_eq!(ceiling.limits[&"cpu".parse().unwrap()], (4000, "team".parse().unwrap()));
    let network_and_more = IsolationSettings::default().with_network_isolation(true);
    assert!(ceiling.isolation.weaker_than(&network_and_more).is_empty());
}

#[test]
fn who_does_not_own_creates_nothing_and_an_owner_nothing_elsewhere() {
    let (world, acme) = acme();
    let other = world.tenant(spec("other").with_owner(Subject::Principal(user("ada"))));
    let below = |parent: &TenantRef| spec("x").below(parent.clone()).with_isolation(IsolationLevel::Hard);
    let bob = TenantContext::new(acme.tenant.clone(), user("bob"), "r1".parse().unwrap());
    assert_eq!(create(&world, &bob, below(&acme.tenant)).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(create(&world, &ctx(&acme.tenant, "r2"), spec("x")).unwrap_err().kind(), ErrorKind::Denied);
    // She owns the other one, too, but this is a request for acme.
    let elsewhere = create(&world, &ctx(&acme.tenant, "r3"), below(&other.tenant)).unwrap_err();
    assert_eq!((elsewhere.kind(), elsewhere.message()), (ErrorKind::NotFound, "there is no tenant other"));
    // Who acts in her name owns no more than before.
    let eve = TenantContext::new(acme.tenant.clone(), user("eve"), "r4".parse().unwrap());
    let as_ada = eve.impersonating(user("ada"), []);
    assert_eq!(create(&world, &as_ada, below(&acme.tenant)).unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn an_owner_changes_those_below_and_of_the_own_only_what_is_harmless() {
    let (world, acme) = acme();
    let own = |request: &str| ctx(&acme.tenant, request);
    let id = &acme.tenant.id;
    block_on(world.tenants.update(&own("u1"), id, TenantUpdate::name("Acme"))).unwrap();
    for (request, update) in [
        ("u2", TenantUpdate::quotas(cores(99))),
        ("u3", TenantUpdate::isolation(IsolationLevel::Soft)),
        ("u4", TenantUpdate::protection(false)),
    ] {
        let refused = block_on(world.tenants.update(&own(request), id, update)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied);
    }
    for refused in [
        block_on(world.tenants.delete(&own("d"), id)).map(|_| ()),
        block_on(world.tenants.resume(&own("s"), id)).map(|_| ()),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
    }
    let team = spec("team").below(acme.tenant.clone()).with_isolation(IsolationLevel::NetworkOnly);
    let team = create(&world, &own("c"), team).unwrap().tenant.id;
    block_on(world.tenants.update(&own("u5"), &team, TenantUpdate::quotas(cores(8)))).unwrap();
    let more = block_on(world.tenants.update(&own("u6"), &team, TenantUpdate::quotas(cores(9)))).unwrap_err();
    assert!(more.detail::<OverCeiling>().is_some());
    let weaker =
        block_on(world.tenants.update(&own("u7"), &team, TenantUpdate::isolation(IsolationLevel::Soft)));
    assert!(weaker.unwrap_err().detail::<OverCeiling>().is_some());
    block_on(world.tenants.suspend(&own("s2"), &team, None)).unwrap();
    block_on(world.tenants.delete(&own("d2"), &team)).unwrap();
}

#[test]
fn delegation_can_be_limited_and_switched_off() {
    let (world, acme) = acme();
    let below = |id: &str| spec(id).below(acme.tenant.clone()).with_isolation(IsolationLevel::Hard);
    let set = |request: &str, delegation: Delegation| {
        let mut update = TenantUpdate::default();
        update.delegation = Some(delegation);
        block_on(world.tenants.update(&admin(request), &acme.tenant.id, update)).unwrap();
    };
    set("u1", Delegation::default().with_max_children(1));
    create(&world, &ctx(&acme.tenant, "r1"), below("a")).unwrap();
    let full = create(&world, &admin("r2"), below("b")).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::QuotaExceeded);
    block_on(world.tenants.delete(&admin("d"), &"a".parse().unwrap())).unwrap();
    create(&world, &ctx(&acme.tenant, "r3"), below("b")).unwrap();
    set("u2", Delegation::default().with_sub_tenants(false));
    assert_eq!(create(&world, &ctx(&acme.tenant, "r4"), below("c")).unwrap_err().kind(), ErrorKind::Denied);
    create(&world, &admin("r5"), below("c")).unwrap();
    // Nor does an owner get one there by moving it.
    let c = "c".parse().unwrap();
    let b = world.tenants.tenant(&world.view(), &admin("g"), &"b".parse().unwrap()).unwrap().tenant;
    let moved = block_on(world.tenants.reparent(&ctx(&acme.tenant, "m1"), &c, Some(&b)));
    assert_eq!(moved.unwrap_err().kind(), ErrorKind::Denied);
    set("u3", Delegation::default());
    block_on(world.tenants.reparent(&ctx(&acme.tenant, "m2"), &c, Some(&b))).unwrap();
    // Out of the own tree is not for an owner to move it, neither to nowhere nor to a stranger.
    let stranger = world.tenant(spec("stranger").with_owner(Subject::Principal(user("ada"))));
    let out = block_on(world.tenants.reparent(&ctx(&acme.tenant, "m3"), &c, None)).unwrap_err();
    assert_eq!(out.kind(), ErrorKind::Denied);
    let away =
        block_on(world.tenants.reparent(&ctx(&acme.tenant, "m4"), &c, Some(&stranger.tenant))).unwrap_err();
    assert_eq!((away.kind(), away.message()), (ErrorKind::NotFound, "there is no tenant stranger"));
}

#[test]
fn labels_obey_every_policy_above_and_move_nothing_to_another_tenant() {
    let world = World::new();
    let policy = LabelPolicy::default()
        .require("cost-centre".parse().unwrap(), ValuePattern::new("cc-*"))
        .forbid("internal".parse().unwrap());
    let root = world.tenant(spec("root").with_label_policy(policy));
    let labels =
        |pairs: &[(&str, &str)]| pairs.iter().fold(Labels::new(), |all, (k, v)| all.with(k, v).unwrap());
    let child = |id: &str, pairs| spec(id).below(root.tenant.clone()).with_labels(labels(pairs));
    let bare = create(&world, &admin("r1"), child("a", &[("internal", "yes")])).unwrap_err();
    assert_eq!(
        bare.message(),
        "label cost-centre is missing: give it a value like cc-* (policy of tenant root); \
         label internal is forbidden: leave it out (policy of tenant root)"
    );
    assert_eq!(bare.detail::<LabelViolations>().unwrap().0.len(), 2);
    let child = create(&world, &admin("r2"), child("a", &[("cost-centre", "cc-7")])).unwrap();
    let moving = labels(&[("cost-centre", "cc-7"), ("hivemind.dev/tenant", "root")]);
    let refused =
        block_on(world.tenants.update(&admin("u"), &child.tenant.id, TenantUpdate::labels(moving.clone())));
    assert!(refused.unwrap_err().message().contains("would move it to another tenant"));
    // The same holds for whatever a host labels in the tenant.
    assert!(check_labels(&child.tenant.id, [&child, &root], &moving).is_err());
    let fine = labels(&[("cost-centre", "cc-8"), ("hivemind.dev/tenant", "a")]);
    check_labels(&child.tenant.id, [&child, &root], &fine).unwrap();
}

#[test]
fn an_owner_may_be_a_group() {
    let world = World::new();
    let acme = world.tenant(spec("acme").with_owner(Subject::Group("leads".parse().unwrap())));
    let bob = TenantContext::new(
        acme.tenant.clone(),
        Principal::User("bob".parse().unwrap()),
        "r".parse().unwrap(),
    );
    let below = |id: &str| spec(id).below(acme.tenant.clone());
    assert!(create(&world, &bob.clone().with_request("r1".parse().unwrap()), below("a")).is_err());
    create(&world, &bob.with_group("leads".parse().unwrap()), below("a")).unwrap();
}
