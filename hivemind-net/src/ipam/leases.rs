//! Who has what, by number and by name. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hivemind_core::{RequestId, WorkloadId};

use super::Pair;
use super::table::{Entry, Table};
use crate::slab::Slab;

/// What an owner has, of which request.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) owner: WorkloadId,
    pub(super) request: RequestId,
    pub(super) pair: Pair,
}

/// All leases. The table of names has numbers of leases and hashes of 32 bits: it grows without a look at any lease, and is a
/// tenth of what a table of the leases would be.
#[derive(Debug, Clone, Default)]
pub(super) struct Leases {
    leases: Slab<Lease>,
    by_owner: Table<Named>,
    hasher: RandomState,
}

/// The hash of an owner's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash(u32);

#[derive(Debug, Clone, Copy)]
struct Named {
    hash: Hash,
    slot: u32,
}

impl Entry for Named {
    const NONE: Self = Self { hash: Hash(0), slot: u32::MAX };

    fn is_none(&self) -> bool {
        self.slot == u32::MAX
    }
}

impl Named {
    fn place(&self) -> u64 {
        self.hash.0.into()
    }
}

impl Leases {
    pub(super) fn restore(held: BTreeMap<WorkloadId, (Pair, RequestId)>) -> Self {
        let mut all = Self::default();
        all.leases.reserve(held.len());
        all.by_owner.reserve(held.len(), Named::place);
        for (owner, (pair, request)) in held {
            all.insert(all.hash(&owner), Lease { owner, request, pair });
        }
        all
    }

    #[expect(clippy::cast_possible_truncation, reason = "a hash may be cut")]
    pub(super) fn hash(&self, owner: &WorkloadId) -> Hash {
        Hash(self.hasher.hash_one(owner) as u32)
    }

    /// Brings what [`find`](Self::find) will need into the caches, and does not wait for it.
    pub(super) fn touch(&self, hash: Hash) {
        self.by_owner.touch(hash.0.into());
    }

    /// The number of an owner's lease.
    pub(super) fn find(&self, hash: Hash, owner: &WorkloadId) -> Option<u32> {
        let same = |slot| self.leases.get(slot).is_some_and(|lease| lease.owner == *owner);
        let found = self.by_owner.find(hash.0.into(), |named| named.hash == hash && same(named.slot));
        found.map(|named| named.slot)
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Lease> {
        self.leases.get(slot)
    }

    /// Enters the lease of an owner who has none; `None` if there is no number left for it.
    pub(super) fn insert(&mut self, hash: Hash, lease: Lease) -> Option<u32> {
        if self.leases.is_full() {
            return None;
        }
        let slot = self.leases.insert(lease);
        self.by_owner.update(hash.0.into(), |_| false, Named::place, |_| Named { hash, slot });
        Some(slot)
    }

    pub(super) fn remove(&mut self, hash: Hash, slot: u32) {
        self.by_owner.update(hash.0.into(), |named| named.slot == slot, Named::place, |_| Named::NONE);
        self.leases.remove(slot);
    }

    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    /// All, each with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Lease)> {
        self.leases.iter()
    }

    /// All, as data.
    pub(super) fn state(&self) -> BTreeMap<WorkloadId, (Pair, RequestId)> {
        let all = self.leases.iter().map(|(_, lease)| lease);
        all.map(|lease| (lease.owner.clone(), (lease.pair, lease.request.clone()))).collect()
    }
}
