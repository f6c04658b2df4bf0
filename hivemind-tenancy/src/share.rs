//! Access to another tenant's things: only by a share, with the consent of both. No I/O, no clock, no async.

mod audit;
mod model;

use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{
    AccessRequest, Collection, Error, ErrorKind, Result, Retry, Stamped, TenantContext, TenantRef, Verb,
};

pub use self::audit::ShareChange;
use self::audit::{both_sides, dated};
pub use self::model::{Share, ShareId, ShareOffer, ShareStanding};
use crate::living::{lives, stage_lives, stage_takes_more, system_only};

/// The shares between tenants.
///
/// One tenant offers, the other accepts; either ends it. A share is bound to the generation of both: who is created
/// anew under an old name has none. It opens what the owner has to the recipient as a whole; what the recipient's
/// principals may do with it is for the host's [`Authorizer`](hivemind_core::Authorizer) to say, as for its own things.
///
/// All operations are pure and need a view of everything below [`prefix`](crate::prefix).
///
/// ```
/// use std::sync::Arc;
/// use hivemind_core::store::{Prefix, Txn};
/// use hivemind_core::{block_on, AccessRequest, MemoryStore, Principal, StateStore, StateStoreExt};
/// use hivemind_core::{SystemClock, SystemIds, TenantContext, TenantRef, Timestamp, Verb};
/// use hivemind_tenancy::{Shares, TenantManager, TenantSpec};
/// use hivemind_tenancy::share::ShareOffer;
///
/// # block_on(async {
/// let store = Arc::new(MemoryStore::new());
/// let tenants = TenantManager::new(store.clone(), Arc::new(SystemClock::new()), Arc::new(SystemIds::new()));
/// let ada = Principal::User("ada".parse()?);
/// let admin = TenantContext::new(TenantRef::system(), ada, "req-1".parse()?).with_time(Timestamp::from_secs(1));
/// let acme = tenants.create(&admin, TenantSpec::new("acme".parse()?)).await?.tenant;
/// let globex = tenants.create(&admin, TenantSpec::new("globex".parse()?)).await?.tenant;
/// let (owner, recipient) = (admin.clone().for_tenant(acme.clone()), admin.for_tenant(globex.clone()));
///
/// let (view, mut txn) = (store.snapshot(&[Prefix::ROOT]).await?, Txn::new());
/// let offer = ShareOffer::new(globex, "volumes".parse()?, [Verb::Get]).named("data");
/// let offered = Shares.stage_offer(&view, &mut txn, &owner, &offer)?.share;
/// let read = AccessRequest::new(Verb::Get, "volumes".parse()?).named("data");
/// assert!(Shares.lookup(&view, &txn, &recipient, &acme, &read).is_err());
/// Shares.stage_accept(&view, &mut txn, &recipient, &offered)?;
/// assert!(Shares.lookup(&view, &txn, &recipient, &acme, &read).is_ok());
/// store.commit(&txn).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::exhaustive_structs, reason = "it has no state and never will: all of it is in the store")]
pub struct Shares;

fn shares() -> Result<Collection<Share>> {
    crate::collection("shares")
}

fn key(id: &ShareId) -> Result<Key> {
    shares()?.key(id.segments())
}

impl Shares {
    /// Stages that the tenant of `ctx` offers something of its own.
    ///
    /// The same offer again changes nothing; another one of the same things takes its place, and needs to be accepted
    /// anew. Whether the recipient exists is not told.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the offer makes no sense, or `ctx` has no time; [`ErrorKind::NotFound`] if the tenant
    /// is gone; [`ErrorKind::Conflict`] while it is suspended or being deleted.
    pub fn stage_offer(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        offer: &ShareOffer,
    ) -> Result<ShareChange> {
        let now = dated(ctx, "offer share")?;
        stage_takes_more(view, txn, ctx, "offer share")?;
        let share = offer.by(ctx.tenant(), now)?;
        let key = key(&share.id)?;
        match shares()?.get(view, txn, &key)? {
            Some(old) if old.same_terms(&share) => {
                shares()?.expect(txn, &old)?;
                return Ok(ShareChange { share: (*old.value).clone(), audit: Vec::new() });
            }
            Some(old) => shares()?.update(txn, &old, &share)?,
            None => shares()?.create(view, txn, key, &share)?,
        }
        let audit = both_sides(ctx, now, Verb::Create, &share, "offered it")?;
        Ok(ShareChange { share, audit })
    }

