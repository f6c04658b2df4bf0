//! Every tenant has a VNI of its own; it is released exactly once, and rests before a stranger gets it, who never meets
//! a node that has it still.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    Clock, Error, ErrorKind, Generation, ManualClock, MemoryStore, NodeId, Principal, Retry, StateStore,
    StateStoreExt, TenantContext, TenantRef, Timestamp, block_on,
};
use hivemind_net::overlay::{Vni, VniLease, VniPool, VniRegistry, VnisExhausted};
use proptest::prelude::*;

const COOLING: Duration = Duration::from_secs(60);

struct World {
    store: MemoryStore,
    clock: Arc<ManualClock>,
    vnis: VniRegistry,
}

fn ctx(tenant: usize) -> TenantContext {
    let tenant = TenantRef::new(format!("t{tenant}").parse().unwrap(), Generation::from_u64(1));
    TenantContext::new(tenant, Principal::System("test".parse().unwrap()), "r-1".parse().unwrap())
}

fn node(number: usize) -> NodeId {
    format!("n{number}").parse().unwrap()
}

fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

impl World {
    fn new(size: u32) -> Self {
        let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::default()));
        let pool = VniPool::new(vni(100), vni(99 + size)).unwrap().with_cooling(COOLING);
        let vnis = VniRegistry::new(Arc::new(store.clone()), clock.clone(), pool);
        Self { store, clock, vnis }
    }

    fn view(&self) -> Snapshot {
        block_on(self.store.snapshot(&[Prefix::ROOT])).unwrap()
    }

    fn reserve(&self, tenant: usize) -> Result<VniLease, Error> {
        let mut txn = Txn::new();
        let lease = self.vnis.stage_reserve(&self.view(), &mut txn, &ctx(tenant))?;
        block_on(self.store.commit(&txn))?;
        Ok(lease)
    }

    fn commit<T>(&self, stage: impl Fn(&Snapshot, &mut Txn) -> Result<T, Error>) -> Result<T, Error> {
        let mut txn = Txn::new();
        let staged = stage(&self.view(), &mut txn)?;
        block_on(self.store.commit(&txn))?;
        Ok(staged)
    }

    fn off_node(&self, lease: &VniLease, at: &NodeId) -> Result<(), Error> {
        self.commit(|view, txn| self.vnis.stage_off_node(view, txn, lease, at))
    }

    fn release(&self, tenant: usize, lease: &VniLease) -> Result<(), Error> {
        let mut txn = Txn::new();
        self.vnis.stage_release(&self.view(), &mut txn, &ctx(tenant), lease)?;
        block_on(self.store.commit(&txn)).map(|_| ())
    }
}

#[test]
fn a_tenant_keeps_its_vni_and_no_other_has_it() {
    let world = World::new(10);
    let leases: Vec<_> = (0..10).map(|tenant| world.reserve(tenant).unwrap()).collect();
    let numbers: BTreeSet<_> = leases.iter().map(|lease| lease.vni.as_u32()).collect();
    assert_eq!(numbers, (100..110).collect());
    for (tenant, lease) in leases.iter().enumerate() {
        assert_eq!(world.reserve(tenant).unwrap(), *lease);
        assert_eq!(world.vnis.lease(&world.view(), &Txn::new(), &ctx(tenant)).unwrap().as_ref(), Some(lease));
    }
}

#[test]
fn a_vni_is_released_exactly_once_and_by_its_holder() {
    let world = World::new(1);
    let lease = world.reserve(1).unwrap();
    assert_eq!(world.release(2, &lease).unwrap_err().kind(), ErrorKind::NotFound);
    world.release(1, &lease).unwrap();
    assert_eq!(world.release(1, &lease).unwrap_err().kind(), ErrorKind::NotFound);

    world.clock.advance(COOLING);
    let again = world.reserve(1).unwrap();
    assert_eq!(again.vni, lease.vni);
    assert_eq!(world.release(1, &lease).unwrap_err().kind(), ErrorKind::NotFound, "an old handle");
    world.release(1, &again).unwrap();
}

