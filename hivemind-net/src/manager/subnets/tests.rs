//! How many steps a subnet takes, by the number of nodes: counted, not timed.

use std::cell::Cell;
use std::sync::Arc;

use hivemind_core::store::{Record, Revision, Write};
use hivemind_core::{
    Generation, ManualClock, MemoryStore, Principal, Stored, TenantContext, TenantRef, encode,
};

use super::*;
use crate::IpamManager;
use crate::records::{Keys, Pools};

thread_local! {
    static LOOKUPS: Cell<usize> = const { Cell::new(0) };
}

/// Notes that a record was looked up.
pub(super) fn looked_up() {
    LOOKUPS.with(|count| count.set(count.get() + 1));
}

fn ctx() -> TenantContext {
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    TenantContext::new(tenant, Principal::System("test".parse().unwrap()), "r".parse().unwrap())
}

fn record<T: Stored>(key: Key, value: &T) -> Record {
    Record::new(key, encode(value).unwrap(), Revision::new(1), Revision::new(1))
}

/// A pool of which the first `nodes` subnets of each family are taken, but for every `hole`th.
fn view(nodes: usize, hole: usize) -> hivemind_core::store::Snapshot {
    let config =
        NetworkConfig::dual_stack("10.0.0.0/8".parse().unwrap(), "fd00::/32".parse().unwrap()).unwrap();
    let keys = Keys::of(&ctx());
    let mut records = Vec::new();
    for family in config.families() {
        let mut regions: Vec<Region> = Vec::new();
        let first = family.cidrs().next().unwrap();
        for n in (0..nodes).filter(|n| hole == 0 || n % hole != 0) {
            let subnet = first.subnet(n as u128, family.node_prefix()).unwrap();
            let SubnetNumber { region, slot } = SubnetNumber::of(subnet);
            if regions.last().is_none_or(|last| last.number != region) {
                regions.push(Region::new(region));
            }
            let last = regions.last_mut().unwrap();
            last.taken.insert(slot, Some(format!("node-{n}").parse().unwrap()));
            last.next = slot.wrapping_add(1);
        }
        let index = Index::of(&config, family, &regions);
        records.push(record(keys.index(config.name(), family.family()).unwrap(), &index));
        for region in &regions {
            let key = keys.region(config.name(), family.family(), region.number).unwrap();
            records.push(record(key, region));
        }
    }
    let mut pools = Pools::default();
    pools.pools.insert(config.name().clone(), config);
    records.push(record(keys.pools().unwrap(), &pools));
    hivemind_core::store::Snapshot::new(Revision::new(1), records)
}

/// Look-ups, guards, writes, and bytes written, to give one more node its subnets.
fn cost(nodes: usize, hole: usize) -> (usize, usize, usize, usize) {
    let ipam = IpamManager::new(Arc::new(MemoryStore::new()), Arc::new(ManualClock::default()));
    let (view, mut txn) = (view(nodes, hole), hivemind_core::store::Txn::new());
    let (pool, node) = ("default".parse().unwrap(), "new".parse().unwrap());
    LOOKUPS.with(|count| count.set(0));
    let state = ipam.stage_node_subnets(&view, &mut txn, &ctx(), (&pool, &node)).unwrap();
    assert_eq!((state.v4.len(), state.v6.len()), (1, 1));
    let bytes = txn.writes().map(|(_, write)| if let Write::Put(value) = write { value.len() } else { 0 });
    let bytes = bytes.sum();
    (LOOKUPS.with(Cell::get), txn.guards().count(), txn.writes().count(), bytes)
}

#[test]
fn pitfall_07_a_node_subnet_takes_as_many_steps_from_one_node_to_100_000() {
    for hole in [0, 2, 200] {
        // The region that is looked at is full but for one, so that its record is of the same size.
        let costs = [1_023, 10_239, 100_095].map(|nodes| cost(nodes, hole));
        let (lookups, guards, writes, bytes) = costs[0];
        assert!(lookups <= 4 && guards <= 6 && writes <= 5, "{costs:?}");
        for (more_lookups, more_guards, more_writes, more_bytes) in costs {
            assert_eq!((more_lookups, more_guards, more_writes), (lookups, guards, writes), "{costs:?}");
            // Names grow by a few digits; an index of regions with holes by a number each.
            assert!(more_bytes <= bytes + 30 * (1 + 100_000 / 256), "{costs:?}");
        }
        if hole == 0 {
            assert!(costs[2].3 <= bytes + 2 * 3 * 256, "{costs:?}");
        }
    }
    let few = cost(1, 0);
    assert!(few.0 <= 4 && few.1 <= 6 && few.2 <= 5, "{few:?}");
}
