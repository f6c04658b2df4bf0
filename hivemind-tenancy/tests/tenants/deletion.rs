//! Deletion: what keeps a tenant, the turns of finalizers, deadlines, force; and that it always ends done or stuck.

use std::time::Duration;

use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::{ErrorKind, MemoryAudit, QuotaGate, Timestamp, block_on};
use hivemind_tenancy::placement::WorkloadRequest;
use hivemind_tenancy::tenant::{DeletionOutcome, DeletionProgress, Finalizer};
use hivemind_tenancy::{Node, Tenant, TenantQuota, TenantSpec, TenantUpdate};

use crate::common::{World, admin, ctx};

fn spec(id: &str) -> TenantSpec {
    TenantSpec::new(id.parse().unwrap())
}

fn finalizer(name: &str, order: u32) -> Finalizer {
    Finalizer::new(name.parse().unwrap(), order, Duration::from_secs(10))
}

fn states(progress: &DeletionProgress) -> Vec<String> {
    progress.finalizers.iter().map(|one| format!("{} {}", one.name, one.state)).collect()
}

fn delete(world: &World, request: &str, tenant: &Tenant) -> hivemind_core::Result<DeletionProgress> {
    block_on(world.tenants.delete(&admin(request), &tenant.tenant.id))
}

#[test]
fn what_is_protected_or_not_empty_stays() {
    let world = World::new();
    let a = world.tenant(spec("a").protected());
    let b = world.tenant(spec("b").below(a.tenant.clone()));
    assert!(delete(&world, "d1", &a).unwrap_err().message().contains("protected"));
    block_on(world.tenants.update(&admin("u"), &a.tenant.id, TenantUpdate::protection(false))).unwrap();

    let cores = |n| Resources::new().with_cpu(MilliCpu::from_cores(n));
    block_on(world.tenants.add_node(&admin("n"), Node::new("n1".parse().unwrap(), cores(9)))).unwrap();
    let work = [WorkloadRequest::new("web".parse().unwrap(), cores(1))];
    let own = ctx(&a.tenant, "own");
    world.commit(|view, txn| world.tenants.stage_place(view, txn, &own, &work)).unwrap();
    world.commit(|view, txn| TenantQuota.reserve(view, txn, &own, &"r".parse().unwrap(), &cores(1))).unwrap();
    let busy = delete(&world, "d2", &a).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Conflict);
    assert_eq!(
        busy.message(),
        "tenant a is not empty: 1 tenants are below it: delete or move them first; 1 workloads run on nodes: remove them \
         first; tenant a still has 1 reservations: release them first"
    );
    assert_eq!(world.tenants.tenant(&world.view(), &admin("g"), &a.tenant.id).unwrap().state, a.state);

    world.commit(|view, txn| TenantQuota.release(view, txn, &own, &"r".parse().unwrap())).unwrap();
    let places = [(&"web".parse().unwrap(), &"n1".parse().unwrap())];
    world.commit(|view, txn| world.tenants.stage_unplace(view, txn, &own, places)).unwrap();
    assert_eq!(delete(&world, "d3", &b).unwrap().outcome, DeletionOutcome::Done);
    assert_eq!(delete(&world, "d4", &a).unwrap().outcome, DeletionOutcome::Done);
    assert!(block_on(world.tenants.list(&admin("l"))).unwrap().is_empty());
}

