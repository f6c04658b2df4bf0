//! Which reservations the tenants have that a group serves: a copy that is true while the ledger stays the same.
//!
//! Whatever changes the reservations of a tenant writes its ledger. So one record that is read tells whether
//! everything that is known of the tenant still holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;
use hivemind_core::store::{Guard, Key, Prefix, Record, Revision, Snapshot, Staged, Txn, Write};
use hivemind_core::{Error, ErrorKind, ReservationId, Result, StateStore, StateStoreExt, TenantRef};

use super::plan::{Ask, Plan, again};
use crate::quota::batch::batches;
use crate::quota::books::spec_key;
use crate::quota::ledger::{ledger_key, reservations};
use crate::tenant::{key, tenants};

/// How many tenants are kept in mind.
const TENANTS: usize = 64;

/// Where a reservation is.
#[derive(Debug, Clone)]
enum Place {
    Record(Key),
    /// In two records, which can only be damage.
    Twice,
}

#[derive(Debug, Default)]
struct Of {
    ledger: Option<Revision>,
    /// The tenant and those above it.
    chain: Vec<TenantRef>,
    places: HashMap<ReservationId, Place, RandomState>,
    records: BTreeMap<Key, Record>,
    /// Why a reservation that is not found may be there nevertheless.
    damaged: Option<Error>,
    /// Whether anything could not be read: it may be mended without the ledger being written.
    unsound: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<TenantRef, Of>);

type Records = BTreeMap<Key, Record>;

/// What a flight is decided on.
pub(super) struct Viewed {
    pub(super) view: Snapshot,
    /// The tenants of which something could not be read.
    pub(super) failed: BTreeMap<TenantRef, Error>,
}

/// Where the reservations of a tenant are.
fn prefixes(tenant: &TenantRef) -> Result<[Prefix; 2]> {
    Ok([reservations()?.below([tenant.to_string()])?, batches()?.below([tenant.to_string()])?])
}

impl Known {
    /// In which record a reservation is.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if that cannot be known.
    pub(super) fn place(&self, tenant: &TenantRef, id: &ReservationId) -> Result<Option<&Key>> {
        let Some(known) = self.0.get(tenant) else { return Ok(None) };
        match (known.places.get(id), &known.damaged) {
            (Some(Place::Record(key)), _) => Ok(Some(key)),
            (Some(Place::Twice), _) => {
                let message = format!("tenant {} has reservation {id} twice: release one", tenant.id);
                Err(Error::new(ErrorKind::Corrupt, "quota", message))
            }
            (None, Some(damaged)) => Err(again(damaged)),
            (None, None) => Ok(None),
        }
    }

    /// Whether a decision about `tenant` depends on the record at `key`.
    pub(super) fn concerns(&self, tenant: &TenantRef, key: &Key) -> bool {
        let Some(known) = self.0.get(tenant) else { return true };
        let above = |one: &TenantRef| {
            let own = [crate::tenant::key(&one.id), spec_key(one), ledger_key(one)];
            own.iter().any(|own| own.as_ref().is_ok_and(|own| own == key))
        };
        known.chain.iter().any(above)
            || prefixes(tenant).is_ok_and(|prefixes| prefixes.iter().any(|prefix| prefix.covers(key)))
    }

