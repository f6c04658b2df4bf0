//! Claims, and the controller that makes them so: nothing lost, nothing doubled, whatever fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::resources::ByteSize;
use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::testkit::{FaultPlan, FaultyStore};
use hivemind_core::{
    ClaimId, ErrorKind, Generation, ManualClock, MemoryStore, NodeId, Principal, Result, StateStore,
    StateStoreExt, TenantContext, TenantRef, block_on,
};
use hivemind_storage::{
    AccessMode, AttachVolume, ClaimSpec, CreateVolume, Fenced, MemoryProvider, Orphans, ProviderRegistry,
    ReclaimPolicy, SizeRange, StorageManager, StorageProvider, VolumeController, VolumeOptions, VolumePhase,
};
use proptest::prelude::*;

use super::world::controller;

struct World {
    store: MemoryStore,
    provider: Arc<MemoryProvider>,
    storage: StorageManager,
    controller: VolumeController,
    clock: Arc<ManualClock>,
}

impl World {
    fn new(provider: MemoryProvider) -> Self {
        let (store, provider) = (MemoryStore::new(), Arc::new(provider));
        let mut providers = ProviderRegistry::new();
        providers.add(provider.clone()).unwrap();
        let (storage, clock) = (StorageManager::new(providers.names()), Arc::new(ManualClock::default()));
        let controller = controller(Arc::new(store.clone()), providers, clock.clone());
        Self { store, provider, storage, controller, clock }
    }

    fn view(&self) -> Snapshot {
        block_on(self.store.snapshot(&[Prefix::ROOT])).unwrap()
    }

    fn commit<T>(&self, decide: impl FnOnce(&Snapshot, &mut Txn) -> Result<T>) -> Result<T> {
        let (view, mut txn) = (self.view(), Txn::new());
        let decided = decide(&view, &mut txn)?;
        block_on(self.store.commit(&txn))?;
        Ok(decided)
    }

    fn settle(&self) {
        for _ in 0..1000 {
            if !block_on(self.controller.tick()).unwrap().changed() {
                return;
            }
            self.clock.advance(Duration::from_secs(60));
        }
        panic!("the controller never comes to rest");
    }

    fn nodes_of(&self, ctx: &TenantContext, claim: &str) -> Vec<String> {
        let claim: ClaimId = claim.parse().unwrap();
        let volume = self.storage.volume(&self.view(), &Txn::new(), ctx, &claim).unwrap();
        let status = block_on(self.provider.get_volume_status(&volume.made().unwrap())).unwrap();
        status.attached_to.iter().map(ToString::to_string).collect()
    }
}

fn ctx(tenant: &str, generation: u64) -> TenantContext {
    let tenant = TenantRef::new(tenant.parse().unwrap(), Generation::from_u64(generation));
    TenantContext::new(tenant, Principal::User("ada".parse().unwrap()), "r".parse().unwrap())
}

