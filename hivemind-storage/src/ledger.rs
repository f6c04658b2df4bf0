//! Who may have a volume at the same time: the access modes, enforced. No I/O, no clock, no async.

use hivemind_core::{Error, ErrorKind, NodeId, Result, WorkloadId};

use crate::{AccessMode, FenceEpoch, Fenced, Volume, VolumePhase, Wish};

/// A node that is to have a volume, for a workload there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttachSpec {
    /// Which node.
    pub node: NodeId,
    /// For whom at the same time; `None` for the widest mode of the volume.
    pub access_mode: Option<AccessMode>,
    /// Whether the node may only read.
    pub read_only: bool,
    /// For which workload; needed for a volume that only one workload may have.
    pub workload: Option<WorkloadId>,
    /// Whether it is to be filled there: only that is possible until it is.
    pub populating: bool,
}

impl AttachSpec {
    /// `node`, for reading and writing.
    pub fn new(node: NodeId) -> Self {
        Self { node, access_mode: None, read_only: false, workload: None, populating: false }
    }

    /// For these at the same time.
    #[must_use]
    pub fn with_access_mode(mut self, mode: AccessMode) -> Self {
        self.access_mode = Some(mode);
        self
    }

    /// For reading only.
    #[must_use]
    pub fn for_reading(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// To be filled there.
    #[must_use]
    pub fn to_populate(mut self) -> Self {
        self.populating = true;
        self
    }

    /// For this workload.
    #[must_use]
    pub fn for_workload(mut self, workload: WorkloadId) -> Self {
        self.workload = Some(workload);
        self
    }
}

fn conflict(operation: &'static str, message: String) -> Error {
    Error::new(ErrorKind::Conflict, operation, message)
}

impl Volume {
    /// The widest mode that it was asked to have.
    pub(crate) fn widest_mode(&self) -> AccessMode {
        let width = |mode: &AccessMode| (mode.is_shared(), mode.writers().unwrap_or(usize::MAX), *mode);
        self.options.access_modes.iter().copied().max_by_key(width).unwrap_or_default()
    }

    /// From now on the node of `spec` is to have it, too.
    ///
    /// Whoever may still have it does not hinder: it is taken from there before it comes to the node.
    pub(crate) fn desire(&mut self, spec: &AttachSpec) -> Result<()> {
        const OPERATION: &str = "attach";
        let (name, node) = (&self.key.volume, &spec.node);
        if !matches!(self.phase, VolumePhase::Creating | VolumePhase::Ready) || self.is_being_restored() {
            return Err(conflict(
                OPERATION,
                format!("volume {name} cannot be attached while it is {}", self.state()),
            ));
        }
        match spec.populating {
            false => self.check_filled(OPERATION)?,
            true if self.population.is_none() => {
                return Err(conflict(OPERATION, format!("volume {name} is filled already")));
            }
            true => {}
        }
        let mode = spec.access_mode.unwrap_or_else(|| self.widest_mode());
        if !self.options.access_modes.contains(&mode) {
            let message = format!("volume {name} was not asked to be {mode}: claim it with that access mode");
            return Err(Error::invalid(OPERATION, message));
        }
        if mode == AccessMode::ReadWriteOncePod && spec.workload.is_none() {
            let message = format!("volume {name} is for one workload: name it");
            return Err(Error::invalid(OPERATION, message));
        }
        let wish = Wish {
            access_mode: mode,
            read_only: spec.read_only || !mode.writes(),
            workloads: spec.workload.iter().cloned().collect(),
            epoch: self.epoch,
        };
        self.admit(node, &wish)?;
        let merged = self.desired.entry(node.clone()).or_insert_with(|| wish.clone());
        merged.workloads.extend(wish.workloads);
        Ok(())
    }

    /// Refuses what needs the content of a volume that is still to be filled.
    pub(crate) fn check_filled(&self, operation: &'static str) -> Result<()> {
        let Some(population) = &self.population else { return Ok(()) };
        let message = format!(
            "volume {} is to be filled by {} first: wait until it is",
            self.key.volume, population.populator
        );
        Err(conflict(operation, message))
    }

