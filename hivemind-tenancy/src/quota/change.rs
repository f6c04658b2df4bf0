//! Changes of quotas, and moves in the tree. No I/O, no clock, no async.

use hivemind_core::store::{Guard, Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, ReservationId, Result, Retry, Stamped, TenantContext, TenantRef};

use serde::{Deserialize, Serialize};

use super::audit::subtree;
use super::batch::{Held, charges_of};
use super::books::{Books, expect, spec_key};
use super::gate::TenantQuota;
use super::ledger::{Change, ReservationState, ledger_key, ledgers};
use super::rate::{rates, rates_key};
use super::spec::specs;
use super::{OverQuota, QuotaSpec, Shortage};
use crate::Tenant;
use crate::tenant::tenants;

/// What to do if a tenant already takes more than its new quota allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenOver {
    /// Refuse the change.
    #[default]
    Refuse,
    /// Change it, and say so: nothing is taken away, and nothing more is admitted.
    Flag,
    /// Change it, and list what to give back until it fits.
    Drain,
}

/// What a new quota means for what is charged already.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QuotaChange {
    /// What of the new quota is exceeded.
    pub over: Option<OverQuota>,
    /// What to give back until it fits, in this order; only if it was asked for.
    pub drain: Vec<(TenantRef, ReservationId)>,
}

type Charge = (TenantRef, ReservationId, Held);

/// Everything that is charged at and below a tenant.
fn charges(view: &Snapshot, txn: &Txn, root: &TenantRef) -> Result<Vec<Charge>> {
    let mut all = Vec::new();
    for tenant in subtree(view, txn, root)? {
        for one in charges_of(view, txn, &tenant.tenant)? {
            all.push((tenant.tenant.clone(), one.id.clone(), one));
        }
    }
    Ok(all)
}

impl TenantQuota {
    /// Stages the quota of the tenant of `ctx`, in place of the one before. Scoped quotas count what is charged
    /// already.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if `spec` contradicts itself. [`ErrorKind::QuotaExceeded`] if the tenant takes more
    /// already and `when` is [`WhenOver::Refuse`], or if the tenants above cannot hold back its guarantee. Then nothing is
    /// staged.
    pub(crate) fn stage_set_quota(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        spec: &QuotaSpec,
        when: WhenOver,
    ) -> Result<QuotaChange> {
        spec.check()?;
        let chain = Tenant::chain(view, txn, ctx)?;
        let key = spec_key(ctx.tenant())?;
        let old = specs()?.get(view, txn, &key)?;
        let mut books = Books::at(ctx.at());
        let levels = books.open(view, txn, &chain)?;
        books.set_rules(&levels, spec);
        let all = charges(view, txn, ctx.tenant())?;
        let own = levels.get(..1).unwrap_or_default();
        for (_, _, one) in &all {
            books.add_scoped(own, &Change::default().with(one, 1), &one.attributes);
        }
        let exceeded = |over: OverQuota| {
            // Only operators set quotas.
            let system = ctx.clone().for_tenant(TenantRef::system());
            Error::of(ErrorKind::QuotaExceeded, "set quota", over.seen_by(&system))
        };
        // A guarantee that cannot be kept is no guarantee, whatever the caller chooses for its own excess.
        if let Some(over) =
            books.over(&levels).filter(|over| over.in_full().iter().any(|short| short.depth > 0))
        {
            return Err(exceeded(over));
        }
        // What fails further on leaves the transaction as it was.
        let mut staged = txn.clone();
        books.stage(view, &mut staged)?;
        match &old {
            Some(old) => specs()?.update(&mut staged, old, spec)?,
            None => specs()?.create(view, &mut staged, key, spec)?,
        }
        books.as_new(&levels);
        let over = books.over(&levels);
        let drain = match (&over, when) {
            (Some(over), WhenOver::Refuse) => return Err(exceeded(over.clone())),
            (Some(_), WhenOver::Drain) => drained(&mut books, &levels, all),
            _ => Vec::new(),
        };
        *txn = staged;
        Ok(QuotaChange { over, drain })
    }

