//! Volumes come to nodes, go, and are taken from nodes that are lost.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    AccessRequest, AuditEvent, AuditOutcome, ClaimId, Error, ErrorKind, NodeId, ProviderName, Result,
    TenantContext, Verb, WorkloadId,
};

use super::{StorageManager, now, work_on};
use crate::ledger::AttachSpec;
use crate::records::{Word, node_at, nodes, word_at, words};
use crate::{Fenced, Volume};

impl StorageManager {
    /// Stages that `node` is to have the claim's volume, too. The same node again is a no-op.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the volume is for one node and another is to have it: detach it first, or, if that
    /// node is lost, [move](Self::stage_move) it with proof; [`ErrorKind::Exhausted`] if the node has no slot left.
    pub fn stage_attach(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        node: &NodeId,
    ) -> Result<()> {
        self.stage_attach_as(view, txn, ctx, claim, &AttachSpec::new(node.clone()))
    }

    /// Stages that a node is to have the claim's volume, in this mode, for this workload.
    ///
    /// # Errors
    /// As for [`stage_attach`](Self::stage_attach); [`ErrorKind::Invalid`] for a mode that the volume was not asked to
    /// have; [`ErrorKind::Conflict`] if a second workload wants what is for one, or a second node wants to write what has
    /// one writer.
    pub fn stage_attach_as(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        spec: &AttachSpec,
    ) -> Result<()> {
        let old = self.volume(view, txn, ctx, claim)?;
        let mut new = (*old.value).clone();
        new.desire(spec)?;
        self.put(view, txn, &old, &new)
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
        let mut new = (*old.value).clone();
        new.undesire_for(node, None);
        self.put(view, txn, &old, &new)
    }

    /// Stages that `workload` on `node` does not want the claim's volume any more; the node loses it with the last one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim.
    pub fn stage_detach_from(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        node: &NodeId,
        workload: &WorkloadId,
    ) -> Result<()> {
        let old = self.volume(view, txn, ctx, claim)?;
        let mut new = (*old.value).clone();
        new.undesire_for(node, Some(workload));
        self.put(view, txn, &old, &new)
    }

    /// Stages that the claim's volume goes from `lost`, a node that does not answer, to `node`.
    ///
    /// The proof is kept until the volume is gone from the lost node, and told to its provider. An operator's word goes to
    /// the [audit log](crate::VolumeController::with_audit) first, with this transaction: with who asked, who says so and
    /// why, the node and the epoch. What cannot be recorded is not done.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim; [`ErrorKind::Conflict`] if the volume is for one node and a
    /// third one is to have it, or if the proof is that the storage refuses the node and it is not known to do so;
    /// [`ErrorKind::Invalid`] for an operator's word without a reason, or in a request that has no time.
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
        const OPERATION: &str = "move";
        let old = self.volume(view, txn, ctx, claim)?;
        if *proof == Fenced::ByStorage {
            self.require_fence(view, txn, &old.provider, lost, OPERATION)?;
        }
        let mut new = (*old.value).clone();
        // Only who fills it can have had it there, if anybody had.
        let had = new.desired.contains_key(lost) || new.maybe_attached.contains_key(lost);
        let populating = new.population.is_some() && had;
        if lost == node {
            new.desire(&AttachSpec { populating, ..AttachSpec::new(node.clone()) })?;
            return self.put(view, txn, &old, &new);
        }
        let mut spec = AttachSpec::new(node.clone());
        spec.populating = populating;
        let mut workloads = vec![None];
        if let Some(wish) = new.desired.get(lost) {
            (spec.access_mode, spec.read_only) = (Some(wish.access_mode), wish.read_only);
            if !wish.workloads.is_empty() {
                workloads = wish.workloads.iter().cloned().map(Some).collect();
            }
        } else if !new.maybe_attached.contains_key(lost) {
            let other = new.desired.keys().find(|other| *other != node);
            if let Some(other) = other.filter(|_| !new.options.is_shared()) {
                let message = format!("volume {} is on node {other}, not on {lost}", old.key.volume);
                return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
            }
        }
        new.undesire(lost, Some(proof));
        self.put_on_record(view, txn, ctx, &old, &new, (lost, proof))?;
        if let Some(there) = new.desired.get_mut(node) {
            there.workloads.extend(workloads.into_iter().flatten());
            return self.put(view, txn, &old, &new);
        }
        // Every workload that has it there goes along.
        for workload in workloads {
            spec.workload = workload;
            new.desire(&spec)?;
        }
        self.put(view, txn, &old, &new)
    }

    /// Stages that the claim's volume is taken by force from `lost`, a node that does not answer.
    ///
    /// # Errors
    /// As for [`stage_move`](Self::stage_move).
    pub fn stage_force_detach(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        lost: &NodeId,
        proof: &Fenced,
    ) -> Result<()> {
        let old = self.volume(view, txn, ctx, claim)?;
        if *proof == Fenced::ByStorage {
            self.require_fence(view, txn, &old.provider, lost, "detach")?;
        }
        let mut new = (*old.value).clone();
        new.undesire(lost, Some(proof));
        self.put_on_record(view, txn, ctx, &old, &new, (lost, proof))?;
        self.put(view, txn, &old, &new)
    }

    /// An operator's word goes to the audit log before anything is done by it: what is to be kept there is part of the
    /// same transaction.
    fn put_on_record(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        old: &Volume,
        new: &Volume,
        (lost, proof): (&NodeId, &Fenced),
    ) -> Result<()> {
        let Fenced::Operator { because, .. } = proof else { return Ok(()) };
        if because.trim().is_empty() {
            return Err(Error::invalid(
                "move",
                "say how it is known that the node is fenced: it goes on record",
            ));
        }
        // Where it was not, or is taken from already, nothing happens by this word.
        if new.epoch == old.epoch {
            return Ok(());
        }
        let (volume, epoch) = (&new.key.volume, new.epoch);
        let kind = "volumes".parse().map_err(|e| Error::of(ErrorKind::Internal, "move", e))?;
        let request = AccessRequest::new(Verb::Update, kind).named(volume.as_str());
        let told = format!("volume {volume} is taken from node {lost} by force, in epoch {epoch}: {proof}");
        let event = AuditEvent::new(now(ctx, "move")?, ctx.clone(), request, AuditOutcome::Done);
        let at = word_at(&new.key, epoch)?;
        words()?.create(view, txn, at.clone(), &Word { event: event.because(vec![told]) })?;
        work_on(view, txn, &at, true)
    }

    /// The storage is known to refuse the node, and goes on to while the transaction commits.
    fn require_fence(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        provider: &ProviderName,
        node: &NodeId,
        operation: &'static str,
    ) -> Result<()> {
        let there = nodes()?.get(view, txn, &node_at(provider, node)?)?;
        match there {
            Some(there) if there.is_fenced()? => nodes()?.expect(txn, &there),
            _ => {
                let message = format!("provider {provider} does not fence node {node}: fence it first");
                Err(Error::new(ErrorKind::Conflict, operation, message))
            }
        }
    }
}