#[test]
fn a_released_vni_rests_and_the_error_says_how_long() {
    let world = World::new(2);
    let first = world.reserve(1).unwrap();
    world.reserve(2).unwrap();
    let full = world.reserve(3).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Exhausted);
    assert_eq!(full.retry(), Retry::AfterChange);
    assert_eq!(full.detail::<VnisExhausted>().unwrap().retry_after, None);

    world.release(1, &first).unwrap();
    world.clock.advance(Duration::from_secs(45));
    let resting = world.reserve(3).unwrap_err();
    assert_eq!(resting.retry(), Retry::Later);
    let detail = resting.detail::<VnisExhausted>().unwrap();
    assert_eq!(detail.retry_after, Some(Duration::from_secs(15)));
    assert!(
        resting.to_string().contains("no VNI is free: the first that rests is free in 16 s"),
        "{resting}"
    );
    let usage = world.vnis.usage(&world.view()).unwrap();
    assert_eq!((usage.capacity, usage.held, usage.cooling), (2, 1, 1));
    assert_eq!(usage.next_free_in, detail.retry_after);

    world.clock.advance(Duration::from_secs(15));
    assert_eq!(world.reserve(3).unwrap().vni, first.vni);
}

#[test]
fn a_tenant_that_gets_no_vni_learns_nothing_of_how_many_others_have() {
    let refused = |tenants: usize| {
        let world = World::new(u32::try_from(tenants).unwrap());
        for tenant in 0..tenants {
            world.reserve(tenant).unwrap();
        }
        let error = world.reserve(tenants).unwrap_err();
        (error.to_string(), format!("{:?}", error.detail::<VnisExhausted>().unwrap()))
    };
    assert_eq!(refused(2), refused(7));
}

#[test]
fn decisions_in_one_transaction_see_each_other() {
    let world = World::new(3);
    let (view, mut txn) = (world.view(), Txn::new());
    let leases: Vec<_> =
        (0..3).map(|tenant| world.vnis.stage_reserve(&view, &mut txn, &ctx(tenant)).unwrap()).collect();
    assert_eq!(world.vnis.stage_reserve(&view, &mut txn, &ctx(0)).unwrap(), leases[0]);
    assert!(world.vnis.stage_reserve(&view, &mut txn, &ctx(3)).is_err());
    world.vnis.stage_release(&view, &mut txn, &ctx(1), &leases[1]).unwrap();
    assert!(world.vnis.stage_release(&view, &mut txn, &ctx(1), &leases[1]).is_err());
    block_on(world.store.commit(&txn)).unwrap();
    assert_eq!(world.vnis.lease(&world.view(), &Txn::new(), &ctx(1)).unwrap(), None);
    assert_eq!(world.reserve(2).unwrap().vni, leases[2].vni);
}

#[test]
fn what_has_rested_is_forgotten_and_nothing_else() {
    let world = World::new(3);
    let first = world.reserve(1).unwrap();
    world.reserve(2).unwrap();
    world.release(1, &first).unwrap();
    let before = world.view().len();
    let forget = || {
        let mut txn = Txn::new();
        let count = world.vnis.stage_forget_rested(&world.view(), &mut txn, 10).unwrap();
        block_on(world.store.commit(&txn)).unwrap();
        count
    };
    assert_eq!(forget(), 0);
    world.clock.advance(COOLING);
    assert_eq!(forget(), 1);
    assert_eq!(world.view().len(), before - 1);
}

#[test]
fn the_same_request_has_the_same_answer() {
    let world = World::new(5);
    let lease = block_on(world.vnis.reserve(&ctx(1))).unwrap();
    block_on(world.vnis.release(&ctx(1), &lease)).unwrap();
    block_on(world.vnis.release(&ctx(1), &lease)).unwrap();
    assert_eq!(
        block_on(world.vnis.reserve(&ctx(1))).unwrap(),
        lease,
        "answered from the record of the request"
    );
}

