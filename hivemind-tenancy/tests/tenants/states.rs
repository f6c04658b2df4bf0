//! States: what each allows, suspension, draining.

use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::store::Txn;
use hivemind_core::{ErrorKind, Retry, Timestamp, block_on};
use hivemind_tenancy::placement::WorkloadRequest;
use hivemind_tenancy::tenant::VerbClass;
use hivemind_tenancy::{Node, Tenant, TenantSpec, TenantState};

use crate::common::{World, admin, ctx};

fn spec(id: &str) -> TenantSpec {
    TenantSpec::new(id.parse().unwrap())
}

#[test]
fn the_table_of_states_is_what_is_documented() {
    let printed: Vec<String> = TenantState::TABLE
        .iter()
        .map(|row| {
            let allowed: Vec<_> = row.allowed.iter().map(ToString::to_string).collect();
            format!("{}: {}", row.state, allowed.join(" "))
        })
        .collect();
    assert_eq!(
        printed,
        [
            "pending: read configure remove",
            "active: read configure admit keep remove",
            "suspended: read configure keep remove",
            "draining: read remove",
            "terminating: read remove",
        ]
    );
}

#[test]
fn what_a_tenant_above_does_not_allow_is_not_allowed_below() {
    let world = World::new();
    let a = world.tenant(spec("a").pending());
    let b = world.tenant(spec("b").below(a.tenant.clone()));
    let admits = |class| Tenant::allowing(&world.view(), &mut Txn::new(), &ctx(&b.tenant, "r"), class);
    let refused = admits(VerbClass::Admit).unwrap_err();
    assert_eq!((refused.kind(), refused.retry()), (ErrorKind::Conflict, Retry::AfterChange));
    assert_eq!(refused.message(), "a tenant above tenant b allows no admit now");
    let own = Tenant::allowing(&world.view(), &mut Txn::new(), &ctx(&a.tenant, "r"), VerbClass::Admit);
    assert_eq!(own.unwrap_err().message(), "tenant a is pending: that allows no admit");
    block_on(world.tenants.resume(&admin("r1"), &a.tenant.id)).unwrap();
    assert_eq!(admits(VerbClass::Admit).unwrap().len(), 2);
    block_on(world.tenants.suspend(&admin("s1"), &a.tenant.id, None)).unwrap();
    assert!(admits(VerbClass::Admit).is_err());
    assert!(admits(VerbClass::Keep).is_ok());
    assert!(block_on(world.tenants.create(&admin("c"), spec("c").below(a.tenant.clone()))).is_ok());
    block_on(world.tenants.suspend(&admin("s2"), &a.tenant.id, Some(Timestamp::from_secs(9)))).unwrap();
    assert!(admits(VerbClass::Keep).is_err());
    assert!(block_on(world.tenants.create(&admin("d"), spec("d").below(a.tenant))).is_err());
}

#[test]
fn a_suspension_between_decision_and_commit_is_a_conflict() {
    use hivemind_core::StateStore;
    let world = World::new();
    let a = world.tenant(spec("a"));
    let b = world.tenant(spec("b").below(a.tenant.clone()));
    let mut txn = Txn::new();
    Tenant::allowing(&world.view(), &mut txn, &ctx(&b.tenant, "r"), VerbClass::Admit).unwrap();
    block_on(world.tenants.suspend(&admin("s"), &a.tenant.id, None)).unwrap();
    assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_drain_says_beforehand_what_it_evicts_and_when_it_is_due() {
    let world = World::new();
    let a = world.tenant(spec("a"));
    let b = world.tenant(spec("b").below(a.tenant.clone()));
    let other = world.tenant(spec("other"));
    let cores = |n| Resources::new().with_cpu(MilliCpu::from_cores(n));
    block_on(world.tenants.add_node(&admin("n"), Node::new("n1".parse().unwrap(), cores(9)))).unwrap();
    for (tenant, name) in [(&a, "web"), (&b, "job"), (&other, "db")] {
        let work = [WorkloadRequest::new(name.parse().unwrap(), cores(1))];
        world
            .commit(|view, txn| world.tenants.stage_place(view, txn, &ctx(&tenant.tenant, "p"), &work))
            .unwrap();
    }
    let by = Timestamp::from_secs(60);
    let dry = block_on(world.tenants.plan_drain(&admin("p"), &a.tenant.id, by)).unwrap();
    let evicted: Vec<_> =
        dry.evict.iter().map(|e| format!("{} {} {}", e.node, e.tenant.id, e.workload)).collect();
    assert_eq!(evicted, ["n1 a web", "n1 b job"]);
    assert!(world.tenants.drains(&world.view(), &admin("d")).unwrap().is_empty());

    let past = block_on(world.tenants.suspend(&admin("s0"), &a.tenant.id, Some(Timestamp::EPOCH)));
    assert_eq!(past.unwrap_err().kind(), ErrorKind::Invalid);
    block_on(world.tenants.suspend(&admin("s1"), &a.tenant.id, Some(by))).unwrap();
    let drains = world.tenants.drains(&world.view(), &admin("d")).unwrap();
    assert_eq!(drains, [dry]);
    assert!(!drains[0].is_due(Timestamp::from_secs(59)));
    assert!(drains[0].is_due(by));
    block_on(world.tenants.resume(&admin("r1"), &a.tenant.id)).unwrap();
    assert!(world.tenants.drains(&world.view(), &admin("d")).unwrap().is_empty());
}

#[test]
fn the_time_of_a_request_is_the_time_of_the_change() {
    let world = World::new();
    let at = Timestamp::from_secs(77);
    let acme = block_on(world.tenants.create(&admin("c").with_time(at), spec("acme"))).unwrap();
    assert_eq!((acme.created_at, acme.updated_at), (at, at));
}