    /// What the tenant of `ctx` takes beyond its quota, such as after its limit was lowered, or when a budget is spent;
    /// `None` if it is within. Without a time of `ctx`, budgets are as they were last counted.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant is gone.
    pub fn over_quota(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Option<OverQuota>> {
        let mut books = Books::at(ctx.at());
        let levels = books.open(view, &Txn::new(), &Tenant::chain(view, &Txn::new(), ctx)?)?;
        books.as_new(&levels);
        Ok(books.over(&levels))
    }

    /// Stages the removal of an empty ledger, of the tenant's quota, and of what is remembered for its
    /// rates and trends.
    pub(crate) fn stage_close(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext) -> Result<()> {
        let live = charges(view, txn, ctx.tenant())?.len();
        if live > 0 {
            let message =
                format!("tenant {} still has {live} reservations: release them first", ctx.tenant().id);
            return Err(Error::new(ErrorKind::Conflict, "delete", message).with_retry(Retry::AfterChange));
        }
        let waiting = super::waiting::count(view, txn, ctx.tenant())?;
        if waiting > 0 {
            let message =
                format!("{waiting} requests of tenant {} wait: let them leave first", ctx.tenant().id);
            return Err(Error::new(ErrorKind::Conflict, "delete", message).with_retry(Retry::AfterChange));
        }
        let key = spec_key(ctx.tenant())?;
        match specs()?.get(view, txn, &key)? {
            Some(spec) => {
                self.stage_set_quota(view, txn, ctx, &QuotaSpec::new(), WhenOver::Flag)?;
                specs()?.delete(txn, &spec)?;
            }
            // Guards against a quota set in between.
            None => txn.guard(&key, Guard::Absent)?,
        }
        let key = rates_key(ctx.tenant())?;
        match rates()?.get(view, txn, &key)? {
            Some(states) => rates()?.delete(txn, &states)?,
            None => expect(txn, &rates()?, &key, None)?,
        }
        super::samples::forget(view, txn, ctx.tenant())?;
        super::waiting::forget(view, txn, ctx.tenant())?;
        let key = ledger_key(ctx.tenant())?;
        match ledgers()?.get(view, txn, &key)? {
            Some(ledger) => ledgers()?.delete(txn, &ledger),
            // Guards against a first charge in between.
            None => txn.guard(&key, Guard::Absent),
        }
    }
}

/// What to give back, least important first, until the first of `levels` is within its quota.
fn drained(books: &mut Books, levels: &[usize], mut all: Vec<Charge>) -> Vec<(TenantRef, ReservationId)> {
    let rank = |one: &Charge| {
        let committed = one.2.state == ReservationState::Committed;
        // What is only held runs nowhere yet; then the least urgent; of equals, the newest record.
        (
            committed,
            one.2.attributes.priority,
            std::cmp::Reverse(one.2.revision),
            one.0.clone(),
            one.1.clone(),
        )
    };
    // What a node may charge without asking cannot be taken from it.
    all.retain(|(_, _, one)| one.slice.is_none());
    all.sort_by_key(rank);
    let mut drain = Vec::new();
    for (tenant, id, one) in all {
        let Some(over) = books.over(levels) else { break };
        // What is spent of a budget does not come back.
        let helps = |short: &Shortage| short.budget.is_none() && one.amount.amount(&short.resource) > 0;
        if !over.in_full().iter().any(helps) {
            continue;
        }
        books.add(levels, &Change::default().with(&one, -1), &one.attributes);
        drain.push((tenant, id));
    }
    drain
}

/// `tenant` as a part of `parent`, and every tenant above that.
fn below(
    view: &Snapshot,
    txn: &Txn,
    tenant: &Stamped<Tenant>,
    parent: Option<&TenantRef>,
) -> Result<Vec<Stamped<Tenant>>> {
    let mut chain = vec![tenant.clone()];
    let mut next = parent.cloned();
    while let Some(above) = next {
        let found = tenants()?.get(view, txn, &crate::tenant::key(&above.id)?)?;
        let missing = || Error::not_found("move tenant", format!("there is no tenant {}", above.id));
        let found = found.filter(|found| found.tenant == above).ok_or_else(missing)?;
        // Whoever is above itself is found by the caller.
        next = found.parent.clone().filter(|_| chain.iter().all(|known| known.tenant != above));
        chain.push(found);
    }
    Ok(chain)
}

/// Stages that what `moved` and everything below it take counts for `new_parent` and those above it from now on,
/// and no longer for those above it before, decided at the time of `ctx`. The tenant itself is the caller's to update.
///
/// # Errors
/// [`ErrorKind::QuotaExceeded`] if the new ones would be over; [`ErrorKind::Invalid`] if `new_parent` is `moved` or
/// below it.
pub(crate) fn stage_reparent(
    view: &Snapshot,
    txn: &mut Txn,
    ctx: &TenantContext,
    moved: &Stamped<Tenant>,
    new_parent: Option<&TenantRef>,
) -> Result<()> {
    let chain = below(view, txn, moved, moved.parent.as_ref())?;
    let new_chain = below(view, txn, moved, new_parent)?;
    if new_chain.iter().skip(1).any(|above| above.tenant == moved.tenant) {
        let message = format!("tenant {} cannot be moved below itself", moved.tenant.id);
        return Err(Error::invalid("move tenant", message));
    }
    let mut books = Books::at(ctx.at());
    let (from, to) = (books.open(view, txn, &chain)?, books.open(view, txn, &new_chain)?);
    books.regraft(&from, &to);
    let above = |levels: &[usize]| levels.get(1..).unwrap_or_default().to_vec();
    for (_, _, one) in charges(view, txn, &moved.tenant)? {
        books.add_scoped(&above(&from), &Change::default().with(&one, -1), &one.attributes);
        books.add_scoped(&above(&to), &Change::default().with(&one, 1), &one.attributes);
    }
    if from.len() == 1 && to.len() > 1 {
        // What it takes as a part of another is limited where it was not before.
        books.as_new(&to);
    }
    // A budget of its own that is spent is no more spent elsewhere.
    let matters = |short: &Shortage| short.depth > 0 || short.budget.is_none();
    if let Some(over) = books.over(&to).filter(|over| over.in_full().iter().any(matters)) {
        return Err(Error::of(ErrorKind::QuotaExceeded, "move tenant", over.seen_by(ctx)));
    }
    books.stage(view, txn)
}