#[test]
fn a_vni_waits_for_every_node_that_may_have_it_however_long_that_is() {
    let world = World::new(1);
    let (near, away) = (node(1), node(2));
    let lease = world.reserve(1).unwrap();
    for at in [&near, &away, &away] {
        world.commit(|view, txn| world.vnis.stage_on_node(view, txn, &ctx(1), (&lease, at))).unwrap();
    }
    world.release(1, &lease).unwrap();
    let late = world.commit(|view, txn| world.vnis.stage_on_node(view, txn, &ctx(1), (&lease, &near)));
    assert_eq!(late.unwrap_err().kind(), ErrorKind::NotFound, "on no more nodes after its release");
    world.off_node(&lease, &near).unwrap();
    world.clock.advance(COOLING * 1000);

    let full = world.reserve(2).unwrap_err();
    assert_eq!((full.kind(), full.retry()), (ErrorKind::Exhausted, Retry::AfterChange));
    assert_eq!(full.detail::<VnisExhausted>().unwrap().retry_after, None, "time alone frees nothing");
    let usage = world.vnis.usage(&world.view()).unwrap();
    assert_eq!((usage.held, usage.cooling, usage.unconfirmed, usage.next_free_in), (0, 0, 1, None));
    assert_eq!(world.vnis.on_node(&world.view(), &near).unwrap(), []);
    assert_eq!(world.vnis.on_node(&world.view(), &away).unwrap(), vec![lease.clone()]);

    // It is back, has compared its kernel with what it shall hold, and says so; twice, and once more much later.
    world.off_node(&lease, &away).unwrap();
    world.off_node(&lease, &away).unwrap();
    let next = world.reserve(2).unwrap();
    assert_eq!(next.vni, lease.vni);
    world.commit(|view, txn| world.vnis.stage_on_node(view, txn, &ctx(2), (&next, &away))).unwrap();
    world.off_node(&lease, &away).unwrap();
    assert_eq!(
        world.vnis.on_node(&world.view(), &away).unwrap(),
        [next],
        "of its own grant it has said nothing"
    );
}

#[test]
fn a_node_that_was_fenced_holds_up_nobody() {
    let world = World::new(3);
    let leases: Vec<_> = (0..3).map(|tenant| world.reserve(tenant).unwrap()).collect();
    for (tenant, lease) in leases.iter().enumerate() {
        for at in [&node(1), &node(2)] {
            world.commit(|view, txn| world.vnis.stage_on_node(view, txn, &ctx(tenant), (lease, at))).unwrap();
        }
        world.release(tenant, lease).unwrap();
    }
    let fence = |number| world.commit(|view, txn| world.vnis.stage_node_fenced(view, txn, &node(number), 2));
    assert!(fence(1).unwrap(), "more than two: once again");
    assert!(!fence(1).unwrap() && !fence(1).unwrap());
    assert_eq!(world.vnis.on_node(&world.view(), &node(2)).unwrap().len(), 3);
    world.clock.advance(COOLING);
    assert!(world.reserve(9).is_err(), "the other node has them all");
    assert!(fence(2).unwrap() && !fence(2).unwrap());
    world.reserve(9).unwrap();
}

#[test]
fn who_did_not_see_that_a_node_was_fenced_puts_nothing_on_it() {
    let world = World::new(1);
    let lease = world.reserve(1).unwrap();
    let put =
        |view: &Snapshot, txn: &mut Txn| world.vnis.stage_on_node(view, txn, &ctx(1), (&lease, &node(1)));
    world.commit(put).unwrap();
    let (old, mut txn) = (world.view(), Txn::new());
    assert!(!world.commit(|view, txn| world.vnis.stage_node_fenced(view, txn, &node(1), 9)).unwrap());
    put(&old, &mut txn).unwrap();
    assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
    world.commit(put).unwrap();
    assert_eq!(world.vnis.on_node(&world.view(), &node(1)).unwrap(), vec![lease.clone()]);
}

#[test]
fn two_requests_for_one_node_are_two() {
    let world = World::new(1);
    let lease = block_on(world.vnis.reserve(&ctx(1))).unwrap();
    for at in [node(1), node(2)] {
        block_on(world.vnis.put_on_node(&ctx(1), &lease, &at)).unwrap();
        block_on(world.vnis.put_on_node(&ctx(1), &lease, &at)).unwrap();
        assert_eq!(world.vnis.on_node(&world.view(), &at).unwrap(), vec![lease.clone()]);
    }
    block_on(world.vnis.take_off_node(&ctx(1), &lease, &node(1))).unwrap();
    assert_eq!(world.vnis.on_node(&world.view(), &node(1)).unwrap(), []);
    assert_eq!(world.vnis.on_node(&world.view(), &node(2)).unwrap(), [lease]);
}

#[derive(Debug, Clone)]
enum Step {
    Reserve(usize),
    Release(usize),
    OnNode(usize, usize),
    /// The node looks at the store, and takes down what is not its tenants' any more.
    Look(usize),
    Fence(usize),
    Wait(u64),
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        4 => (0usize..4).prop_map(Step::Reserve),
        3 => (0usize..4).prop_map(Step::Release),
        5 => (0usize..4, 0usize..2).prop_map(|(tenant, node)| Step::OnNode(tenant, node)),
        2 => (0usize..2).prop_map(Step::Look),
        2 => (0usize..2).prop_map(Step::Fence),
        2 => (30u64..70).prop_map(Step::Wait),
        1 => Just(Step::Forget),
    ];
    proptest::collection::vec((0usize..2, step), 1..80)
}

