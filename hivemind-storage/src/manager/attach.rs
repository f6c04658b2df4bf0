//! Volumes come to nodes, go, and are taken from nodes that are lost.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{ClaimId, Error, ErrorKind, NodeId, ProviderName, Result, TenantContext, WorkloadId};

use super::StorageManager;
use crate::Fenced;
use crate::ledger::AttachSpec;
use crate::records::{node_at, nodes};

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
    /// The proof is kept until the volume is gone from the lost node, and told to its provider. Write it into your audit
    /// log, too.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim; [`ErrorKind::Conflict`] if the volume is for one node and a
    /// third one is to have it, or if the proof is that the storage refuses the node and it is not known to do so.
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
        self.put(view, txn, &old, &new)
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
