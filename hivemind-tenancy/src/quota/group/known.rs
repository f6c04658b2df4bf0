//! Which reservations the tenants have that a group serves: a copy that is true while the ledger stays the same.
//!
//! Whatever changes the reservations of a tenant writes its ledger. So one record that is read tells whether
//! everything that is known of the tenant still holds.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::store::{Guard, Key, Prefix, Record, Revision, Snapshot, Staged, Txn, Write};
use hivemind_core::{Error, ErrorKind, ReservationId, Result, StateStore, StateStoreExt, TenantRef};

use super::plan::{Ask, Plan};
use crate::quota::batch::{batches, reservations_of};
use crate::quota::books::spec_key;
use crate::quota::ledger::{ledger_key, reservations};
use crate::tenant::{key, tenants};

/// How many tenants are kept in mind.
const TENANTS: usize = 64;

#[derive(Debug, Default)]
struct Of {
    ledger: Option<Revision>,
    places: BTreeMap<ReservationId, Key>,
    records: BTreeMap<Key, Record>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<TenantRef, Of>);

type Records = BTreeMap<Key, Record>;

/// Where the reservations of a tenant are.
fn prefixes(tenant: &TenantRef) -> Result<[Prefix; 2]> {
    Ok([reservations()?.below([tenant.to_string()])?, batches()?.below([tenant.to_string()])?])
}

impl Known {
    /// In which record a reservation is.
    pub(super) fn place(&self, tenant: &TenantRef, id: &ReservationId) -> Option<Key> {
        self.0.get(tenant)?.places.get(id).cloned()
    }

    /// Reads what is needed to decide `asks`, all as of one revision, and brings what is known up to it.
    ///
    /// # Errors
    /// Those of the store; [`ErrorKind::Corrupt`] if a reservation cannot be read.
    pub(super) async fn view(&mut self, store: &dyn StateStore, asks: &[Ask]) -> Result<Snapshot> {
        let revision = store.revision().await?;
        let mut records = Records::new();
        let wanted: BTreeSet<&TenantRef> = asks.iter().map(|ask| ask.ctx.tenant()).collect();
        if self.0.len() > TENANTS {
            self.0.retain(|tenant, _| wanted.contains(tenant));
        }
        for tenant in wanted {
            read_chain(store, revision, tenant, &mut records).await?;
            let ledger = records.get(&ledger_key(tenant)?).map(|record| record.mod_revision);
            if ledger.is_none() || self.0.get(tenant).is_none_or(|known| known.ledger != ledger) {
                self.0.remove(tenant);
                self.0.insert(tenant.clone(), read_all(store, revision, tenant, ledger).await?);
            }
        }
        for ask in asks {
            let Some(known) = self.0.get(ask.ctx.tenant()) else { continue };
            let record = known.places.get(ask.operation.id()).and_then(|key| known.records.get(key));
            records.extend(record.map(|record| (record.key.clone(), record.clone())));
        }
        Ok(Snapshot::new(revision, records.into_values()))
    }

    /// Takes over what `plan` changed when it was committed at `revision`.
    ///
    /// # Errors
    /// None in practice: the keys were made before.
    pub(super) fn settle(&mut self, plan: &Plan, revision: Revision) -> Result<()> {
        let guards: BTreeMap<&Key, Guard> = plan.txn.guards().collect();
        for (tenant, known) in &mut self.0 {
            let ledger = ledger_key(tenant)?;
            let was = known.ledger.map_or(Guard::Absent, Guard::Unchanged);
            // Else somebody else changed it before, and it is read anew when it is needed.
            if guards.get(&ledger) == Some(&was) && !matches!(plan.txn.staged(&ledger), Staged::Untouched) {
                known.ledger = Some(revision);
                known.take_over(&plan.txn, tenant, revision)?;
            }
        }
        for (tenant, id, place) in &plan.moved {
            let Some(known) = self.0.get_mut(tenant) else { continue };
            match place {
                Some(key) => known.places.insert(id.clone(), key.clone()),
                None => known.places.remove(id),
            };
        }
        Ok(())
    }
}

impl Of {
    fn take_over(&mut self, txn: &Txn, tenant: &TenantRef, revision: Revision) -> Result<()> {
        let prefixes = prefixes(tenant)?;
        for (key, write) in txn.writes().filter(|(key, _)| prefixes.iter().any(|prefix| prefix.covers(key))) {
            match write {
                Write::Put(value) => {
                    let record = Record::new(key.clone(), value.clone(), revision, revision);
                    self.records.insert(key.clone(), record);
                }
                Write::Delete => {
                    self.records.remove(key);
                }
            }
        }
        Ok(())
    }
}

/// Reads the tenant and those above it, with their limits and ledgers.
async fn read_chain(
    store: &dyn StateStore,
    at: Revision,
    tenant: &TenantRef,
    records: &mut Records,
) -> Result<()> {
    let mut next = Some(tenant.clone());
    while let Some(tenant) = next.take() {
        let own = key(&tenant.id)?;
        if records.contains_key(&own) {
            return Ok(());
        }
        for key in [own.clone(), spec_key(&tenant)?, ledger_key(&tenant)?] {
            if let Some(record) = store.get(&key, Some(at)).await? {
                records.insert(key, record);
            }
        }
        let Some(record) = records.get(&own) else { return Ok(()) };
        let alone = Snapshot::new(at, [record.clone()]);
        // One that cannot be read is found again, and told, by whoever decides.
        let found = tenants()?.get(&alone, &Txn::new(), &own).ok().flatten();
        next = found.and_then(|tenant| tenant.parent.clone());
    }
    Ok(())
}

async fn read_all(
    store: &dyn StateStore,
    at: Revision,
    tenant: &TenantRef,
    ledger: Option<Revision>,
) -> Result<Of> {
    let mut known = Of { ledger, ..Of::default() };
    for prefix in prefixes(tenant)? {
        let (_, found) = store.scan_all(&prefix, Some(at)).await?;
        known.records.extend(found.into_iter().map(|record| (record.key.clone(), record)));
    }
    let view = Snapshot::new(at, known.records.values().cloned());
    for held in reservations_of(&view, &Txn::new(), tenant)? {
        let key = held.stored_at().clone();
        if known.places.insert(held.id.clone(), key).is_some() {
            let message = format!("tenant {} has reservation {} twice: release one", tenant.id, held.id);
            return Err(Error::new(ErrorKind::Corrupt, "quota", message));
        }
    }
    Ok(known)
}
