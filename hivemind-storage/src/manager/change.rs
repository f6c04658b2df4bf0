//! A volume grows, or its parameters change.

use std::collections::BTreeMap;

use hivemind_core::resources::ByteSize;
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{ClaimId, Error, ErrorKind, NodeId, ReservationId, Result, TenantContext};

use super::{StorageManager, new_reservation, token};
use crate::records::{claims, volumes};
use crate::{Growth, Modification, Volume, VolumePhase};

/// How parameters would change.
pub type ParameterChanges = BTreeMap<String, (Option<String>, String)>;

impl StorageManager {
    /// Stages that a claim's volume grows to `size` at least: first at its provider, then its file system on the nodes
    /// that have it. What it has already is a no-op.
    ///
    /// The quota is charged for the larger of what is asked for and what there is, so asking for less after a refusal is
    /// possible down to the size that the volume has. What a provider may have begun stays charged: it may still end so. In the
    /// end the controller charges what it came to.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim; [`ErrorKind::Invalid`] if that would shrink it;
    /// [`ErrorKind::Conflict`] if its class does not let it grow, or it is not there yet; those of the quota.
    pub fn stage_expand(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        size: ByteSize,
    ) -> Result<()> {
        const OPERATION: &str = "expand";
        let old = self.volume(view, txn, ctx, claim)?;
        let bound = self.claim(view, txn, ctx, claim)?;
        // A provider may have made more than was asked for: to ask for some of that is not to shrink.
        if size < old.size && size < bound.spec.size {
            let message = format!("volume {} has {} and does not shrink to {size}", old.key.volume, old.size);
            return Err(Error::invalid(OPERATION, message));
        }
        if old.phase != VolumePhase::Ready {
            let message = format!("volume {} is {}: wait until it is ready", old.key.volume, old.state());
            return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
        }
        if let Some(class) = &old.class {
            let class = self.class(view, txn, class)?;
            crate::records::classes()?.expect(txn, &class)?;
            if let Some(largest) = class.largest.filter(|largest| size > *largest) {
                let message = format!("{size} is asked for, and class {} has {largest} at most", class.name);
                return Err(Error::invalid(OPERATION, message));
            }
            if !class.allow_expansion {
                let message = format!("class {} does not let volumes grow", class.name);
                return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
            }
        }
        let same = old.growth.as_ref().is_some_and(|growth| growth.to == size && growth.refused.is_none());
        if same || (size == bound.spec.size && old.growth.is_none()) {
            return volumes()?.expect(txn, &old);
        }
        let mut new = (*old.value).clone();
        let (reservation, charged) = self.charge_growth(view, txn, ctx, claim, &mut new, size)?;
        if size > old.size {
            new.growth = Some(Growth {
                token: token(ctx, format_args!("{}#expand-{}", old.key, size.as_bytes())),
                to: size,
                on_node: false,
                refused: None,
                reservation,
                charged,
            });
        } else if !old.growth.as_ref().is_some_and(|growth| growth.on_node) {
            new.growth = None;
        }
        self.put(view, txn, &old, &new)?;
        let mut renewed = (*bound.value).clone();
        renewed.first_size = renewed.first_size.or(Some(bound.spec.size));
        renewed.spec.size = size;
        claims()?.update(txn, &bound, &renewed)
    }

    /// Replaces what was charged for an earlier growth that has not happened; returns what is charged for this one.
    fn charge_growth(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        volume: &mut Volume,
        size: ByteSize,
    ) -> Result<(Option<ReservationId>, ByteSize)> {
        let id = new_reservation("grow", claim.as_str(), view, ctx)?;
        // Where only a node has something left to do, the provider has given all.
        let earlier = volume.growth.take_if(|growth| !growth.on_node);
        let begun = earlier.as_ref().filter(|growth| growth.refused.is_none());
        // All that is charged may be there already: an earlier wish may have been larger, and begun.
        let least = begun.map_or(ByteSize::ZERO, |growth| growth.to.max(volume.charged)).max(volume.size);
        if let Some(Growth { reservation: Some(earlier), charged, .. }) = &earlier {
            self.give_back(view, txn, ctx, std::slice::from_ref(earlier))?;
            volume.reservations.retain(|id| id != earlier);
            volume.charged = volume.charged.saturating_sub(*charged);
        }
        let more = size.max(least).saturating_sub(volume.charged);
        if more == ByteSize::ZERO {
            return Ok((None, more));
        }
        let charged = self.charge(view, txn, ctx, id, more)?;
        volume.charged = size.max(least);
        volume.reservations.extend(charged.iter().cloned());
        Ok((charged.into_iter().next(), more))
    }

    /// Stages that the file system of a claim's volume has grown on `node`: what the node side reports.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim.
    pub fn stage_node_expanded(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        node: &NodeId,
    ) -> Result<()> {
        let old = self.volume(view, txn, ctx, claim)?;
        let mut new = (*old.value).clone();
        // A file system is one, on however many nodes it is mounted.
        if new.attached.contains_key(node) && new.growth.as_ref().is_some_and(|growth| growth.on_node) {
            new.growth = None;
        }
        self.put(view, txn, &old, &new)
    }

    /// Which mutable parameters of a claim's volume would change, from what to what; nothing is staged.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim.
    pub fn plan_modify(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        parameters: &BTreeMap<String, String>,
    ) -> Result<ParameterChanges> {
        let volume = self.volume(view, txn, ctx, claim)?;
        let now = &volume.options.mutable_parameters;
        let changed = parameters.iter().filter(|(name, value)| now.get(*name) != Some(*value));
        Ok(changed.map(|(name, value)| (name.clone(), (now.get(name).cloned(), value.clone()))).collect())
    }

    /// Stages that mutable parameters of a claim's volume change, all or none of them. What changes nothing is a no-op,
    /// and no call to the provider: some count calls.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim; [`ErrorKind::Conflict`] if the volume is not there yet, or another
    /// change of it goes on.
    pub fn stage_modify(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        parameters: &BTreeMap<String, String>,
    ) -> Result<()> {
        const OPERATION: &str = "modify";
        let old = self.volume(view, txn, ctx, claim)?;
        let changes = self.plan_modify(view, txn, ctx, claim, parameters)?;
        let running = old.modification.as_ref().filter(|running| running.refused.is_none());
        if running.is_some_and(|running| running.parameters == *parameters)
            || (running.is_none() && changes.is_empty())
        {
            return volumes()?.expect(txn, &old);
        }
        if old.phase != VolumePhase::Ready || running.is_some() {
            let message = format!("volume {} is {}, or being modified: wait", old.key.volume, old.state());
            return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
        }
        let mut new = (*old.value).clone();
        new.modification = Some(Modification {
            token: token(ctx, format_args!("{}#modify", old.key)),
            parameters: parameters.clone(),
            refused: None,
        });
        self.put(view, txn, &old, &new)
    }
}
