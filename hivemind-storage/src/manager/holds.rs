//! Claims that wait for their first consumer: kept while it is placed, then bound, or let go again.

use hivemind_core::store::{Guard, Snapshot, Txn};
use hivemind_core::{ClaimId, Error, ErrorKind, NodeId, Result, Stamped, TenantContext, Timestamp, VolumeId};

use super::bind::requirement;
use super::{StorageManager, now};
use crate::records::{claims, node_at, nodes};
use crate::{Claim, Hold, Topology};

/// A workload that is being placed: on which node, with which claims, and how long the decision holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placement {
    /// Where it would run.
    pub node: NodeId,
    /// Which claims it uses.
    pub claims: Vec<ClaimId>,
    /// Until when the placement is committed or given up.
    pub until: Timestamp,
}

impl Placement {
    /// On `node`, with `claims`, to be committed before `until`.
    pub fn new(node: NodeId, claims: impl IntoIterator<Item = ClaimId>, until: Timestamp) -> Self {
        Self { node, claims: claims.into_iter().collect(), until }
    }
}

/// What a claim would be bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HoldDecision {
    /// It is bound, to this volume, and that can be reached from the node.
    Bound(VolumeId),
    /// This volume is offered, and kept for it.
    Offered(VolumeId),
    /// A volume would be made, reachable from the node.
    ToBeMade,
}

impl StorageManager {
    /// Stages that what the claims of a workload need is kept for them until the placement is committed or given up, or
    /// its time is over. Tells what each would be bound to.
    ///
    /// The same placement again is a no-op, and prolongs it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim; [`ErrorKind::Conflict`] if a volume cannot be reached from the
    /// node, or a claim is kept for another node; [`ErrorKind::Invalid`] if the request has no time.
    pub fn stage_hold(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        placement: &Placement,
    ) -> Result<Vec<HoldDecision>> {
        let now = now(ctx, "hold")?;
        placement.claims.iter().map(|claim| self.hold(view, txn, ctx, placement, claim, now)).collect()
    }

    fn hold(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        placement: &Placement,
        claim: &ClaimId,
        now: Timestamp,
    ) -> Result<HoldDecision> {
        const OPERATION: &str = "hold";
        let old = self.claim(view, txn, ctx, claim)?;
        if let Some(volume) = &old.volume {
            let bound = self.owned(view, txn, ctx, volume)?;
            let node = self.place_of(view, txn, &bound.provider, &placement.node)?;
            if !bound.reachable_from(&node) {
                let message = format!(
                    "volume {volume} cannot be reached from node {}, which is at {node}",
                    placement.node
                );
                return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
            }
            crate::records::volumes()?.expect(txn, &bound)?;
            return Ok(HoldDecision::Bound(volume.clone()));
        }
        let mut new = (*old.value).clone();
        if let Some(held) = &old.hold {
            if held.node == placement.node {
                let decided = held.volume.clone().map_or(HoldDecision::ToBeMade, HoldDecision::Offered);
                if let Some(hold) = &mut new.hold {
                    hold.until = hold.until.max(placement.until);
                }
                claims()?.update(txn, &old, &new)?;
                return Ok(decided);
            }
            if held.until > now {
                let message =
                    format!("claim {claim} is kept for node {}: give that placement up first", held.node);
                return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
            }
            self.put_back(view, txn, ctx, &mut new)?;
        }
        let class = self.class_of(view, txn, &old.spec)?;
        let resolved = self.resolve(class.as_deref(), &old.spec)?;
        let node = self.place_of(view, txn, &resolved.provider, &placement.node)?;
        let allowed = resolved.places.is_empty()
            || resolved.places.iter().any(|place| place.covers(&node) || node.is_everywhere());
        if !allowed {
            let message = format!(
                "the class of claim {claim} has no volumes at {node}, where node {} is",
                placement.node
            );
            return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
        }
        let offered = self.bind_offer(view, txn, ctx, &old.spec, &resolved.options, Some(&node))?;
        if let Some(kept) = &offered {
            let mut held = (*kept.value).clone();
            held.held_for = Some(claim.clone());
            crate::records::volumes()?.update(txn, kept, &held)?;
        }
        let volume = offered.map(|volume| volume.key.volume.clone());
        let decided = volume.clone().map_or(HoldDecision::ToBeMade, HoldDecision::Offered);
        new.hold = Some(Hold { node: placement.node.clone(), until: placement.until, volume });
        claims()?.update(txn, &old, &new)?;
        Ok(decided)
    }

