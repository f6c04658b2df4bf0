//! What is charged is what there is, and nothing is left when nothing is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hivemind_core::resources::Resources;
use hivemind_core::store::{Guard, Prefix, Snapshot, Txn};
use hivemind_core::{
    Collection, Error, ErrorKind, MemoryStore, OpToken, QuotaGate, ReservationId, Result, StateStore, Stored,
    TenantContext, block_on,
};
use hivemind_storage::{
    MemoryProvider, ProviderRegistry, ReclaimPolicy, SizeRange, StorageManager, StorageProvider, Volume,
    VolumePhase,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::world::{World, controller, gib, memory, spec};

/// A quota that keeps a record of each charge: without limits, or with one for each charge.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    each: Option<u64>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
pub(crate) struct Charge(u64);

impl Charge {
    pub(crate) fn of(bytes: u64) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0
    }
}

impl Stored for Charge {
    const KIND: &'static str = "charge";
}

pub(crate) fn charges() -> Collection<Charge> {
    Collection::new(Prefix::new(["charges"]).unwrap())
}

impl QuotaGate for Ledger {
    fn reserve(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        amount: &Resources,
    ) -> Result<()> {
        let charge = Charge(amount.storage().as_bytes());
        if self.each.is_some_and(|most| charge.0 > most) {
            return Err(Error::new(ErrorKind::QuotaExceeded, "reserve", "too much"));
        }
        let at = charges().key([ctx.tenant().to_string().as_str(), id.as_str()])?;
        match charges().get(view, txn, &at)? {
            Some(there) if *there.value == charge => charges().expect(txn, &there),
            Some(_) => {
                Err(Error::new(ErrorKind::AlreadyExists, "reserve", format!("{id} is charged otherwise")))
            }
            None => charges().create(view, txn, at, &charge),
        }
    }

    fn settle(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        amount: &Resources,
    ) -> Result<()> {
        let at = charges().key([ctx.tenant().to_string().as_str(), id.as_str()])?;
        let there = charges().require(view, txn, &at)?;
        charges().update(txn, &there, &Charge(amount.storage().as_bytes()))
    }

    fn release(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext, id: &ReservationId) -> Result<()> {
        let at = charges().key([ctx.tenant().to_string().as_str(), id.as_str()])?;
        let there = charges().require(view, txn, &at)?;
        charges().delete(txn, &there)
    }
}

#[test]
fn what_a_provider_rounds_up_is_charged_whether_it_fits_or_not() {
    let mut world = charging(World::new(memory().in_steps_of(gib(4))));
    world.storage = StorageManager::new([super::world::name()])
        .with_quota(Arc::new(Ledger { each: Some(gib(2).as_bytes()) }));
    for name in ["one", "two"] {
        world.ready(name);
    }
    assert_eq!((world.volume("one").size, charged(&world)), (gib(4), gib(8).as_bytes()));
    let expand = |to: u64| {
        world.commit(|s, view, txn| {
            s.stage_expand(view, txn, &world.ctx("acme"), &"one".parse().unwrap(), gib(to))
        })
    };
    assert_eq!(expand(7).unwrap_err().kind(), ErrorKind::QuotaExceeded);
    expand(5).unwrap();
    world.settle();
    assert_eq!((world.volume("one").size, charged(&world)), (gib(8), gib(12).as_bytes()));
}

#[test]
fn a_snapshot_of_what_grew_before_it_was_cut_is_charged_for_what_it_came_to() {
    for group in [false, true] {
        let world = charging(World::new(memory()));
        world.ready("data");
        let made = world.volume("data").made().unwrap();
        let (claim, taken) = ("data".parse().unwrap(), "s".parse().unwrap());
        world
            .commit(|s, view, txn| match group {
                true => s.stage_group_snapshot(
                    view,
                    txn,
                    &world.ctx("acme"),
                    &taken,
                    std::slice::from_ref(&claim),
                ),
                false => s.stage_snapshot(view, txn, &world.ctx("acme"), &claim, &taken),
            })
            .unwrap();
        // Its provider grows it first.
        let size = SizeRange::at_least(gib(3)).unwrap();
        let _ = block_on(world.provider.expand_volume(&OpToken::new("by hand"), &made, size)).unwrap();
        assert_eq!(charged(&world), gib(2).as_bytes());
        world.settle();
        assert_eq!(charged(&world), gib(4).as_bytes());
        let volume = "data".parse().unwrap();
        world
            .commit(|s, view, txn| match group {
                true => s.stage_group_removal(view, txn, &world.ctx("acme"), &taken),
                false => s.stage_snapshot_removal(view, txn, &world.ctx("acme"), &volume, &taken),
            })
            .unwrap();
        world.settle();
        assert_eq!(charged(&world), gib(1).as_bytes());
    }
}