    /// Stages that the tenant of `ctx` accepts `offered`, as it was shown by [`received`](Self::received).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such offer to this tenant, or it is over; [`ErrorKind::Conflict`] if it
    /// is another one by now, or while the tenant is suspended or being deleted; [`ErrorKind::Invalid`] if `ctx` has no
    /// time.
    pub fn stage_accept(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        offered: &Share,
    ) -> Result<ShareChange> {
        let now = dated(ctx, "accept share")?;
        stage_takes_more(view, txn, ctx, "accept share")?;
        let found = self.require(view, txn, ctx, &offered.id, "accept share")?;
        let theirs = found.id.recipient == *ctx.tenant();
        let over = found.standing(Some(now)) == ShareStanding::Expired;
        if !theirs || over || !stage_lives(view, txn, &found.id.owner)? {
            return Err(missing(ctx, "accept share", &offered.id));
        }
        if !found.same_terms(offered) {
            let message = format!("the offer of {} is another one by now: read it again", offered.id);
            return Err(
                Error::new(ErrorKind::Conflict, "accept share", message).with_retry(Retry::AfterReread)
            );
        }
        if found.accepted_at.is_some() {
            shares()?.expect(txn, &found)?;
            return Ok(ShareChange { share: (*found.value).clone(), audit: Vec::new() });
        }
        let share = Share { accepted_at: Some(now), ..(*found.value).clone() };
        shares()?.update(txn, &found, &share)?;
        let audit = both_sides(ctx, now, Verb::Update, &share, "accepted it")?;
        Ok(ShareChange { share, audit })
    }

    /// Stages the end of a share: its owner revokes it, or its recipient declines or leaves. At once, for all.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, or the tenant of `ctx` is neither side; [`ErrorKind::Invalid`] if
    /// `ctx` has no time.
    pub fn stage_end(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ShareId,
    ) -> Result<ShareChange> {
        let now = dated(ctx, "end share")?;
        let found = self.require(view, txn, ctx, id, "end share")?;
        shares()?.delete(txn, &found)?;
        let share = (*found.value).clone();
        let audit = both_sides(ctx, now, Verb::Delete, &share, "ended it")?;
        Ok(ShareChange { share, audit })
    }

    /// The share by which the tenant of `ctx` may do `request` with things of `owner`, at the time of `ctx`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, whether or not there is such a thing or such an owner.
    pub fn lookup(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        owner: &TenantRef,
        request: &AccessRequest,
    ) -> Result<Share> {
        let found = self.allowing(view, txn, ctx, owner, request)?;
        if !lives(view, txn, ctx.tenant())? || !lives(view, txn, owner)? {
            return Err(nothing(ctx, owner, request));
        }
        Ok((*found.value).clone())
    }

