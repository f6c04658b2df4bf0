//! What is to become of one record. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::store::{Key, MAX_KEY_LEN, Record, Revision, Snapshot, Staged, Txn};
use hivemind_core::{Result, TenantRef};

use super::journal::Raw;
use super::{Adoptable, AdoptableResource, AdoptionProblem, AdoptionRule};
use crate::TenantState;
use crate::tenant::{key, tenants};

/// What one transaction may hold of the records it moves, in bytes: less than the store's limit by what else is in it.
pub(super) const MAX_BYTES: usize = 1_250_000;
/// What one record of the journal may hold, in bytes: less than the largest value by its envelope.
pub(super) const MAX_JOURNAL: usize = 1_000_000;
/// What an entry of the journal holds besides keys and value, in bytes, at most.
const ENTRY: usize = 500;

/// How many tenants are named that rules give one resource to.
const MAX_NAMED: usize = 8;

/// What is to become of one record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is no resource, or somebody's already.
    Nothing,
    /// As nothing, and somebody's already.
    Owned,
    /// No rule speaks of it.
    Unmatched,
    /// It stays, although a rule wants it.
    Stays(AdoptionProblem),
    /// It goes.
    Goes(Move),
}

/// A record that goes to a tenant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) resource: AdoptableResource,
    pub(super) tenant: TenantRef,
    pub(super) to: Key,
    pub(super) value: Vec<u8>,
    pub(super) cost: Cost,
}

/// What a record takes of a transaction, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) journal: usize,
    pub(super) total: usize,
}

impl Cost {
    /// Of something that is only reported.
    pub(super) fn of_report(key: &Key) -> Self {
        // Two keys at four characters a byte, and a text.
        let journal = 4 * (key.as_bytes().len() + MAX_KEY_LEN) + 4 * ENTRY;
        Self { journal, total: journal }
    }

    fn of(record: &Record, to: &Key, value: &[u8]) -> Self {
        let keys = [&record.key, to].map(|key| key.as_bytes());
        let journal = Raw::cost(&record.value) + keys.map(Raw::cost).iter().sum::<usize>() + ENTRY;
        // Each key is in a guard and in a write.
        let total = journal + value.len() + 2 * keys.map(<[u8]>::len).iter().sum::<usize>();
        Self { journal, total }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { journal: self.journal + other.journal, total: self.total + other.total }
    }

    pub(super) fn fits(self) -> bool {
        self.journal <= MAX_JOURNAL && self.total <= MAX_BYTES
    }
}

/// What is to become of `record`, by `rules` of a plan made at `planned`, in the state that `txn` makes of `view`.
pub(super) fn decide(
    view: &Snapshot,
    txn: &Txn,
    host: &dyn Adoptable,
    rules: &[AdoptionRule],
    planned: Revision,
    record: &Record,
) -> Result<Verdict> {
    // What this crate keeps is nobody's to adopt, even if it is below the host's prefix.
    if crate::prefix()?.covers(&record.key) {
        return Ok(Verdict::Nothing);
    }
    let resource = match host.describe(record) {
        Ok(Some(resource)) => resource,
        Ok(None) => return Ok(Verdict::Nothing),
        Err(e) => return Ok(Verdict::Stays(AdoptionProblem::unreadable(&e))),
    };
    if resource.tenant.is_some() {
        return Ok(Verdict::Owned);
    }
    let to: BTreeSet<_> =
        rules.iter().filter(|rule| rule.matches(&resource)).map(|rule| rule.tenant.clone()).collect();
    let Some(tenant) = to.first().cloned() else { return Ok(Verdict::Unmatched) };
    if record.mod_revision > planned || txn.staged(&record.key) != Staged::Untouched {
        return Ok(Verdict::Stays(AdoptionProblem::ChangedSincePlan));
    }
    if to.len() > 1 {
        let some = to.into_iter().take(MAX_NAMED).collect();
        return Ok(Verdict::Stays(AdoptionProblem::Ambiguous(some)));
    }
    if !takes_in(view, txn, &tenant)? {
        return Ok(Verdict::Stays(AdoptionProblem::TenantGone(tenant)));
    }
    Ok(made(view, txn, host, record, resource, tenant)?.map_or_else(Verdict::Stays, Verdict::Goes))
}

/// What the host makes of `record`, if it can be put where it belongs.
fn made(
    view: &Snapshot,
    txn: &Txn,
    host: &dyn Adoptable,
    record: &Record,
    resource: AdoptableResource,
    tenant: TenantRef,
) -> Result<Result<Move, AdoptionProblem>> {
    let made = match host.adopt(record, &tenant) {
        Ok(made) => made,
        Err(e) => return Ok(Err(AdoptionProblem::refused(e))),
    };
    let cost = Cost::of(record, &made.key, &made.value);
    if !cost.fits() {
        let problem = AdoptionProblem::TooLarge { bytes: cost.total, allowed: MAX_JOURNAL };
        return Ok(Err(problem));
    }
    let new = Record::new(made.key, made.value.clone().into(), record.mod_revision, record.create_revision);
    let theirs = host.describe(&new).ok().flatten().and_then(|made| made.tenant);
    if theirs.as_ref() != Some(&tenant) {
        return Ok(Err(AdoptionProblem::refused(format!("what it becomes is not tenant {}'s", tenant.id))));
    }
    if crate::prefix()?.covers(&new.key) {
        return Ok(Err(AdoptionProblem::refused(format!("{} is not for a host to write", new.key))));
    }
    if new.key != record.key && exists(view, txn, &new.key) {
        return Ok(Err(AdoptionProblem::TargetTaken(new.key)));
    }
    Ok(Ok(Move { resource, tenant, to: new.key, value: made.value, cost }))
}

/// Whether there is anything at `key`, in the state that `txn` makes of `view`.
pub(super) fn exists(view: &Snapshot, txn: &Txn, key: &Key) -> bool {
    match txn.staged(key) {
        Staged::Put(_) => true,
        Staged::Deleted => false,
        Staged::Untouched => view.get(key).is_some(),
    }
}

/// Whether `tenant` is there to stay.
fn takes_in(view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<bool> {
    if *tenant == TenantRef::system() {
        return Ok(true);
    }
    let found = tenants()?.get(view, txn, &key(&tenant.id)?)?;
    Ok(found.is_some_and(|found| {
        found.tenant == *tenant && !matches!(found.state, TenantState::Terminating { .. })
    }))
}