/// A world in which everything is charged to a [`Ledger`].
pub(crate) fn charging(mut world: World) -> World {
    let quota = Arc::new(Ledger::default());
    world.storage = StorageManager::new([super::world::name()]).with_quota(quota.clone());
    world.controller = world.controller.with_quota(quota);
    world
}

pub(crate) fn charged(world: &World) -> u64 {
    let all = charges().list(&world.view(), &Txn::new(), charges().prefix()).unwrap();
    all.iter().map(|charge| charge.value.0).sum()
}

#[derive(Debug, Clone)]
enum Act {
    Claim { claim: u8, size: u64, keep: u8 },
    Grow { claim: u8, to: u64 },
    Snapshot { claim: u8, name: u8 },
    Unsnapshot { volume: u8, name: u8 },
    Release { claim: u8 },
    Remove { volume: u8 },
    Expire,
    Tick,
}

fn act() -> impl Strategy<Value = Act> {
    let some = 0u8..3;
    prop_oneof![
        4 => (some.clone(), 1u64..4, 0u8..3).prop_map(|(claim, size, keep)| Act::Claim { claim, size, keep }),
        2 => (some.clone(), 1u64..8).prop_map(|(claim, to)| Act::Grow { claim, to }),
        1 => (some.clone(), 0u8..2).prop_map(|(claim, name)| Act::Snapshot { claim, name }),
        1 => (some.clone(), 0u8..2).prop_map(|(volume, name)| Act::Unsnapshot { volume, name }),
        3 => some.clone().prop_map(|claim| Act::Release { claim }),
        2 => some.prop_map(|volume| Act::Remove { volume }),
        1 => Just(Act::Expire),
        4 => Just(Act::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The reference adds up the records: each volume at the larger of what it has and is to have, and each snapshot. What
    /// was to be larger before, when a provider may have begun, may stay charged until the growth has ended.
    #[test]
    fn what_is_charged_is_what_there_is(acts in prop::collection::vec(act(), 1..40)) {
        let world = charging(World::new(memory().delaying_one_in(3)));
        let name = |kind: &str, number: u8| format!("{kind}{number}");
        let mut lowered = std::collections::BTreeSet::new();
        for (number, act) in acts.into_iter().enumerate() {
            let ctx = world.ctx("acme").with_request(format!("q{number}").parse().unwrap());
            let claim_of = |claim: u8| name("c", claim).parse().unwrap();
            if let Act::Grow { claim, to } = act {
                let all = world.storage.volumes(&world.view(), &ctx).unwrap();
                let of = all.into_iter().filter(|volume| volume.claim == Some(claim_of(claim)));
                let lower = of.filter(|volume| volume.growth.as_ref().is_some_and(|growth| growth.to > gib(to)));
                lowered.extend(lower.map(|volume| volume.key.volume.clone()));
            }
            let _ = world.commit(|s, view, txn| match act {
                Act::Claim { claim, size, keep } => {
                    let mut wish = spec(&name("c", claim));
                    wish.size = gib(size);
                    let kept = [ReclaimPolicy::Delete, ReclaimPolicy::Retain, ReclaimPolicy::archive()];
                    s.stage_claim(view, txn, &ctx, &wish.with_reclaim(kept[usize::from(keep)]))
                }
                Act::Grow { claim, to } => s.stage_expand(view, txn, &ctx, &claim_of(claim), gib(to)),
                Act::Snapshot { claim, name: taken } => {
                    s.stage_snapshot(view, txn, &ctx, &claim_of(claim), &name("s", taken).parse().unwrap())
                }
                Act::Unsnapshot { volume, name: taken } => {
                    let volume = name("c", volume).parse().unwrap();
                    s.stage_snapshot_removal(view, txn, &ctx, &volume, &name("s", taken).parse().unwrap())
                }
                Act::Release { claim } => s.stage_release(view, txn, &ctx, &claim_of(claim)),
                Act::Remove { volume } => {
                    s.stage_volume_removal(view, txn, &ctx, &name("c", volume).parse().unwrap())
                }
                Act::Expire | Act::Tick => Ok(()),
            });
            match act {
                Act::Tick => drop(block_on(world.controller.tick()).unwrap()),
                Act::Expire => world.clock.advance(Duration::from_secs(4 * 24 * 3600)),
                _ => {}
            }
            if let Act::Tick = act {
                // Where nothing grows any more, what is charged is what there is.
                let grows = |volume: &Volume| volume.growth.as_ref().is_some_and(|growth| !growth.on_node);
                let all = world.storage.volumes(&world.view(), &ctx).unwrap();
                let growing = all.iter().filter(|volume| grows(volume)).map(|volume| &volume.key.volume);
                let growing: std::collections::BTreeSet<_> = growing.cloned().collect();
                lowered.retain(|volume| growing.contains(volume));
            }
            let (view, acme) = (world.view(), world.ctx("acme"));
            let mut expected = 0;
            for volume in world.storage.volumes(&view, &acme).unwrap() {
                let wanted = volume.growth.as_ref().map_or(volume.size, |growth| growth.to.max(volume.size));
                prop_assert!(volume.charged >= wanted, "{volume:?}");
                // What is being deleted stays charged, and its growth may have begun.
                if !lowered.contains(&volume.key.volume) && volume.phase != VolumePhase::Deleting {
                    prop_assert_eq!(volume.charged, wanted);
                }
                expected += volume.charged.as_bytes();
            }
            for snapshot in world.storage.snapshots(&view, &acme).unwrap() {
                expected += snapshot.size.as_bytes();
            }
            prop_assert_eq!(charged(&world), expected);
            prop_assert!(there(&world.provider) <= expected, "the provider has more than is charged");
        }
        // All that is left can be taken away, and then nothing is charged.
        for round in 0..50 {
            let ctx = world.ctx("acme").with_request(format!("end{round}").parse().unwrap());
            for claim in world.storage.claims(&world.view(), &Txn::new(), &ctx).unwrap() {
                world.commit(|s, view, txn| s.stage_release(view, txn, &ctx, &claim.spec.id)).unwrap();
            }
            world.settle();
            for volume in world.storage.volumes(&world.view(), &ctx).unwrap() {
                let volume = &volume.key.volume;
                world.commit(|s, view, txn| s.stage_volume_removal(view, txn, &ctx, volume)).unwrap();
            }
            for snapshot in world.storage.snapshots(&world.view(), &ctx).unwrap() {
                let (volume, name) = (&snapshot.key.volume.volume, &snapshot.key.snapshot);
                world.commit(|s, view, txn| s.stage_snapshot_removal(view, txn, &ctx, volume, name)).unwrap();
            }
            world.settle();
        }
        prop_assert_eq!(charged(&world), 0);
        prop_assert_eq!(world.there(), (0, 0));
    }
}

#[test]
fn a_growth_that_was_lowered_costs_what_it_came_to() {
    let world = charging(World::new(memory().with_capacity(gib(4))));
    world.ready("data");
    let claim = "data".parse().unwrap();
    let expand = |size| {
        world
            .commit(|s, view, txn| s.stage_expand(view, txn, &world.ctx("acme"), &claim, gib(size)))
            .unwrap();
    };
    expand(9);
    let _ = block_on(world.controller.tick()).unwrap();
    expand(3);
    // The larger one may have begun.
    assert_eq!(charged(&world), gib(9).as_bytes());
    world.settle();
    assert_eq!((world.volume("data").size, charged(&world)), (gib(3), gib(3).as_bytes()));
    // A wish that is taken back, too.
    expand(9);
    expand(3);
    world.settle();
    assert_eq!(charged(&world), gib(3).as_bytes());
    // It grows from there, and all of it is given back in the end.
    expand(4);
    world.settle();
    assert_eq!(charged(&world), gib(4).as_bytes());
    world.release("data").unwrap();
    world.settle();
    assert_eq!(charged(&world), 0);
}

/// How much is at the provider, in volumes and snapshots together.
pub(crate) fn there(provider: &MemoryProvider) -> u64 {
    let volumes = block_on(provider.list_volumes(None, 1000)).unwrap().items;
    let snapshots = block_on(provider.list_snapshots(None, 1000)).unwrap().items;
    let sizes = volumes.iter().map(|one| one.size).chain(snapshots.iter().map(|one| one.size));
    sizes.map(|size| size.as_bytes()).sum()
}

#[test]
fn what_is_deleted_is_charged_until_its_provider_has_let_go_of_it() {
    // Each call is pending at first.
    let world = charging(World::new(memory().delaying_one_in(1)));
    for name in ["data", "log"] {
        world.ready(name);
    }
    let acme = || world.ctx("acme");
    let (volume, alone, both) = ("data".parse().unwrap(), "alone".parse().unwrap(), "both".parse().unwrap());
    let claims = ["data".parse().unwrap(), "log".parse().unwrap()];
    world.commit(|s, view, txn| s.stage_snapshot(view, txn, &acme(), &claims[0], &alone)).unwrap();
    world.commit(|s, view, txn| s.stage_group_snapshot(view, txn, &acme(), &both, &claims)).unwrap();
    world.settle();
    assert_eq!(charged(&world), gib(5).as_bytes());
    world.commit(|s, view, txn| s.stage_snapshot_removal(view, txn, &acme(), &volume, &alone)).unwrap();
    world.commit(|s, view, txn| s.stage_group_removal(view, txn, &acme(), &both)).unwrap();
    for name in ["data", "log"] {
        world.release(name).unwrap();
    }
    assert_eq!(charged(&world), gib(5).as_bytes(), "nothing of it is gone yet");
    let _ = block_on(world.controller.tick()).unwrap();
    assert_eq!((charged(&world), there(&world.provider)), (gib(5).as_bytes(), gib(5).as_bytes()));
    world.settle();
    assert_eq!((charged(&world), there(&world.provider)), (0, 0));
}

#[test]
fn an_archived_volume_is_charged_until_it_is_gone() {
    let world = charging(World::new(memory()));
    world.claim(&spec("data").with_reclaim(ReclaimPolicy::archive())).unwrap();
    world.settle();
    world.release("data").unwrap();
    world.settle();
    assert_eq!(charged(&world), gib(1).as_bytes());
    world.clock.advance(Duration::from_secs(30 * 24 * 3600));
    world.settle();
    assert_eq!((charged(&world), world.there()), (0, (0, 0)));
}

#[test]
fn a_request_that_comes_again_while_its_volume_goes_is_charged_for_itself() {
    let world = charging(World::new(memory().delaying_one_in(1)));
    let ctx = world.ctx("acme").with_request("again".parse().unwrap());
    let claim = || world.commit(|s, view, txn| s.stage_claim(view, txn, &ctx, &spec("data"))).unwrap();
    let grow = || {
        let claim = "data".parse().unwrap();
        world.commit(|s, view, txn| s.stage_expand(view, txn, &ctx, &claim, gib(3))).unwrap();
    };
    claim();
    world.settle();
    grow();
    world.settle();
    world.release("data").unwrap();
    claim();
    assert_eq!(charged(&world), gib(4).as_bytes());
    let _ = block_on(world.controller.tick()).unwrap();
    world.clock.advance(Duration::from_secs(60));
    let _ = block_on(world.controller.tick()).unwrap();
    grow();
    world.settle();
    assert_eq!(charged(&world), gib(3).as_bytes(), "what went was charged for itself");
    world.release("data").unwrap();
    world.settle();
    assert_eq!(charged(&world), 0);
}

/// A quota that somebody else is charged by, whenever something is given back.
#[derive(Debug)]
struct Busy {
    store: MemoryStore,
    others: AtomicU64,
}

impl QuotaGate for Busy {
    fn reserve(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        amount: &Resources,
    ) -> Result<()> {
        Ledger::default().reserve(view, txn, ctx, id, amount)
    }

    fn settle(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        amount: &Resources,
    ) -> Result<()> {
        Ledger::default().settle(view, txn, ctx, id, amount)
    }

    fn release(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext, id: &ReservationId) -> Result<()> {
        let sum = charges().key(["sum"])?;
        let known = charges().get(view, txn, &sum)?;
        match &known {
            Some(known) => charges().expect(txn, known)?,
            None => txn.guard(&sum, Guard::Absent)?,
        }
        if self.others.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            let mut other = Txn::new();
            other.put(sum, hivemind_core::encode(&Charge(0))?);
            block_on(self.store.commit(&other))?;
        }
        Ledger::default().release(view, txn, ctx, id)
    }
}

#[test]
fn whoever_else_is_charged_meanwhile_makes_no_second_call() {
    let mut world = charging(World::new(memory()));
    let busy = Arc::new(Busy { store: world.store.clone(), others: AtomicU64::new(9) });
    world.controller = world.controller.clone().with_quota(busy.clone());
    world.ready("data");
    let calls = world.provider.calls();
    world.release("data").unwrap();
    let report = block_on(world.controller.tick()).unwrap();
    assert_eq!((report.deleted, report.failed, world.provider.calls()), (1, 0, calls + 1));
    assert_eq!((charged(&world), busy.others.load(Ordering::SeqCst)), (0, 0));
}

#[test]
fn without_the_quota_nothing_that_is_charged_is_forgotten() {
    let mut world = charging(World::new(memory()));
    let knowing = world.controller.clone();
    let mut providers = ProviderRegistry::new();
    providers.add(world.provider.clone()).unwrap();
    world.controller = controller(Arc::new(world.store.clone()), providers, world.clock.clone());
    world.ready("data");
    world.release("data").unwrap();
    for _ in 0..3 {
        let _ = block_on(world.controller.tick()).unwrap();
        world.clock.advance(Duration::from_secs(600));
    }
    assert_eq!((charged(&world), world.there()), (gib(1).as_bytes(), (0, 0)));
    world.controller = knowing;
    world.settle();
    assert_eq!(charged(&world), 0);
    assert!(world.storage.volumes(&world.view(), &world.ctx("acme")).unwrap().is_empty());
}
