//! Quota, workloads and nodes.

use hivemind_core::store::Txn;
use hivemind_core::{QuotaGate, ReservationId, Timestamp, block_on};
use hivemind_tenancy::{
    Node, NodeState, PlacementPolicy, QuotaRequest, RequestAttributes, TenantQuota, WorkloadRequest,
};

use crate::scene::{Case, Own, Scene, cores, told};

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
