//! Claims and volumes: stages intents into the host's transaction. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hivemind_core::resources::Resources;
use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{
    ClaimId, Collection, Error, ErrorKind, NodeId, OpToken, ProviderName, QuotaGate, ReservationId, Result,
    Stamped, TenantContext, VolumeId,
};

use crate::model::{Claim, ClaimSpec, ReclaimPolicy, Volume, VolumeKey, VolumePhase};

/// Proof that a node can no longer write to a volume: required to move a volume off a node that does not answer.
///
/// Make one only when it is true: two nodes that write to one volume destroy it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fenced {
    /// The storage refuses the node.
    ByStorage,
    /// The node is powered off.
    PowerOff,
    /// A person says so, and this is who.
    Operator(String),
}

/// Decides on claims and volumes. All operations are pure; the [`VolumeController`](crate::VolumeController) makes
/// them so.
#[derive(Debug, Clone)]
pub struct StorageManager {
    providers: Vec<ProviderName>,
    quota: Option<Arc<dyn QuotaGate>>,
}

pub(crate) fn volumes() -> Result<Collection<Volume>> {
    crate::collection("volumes")
}

fn claims() -> Result<Collection<Claim>> {
    crate::collection("claims")
}

pub(crate) fn volume_key(key: &VolumeKey) -> Result<Key> {
    volumes()?.key([&key.tenant.to_string(), key.volume.as_str()])
}

fn claim_key(ctx: &TenantContext, claim: &ClaimId) -> Result<Key> {
    claims()?.key([&ctx.tenant().to_string(), claim.as_str()])
}

/// The reservation that a claim is charged under.
fn reservation(claim: &ClaimId) -> Result<ReservationId> {
    ReservationId::new(format!("volume-{claim}")).map_err(|_| {
        let message =
            format!("claim name {claim} is too long: 56 characters at most where quotas are charged");
        Error::invalid("claim", message)
    })
}

impl StorageManager {
    /// Claims may name `providers`; the first one is the default.
    pub fn new(providers: impl IntoIterator<Item = ProviderName>) -> Self {
        Self { providers: providers.into_iter().collect(), quota: None }
    }

    /// Charges the storage of claims through `quota`, in the same transaction.
    #[must_use]
    pub fn with_quota(mut self, quota: Arc<dyn QuotaGate>) -> Self {
        self.quota = Some(quota);
        self
    }

    fn provider(&self, wanted: Option<&ProviderName>) -> Result<ProviderName> {
        let found = match wanted {
            None => self.providers.first(),
            Some(name) => self.providers.iter().find(|known| *known == name),
        };
        let missing = || {
            let known = self.providers.iter().map(ProviderName::as_str).collect::<Vec<_>>().join(", ");
            let wanted = wanted.map_or("any", ProviderName::as_str);
            Error::not_found("claim", format!("there is no provider {wanted}; there are: {known}"))
        };
        found.cloned().ok_or_else(missing)
    }

    /// Stages a claim and the intent of its volume. The same claim again is a no-op.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the claim exists with another specification, or a retained volume has its
    /// name; [`ErrorKind::NotFound`] for an unknown provider; [`ErrorKind::Invalid`] for a size of zero; those of the
    /// quota.
    pub fn stage_claim(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        spec: &ClaimSpec,
    ) -> Result<()> {
        if spec.size.as_bytes() == 0 {
            return Err(Error::invalid("claim", format!("claim {} asks for a volume of no size", spec.id)));
        }
        let provider = self.provider(spec.provider.as_ref())?;
        let at = claim_key(ctx, &spec.id)?;
        if let Some(claim) = claims()?.get(view, txn, &at)? {
            if claim.spec == *spec {
                return claims()?.expect(txn, &claim);
            }
            let message = format!("claim {} exists with another specification", spec.id);
            return Err(Error::new(ErrorKind::AlreadyExists, "claim", message));
        }
        let name = VolumeId::new(spec.id.as_str()).map_err(|e| Error::of(ErrorKind::Invalid, "claim", e))?;
        let key = VolumeKey::new(ctx.tenant().clone(), name.clone());
        let volume = Volume {
            provider,
            size: spec.size,
            options: spec.options.clone(),
            reclaim: spec.reclaim,
            claim: Some(spec.id.clone()),
            phase: VolumePhase::Creating,
            // The request made the intent: repeated, it has the same token; a later claim of that name has another.
            token: OpToken::new(format!("{key}@{}", ctx.request())),
            key,
            desired: BTreeSet::new(),
            attached: BTreeMap::new(),
            maybe_attached: BTreeSet::new(),
        };
        if let Some(quota) = &self.quota {
            let amount = Resources::new().with_storage(spec.size);
            quota.reserve(view, txn, ctx, &reservation(&spec.id)?, &amount)?;
        }
        volumes()?.create(view, txn, volume_key(&volume.key)?, &volume)?;
        claims()?.create(view, txn, at, &Claim::new(spec.clone(), name))
    }

