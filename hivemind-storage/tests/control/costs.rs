//! What it costs to change what is charged.

use std::sync::Arc;

use hivemind_core::store::Txn;
use hivemind_core::testkit::CountingStore;
use hivemind_core::{StateStore, block_on, encode};
use hivemind_storage::ProviderRegistry;

use super::quotas::{Charge, Ledger, charged, charges, charging};
use super::world::{World, controller, gib, memory, spec};

#[test]
fn what_a_charge_costs_does_not_grow_with_what_others_are_charged() {
    let costs = |others: u32| {
        let mut world = charging(World::new(memory()));
        for numbers in (0..others).collect::<Vec<_>>().chunks(100) {
            let mut txn = Txn::new();
            for number in numbers {
                let other = charges().key([format!("other{}.1", number % 97), format!("r{number}")]).unwrap();
                txn.put(other, encode(&Charge::of(1)).unwrap());
            }
            block_on(world.store.commit(&txn)).unwrap();
        }
        let counting = CountingStore::new(Arc::new(world.store.clone()));
        let mut providers = ProviderRegistry::new();
        providers.add(world.provider.clone()).unwrap();
        world.controller = controller(Arc::new(counting.clone()), providers, world.clock.clone())
            .with_quota(Arc::new(Ledger::default()));
        let mut read = Vec::new();
        let mut settled = |world: &World| {
            world.settle();
            read.push(counting.take_read());
        };
        world.claim(&spec("data")).unwrap();
        settled(&world);
        let (claim, taken) = ("data".parse().unwrap(), "s".parse().unwrap());
        world.commit(|s, view, txn| s.stage_expand(view, txn, &world.ctx("acme"), &claim, gib(2))).unwrap();
        settled(&world);
        world.commit(|s, view, txn| s.stage_snapshot(view, txn, &world.ctx("acme"), &claim, &taken)).unwrap();
        settled(&world);
        let volume = "data".parse().unwrap();
        world
            .commit(|s, view, txn| s.stage_snapshot_removal(view, txn, &world.ctx("acme"), &volume, &taken))
            .unwrap();
        settled(&world);
        world.release("data").unwrap();
        settled(&world);
        assert_eq!(charged(&world), u64::from(others), "all of it is given back, and nothing else");
        read
    };
    let few = costs(10);
    assert!(few.iter().all(|read| *read < 30), "{few:?}");
    assert_eq!(costs(10_000), few);
}
