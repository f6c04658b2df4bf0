//! Names that are given out once in the cluster: host names, ports, blocks of addresses. No I/O, no clock, no async.

mod name;

use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{
    Collection, Error, ErrorKind, Principal, Result, Stamped, Stored, TenantContext, TenantRef, Timestamp,
};
use serde::{Deserialize, Serialize};

pub use self::name::{InvalidUniqueName, UniqueName};
use crate::living::{lives, stage_takes_more, system_only};

/// A name and the tenant that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NameClaim {
    /// The name.
    pub name: UniqueName,
    /// Whose it is, of which generation.
    pub owner: TenantRef,
    /// Who claimed it.
    pub by: Principal,
    /// When, if the request said so.
    #[serde(default)]
    pub at: Option<Timestamp>,
}

impl Stored for NameClaim {
    const KIND: &'static str = "claim of a name";
}

/// Written by every claim of a kind whose names can overlap, so that two such claims never commit side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Fence {
    claims: u64,
}

impl Stored for Fence {
    const KIND: &'static str = "fence of claims";
}

/// The name belongs to another tenant, or overlaps a block that does. Detail of an
/// [`AlreadyExists`](ErrorKind::AlreadyExists) error.
///
/// It does not say whose it is, nor which block is in the way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is taken: choose another")]
#[non_exhaustive]
pub struct NameTaken {
    /// The name that was asked for.
    pub name: UniqueName,
}

/// How a name stands to a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums, reason = "a name is free, one's own, or somebody else's")]
pub enum NameStanding {
    /// The tenant may claim it.
    Free,
    /// The tenant has it.
    Own,
    /// It is another tenant's, or it overlaps a block that is claimed.
    Taken,
}

/// The register of names that only one tenant may have.
///
/// A tenant whose generation is gone has nothing: its names are free, also for a tenant of the same id. All operations
/// are pure and need a view of everything below [`prefix`](crate::prefix). To limit how many names a tenant has, charge
/// a resource of that name with [`TenantQuota`](crate::TenantQuota) in the same transaction.
///
/// ```
/// use std::sync::Arc;
/// use hivemind_core::store::{Prefix, Txn};
/// use hivemind_core::{block_on, ErrorKind, MemoryStore, Principal, StateStore, StateStoreExt};
/// use hivemind_core::{SystemClock, SystemIds, TenantContext, TenantRef};
/// use hivemind_tenancy::{NameClaims, TenantManager, TenantSpec};
///
/// # block_on(async {
/// let store = Arc::new(MemoryStore::new());
/// let tenants = TenantManager::new(store.clone(), Arc::new(SystemClock::new()), Arc::new(SystemIds::new()));
/// let ada = Principal::User("ada".parse()?);
/// let admin = TenantContext::new(TenantRef::system(), ada.clone(), "req-1".parse()?);
/// let acme = tenants.create(&admin, TenantSpec::new("acme".parse()?)).await?.tenant;
/// let globex = tenants.create(&admin, TenantSpec::new("globex".parse()?)).await?.tenant;
///
/// let view = store.snapshot(&[Prefix::ROOT]).await?;
/// let mut txn = Txn::new();
/// let acme = TenantContext::new(acme, ada.clone(), "req-2".parse()?);
/// NameClaims.stage_claim(&view, &mut txn, &acme, &"ranges:10.1.0.0/16".parse()?)?;
/// store.commit(&txn).await?;
///
/// let (view, mut txn) = (store.snapshot(&[Prefix::ROOT]).await?, Txn::new());
/// let globex = TenantContext::new(globex, ada, "req-3".parse()?);
/// let error = NameClaims.stage_claim(&view, &mut txn, &globex, &"ranges:10.1.7.0/24".parse()?).unwrap_err();
/// assert_eq!((error.kind(), error.message()), (ErrorKind::AlreadyExists, "ranges:10.1.7.0/24 is taken: choose another"));
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::exhaustive_structs, reason = "it has no state and never will: all of it is in the store")]
pub struct NameClaims;

fn claims() -> Result<Collection<NameClaim>> {
    crate::collection("claims")
}

fn fences() -> Result<Collection<Fence>> {
    crate::collection("claim-fences")
}

fn key(name: &UniqueName) -> Result<Key> {
    claims()?.key([name.kind().as_str(), &name.segment()])
}

impl NameClaims {
    /// Stages that `name` is the tenant's. A name that is its own already stays as it is.
    ///
    /// Of two claims at the same time that cannot both be, exactly one commits.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] with [`NameTaken`] as detail if it is another tenant's; [`ErrorKind::AlreadyExists`]
    /// if it overlaps another block of the tenant itself; [`ErrorKind::NotFound`] if the tenant is gone;
    /// [`ErrorKind::Conflict`] while it is suspended or being deleted.
    pub fn stage_claim(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        name: &UniqueName,
    ) -> Result<NameClaim> {
        stage_takes_more(view, txn, ctx, "claim")?;
        if let Some(found) = in_the_way(view, txn, name)? {
            if found.owner != *ctx.tenant() {
                return Err(Error::of(ErrorKind::AlreadyExists, "claim", NameTaken { name: name.clone() }));
            }
            if found.name == *name {
                claims()?.expect(txn, &found)?;
                return Ok((*found.value).clone());
            }
            let message = format!("{name} overlaps {}, which the tenant has already", found.name);
            return Err(Error::new(ErrorKind::AlreadyExists, "claim", message));
        }
        if name.range().is_some() {
            raise_fence(view, txn, name)?;
        }
        let (owner, by) = (ctx.tenant().clone(), ctx.principal().clone());
        let claim = NameClaim { name: name.clone(), owner, by, at: ctx.at() };
        put(view, txn, &claim)?;
        Ok(claim)
    }