    /// Stages that the claims of a placement that was kept are bound: to the offered volumes, or to new ones that can be
    /// reached from its node. Bound ones stay as they are.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim; [`ErrorKind::Conflict`] if a claim is not kept for the node, or
    /// not any more; those of the quota.
    pub fn stage_hold_commit(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        placement: &Placement,
    ) -> Result<()> {
        let now = now(ctx, "commit")?;
        for name in &placement.claims {
            let old = self.claim(view, txn, ctx, name)?;
            if old.volume.is_some() {
                claims()?.expect(txn, &old)?;
                continue;
            }
            let held = old.hold.as_ref().filter(|held| held.node == placement.node && held.until > now);
            let Some(held) = held else {
                let message = format!(
                    "claim {name} is not kept for node {}, or not any more: place again",
                    placement.node
                );
                return Err(Error::new(ErrorKind::Conflict, "commit", message));
            };
            let mut new = (*old.value).clone();
            (new.hold, new.volume) = (None, Some(self.bind_held(view, txn, ctx, &old, held)?));
            new.reservations.clear();
            claims()?.update(txn, &old, &new)?;
        }
        Ok(())
    }

    fn bind_held(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &Stamped<Claim>,
        held: &Hold,
    ) -> Result<VolumeId> {
        if let Some(volume) = &held.volume {
            // The volume has been charged since it was made.
            self.give_back(view, txn, ctx, &claim.reservations)?;
            let offered = self.owned(view, txn, ctx, volume)?;
            return self.claimed(view, txn, &offered, &claim.spec);
        }
        let class = self.class_of(view, txn, &claim.spec)?;
        let mut resolved = self.resolve(class.as_deref(), &claim.spec)?;
        let node = self.place_of(view, txn, &resolved.provider, &held.node)?;
        resolved.requirement = requirement(&resolved.places, Some(&node));
        self.make(view, txn, ctx, &claim.spec, resolved, claim.reservations.clone())
    }

    /// Stages that a placement is given up: what was kept for its claims is offered again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim.
    pub fn stage_hold_abort(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        placement: &Placement,
    ) -> Result<()> {
        for name in &placement.claims {
            let old = self.claim(view, txn, ctx, name)?;
            if old.hold.as_ref().is_some_and(|held| held.node == placement.node) {
                let mut new = (*old.value).clone();
                self.put_back(view, txn, ctx, &mut new)?;
                claims()?.update(txn, &old, &new)?;
            }
        }
        Ok(())
    }

    /// Stages that placements of the tenant whose time is over are given up; returns how many claims that were: 20 at most,
    /// so that they fit into a transaction. Call it until it returns none.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the request has no time.
    pub fn stage_expired_holds(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext) -> Result<usize> {
        let now = now(ctx, "expire")?;
        let all = self.claims(view, txn, ctx)?;
        let over: Vec<_> = all
            .iter()
            .filter(|claim| claim.hold.as_ref().is_some_and(|held| held.until <= now))
            .take(super::BATCH)
            .collect();
        for old in &over {
            let mut new = (*old.value).clone();
            self.put_back(view, txn, ctx, &mut new)?;
            claims()?.update(txn, old, &new)?;
        }
        Ok(over.len())
    }

    /// What was kept for the claim is offered again.
    pub(super) fn put_back(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &mut Claim,
    ) -> Result<()> {
        let Some(volume) = claim.hold.take().and_then(|held| held.volume) else { return Ok(()) };
        let key = Self::key_of(ctx, &volume)?;
        let Some(kept) = crate::records::volumes()?.get(view, txn, &key)? else { return Ok(()) };
        let own = kept.held_for.as_ref() == Some(&claim.spec.id);
        if !own || kept.claim.is_some() || kept.phase != crate::VolumePhase::Ready {
            return crate::records::volumes()?.expect(txn, &kept);
        }
        let mut free = (*kept.value).clone();
        free.held_for = None;
        crate::records::volumes()?.update(txn, &kept, &free)?;
        self.offer(view, txn, &free)
    }

    /// Where a node is, as its provider knows it; everywhere if it knows nothing. It must not move meanwhile.
    fn place_of(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        provider: &hivemind_core::ProviderName,
        node: &NodeId,
    ) -> Result<Topology> {
        let at = node_at(provider, node)?;
        match nodes()?.get(view, txn, &at)? {
            Some(there) => {
                nodes()?.expect(txn, &there)?;
                Ok(there.info.topology.clone())
            }
            None => {
                txn.guard(&at, Guard::Absent)?;
                Ok(Topology::everywhere())
            }
        }
    }
}
