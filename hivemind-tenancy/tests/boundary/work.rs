//! Quota, workloads and nodes.

use std::time::Duration;

use hivemind_core::store::Txn;
use hivemind_core::{QuotaGate, ReservationId, Timestamp, block_on};
use hivemind_tenancy::placement::{NodeState, PlacementPolicy, WorkloadRequest};
use hivemind_tenancy::quota::{Demand, FairQueue, OverQuota, QueuePolicy, Turns};
use hivemind_tenancy::quota::{QuotaRule, QuotaSpec, RequestAttributes, WhenOver};
use hivemind_tenancy::{Node, QuotaRequest, TenantQuota, TenantSpec};

use crate::common::{World, admin};
use crate::scene::{Case, Own, Scene, cores, told, waiting};

const fn works(name: &'static str, run: fn(&Scene) -> hivemind_core::Result<String>) -> Case {
    Case { name, own: Own::Works, run }
}

const fn refused(name: &'static str, run: fn(&Scene) -> hivemind_core::Result<String>) -> Case {
    Case { name, own: Own::Refused, run }
}

fn id(s: &Scene) -> ReservationId {
    s.name.parse().unwrap()
}

fn workload(s: &Scene) -> WorkloadRequest {
    WorkloadRequest::new(s.name.parse().unwrap(), cores(1))
}

fn turns() -> Turns {
    Turns::new(FairQueue::new(QueuePolicy::BestEffortFifo, Duration::from_secs(9)))
}

pub const CASES: &[Case] = &[
    works("request", |s| {
        let request = QuotaRequest::new(id(s), cores(1)).held_until(Timestamp::from_secs(50));
        s.commit(|view, txn| TenantQuota.stage_request(view, txn, &s.ctx, &request))
    }),
    works("reserve until", |s| {
        let until = Timestamp::from_secs(50);
        s.commit(|view, txn| TenantQuota.stage_reserve(view, txn, &s.ctx, &id(s), &cores(1), until))
    }),
    refused("reserve", |s| s.commit(|view, txn| TenantQuota.reserve(view, txn, &s.ctx, &id(s), &cores(1)))),
    refused("reserve too much", |s| {
        s.commit(|view, txn| TenantQuota.reserve(view, txn, &s.ctx, &id(s), &cores(9)))
    }),
    works("commit", |s| s.commit(|view, txn| TenantQuota.stage_commit(view, txn, &s.ctx, &id(s)))),
    works("abort", |s| s.commit(|view, txn| TenantQuota.stage_abort(view, txn, &s.ctx, &id(s)))),
    works("give back", |s| s.commit(|view, txn| TenantQuota.stage_release(view, txn, &s.ctx, &id(s)))),
    works("release", |s| s.commit(|view, txn| TenantQuota.release(view, txn, &s.ctx, &id(s)))),
    works("resize", |s| s.commit(|view, txn| TenantQuota.stage_resize(view, txn, &s.ctx, &id(s), &cores(2)))),
    works("expire", |s| {
        let late = Timestamp::from_secs(99);
        s.commit(|view, txn| TenantQuota.stage_expire(view, txn, &s.ctx, late))
    }),
    works("expire_reservations", |s| {
        s.world.clock.advance(std::time::Duration::from_secs(99));
        told(block_on(s.world.tenants.expire_reservations(&s.ctx)))
    }),
    works("resize by demands", |s| {
        let request = QuotaRequest::new(id(s), cores(2)).with_demands([Demand::new(cores(2), cores(2))]);
        s.commit(|view, txn| TenantQuota.stage_resize_request(view, txn, &s.ctx, &request))
    }),
    works("enqueue", |s| {
        let request = QuotaRequest::new(waiting(s.name), cores(1));
        s.commit(|view, txn| TenantQuota.stage_enqueue(view, txn, &s.ctx, &request))
    }),
    works("leave", |s| s.commit(|view, txn| TenantQuota.stage_leave(view, txn, &s.ctx, &waiting(s.name)))),
    works("waiting", |s| told(TenantQuota.waiting(&s.world.view(), &Txn::new(), &s.ctx))),
    works("admit next", |s| s.commit(|view, txn| TenantQuota.stage_admit_next(view, txn, &s.ctx, &turns()))),
    works("admit_waiting", |s| told(block_on(s.world.tenants.admit_waiting(&s.ctx, &turns())))),
    works("grant slice", |s| {
        let (node, lease) = (s.name.parse().unwrap(), (Timestamp::from_secs(60), Duration::ZERO));
        s.commit(|view, txn| TenantQuota.stage_grant_slice(view, txn, &s.ctx, &node, &cores(2), lease))
    }),
    works("return slice", |s| {
        let node = s.name.parse().unwrap();
        s.commit(|view, txn| TenantQuota.stage_return_slice(view, txn, &s.ctx, (&node, 1), &cores(0)))
    }),
    works("node_slices", |s| told(TenantQuota.node_slices(&s.world.view(), &Txn::new(), &s.ctx))),
    works("sample", |s| {
        let window = Duration::from_secs(9);
        s.commit(|view, txn| TenantQuota.stage_sample(view, txn, &s.ctx, window, 4))
    }),
    works("trends", |s| told(TenantQuota.trends(&s.world.view(), &Txn::new(), &s.ctx))),
    works("what if charged", |s| {
        let attributes = RequestAttributes::default();
        told(TenantQuota.what_if(&s.world.view(), &Txn::new(), &s.ctx, &cores(9), &attributes))
    }),
    works("usage", |s| told(TenantQuota.usage(&s.world.view(), &s.ctx))),
    works("over_quota", |s| told(TenantQuota.over_quota(&s.world.view(), &s.ctx))),
    works("recount", |s| told(TenantQuota.recount(&s.world.view(), &s.ctx))),
    works("drift", |s| told(TenantQuota.drift(&s.world.view(), &s.ctx))),
    works("repair", |s| s.commit(|view, txn| TenantQuota.stage_repair(view, txn, &s.ctx))),
    refused("place", |s| {
        s.commit(|view, txn| s.world.tenants.stage_place(view, txn, &s.ctx, &[workload(s)]))
    }),
    refused("place by", |s| {
        let policy = PlacementPolicy::default();
        s.commit(|view, txn| s.world.tenants.stage_place_by(view, txn, &s.ctx, &[workload(s)], &policy))
    }),
    refused("what if placed", |s| {
        let (view, txn, policy) = (s.world.view(), Txn::new(), PlacementPolicy::default());
        told(s.world.tenants.what_if(&view, &txn, &s.ctx, &[vec![workload(s)]], &policy))
    }),
    refused("assign", |s| {
        let decided = [(workload(s), "n1".parse().unwrap())];
        s.commit(|view, txn| s.world.tenants.stage_assign(view, txn, &s.ctx, &decided))
    }),
    refused("gang", |s| {
        let (all, until) = ([workload(s)], Timestamp::from_secs(50));
        s.commit(|view, txn| s.world.tenants.stage_gang(view, txn, &s.ctx, &id(s), &all, until))
    }),
    works("unplace", |s| {
        let (workload, node) = (s.name.parse().unwrap(), "n1".parse().unwrap());
        s.commit(|view, txn| s.world.tenants.stage_unplace(view, txn, &s.ctx, [(&workload, &node)]))
    }),
    works("terminate", |s| {
        let (workload, node) = (s.name.parse().unwrap(), "n1".parse().unwrap());
        s.commit(|view, txn| s.world.tenants.stage_terminate(view, txn, &s.ctx, &workload, &node))
    }),
    refused("unplace where others run", |s| {
        let (workload, node) = (s.name.parse().unwrap(), "n2".parse().unwrap());
        s.commit(|view, txn| s.world.tenants.stage_unplace(view, txn, &s.ctx, [(&workload, &node)]))
    }),
    refused("terminate where others run", |s| {
        let (workload, node) = (s.name.parse().unwrap(), "n2".parse().unwrap());
        s.commit(|view, txn| s.world.tenants.stage_terminate(view, txn, &s.ctx, &workload, &node))
    }),
    refused("sweep gangs", |s| s.commit(|view, txn| s.world.tenants.stage_sweep_gangs(view, txn, &s.ctx))),
    refused("add_node", |s| {
        let node = Node::new(s.name.parse().unwrap(), cores(1));
        told(block_on(s.world.tenants.add_node(&s.ctx, node)))
    }),
    refused("set_node_state", |s| {
        let id = s.name.parse().unwrap();
        told(block_on(s.world.tenants.set_node_state(&s.ctx, &id, NodeState::Cordoned)))
    }),
    refused("set_taints", |s| {
        let id = s.name.parse().unwrap();
        s.commit(|view, txn| s.world.tenants.stage_set_taints(view, txn, &s.ctx, &id, &[]))
    }),
];