#[test]
fn finalizers_go_in_turn_and_the_record_goes_last() {
    let world = World::new();
    let spec = spec("a").with_finalizer(finalizer("network", 2)).with_finalizer(finalizer("backup", 1));
    let a = world.tenant(spec.with_finalizer(finalizer("volumes", 1)));
    let begun = delete(&world, "d", &a).unwrap();
    assert_eq!(states(&begun), ["backup running", "volumes running", "network pending"]);
    let done =
        |name: &str| block_on(world.tenants.finalizer_done(&admin("f"), &a.tenant, &name.parse().unwrap()));
    let early = done("network").unwrap_err();
    assert!(early.message().contains("it is not the turn of network"), "{early}");
    done("volumes").unwrap();
    done("volumes").unwrap();
    done("backup").unwrap();
    let view = world.view();
    let progress =
        world.tenants.deletion_progress(&view, &admin("p"), &a.tenant.id, Timestamp::EPOCH).unwrap();
    assert_eq!(states(&progress.unwrap()), ["backup done", "volumes done", "network running"]);
    assert!(block_on(world.tenants.get(&admin("g"), &a.tenant.id)).unwrap().state.is_terminating());
    done("network").unwrap();
    for _ in 0..2 {
        let end = block_on(world.tenants.advance_deletion(&admin("a"), &a.tenant)).unwrap();
        assert_eq!(end.outcome, DeletionOutcome::Done);
    }
    assert_eq!(
        block_on(world.tenants.get(&admin("g"), &a.tenant.id)).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_finalizer_is_added_while_there_is_time_and_once() {
    let world = World::new();
    let a = world.tenant(spec("a").with_finalizer(finalizer("late", 9)));
    let add = |ctx, name| block_on(world.tenants.add_finalizer(&ctx, &a.tenant, finalizer(name, 1)));
    add(admin("a1"), "early").unwrap();
    add(admin("a2"), "early").unwrap();
    assert_eq!(add(ctx(&a.tenant, "a3"), "mine").unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(states(&delete(&world, "d", &a).unwrap()), ["early running", "late pending"]);
    assert_eq!(add(admin("a4"), "too-late").unwrap_err().kind(), ErrorKind::Conflict);
    // Another who adds the same at this time hears that it is there.
    add(admin("a5"), "early").unwrap();
}

#[test]
fn a_tenant_on_its_way_out_cannot_be_changed_moved_or_brought_back() {
    let world = World::new();
    let (a, b) = (world.tenant(spec("a").with_finalizer(finalizer("f", 0))), world.tenant(spec("b")));
    delete(&world, "d", &a).unwrap();
    let id = &a.tenant.id;
    let tried = [
        block_on(world.tenants.update(&admin("u"), id, TenantUpdate::name("x"))),
        block_on(world.tenants.resume(&admin("r"), id)),
        block_on(world.tenants.suspend(&admin("s"), id, None)),
        block_on(world.tenants.reparent(&admin("m"), id, Some(&b.tenant))),
        block_on(world.tenants.reparent(&admin("m"), &b.tenant.id, Some(&a.tenant))),
        block_on(world.tenants.create(&admin("c"), spec("c").below(a.tenant.clone()))),
    ];
    for refused in tried {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    }
    let again = delete(&world, "d2", &a).unwrap();
    assert_eq!(states(&again), ["f running"]);
}

#[test]
fn a_finalizer_that_says_nothing_is_stuck_and_may_be_tried_again() {
    let world = World::new();
    let a = world.tenant(spec("a").with_finalizer(finalizer("f", 0)));
    delete(&world, "d", &a).unwrap();
    let (name, step) = ("f".parse().unwrap(), |request: &str| {
        block_on(world.tenants.advance_deletion(&admin(request), &a.tenant)).unwrap()
    });
    world.clock.advance(Duration::from_secs(9));
    assert_eq!(step("a1").outcome, DeletionOutcome::Running);
    world.clock.advance(Duration::from_secs(1));
    let DeletionOutcome::Stuck { reasons } = step("a2").outcome else { panic!("it is stuck") };
    assert!(reasons[0].starts_with("finalizer f: f said nothing by 10."), "{reasons:?}");
    block_on(world.tenants.retry_finalizer(&admin("r"), &a.tenant, &name)).unwrap();
    assert_eq!(step("a3").outcome, DeletionOutcome::Running);
    block_on(world.tenants.finalizer_failed(&admin("x"), &a.tenant, &name, "the disk is on fire")).unwrap();
    let DeletionOutcome::Stuck { reasons } = step("a4").outcome else { panic!("it is stuck") };
    assert_eq!(reasons, ["finalizer f: the disk is on fire"]);
    // Late, but done.
    block_on(world.tenants.finalizer_done(&admin("y"), &a.tenant, &name)).unwrap();
    assert_eq!(step("a5").outcome, DeletionOutcome::Done);
}

#[test]
fn force_needs_a_reason_and_the_system_and_is_on_record() {
    let world = World::new();
    let a = world.tenant(spec("a").with_finalizer(finalizer("f", 0)));
    let (audit, name) = (MemoryAudit::new(), "f".parse().unwrap());
    let force = |ctx, reason| block_on(world.tenants.force_finalizer(&ctx, &audit, &a.tenant, &name, reason));
    // Nothing is forced, and nothing on record, while it is not being deleted, without a reason, or by another.
    assert_eq!(force(admin("f0"), "why not").unwrap_err().kind(), ErrorKind::Invalid);
    delete(&world, "d", &a).unwrap();
    assert_eq!(force(admin("f1"), "  ").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(force(ctx(&a.tenant, "f2"), "mine").unwrap_err().kind(), ErrorKind::Denied);
    assert!(audit.events().is_empty());
    assert!(force(admin("f3"), "the provider is gone").unwrap().is_empty());
    // Said again, it is the same request: no second entry.
    assert!(force(admin("f3"), "the provider is gone").unwrap().is_empty());
    let events = audit.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].because, ["finalizer f is removed by force: the provider is gone"]);
    assert_eq!(events[0].ctx.request().as_str(), "f3");
    assert_eq!(
        block_on(world.tenants.advance_deletion(&admin("a"), &a.tenant)).unwrap().outcome,
        DeletionOutcome::Done
    );
}

#[test]
fn a_tenant_of_the_same_name_is_another_one() {
    let world = World::new();
    let old = world.tenant(spec("a").with_finalizer(finalizer("f", 0)));
    delete(&world, "d", &old).unwrap();
    let taken = block_on(world.tenants.create(&admin("c1"), spec("a"))).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    block_on(world.tenants.finalizer_done(&admin("f"), &old.tenant, &"f".parse().unwrap())).unwrap();
    block_on(world.tenants.advance_deletion(&admin("a"), &old.tenant)).unwrap();
    let new =
        block_on(world.tenants.create(&admin("c2"), spec("a").with_finalizer(finalizer("f", 0)))).unwrap();
    assert_ne!(new.tenant, old.tenant);
    // Steps and words meant for the old one do nothing to the new one.
    let step = block_on(world.tenants.advance_deletion(&admin("a2"), &old.tenant)).unwrap();
    assert_eq!(step.outcome, DeletionOutcome::Done);
    let word = block_on(world.tenants.finalizer_done(&admin("f2"), &old.tenant, &"f".parse().unwrap()));
    assert_eq!(word.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(block_on(world.tenants.get(&admin("g"), &new.tenant.id)).unwrap(), new);
    let own = ctx(&old.tenant, "g2");
    assert_eq!(block_on(world.tenants.get(&own, &old.tenant.id)).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn many_bindings_go_in_bounded_transactions() {
    use hivemind_tenancy::rbac::{Scope, Subject};
    use hivemind_tenancy::{Role, RoleBinding};
    let world = World::new();
    let a = world.tenant(spec("a"));
    let role = Role::new("role".parse().unwrap(), []);
    world.commit(|view, txn| world.tenants.stage_put_role(view, txn, &admin("r"), &role)).unwrap();
    for n in 0..150 {
        let (name, scope) = (format!("b{n}").parse().unwrap(), Scope::Tenant(a.tenant.clone()));
        let all = Subject::Group("all".parse().unwrap());
        let binding = RoleBinding::new(name, "role".parse().unwrap(), scope, [all]);
        world.commit(|view, txn| world.tenants.stage_bind(view, txn, &admin("b"), &binding)).unwrap();
    }
    assert_eq!(delete(&world, "d", &a).unwrap().outcome, DeletionOutcome::Done);
    let (view, all) = (world.view(), hivemind_tenancy::prefix().unwrap());
    let mut left = view.scan(&all).map(|record| record.key.to_string());
    assert!(left.all(|key| !key.contains(&a.tenant.to_string())), "something of the tenant is left");
}