    /// Whether `wish` goes together with what is wished already.
    fn admit(&self, node: &NodeId, wish: &Wish) -> Result<()> {
        const OPERATION: &str = "attach";
        let name = &self.key.volume;
        if let Some(there) = self.desired.get(node) {
            if (there.access_mode, there.read_only) != (wish.access_mode, wish.read_only) {
                let message = format!("volume {name} is on node {node} already, otherwise: detach it first");
                return Err(conflict(OPERATION, message));
            }
            let single = wish.access_mode == AccessMode::ReadWriteOncePod;
            if let Some(other) = there.workloads.difference(&wish.workloads).next().filter(|_| single) {
                let message = format!("volume {name} is for one workload, and {other} has it");
                return Err(conflict(OPERATION, message));
            }
        }
        let mut others = self.desired.iter().filter(|(other, _)| *other != node);
        let apart =
            |(_, held): &(&NodeId, &Wish)| !(held.access_mode.is_shared() && wish.access_mode.is_shared());
        if let Some((other, _)) = others.clone().find(apart) {
            return Err(conflict(OPERATION, format!("volume {name} is on node {other}: detach it first")));
        }
        // Whoever was promised to be the only writer stays it, whatever the next one is promised.
        let single = |held: &Wish| [held, wish].into_iter().any(|one| one.access_mode.writers() == Some(1));
        let writer = others.find(|(_, held)| !held.read_only && single(held));
        if let Some((other, _)) = writer.filter(|_| !wish.read_only) {
            let message =
                format!("volume {name} has one writer, and that is node {other}: attach it for reading");
            return Err(conflict(OPERATION, message));
        }
        Ok(())
    }

    /// From now on `node` is not to have it. Whether it has it is unknown until it has been taken away: it may have
    /// got it without anybody writing that down, and a wish to have it back may come before it is gone.
    ///
    /// With proof it is taken by force, and whoever held it by an older decision is to be refused from then on.
    pub(crate) fn undesire(&mut self, node: &NodeId, proof: Option<&Fenced>) {
        let held = self.desired.remove(node).is_some() || self.maybe_attached.contains_key(node);
        if !held {
            return;
        }
        self.attached.remove(node);
        let leaving = self.maybe_attached.entry(node.clone()).or_default();
        if let (None, Some(proof)) = (&leaving.proof, proof) {
            leaving.proof = Some(proof.clone());
            self.epoch = self.epoch.next();
            // Whoever keeps it has it by the new decision.
            for wish in self.desired.values_mut() {
                wish.epoch = self.epoch;
            }
        }
    }

    /// One workload of `node` does not want it any more; the node loses it once none does.
    pub(crate) fn undesire_for(&mut self, node: &NodeId, workload: Option<&WorkloadId>) {
        let Some(wish) = self.desired.get_mut(node) else { return };
        if let Some(workload) = workload {
            // Who never had it takes it from nobody.
            if !wish.workloads.remove(workload) || !wish.workloads.is_empty() {
                return;
            }
        }
        self.undesire(node, None);
    }

    /// Whether it is to get the content of a snapshot again, and that is not refused.
    pub(crate) fn is_being_restored(&self) -> bool {
        self.restoration.as_ref().is_some_and(|wanted| wanted.refused.is_none())
    }

    /// The newest epoch that `node` may come with.
    pub(crate) fn epoch_for(&self, node: &NodeId) -> FenceEpoch {
        self.desired.get(node).map_or(self.epoch, |wish| wish.epoch)
    }

    /// What it is doing, for messages.
    pub(crate) fn state(&self) -> &'static str {
        match &self.phase {
            VolumePhase::Creating => "being created",
            VolumePhase::Ready if self.is_being_restored() => "being restored",
            VolumePhase::Ready => "ready",
            VolumePhase::Archived(_) => "archived",
            VolumePhase::Deleting => "being deleted",
            VolumePhase::Failed(_) => "refused by its provider",
        }
    }
}

#[cfg(test)]
mod tests;