    /// Stages that `node` is to have the claim's volume, too. The same node again is a no-op.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the volume is for one node and another is to have it: detach it first, or, if that
    /// node is lost, [move](Self::stage_move) it with proof.
    pub fn stage_attach(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        node: &NodeId,
    ) -> Result<()> {
        let old = self.volume(view, txn, ctx, claim)?;
        if let Some(other) =
            old.desired.iter().find(|other| *other != node && !old.options.access_mode.is_shared())
        {
            let message = format!("volume {} is on node {other}: detach it first", old.key.volume);
            return Err(Error::new(ErrorKind::Conflict, "attach", message));
        }
        self.change(txn, &old, |new| new.desire(node.clone()))
    }

    /// Stages that `node` is not to have the claim's volume; if it is not to have it anyway, that is a no-op.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim.
    pub fn stage_detach(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        node: &NodeId,
    ) -> Result<()> {
        let old = self.volume(view, txn, ctx, claim)?;
        self.change(txn, &old, |new| new.undesire(node))
    }

    /// Stages that the claim's volume goes from `lost`, a node that does not answer, to `node`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim, [`ErrorKind::Conflict`] if the volume is for one node and a
    /// third one is to have it.
    #[allow(clippy::too_many_arguments, reason = "each of them can be got wrong, so each is named")]
    pub fn stage_move(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        lost: &NodeId,
        node: &NodeId,
        proof: &Fenced,
    ) -> Result<()> {
        // The proof is demanded by type; what it says belongs into the host's audit log.
        let _ = proof;
        let old = self.volume(view, txn, ctx, claim)?;
        let mut others = old.desired.iter().filter(|other| *other != lost && *other != node);
        if let Some(other) = others.next().filter(|_| !old.options.access_mode.is_shared()) {
            let message = format!("volume {} is on node {other}, not on {lost}", old.key.volume);
            return Err(Error::new(ErrorKind::Conflict, "move", message));
        }
        self.change(txn, &old, |new| {
            if lost != node {
                new.undesire(lost);
            }
            new.desire(node.clone());
        })
    }

    fn change(&self, txn: &mut Txn, old: &Stamped<Volume>, change: impl FnOnce(&mut Volume)) -> Result<()> {
        let mut new = (*old.value).clone();
        change(&mut new);
        if new == *old.value { volumes()?.expect(txn, old) } else { volumes()?.update(txn, old, &new) }
    }

    /// Stages the end of a claim: its volume is detached, and deleted or kept by its reclaim policy.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim.
    pub fn stage_release(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
    ) -> Result<()> {
        let bound = self.claim(view, txn, ctx, claim)?;
        let old = self.volume(view, txn, ctx, claim)?;
        let mut new = (*old.value).clone();
        new.claim = None;
        for node in &old.desired {
            new.undesire(node);
        }
        if old.reclaim == ReclaimPolicy::Delete {
            new.phase = VolumePhase::Deleting;
        }
        if let Some(quota) = &self.quota {
            quota.release(view, txn, ctx, &reservation(claim)?)?;
        }
        volumes()?.update(txn, &old, &new)?;
        claims()?.delete(txn, &bound)
    }

    fn claim(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
    ) -> Result<Stamped<Claim>> {
        let missing =
            || Error::not_found("claim", format!("tenant {} has no claim {claim}", ctx.tenant().id));
        claims()?.get(view, txn, &claim_key(ctx, claim)?)?.ok_or_else(missing)
    }

    /// The volume that a claim of the tenant is bound to.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has no such claim, whoever else may.
    pub fn volume(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
    ) -> Result<Stamped<Volume>> {
        let bound = self.claim(view, txn, ctx, claim)?;
        volumes()?.require(
            view,
            txn,
            &volume_key(&VolumeKey::new(ctx.tenant().clone(), bound.volume.clone()))?,
        )
    }

    /// Every volume of the tenant, in the order of names.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn volumes(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Vec<Stamped<Volume>>> {
        volumes()?.list(view, &Txn::new(), &volumes()?.below([ctx.tenant().to_string()])?)
    }
}