    /// Reads what is needed to decide `asks`, all as of one revision, and brings what is known up to it.
    ///
    /// # Errors
    /// Those of the store that concern all of them alike.
    pub(super) async fn view(&mut self, store: &dyn StateStore, asks: &[Ask]) -> Result<Viewed> {
        let revision = store.revision().await?;
        let (mut records, mut failed) = (Records::new(), BTreeMap::new());
        let neighbours = asks.chunk_by(|a, b| a.ctx.tenant() == b.ctx.tenant()).filter_map(<[_]>::first);
        let wanted: BTreeSet<&TenantRef> = neighbours.map(|ask| ask.ctx.tenant()).collect();
        if self.0.len() > TENANTS {
            self.0.retain(|tenant, _| wanted.contains(tenant));
        }
        for tenant in wanted {
            match self.read(store, revision, tenant, &mut records).await {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Expired) => return Err(e),
                Err(e) => {
                    failed.insert(tenant.clone(), e);
                }
            }
        }
        for ask in asks {
            let Some(known) = self.0.get(ask.ctx.tenant()) else { continue };
            let Some(Place::Record(key)) = known.places.get(ask.operation.id()) else { continue };
            records.extend(known.records.get(key).map(|record| (record.key.clone(), record.clone())));
        }
        Ok(Viewed { view: Snapshot::new(revision, records.into_values()), failed })
    }

    async fn read(
        &mut self,
        store: &dyn StateStore,
        at: Revision,
        tenant: &TenantRef,
        records: &mut Records,
    ) -> Result<()> {
        let chain = read_chain(store, at, tenant, records).await?;
        let ledger = records.get(&ledger_key(tenant)?).map(|record| record.mod_revision);
        let still = |known: &Of| ledger.is_some() && known.ledger == ledger && !known.unsound;
        if !self.0.get(tenant).is_some_and(still) {
            self.0.remove(tenant);
            self.0.insert(tenant.clone(), read_all(store, at, tenant, ledger).await?);
        }
        if let Some(known) = self.0.get_mut(tenant) {
            known.chain = chain;
        }
        Ok(())
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
                Some(key) => known.places.insert(id.clone(), Place::Record(key.clone())),
                None => known.places.remove(id),
            };
        }
        Ok(())
    }
}

impl Of {
    fn is_at(&mut self, id: ReservationId, key: &Key) {
        let twice = self.places.contains_key(&id);
        self.unsound |= twice;
        self.places.insert(id, if twice { Place::Twice } else { Place::Record(key.clone()) });
    }

    /// One that cannot be read concerns only who asks for it: the key tells which it is.
    fn take_alone(&mut self, at: Revision, record: Record) -> Result<()> {
        let key = record.key.clone();
        let view = Snapshot::new(at, [record.clone()]);
        self.unsound |= reservations()?.get(&view, &Txn::new(), &key).is_err();
        // No request can name what is not an id.
        if let Ok(id) = String::from_utf8_lossy(key.last()).parse() {
            self.is_at(id, &key);
        }
        self.records.insert(key, record);
        Ok(())
    }

    /// One that cannot be read concerns all that are not found elsewhere.
    fn take_batch(&mut self, at: Revision, record: Record) -> Result<()> {
        let key = record.key.clone();
        let view = Snapshot::new(at, [record.clone()]);
        match batches()?.get(&view, &Txn::new(), &key) {
            Ok(batch) => {
                let ids = batch.iter().flat_map(|batch| batch.reservations.keys());
                ids.for_each(|id| self.is_at(id.clone(), &key));
            }
            Err(e) => {
                self.unsound = true;
                self.damaged.get_or_insert(e);
            }
        }
        self.records.insert(key, record);
        Ok(())
    }

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

/// Reads the tenant and those above it, with their limits and ledgers; which they are.
async fn read_chain(
    store: &dyn StateStore,
    at: Revision,
    tenant: &TenantRef,
    records: &mut Records,
) -> Result<Vec<TenantRef>> {
    let mut chain: Vec<TenantRef> = Vec::new();
    let mut next = Some(tenant.clone());
    while let Some(tenant) = next.take() {
        let own = key(&tenant.id)?;
        if !records.contains_key(&own) {
            for key in [own.clone(), spec_key(&tenant)?, ledger_key(&tenant)?] {
                if let Some(record) = store.get(&key, Some(at)).await? {
                    records.insert(key, record);
                }
            }
        }
        chain.push(tenant);
        let Some(record) = records.get(&own) else { break };
        let alone = Snapshot::new(at, [record.clone()]);
        // One that cannot be read is found again, and told, by whoever decides.
        let found = tenants()?.get(&alone, &Txn::new(), &own).ok().flatten();
        next = found.and_then(|tenant| tenant.parent.clone()).filter(|above| !chain.contains(above));
    }
    Ok(chain)
}

async fn read_all(
    store: &dyn StateStore,
    at: Revision,
    tenant: &TenantRef,
    ledger: Option<Revision>,
) -> Result<Of> {
    let mut known = Of { ledger, ..Of::default() };
    let [alone, together] = prefixes(tenant)?;
    let (_, found) = store.scan_all(&alone, Some(at)).await?;
    for record in found {
        known.take_alone(at, record)?;
    }
    let (_, found) = store.scan_all(&together, Some(at)).await?;
    for record in found {
        known.take_batch(at, record)?;
    }
    Ok(known)
}
