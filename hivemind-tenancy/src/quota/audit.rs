//! Whether the ledgers say what the reservations add up to, and mending them if not. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::{ResourceName, Resources};
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, Stamped, TenantContext, TenantRef};

use super::batch::charges_of;
use super::gate::TenantQuota;
use super::ledger::{Charged, Reservation, ReservationState, Usage, ledger_key, ledgers};
use super::level::charge;
use super::spec::specs;
use super::{QuotaSpec, books::spec_key};
use crate::Tenant;
use crate::tenant::{leaf, tenants};

/// The ledger beside what the live reservations add up to: they differ only if something is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drift {
    /// What the ledger says.
    pub ledger: Usage,
    /// What the reservations add up to.
    pub counted: Usage,
}

impl Drift {
    /// Whether both agree.
    pub fn is_none(&self) -> bool {
        self.ledger == self.counted
    }
}

/// The tenants at and below one, each after the one it is below.
pub(crate) fn subtree(view: &Snapshot, txn: &Txn, root: &TenantRef) -> Result<Vec<Stamped<Tenant>>> {
    if let Some(leaf) = leaf(view, txn, root)? {
        return Ok(vec![leaf]);
    }
    let mut children: BTreeMap<TenantRef, Vec<Stamped<Tenant>>> = BTreeMap::new();
    let mut found = Vec::new();
    for tenant in tenants()?.list(view, txn, tenants()?.prefix())? {
        if tenant.tenant == *root {
            found.push(tenant);
        } else if let Some(parent) = tenant.parent.clone() {
            children.entry(parent).or_default().push(tenant);
        }
    }
    let mut next = 0;
    while let Some(tenant) = found.get(next).map(|found| found.tenant.clone()) {
        found.extend(children.remove(&tenant).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

fn corrupt(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::of(ErrorKind::Corrupt, "recount", e)
}

fn add(charged: (&mut Resources, &mut Resources), one: &Reservation) -> Result<()> {
    let sum = match one.state {
        ReservationState::Committed => charged.0,
        ReservationState::Reserved { .. } => charged.1,
    };
    *sum = sum.checked_add(&one.amount).map_err(corrupt)?;
    Ok(())
}

/// What the tenant must have charged, from the reservations at and below it, and from nothing else.
pub(crate) fn count(view: &Snapshot, txn: &Txn, root: &TenantRef) -> Result<Usage> {
    let spec_of = |tenant: &TenantRef| -> Result<QuotaSpec> {
        let found = specs()?.get(view, txn, &spec_key(tenant)?)?;
        Ok(found.map(|found| (*found.value).clone()).unwrap_or_default())
    };
    let root_spec = spec_of(root)?;
    let mut total = Usage::default();
    // By tenant: what its parts ask of its pool, and what it takes itself.
    let mut loads: BTreeMap<TenantRef, BTreeMap<ResourceName, i128>> = BTreeMap::new();
    for tenant in subtree(view, txn, root)?.iter().rev() {
        let mut load = loads.remove(&tenant.tenant).unwrap_or_default();
        for one in charges_of(view, txn, &tenant.tenant)? {
            add((&mut total.used, &mut total.reserved), &one)?;
            for (resource, amount) in one.amount.iter() {
                *load.entry(resource).or_default() += i128::from(amount);
            }
            for (name, _) in root_spec.scoped.iter().filter(|(_, quota)| quota.scope.matches(&one.attributes))
            {
                let Charged { used, reserved } = total.scoped.entry(name.clone()).or_default();
                add((used, reserved), &one)?;
            }
        }
        if tenant.tenant == *root {
            total.held = held(&total, &load)?;
            break;
        }
        let spec = spec_of(&tenant.tenant)?;
        let names: BTreeSet<_> = load.keys().chain(spec.rules.keys()).cloned().collect();
        let Some(parent) = tenant.parent.clone() else { continue };
        let above = loads.entry(parent).or_default();
        for name in names {
            let own = load.get(&name).copied().unwrap_or_default();
            let asked = charge(own, spec.level(tenant, &name, None).held());
            *above.entry(name).or_default() += asked;
        }
    }
    total.scoped.retain(|_, charged| *charged != Charged::default());
    Ok(total)
}

/// What of `load` is neither used nor reserved.
fn held(total: &Usage, load: &BTreeMap<ResourceName, i128>) -> Result<Resources> {
    load.iter().try_fold(Resources::new(), |sum, (resource, load)| {
        let held = u64::try_from(load - total.taken(resource).usage).map_err(corrupt)?;
        Ok(sum.with(resource.clone(), held))
    })
}

impl TenantQuota {
    /// Counts the live reservations at and below the tenant, and compares; nothing is changed.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn recount(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Drift> {
        let (ledger, counted) = (self.usage(view, ctx)?, count(view, &Txn::new(), ctx.tenant())?);
        // What happened in the past is not in the reservations.
        let (soft, budgets, grants) = (ledger.soft.clone(), ledger.budgets.clone(), ledger.grants);
        let counted = Usage { soft, budgets, grants, ..counted };
        Ok(Drift { ledger, counted })
    }

    /// Every tenant at or below the one of `ctx` whose ledger differs from its reservations; nothing is changed.
    ///
    /// # Errors
    /// As [`recount`](Self::recount).
    pub fn drift(&self, view: &Snapshot, ctx: &TenantContext) -> Result<BTreeMap<TenantRef, Drift>> {
        let mut drifts = BTreeMap::new();
        for tenant in subtree(view, &Txn::new(), ctx.tenant())? {
            let drift = self.recount(view, &ctx.clone().for_tenant(tenant.tenant.clone()))?;
            if !drift.is_none() {
                drifts.insert(tenant.tenant.clone(), drift);
            }
        }
        Ok(drifts)
    }

    /// Stages the ledger of the tenant as its reservations add up in `view`, and returns what it mends.
    ///
    /// Whatever is charged at or below the tenant changes its ledger. So the count is written only if no charge came
    /// between `view` and the commit: else the commit is a conflict, and a newer count is needed.
    ///
    /// # Errors
    /// As [`recount`](Self::recount); [`ErrorKind::Conflict`] if the transaction has charged the tenant already.
    pub fn stage_repair(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext) -> Result<Option<Drift>> {
        let tenant = Tenant::of(view, &Txn::new(), ctx)?;
        let (key, drift) = (ledger_key(&tenant.tenant)?, self.recount(view, ctx)?);
        if drift.is_none() {
            return Ok(None);
        }
        match ledgers()?.get(view, &Txn::new(), &key)? {
            _ if !matches!(txn.staged(&key), hivemind_core::store::Staged::Untouched) => {
                let message =
                    format!("tenant {} is charged in this transaction: repair it alone", tenant.tenant.id);
                return Err(Error::new(ErrorKind::Conflict, "repair", message));
            }
            Some(old) => ledgers()?.update(txn, &old, &drift.counted)?,
            None => ledgers()?.create(view, txn, key, &drift.counted)?,
        }
        // A tenant that is deleted meanwhile needs no ledger.
        tenants()?.expect(txn, &tenant)?;
        Ok(Some(drift))
    }
}