proptest! {
    /// Two replicas decide on views that may be old, and commit. The model is told only of what was committed, and of what
    /// nodes really have: a node that does not look has its tunnel ends for ever.
    #[test]
    fn two_replicas_never_give_a_vni_to_two_tenants(size in 1u32..5, steps in steps()) {
        let world = World::new(size);
        let mut views = [world.view(), world.view()];
        let mut held: BTreeMap<usize, VniLease> = BTreeMap::new();
        let mut resting: BTreeMap<Vni, Timestamp> = BTreeMap::new();
        // What is in the kernels: by node and VNI, whose.
        let mut kernels: BTreeMap<(usize, Vni), usize> = BTreeMap::new();
        for (replica, step) in steps {
            let (mut txn, view) = (Txn::new(), &views[replica]);
            match step {
                Step::Reserve(tenant) => {
                    if let Ok(lease) = world.vnis.stage_reserve(view, &mut txn, &ctx(tenant))
                        && block_on(world.store.commit(&txn)).is_ok()
                    {
                        if let Some(had) = held.insert(tenant, lease.clone()) {
                            prop_assert_eq!(&had, &lease);
                        } else {
                            let free = resting.get(&lease.vni).is_none_or(|until| *until <= world.clock.now());
                            prop_assert!(free, "{} rests", lease.vni);
                            let still = kernels.iter().find(|((_, vni), _)| *vni == lease.vni);
                            prop_assert!(still.is_none(), "{} is in a kernel: {:?}", lease.vni, still);
                        }
                    }
                }
                Step::Release(tenant) => {
                    let Some(lease) = held.get(&tenant).cloned() else { continue };
                    if world.vnis.stage_release(view, &mut txn, &ctx(tenant), &lease).is_ok()
                        && block_on(world.store.commit(&txn)).is_ok()
                    {
                        held.remove(&tenant);
                        resting.insert(lease.vni, world.clock.now().after(COOLING));
                    }
                }
                Step::OnNode(tenant, number) => {
                    let Some(lease) = held.get(&tenant).cloned() else { continue };
                    if world.vnis.stage_on_node(view, &mut txn, &ctx(tenant), (&lease, &node(number))).is_ok()
                        && block_on(world.store.commit(&txn)).is_ok()
                    {
                        // Nobody else's tunnel end is there, nor was one when it came.
                        let before = kernels.insert((number, lease.vni), tenant);
                        prop_assert!(before.is_none_or(|other| other == tenant), "{} of {:?}", lease.vni, before);
                    }
                }
                Step::Look(number) => {
                    let own = world.vnis.on_node(view, &node(number)).unwrap();
                    for lease in own.iter().filter(|lease| !held.values().any(|held| held == *lease)) {
                        kernels.remove(&(number, lease.vni));
                        world.vnis.stage_off_node(view, &mut txn, lease, &node(number)).unwrap();
                    }
                    let _ = block_on(world.store.commit(&txn));
                }
                Step::Fence(number) => {
                    kernels.retain(|(at, _), _| *at != number);
                    let _ = world.vnis.stage_node_fenced(view, &mut txn, &node(number), 100);
                    let _ = block_on(world.store.commit(&txn));
                }
                Step::Wait(seconds) => world.clock.advance(Duration::from_secs(seconds)),
                Step::Forget => {
                    if world.vnis.stage_forget_rested(view, &mut txn, 3).is_ok() {
                        let _ = block_on(world.store.commit(&txn));
                    }
                }
            }
            // The replica sees the newest state only now, the other one still later.
            views[replica] = world.view();
            let distinct: BTreeSet<_> = held.values().map(|lease| lease.vni).collect();
            prop_assert_eq!(distinct.len(), held.len());
            for ((at, vni), whose) in &kernels {
                let holder = held.iter().find(|(_, lease)| lease.vni == *vni);
                prop_assert!(holder.is_none_or(|(tenant, _)| tenant == whose), "{} on node {}", vni, at);
            }
        }
        for (tenant, lease) in &held {
            let stored = world.vnis.lease(&world.view(), &Txn::new(), &ctx(*tenant)).unwrap();
            prop_assert_eq!(stored.as_ref(), Some(lease));
        }
    }
}