/// What a tenant is told of a denial is the same, byte for byte, whatever limits those above it have and whatever its
/// siblings use. Those above are told.
#[test]
fn a_denial_tells_nothing_of_what_siblings_use() {
    let denied = |limit: u64, siblings: u64| {
        let world = World::new();
        let corp = world.tenant(TenantSpec::new("corp".parse().unwrap())).tenant;
        let [red, blue] = ["red", "blue"]
            .map(|id| world.tenant(TenantSpec::new(id.parse().unwrap()).below(corp.clone())).tenant);
        let quota = QuotaSpec::new().with_rule("cpu".parse().unwrap(), QuotaRule::default().with_max(limit));
        block_on(world.tenants.set_quota(&admin("q"), &corp.id, quota, WhenOver::Refuse)).unwrap();
        let of = |tenant: &hivemind_core::TenantRef| admin("r").for_tenant(tenant.clone());
        let id = "web".parse().unwrap();
        world.commit(|view, txn| TenantQuota.reserve(view, txn, &of(&blue), &id, &cores(siblings))).unwrap();
        let charge = |view: &_, txn: &mut _| TenantQuota.reserve(view, txn, &of(&red), &id, &cores(9));
        let error = world.commit(charge).unwrap_err();
        let over = error.detail::<OverQuota>().unwrap();
        let above = over.seen_by(&of(&corp)).to_string();
        let attributes = RequestAttributes::default();
        let what_if = TenantQuota.what_if(&world.view(), &Txn::new(), &of(&red), &cores(9), &attributes);
        (format!("{error:?} {error} {} {what_if:?}", serde_json::to_string(over).unwrap()), above)
    };
    let (told, above) = denied(9_000, 3);
    for (limit, siblings) in [(9_000, 4), (8_000, 0), (9_000, 9)] {
        let (again, other) = denied(limit, siblings);
        assert_eq!(told, again);
        assert_ne!(above, other);
    }
    assert_eq!(above, "tenant red: cpu at tenant corp: limit 9, used 3, reserved 0, asked 9, short by 3");
}