    /// Stages that `name` is free again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant does not have it, whoever else may.
    pub fn stage_release(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        name: &UniqueName,
    ) -> Result<()> {
        let own = self.own(view, txn, ctx, name, "release")?;
        claims()?.delete(txn, &own)
    }

    /// Stages the release of at most `limit` names of the tenant, in the order of names; returns how many. A tenant
    /// that is deleted calls this until it is zero.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn stage_release_all(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        limit: usize,
    ) -> Result<usize> {
        delete_some(view, txn, limit, |_, claim| Ok(claim.owner == *ctx.tenant()))
    }

    /// Stages the removal of at most `limit` claims of tenants that are gone; returns how many.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] outside the system tenant's context.
    pub fn stage_sweep(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        limit: usize,
    ) -> Result<usize> {
        system_only(ctx, "sweep claims")?;
        delete_some(view, txn, limit, |txn, claim| Ok(!lives(view, txn, &claim.owner)?))
    }

    /// The claim of `name`, if the tenant has it. In the context of the system tenant, whoever has it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if nobody has it or, outside the system tenant's context, if somebody else does.
    pub fn lookup(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        name: &UniqueName,
    ) -> Result<NameClaim> {
        if *ctx.tenant() != TenantRef::system() {
            return Ok((*self.own(view, txn, ctx, name, "look up claim")?.value).clone());
        }
        match claims()?.get(view, txn, &key(name)?)? {
            Some(found) if lives(view, txn, &found.owner)? => Ok((*found.value).clone()),
            _ => Err(Error::not_found("look up claim", format!("nobody has {name}"))),
        }
    }

    /// How `name` stands to the tenant: what a claim would come to. It does not say whose it is.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn standing(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        name: &UniqueName,
    ) -> Result<NameStanding> {
        Ok(match in_the_way(view, txn, name)? {
            None => NameStanding::Free,
            Some(found) if found.name == *name && found.owner == *ctx.tenant() => NameStanding::Own,
            Some(_) => NameStanding::Taken,
        })
    }

    /// The tenant's own names, in order of kind and name.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn list(&self, view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Vec<NameClaim>> {
        let all = claims()?.list(view, txn, claims()?.prefix())?;
        let mut own: Vec<_> = all
            .iter()
            .filter(|claim| claim.owner == *ctx.tenant())
            .map(|claim| (*claim.value).clone())
            .collect();
        own.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(own)
    }

    fn own(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        name: &UniqueName,
        operation: &'static str,
    ) -> Result<Stamped<NameClaim>> {
        let found = claims()?.get(view, txn, &key(name)?)?;
        found.filter(|found| found.owner == *ctx.tenant()).ok_or_else(|| {
            Error::not_found(operation, format!("tenant {} has not claimed {name}", ctx.tenant().id))
        })
    }
}

/// A claim of a living tenant that `name` cannot be claimed beside.
fn in_the_way(view: &Snapshot, txn: &Txn, name: &UniqueName) -> Result<Option<Stamped<NameClaim>>> {
    let found = match name.range() {
        Some(_) => claims()?.list(view, txn, &claims()?.below([name.kind().as_str()])?)?,
        None => claims()?.get(view, txn, &key(name)?)?.into_iter().collect(),
    };
    for claim in found {
        if claim.name.overlaps(name) && lives(view, txn, &claim.owner)? {
            return Ok(Some(claim));
        }
    }
    Ok(None)
}

/// Puts `claim`, in place of one of a tenant that is gone.
fn put(view: &Snapshot, txn: &mut Txn, claim: &NameClaim) -> Result<()> {
    let key = key(&claim.name)?;
    match claims()?.get(view, txn, &key)? {
        Some(void) => claims()?.update(txn, &void, claim),
        None => claims()?.create(view, txn, key, claim),
    }
}

fn raise_fence(view: &Snapshot, txn: &mut Txn, name: &UniqueName) -> Result<()> {
    let key = fences()?.key([name.kind().as_str()])?;
    match fences()?.get(view, txn, &key)? {
        Some(old) => fences()?.update(txn, &old, &Fence { claims: old.claims.wrapping_add(1) }),
        None => fences()?.create(view, txn, key, &Fence { claims: 1 }),
    }
}

fn delete_some(
    view: &Snapshot,
    txn: &mut Txn,
    limit: usize,
    which: impl Fn(&Txn, &NameClaim) -> Result<bool>,
) -> Result<usize> {
    let mut deleted = 0;
    for claim in claims()?.list(view, txn, claims()?.prefix())? {
        if deleted == limit {
            break;
        }
        if which(txn, &claim)? {
            claims()?.delete(txn, &claim)?;
            deleted += 1;
        }
    }
    Ok(deleted)
}