    /// As [`lookup`](Self::lookup), and stages that it still holds when the transaction commits: a share that is ended
    /// meanwhile, or a tenant that goes, makes it conflict.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub fn stage_use(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        owner: &TenantRef,
        request: &AccessRequest,
    ) -> Result<Share> {
        let found = self.allowing(view, txn, ctx, owner, request)?;
        if !stage_lives(view, txn, ctx.tenant())? || !stage_lives(view, txn, owner)? {
            return Err(nothing(ctx, owner, request));
        }
        shares()?.expect(txn, &found)?;
        Ok((*found.value).clone())
    }

    /// What the tenant of `ctx` has offered, accepted or not, expired or not.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn offered(&self, view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Vec<Share>> {
        let all = shares()?.list(view, txn, shares()?.prefix())?;
        let own = all.iter().filter(|share| share.id.owner == *ctx.tenant());
        Ok(own.map(|share| (*share.value).clone()).collect())
    }

    /// What tenants that are there have offered to the tenant of `ctx`, accepted or not, expired or not.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn received(&self, view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Vec<Share>> {
        let mut found = Vec::new();
        for share in shares()?.list(view, txn, &shares()?.below([ctx.tenant().to_string()])?)? {
            if lives(view, txn, &share.id.owner)? {
                found.push((*share.value).clone());
            }
        }
        Ok(found)
    }

    /// Stages the removal of at most `limit` shares that nobody can use any more; returns how many. These are the ones
    /// that are expired at the time of `ctx`, those of an owner that is gone, and the accepted ones of a recipient that
    /// is gone. One that was never accepted stays: that it went would tell the owner that there is no such recipient.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] outside the system tenant's context, [`ErrorKind::Invalid`] if `ctx` has no time.
    pub fn stage_sweep(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        limit: usize,
    ) -> Result<usize> {
        system_only(ctx, "sweep shares")?;
        let now = dated(ctx, "sweep shares")?;
        let mut swept = 0;
        for share in shares()?.list(view, txn, shares()?.prefix())? {
            if swept == limit {
                break;
            }
            let left = share.accepted_at.is_some() && !lives(view, txn, &share.id.recipient)?;
            let over = share.standing(Some(now)) == ShareStanding::Expired;
            if left || over || !lives(view, txn, &share.id.owner)? {
                shares()?.delete(txn, &share)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Stages the end of at most `limit` shares of a tenant that is being deleted; returns how many. An offer to it that
    /// it never accepted stays, as for [`stage_sweep`](Self::stage_sweep).
    pub(crate) fn stage_leave(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        tenant: &TenantRef,
        limit: usize,
    ) -> Result<usize> {
        let all = shares()?.list(view, txn, shares()?.prefix())?;
        let theirs = all.iter().filter(|share| {
            share.id.owner == *tenant || (share.id.recipient == *tenant && share.accepted_at.is_some())
        });
        let mut left = 0;
        for share in theirs.take(limit) {
            shares()?.delete(txn, share)?;
            left += 1;
        }
        Ok(left)
    }

    fn allowing(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        owner: &TenantRef,
        request: &AccessRequest,
    ) -> Result<Stamped<Share>> {
        let all = ShareId::new(owner.clone(), ctx.tenant().clone(), request.kind.clone());
        let one = request.name.as_ref().map(|name| all.clone().named(name));
        for id in [Some(all), one].into_iter().flatten() {
            // A name that no key can hold was never shared.
            let Ok(key) = key(&id) else { continue };
            if let Some(found) = shares()?.get(view, txn, &key)?.filter(|share| share.allows(ctx, request)) {
                return Ok(found);
            }
        }
        Err(nothing(ctx, owner, request))
    }

    /// The share `id`, if the tenant of `ctx` is one of both sides.
    fn require(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        id: &ShareId,
        operation: &'static str,
    ) -> Result<Stamped<Share>> {
        if !id.concerns(ctx.tenant()) {
            return Err(missing(ctx, operation, id));
        }
        shares()?.get(view, txn, &key(id)?)?.ok_or_else(|| missing(ctx, operation, id))
    }
}

fn missing(ctx: &TenantContext, operation: &'static str, id: &ShareId) -> Error {
    Error::not_found(operation, format!("tenant {} has no share of {id}", ctx.tenant().id))
}

fn nothing(ctx: &TenantContext, owner: &TenantRef, request: &AccessRequest) -> Error {
    let message = format!("tenant {} has no share to {request} of tenant {}", ctx.tenant().id, owner.id);
    Error::not_found("look up share", message)
}