fn spec(name: &str) -> ClaimSpec {
    ClaimSpec::new(name.parse().unwrap(), ByteSize::from_gib(1))
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn memory() -> MemoryProvider {
    MemoryProvider::new("memory".parse().unwrap())
}

#[test]
fn a_claim_becomes_a_volume_where_it_is_wanted_and_goes_again() {
    let (world, acme) = (World::new(memory()), ctx("acme", 1));
    let data = spec("data");
    for _ in 0..2 {
        world.commit(|view, txn| world.storage.stage_claim(view, txn, &acme, &data)).unwrap();
    }
    world.commit(|view, txn| world.storage.stage_attach(view, txn, &acme, &data.id, &node("n1"))).unwrap();
    world.settle();
    assert_eq!(world.nodes_of(&acme, "data"), ["n1"]);

    let elsewhere =
        world.commit(|view, txn| world.storage.stage_attach(view, txn, &acme, &data.id, &node("n2")));
    assert_eq!(elsewhere.unwrap_err().kind(), ErrorKind::Conflict);
    let proof = Fenced::PowerOff;
    world
        .commit(|view, txn| {
            world.storage.stage_move(view, txn, &acme, &data.id, &node("n1"), &node("n2"), &proof)
        })
        .unwrap();
    world.settle();
    assert_eq!(world.nodes_of(&acme, "data"), ["n2"]);

    world.commit(|view, txn| world.storage.stage_release(view, txn, &acme, &data.id)).unwrap();
    world.settle();
    assert_eq!(block_on(world.provider.get_provider_metrics()).unwrap().volumes, 0);
    assert!(world.storage.volumes(&world.view(), &acme).unwrap().is_empty());
    let again = world.commit(|view, txn| world.storage.stage_release(view, txn, &acme, &data.id));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_foreign_volume_does_not_exist() {
    let (world, acme, data) = (World::new(memory()), ctx("acme", 1), spec("data"));
    world.commit(|view, txn| world.storage.stage_claim(view, txn, &acme, &data)).unwrap();
    world.settle();
    for stranger in [ctx("globex", 1), ctx("acme", 2)] {
        let (view, s) = (world.view(), &world.storage);
        let mut txn = Txn::new();
        let outcomes = [
            s.volume(&view, &txn, &stranger, &data.id).map(|_| ()),
            s.stage_attach(&view, &mut txn, &stranger, &data.id, &node("n1")),
            s.stage_detach(&view, &mut txn, &stranger, &data.id, &node("n1")),
            s.stage_move(&view, &mut txn, &stranger, &data.id, &node("n1"), &node("n2"), &Fenced::PowerOff),
            s.stage_release(&view, &mut txn, &stranger, &data.id),
        ];
        for outcome in outcomes {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotFound);
        }
        assert!(txn.is_empty() && s.volumes(&view, &stranger).unwrap().is_empty());
    }
}

#[test]
fn what_a_provider_refuses_is_told_and_does_not_hold_up_others() {
    let (world, acme) = (World::new(memory()), ctx("acme", 1));
    world.commit(|view, txn| world.storage.stage_claim(view, txn, &acme, &spec("good"))).unwrap();
    // Somebody made a volume of that name behind our back, with other options.
    let squat = hivemind_storage::VolumeKey::new(acme.tenant().clone(), "bad".parse().unwrap());
    let size = SizeRange::at_least(ByteSize::from_gib(1)).unwrap();
    let options = VolumeOptions::default().with_parameter("squat", "yes");
    let squat = CreateVolume::new(hivemind_core::OpToken::new("t"), squat, size, options);
    block_on(world.provider.create_volume(&squat)).unwrap();
    world.commit(|view, txn| world.storage.stage_claim(view, txn, &acme, &spec("bad"))).unwrap();
    world.settle();
    let phases: BTreeMap<_, _> = world
        .storage
        .volumes(&world.view(), &acme)
        .unwrap()
        .iter()
        .map(|volume| (volume.key.volume.to_string(), volume.phase.clone()))
        .collect();
    assert_eq!(phases["good"], VolumePhase::Ready);
    assert!(matches!(&phases["bad"], VolumePhase::Failed(why) if why.contains("it has other options")));
    let unknown = spec("x").from_provider("ceph".parse().unwrap());
    let error = world.commit(|view, txn| world.storage.stage_claim(view, txn, &acme, &unknown)).unwrap_err();
    assert_eq!(error.message(), "there is no provider ceph; there are: memory");
}

#[test]
fn a_shared_volume_is_on_every_node_that_wants_it() {
    let (world, acme) = (World::new(memory()), ctx("acme", 1));
    let options = VolumeOptions::default().with_access_mode(AccessMode::ReadWriteMany);
    let data = spec("data").with_options(options);
    world.commit(|view, txn| world.storage.stage_claim(view, txn, &acme, &data)).unwrap();
    for name in ["n1", "n2", "n3"] {
        world
            .commit(|view, txn| world.storage.stage_attach(view, txn, &acme, &data.id, &node(name)))
            .unwrap();
    }
    world.settle();
    assert_eq!(world.nodes_of(&acme, "data"), ["n1", "n2", "n3"]);
    let (lost, proof) = (node("n1"), Fenced::PowerOff);
    world
        .commit(|view, txn| world.storage.stage_move(view, txn, &acme, &data.id, &lost, &node("n4"), &proof))
        .unwrap();
    world.commit(|view, txn| world.storage.stage_detach(view, txn, &acme, &data.id, &node("n2"))).unwrap();
    world.settle();
    assert_eq!(world.nodes_of(&acme, "data"), ["n3", "n4"]);
    world.commit(|view, txn| world.storage.stage_release(view, txn, &acme, &data.id)).unwrap();
    world.settle();
    assert_eq!(block_on(world.provider.get_provider_metrics()).unwrap().volumes, 0);
}

#[test]
fn an_attachment_nobody_wrote_down_is_taken_back() {
    let (world, acme, data) = (World::new(memory()), ctx("acme", 1), spec("data"));
    world.commit(|view, txn| world.storage.stage_claim(view, txn, &acme, &data)).unwrap();
    world.settle();
    world.commit(|view, txn| world.storage.stage_attach(view, txn, &acme, &data.id, &node("n1"))).unwrap();
    // The controller attached it and died before it could write that down.
    let made = world.storage.volume(&world.view(), &Txn::new(), &acme, &data.id).unwrap().made().unwrap();
    let behind = AttachVolume::new(hivemind_core::OpToken::new("t"), made, node("n1").into());
    block_on(world.provider.attach_volume(&behind)).unwrap();
    world.commit(|view, txn| world.storage.stage_detach(view, txn, &acme, &data.id, &node("n1"))).unwrap();
    world.commit(|view, txn| world.storage.stage_attach(view, txn, &acme, &data.id, &node("n2"))).unwrap();
    world.settle();
    assert_eq!(world.nodes_of(&acme, "data"), ["n2"]);
}

#[derive(Debug, Clone)]
enum Step {
    Claim {
        claim: u8,
        retain: bool,
    },
    Attach {
        claim: u8,
        node: u8,
    },
    Detach {
        claim: u8,
    },
    Move {
        claim: u8,
        node: u8,
    },
    Release {
        claim: u8,
    },
    Tick,
    /// A tick that dies after so many polls of its future.
    Killed {
        polls: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (claim, node) = (0u8..4, 0u8..3);
    prop_oneof![
        3 => (claim.clone(), prop::bool::weighted(0.2)).prop_map(|(claim, retain)| Step::Claim { claim, retain }),
        3 => (claim.clone(), node.clone()).prop_map(|(claim, node)| Step::Attach { claim, node }),
        1 => claim.clone().prop_map(|claim| Step::Detach { claim }),
        2 => (claim.clone(), node).prop_map(|(claim, node)| Step::Move { claim, node }),
        2 => claim.prop_map(|claim| Step::Release { claim }),
        4 => Just(Step::Tick),
        1 => (0usize..3).prop_map(|polls| Step::Killed { polls }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// The reference: which claims live, and where each was last wanted. The provider loses replies and delays calls.
    #[test]
    fn ends_as_intended_whatever_fails_on_the_way(
        steps in prop::collection::vec(step(), 1..40),
        lose in prop::sample::select(vec![0u64, 2, 3, 5]),
        delay in prop::sample::select(vec![0u64, 2, 3]),
    ) {
        let world = World::new(memory().losing_one_in(lose).delaying_one_in(delay));
        let acme = ctx("acme", 1);
        let name = |claim: u8| -> ClaimId { format!("c{claim}").parse().unwrap() };
        let node_of = |number: u8| node(&format!("n{number}"));
        // Live claims with the wanted node; and volumes retained after their claim was released.
        let (mut live, mut retained) = (BTreeMap::<u8, Option<u8>>::new(), 0);
        let mut policies = BTreeMap::<u8, bool>::new();
        for (number, step) in steps.into_iter().enumerate() {
            let request = acme.clone().with_request(format!("r{number}").parse().unwrap());
            match step {
                Step::Claim { claim, retain } => {
                    let policy = if retain { ReclaimPolicy::Retain } else { ReclaimPolicy::Delete };
                    let wanted = ClaimSpec::new(name(claim), ByteSize::from_gib(1)).with_reclaim(policy);
                    let done = world.commit(|view, txn| world.storage.stage_claim(view, txn, &request, &wanted));
                    if done.is_ok() && !live.contains_key(&claim) {
                        live.insert(claim, None);
                        policies.insert(claim, retain);
                    }
                }
                Step::Attach { claim, node } => {
                    let at = node_of(node);
                    if world.commit(|view, txn| world.storage.stage_attach(view, txn, &acme, &name(claim), &at)).is_ok() {
                        live.insert(claim, Some(node));
                    }
                }
                Step::Move { claim, node } => {
                    let (at, proof) = (node_of(node), Fenced::PowerOff);
                    let lost = live.get(&claim).copied().flatten().map_or_else(|| node_of(9), node_of);
                    let moved = |view: &Snapshot, txn: &mut Txn| {
                        world.storage.stage_move(view, txn, &acme, &name(claim), &lost, &at, &proof)
                    };
                    prop_assert_eq!(world.commit(moved).is_ok(), live.contains_key(&claim));
                    live.entry(claim).and_modify(|wanted| *wanted = Some(node));
                }
                Step::Detach { claim } => {
                    let from = live.get(&claim).copied().flatten().map_or_else(|| node_of(9), node_of);
                    let done = world.commit(|view, txn| {
                        world.storage.stage_detach(view, txn, &acme, &name(claim), &from)
                    });
                    prop_assert_eq!(done.is_ok(), live.contains_key(&claim));
                    live.entry(claim).and_modify(|wanted| *wanted = None);
                }
                Step::Release { claim } => {
                    let done = world.commit(|view, txn| world.storage.stage_release(view, txn, &acme, &name(claim)));
                    prop_assert_eq!(done.is_ok(), live.remove(&claim).is_some());
                    if done.is_ok() && policies[&claim] {
                        retained += 1;
                    }
                }
                Step::Tick => {
                    block_on(world.controller.tick()).unwrap();
                }
                Step::Killed { polls } => {
                    let mut tick = std::pin::pin!(world.controller.tick());
                    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                    for _ in 0..polls {
                        if tick.as_mut().poll(&mut context).is_ready() {
                            break;
                        }
                    }
                }
            }
            for status in block_on(world.provider.list_volumes(None, 100)).unwrap().items {
                prop_assert!(status.attached_to.len() <= 1, "{} is on two nodes", status.handle);
            }
        }
        world.settle();
        prop_assert_eq!(block_on(world.controller.orphans()).unwrap(), Orphans::default());
        let there: BTreeMap<_, _> = block_on(world.provider.list_volumes(None, 100)).unwrap().items.into_iter()
            .map(|status| {
                let nodes = status.attached_to.iter().map(ToString::to_string).collect::<Vec<_>>();
                (status.key.unwrap().volume.to_string(), nodes)
            })
            .collect();
        let records = world.storage.volumes(&world.view(), &acme).unwrap();
        let wanted = records.iter().map(|volume| {
            let number = volume.claim.as_ref().map(|claim| claim.as_str()[1..].parse::<u8>().unwrap());
            let node = number.and_then(|number| live[&number]);
            (volume.key.volume.to_string(), node.map(|node| node_of(node).to_string()).into_iter().collect())
        });
        prop_assert_eq!(there, wanted.collect::<BTreeMap<_, Vec<String>>>());
        let unclaimed = records.iter().filter(|volume| volume.claim.is_none()).count();
        prop_assert_eq!((records.len() - unclaimed, unclaimed), (live.len(), retained));
    }
}

#[test]
fn a_step_asks_the_store_for_its_record_once() {
    let world = World::new(MemoryProvider::new("memory".parse().unwrap()));
    for name in ["a", "b", "c", "d", "e"] {
        world.commit(|view, txn| world.storage.stage_claim(view, txn, &ctx("acme", 1), &spec(name))).unwrap();
    }
    let store = FaultyStore::new(Arc::new(world.store.clone()), FaultPlan::new(0));
    let mut providers = ProviderRegistry::new();
    providers.add(world.provider.clone()).unwrap();
    let controller = controller(Arc::new(store.clone()), providers, world.clock.clone());
    assert_eq!(block_on(controller.tick()).unwrap().created, 5);
    // Two calls for what there is to do, and for each volume its record and the commit.
    assert_eq!(store.counts().calls, 2 + 2 * 5);
}
