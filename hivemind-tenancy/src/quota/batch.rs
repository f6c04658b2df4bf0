//! Where a reservation is: in a record of its own, or with others in one. No I/O, no clock, no async.
//!
//! Both are the same to every decision. Many in one record are what lets one transaction hold thousands.

mod wire;

use std::collections::BTreeMap;

use hivemind_core::store::{Key, Revision, Snapshot, Txn};
use hivemind_core::{Collection, Error, ErrorKind, ReservationId, Result, Stamped, Stored, TenantRef};
use serde::Deserialize;

use super::ledger::{Reservation, reservation_key, reservations};
use super::node_slices::slices_of;

/// The most reservations in one record: what a release of one of them has to write again.
pub(crate) const BATCH_SIZE: usize = 128;

/// Reservations of one tenant that were charged together and are not given back yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "wire::Wire")]
pub(crate) struct Batch {
    pub(crate) reservations: BTreeMap<ReservationId, Reservation>,
}

impl Stored for Batch {
    const KIND: &'static str = "batch of reservations";
}

pub(crate) fn batches() -> Result<Collection<Batch>> {
    crate::collection("batches")
}

/// The key of a batch of `tenant`; `name` is unique among its batches.
pub(crate) fn batch_key(tenant: &TenantRef, name: &str) -> Result<Key> {
    batches()?.key([tenant.to_string().as_str(), name])
}

/// A live reservation, wherever it is.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) id: ReservationId,
    value: Reservation,
    /// The transaction that last put the record it is in.
    pub(crate) revision: Option<Revision>,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Alone(Stamped<Reservation>),
    Batch(Key),
}

impl std::ops::Deref for Held {
    type Target = Reservation;
    fn deref(&self) -> &Reservation {
        &self.value
    }
}

impl Held {
    pub(super) fn alone(id: ReservationId, found: Stamped<Reservation>) -> Self {
        Self { id, value: (*found.value).clone(), revision: found.revision, place: Place::Alone(found) }
    }

    fn of_batch(id: &ReservationId, batch: &Stamped<Batch>) -> Option<Self> {
        let value = batch.reservations.get(id)?.clone();
        Some(Self {
            id: id.clone(),
            value,
            revision: batch.revision,
            place: Place::Batch(batch.stored_at.clone()),
        })
    }

    /// The reservation `id`, if it is in the record at `key`.
    pub(crate) fn at(view: &Snapshot, txn: &Txn, id: &ReservationId, key: &Key) -> Result<Option<Self>> {
        if key.as_bytes().starts_with(reservations()?.prefix().as_bytes()) {
            return Ok(reservations()?.get(view, txn, key)?.map(|found| Self::alone(id.clone(), found)));
        }
        Ok(batches()?.get(view, txn, key)?.and_then(|batch| Self::of_batch(id, &batch)))
    }

    /// Stages the demand that it is still so when the transaction commits.
    pub(crate) fn expect(&self, view: &Snapshot, txn: &mut Txn) -> Result<()> {
        match &self.place {
            Place::Alone(found) => reservations()?.expect(txn, found),
            Place::Batch(key) => {
                let batch = batches()?.require(view, txn, key)?;
                batches()?.expect(txn, &batch)
            }
        }
    }

    /// Stages `new` in its place.
    pub(crate) fn replace(&self, view: &Snapshot, txn: &mut Txn, new: &Reservation) -> Result<()> {
        match &self.place {
            Place::Alone(found) => reservations()?.update(txn, found, new),
            Place::Batch(key) => {
                let old = batches()?.require(view, txn, key)?;
                let mut batch = (*old.value).clone();
                batch.reservations.insert(self.id.clone(), new.clone());
                batches()?.update(txn, &old, &batch)
            }
        }
    }
}

/// Stages the removal of `gone`: each record they are in is written once.
pub(crate) fn remove(view: &Snapshot, txn: &mut Txn, gone: &[Held]) -> Result<()> {
    let mut of_batches: BTreeMap<&Key, Vec<&ReservationId>> = BTreeMap::new();
    for one in gone {
        match &one.place {
            Place::Alone(found) => reservations()?.delete(txn, found)?,
            Place::Batch(key) => of_batches.entry(key).or_default().push(&one.id),
        }
    }
    for (key, ids) in of_batches {
        let old = batches()?.require(view, txn, key)?;
        let mut batch = (*old.value).clone();
        for id in ids {
            batch.reservations.remove(id);
        }
        if batch.reservations.is_empty() {
            batches()?.delete(txn, &old)?;
        } else {
            batches()?.update(txn, &old, &batch)?;
        }
    }
    Ok(())
}

/// Stages the second of each pair in place of the first: each record they are in is written once.
pub(crate) fn replace_all(view: &Snapshot, txn: &mut Txn, changes: &[(Held, Reservation)]) -> Result<()> {
    let mut of_batches: BTreeMap<&Key, Vec<(&ReservationId, &Reservation)>> = BTreeMap::new();
    for (old, new) in changes {
        match &old.place {
            Place::Alone(found) => reservations()?.update(txn, found, new)?,
            Place::Batch(key) => of_batches.entry(key).or_default().push((&old.id, new)),
        }
    }
    for (key, of_batch) in of_batches {
        let old = batches()?.require(view, txn, key)?;
        let mut batch = (*old.value).clone();
        batch.reservations.extend(of_batch.into_iter().map(|(id, new)| (id.clone(), new.clone())));
        batches()?.update(txn, &old, &batch)?;
    }
    Ok(())
}

/// The live reservation `id` of the tenant itself.
pub(crate) fn find(
    view: &Snapshot,
    txn: &Txn,
    tenant: &TenantRef,
    id: &ReservationId,
) -> Result<Option<Held>> {
    if let Some(found) = reservations()?.get(view, txn, &reservation_key(tenant, id)?)? {
        return Ok(Some(Held::alone(id.clone(), found)));
    }
    let all = batches()?.list(view, txn, &batches()?.below([tenant.to_string()])?)?;
    Ok(all.iter().find_map(|batch| Held::of_batch(id, batch)))
}

/// Every live reservation of one tenant, without those below it.
pub(crate) fn reservations_of(view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<Vec<Held>> {
    let mut all = Vec::new();
    for found in reservations()?.list(view, txn, &reservations()?.below([tenant.to_string()])?)? {
        let id = String::from_utf8_lossy(found.stored_at.last()).into_owned();
        let id = id.parse().map_err(|e| Error::of(ErrorKind::Corrupt, "quota", e))?;
        all.push(Held::alone(id, found));
    }
    for batch in batches()?.list(view, txn, &batches()?.below([tenant.to_string()])?)? {
        all.extend(batch.reservations.keys().filter_map(|id| Held::of_batch(id, &batch)));
    }
    Ok(all)
}

/// Everything that one tenant has charged, without those below it: reservations, and slices of nodes.
pub(crate) fn charges_of(view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<Vec<Held>> {
    let mut all = reservations_of(view, txn, tenant)?;
    all.extend(slices_of(view, txn, tenant)?);
    Ok(all)
}
