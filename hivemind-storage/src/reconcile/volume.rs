//! The next step of one volume.

use hivemind_core::store::{Conflict, Key, Snapshot, Txn};
use hivemind_core::{Effect, Error, ErrorKind, NodeId, Progress, Result, Retry, Stamped};

use super::charges::Books;
use super::keys::{is_erased, worthless};
use super::{Did, VolumeController, another, is_refusal, is_used_up, read, token};
use crate::records::{
    HandleOwner, Todo, handle_at, handles, nodes, report_at, snapshot_at, snapshots, volume_at, volumes,
};
use crate::steps::{self, Step};
use crate::{
    AttachVolume, AttachedAs, Attachment, Capability, CreateVolume, DetachVolume, ProviderApi,
    ProvisionedVolume, Restoration, SizeRange, SnapshotPhase, SourceKey, StorageProvider, Volume,
    VolumePhase, VolumeRef, VolumeSource,
};

/// How often the record of a node may change under our hands.
const ATTEMPTS: usize = 64;

/// A volume that is being worked on.
pub(super) struct Job<'a> {
    provider: &'a dyn StorageProvider,
    pub(super) volume: Stamped<Volume>,
    todo: &'a Stamped<Todo>,
    grows_online: bool,
}

pub(super) fn waits(message: String) -> Error {
    Error::new(ErrorKind::Unavailable, "tick", message).with_retry(Retry::Later)
}

impl VolumeController {
    pub(super) async fn volume_step(&self, todo: &Stamped<Todo>, view: &Snapshot, at: &Key) -> Result<Did> {
        let Some(volume) = read(&volumes()?, view, at)? else {
            self.done(Txn::new(), todo, false).await?;
            return Ok(Did::Nothing);
        };
        let provider = &**self.providers.provider(&volume.provider)?;
        let grows_online = provider.capabilities().has(Capability::ExpandOnline);
        let job = Job { provider, volume, todo, grows_online };
        if self.quota.is_some() && job.volume.is_mischarged() {
            self.record(&job, |_| ()).await?;
            return Ok(Did::Altered);
        }
        let steps = steps::next(&job.volume, grows_online);
        if steps.is_empty() {
            return self.rest(&job).await;
        }
        // What fails or goes on does not hold up what does not depend on it.
        let mut waits = Ok(Did::Nothing);
        for step in steps {
            let alone = step == Step::Expand && !grows_online;
            match self.take(&job, step).await {
                Ok(Did::Pending(after)) if alone => return Ok(Did::Pending(after)),
                Ok(Did::Nothing) => {}
                // The first failure is told, whatever else goes on; and of what goes on, what may end first.
                Ok(Did::Pending(after)) => match &mut waits {
                    Ok(Did::Pending(earlier)) => *earlier = after.min(*earlier),
                    Ok(_) => waits = Ok(Did::Pending(after)),
                    Err(_) => {}
                },
                Err(e) if waits.is_ok() => waits = Err(e),
                Err(_) => {}
                // The record is another one now.
                done => return done,
            }
        }
        waits
    }

    async fn take(&self, job: &Job<'_>, step: Step) -> Result<Did> {
        match step {
            Step::Create => self.create(job).await,
            Step::Attach(node) => self.attach(job, &node).await,
            Step::Detach(node) => self.detach(job, &node).await,
            Step::Expand => self.expand(job).await,
            Step::Modify => self.modify(job).await,
            Step::Restore => self.restore(job).await,
            Step::Delete => self.delete(job).await,
            Step::Expire(until) if until <= self.clock.now() => {
                self.record(job, |new| new.phase = VolumePhase::Deleting).await?;
                Ok(Did::Altered)
            }
            Step::Expire(until) => {
                let later = Todo { not_before: until, ..Todo::default() };
                let mut txn = Txn::new();
                crate::records::todos()?.update(&mut txn, job.todo, &later)?;
                self.store.commit(&txn).await?;
                Ok(Did::Nothing)
            }
        }
    }

    /// All is as intended, or has to wait for something else.
    async fn rest(&self, job: &Job<'_>) -> Result<Did> {
        if !steps::next(&job.volume, true).is_empty() {
            return Ok(Did::Nothing);
        }
        let mut txn = Txn::new();
        volumes()?.expect(&mut txn, &job.volume)?;
        self.done(txn, job.todo, false).await?;
        Ok(Did::Nothing)
    }

    /// Writes down what has become so, if the intent is still the one that was acted on.
    pub(super) async fn record<R>(&self, job: &Job<'_>, change: impl FnOnce(&mut Volume) -> R) -> Result<()> {
        self.record_with(job, Txn::new(), change).await
    }

    async fn record_with<R>(
        &self,
        job: &Job<'_>,
        txn: Txn,
        change: impl FnOnce(&mut Volume) -> R,
    ) -> Result<()> {
        let mut new = (*job.volume.value).clone();
        change(&mut new);
        let more = !steps::next(&new, true).is_empty();
        let tenant = new.is_mischarged().then_some(&new.key.tenant);
        let stage = |books: Option<&Books<'_>>| {
            let (mut txn, mut new) = (txn.clone(), new.clone());
            if let Some(books) = books {
                books.settle_volume(&mut txn, &mut new)?;
            }
            volumes()?.update(&mut txn, &job.volume, &new)?;
            Ok(txn)
        };
        self.done_charging(job.todo, more, tenant, stage).await
    }

    /// The record goes, and all there is to do with it.
    async fn forget(&self, job: &Job<'_>) -> Result<()> {
        let mut attempts = 0;
        loop {
            match self.try_forget(job).await {
                Err(e) if is_about_a_node(&e) && attempts < ATTEMPTS => attempts += 1,
                outcome => return outcome,
            }
        }
    }

    async fn try_forget(&self, job: &Job<'_>) -> Result<()> {
        let mut txn = Txn::new();
        volumes()?.delete(&mut txn, &job.volume)?;
        txn.delete(report_at(&job.volume.key)?);
        if let Some(handle) = &job.volume.handle {
            txn.delete(handle_at(&job.volume.provider, handle)?);
        }
        for node in job.volume.desired.keys().chain(job.volume.maybe_attached.keys()) {
            let (_, known) = self.node(&job.volume.provider, node).await?;
            let Some(known) = known else { continue };
            let mut record = (*known.value).clone();
            if record.volumes.remove(&job.volume.key) {
                nodes()?.update(&mut txn, &known, &record)?;
            }
        }
        let volume = &job.volume;
        self.done_uncharged(&txn, job.todo, &volume.key.tenant, &volume.reservations).await
    }

    async fn create(&self, job: &Job<'_>) -> Result<Did> {
        let answer = match self.choose_key(job).await {
            Ok(true) => return Ok(Did::Prepared),
            // It never had a key, so it was never made.
            Err(e) if is_erased(&e) && job.volume.phase == VolumePhase::Deleting => {
                self.forget(job).await?;
                return Ok(Did::Deleted);
            }
            Err(e) => Err(e),
            Ok(false) => self.make(job).await,
        };
        let made = match answer {
            Ok(Progress::Pending(at_it)) => return Ok(Did::pending(&at_it)),
            Ok(Progress::Ready(made)) => made,
            Err(e) if is_used_up(&e) => {
                self.record(job, |new| new.token = another(&new.token)).await?;
                return Ok(Did::Prepared);
            }
            Err(e) if is_refusal(&e) && job.volume.phase == VolumePhase::Deleting => {
                let Some(left) = self.left_volume(job.provider, &job.volume.key).await? else {
                    self.forget(job).await?;
                    return Ok(Did::Deleted);
                };
                left
            }
            // Without its key nobody could ever read it.
            Err(e) if is_refusal(&e) || is_erased(&e) => {
                self.record(job, |new| new.phase = VolumePhase::Failed(e.to_string())).await?;
                return Ok(Did::Refused);
            }
            Err(e) => return Err(e),
        };
        // No two records have one volume of the provider.
        let mut txn = Txn::new();
        let owner = HandleOwner { volume: job.volume.key.clone() };
        let at = handle_at(&job.volume.provider, &made.volume.handle)?;
        handles()?.create(&Snapshot::default(), &mut txn, at, &owner)?;
        self.record_with(job, txn, |new| learn(new, made)).await?;
        Ok(Did::Created)
    }

    async fn make(&self, job: &Job<'_>) -> Result<Progress<ProvisionedVolume>> {
        let volume = &*job.volume.value;
        let size = SizeRange::at_least(volume.size)?;
        let mut request =
            CreateVolume::new(volume.token.clone(), volume.key.clone(), size, volume.options.clone());
        request.topology = volume.requirement.clone();
        // Nothing of it is the provider's word: the volume may have been made long ago.
        request.source = self.source(volume).await.map_err(|e| e.with_retry(Retry::Later))?;
        request.secrets = match self.secrets(volume).await {
            // It may have been made before its key was erased, and then it has to be made again to learn what it is called.
            Err(e) if is_erased(&e) && volume.phase == VolumePhase::Deleting => worthless(volume),
            secrets => secrets.map_err(|e| e.with_retry(Retry::Later))?,
        };
        job.provider.capabilities().require_options(&volume.provider, &volume.options)?;
        let call = job.provider.create_volume(&request);
        self.within(&volume.provider, ProviderApi::Create, call).await
    }

    async fn source(&self, volume: &Volume) -> Result<Option<VolumeSource>> {
        match &volume.source {
            None => Ok(None),
            Some(SourceKey::Snapshot(key)) => {
                let at = snapshot_at(key)?;
                let view = self.records(std::slice::from_ref(&at)).await?;
                let gone = || Error::not_found("create", format!("there is no snapshot {key} any more"));
                let found = read(&snapshots()?, &view, &at)?.ok_or_else(gone)?;
                let not_yet = || waits(format!("snapshot {key} is not ready yet"));
                let ready = found.made().filter(|_| found.is_ready()).ok_or_else(not_yet)?;
                Ok(Some(VolumeSource::Snapshot(ready)))
            }
            Some(SourceKey::Volume(key)) => {
                let at = volume_at(key)?;
                let view = self.records(std::slice::from_ref(&at)).await?;
                let gone = || Error::not_found("create", format!("there is no volume {key} any more"));
                let found = read(&volumes()?, &view, &at)?.ok_or_else(gone)?;
                let ready = found.made().ok_or_else(|| waits(format!("volume {key} is not made yet")))?;
                Ok(Some(VolumeSource::Volume(ready)))
            }
        }
    }

    async fn attach(&self, job: &Job<'_>, node: &NodeId) -> Result<Did> {
        let volume = &*job.volume.value;
        let (Some(made), Some(wish)) = (volume.made(), volume.desired.get(node)) else {
            return Ok(Did::Nothing);
        };
        let at = if job.provider.capabilities().has(Capability::Attach) {
            let (name, _) = self.node(&volume.provider, node).await?;
            let request = AttachVolume::new(token(&job.volume, &volume.token, "attach"), made, name)
                .with_access_mode(wish.access_mode)
                .with_volume_mode(volume.options.volume_mode.clone())
                .with_read_only(wish.read_only)
                .of_epoch(wish.epoch)
                .with_secrets(self.secrets(volume).await?);
            let call = job.provider.attach_volume(&request);
            match self.within(&volume.provider, ProviderApi::Attach, call).await {
                Ok(Progress::Ready(at)) => at,
                Ok(Progress::Pending(at_it)) => {
                    self.take_back(&job.volume, node, wish).await?;
                    return Ok(Did::pending(&at_it));
                }
                Err(e) => {
                    if e.effect() != Effect::NotStarted {
                        self.take_back(&job.volume, node, wish).await?;
                    }
                    return Err(e);
                }
            }
        } else {
            Attachment::new(node.clone(), AttachedAs::Opaque)
        };
        let at = at.of_epoch(wish.epoch);
        if let Err(e) = self.record(job, |new| new.attached.insert(node.clone(), at)).await {
            self.take_back(&job.volume, node, wish).await?;
            return Err(e);
        }
        Ok(Did::Attached)
    }

    /// Takes the volume away from a node that may have it and is not to.
    async fn detach(&self, job: &Job<'_>, node: &NodeId) -> Result<Did> {
        let volume = &*job.volume.value;
        let (Some(made), Some(leaving)) = (volume.made(), volume.maybe_attached.get(node)) else {
            return Ok(Did::Nothing);
        };
        self.require_record(&volume.key, leaving).await?;
        if job.provider.capabilities().has(Capability::Attach) {
            let (name, _) = self.node(&volume.provider, node).await?;
            let mut request = DetachVolume::new(token(&job.volume, &volume.token, "detach"), made, name);
            request.proof = leaving.proof.clone();
            let call = job.provider.detach_volume(&request);
            if let Progress::Pending(at_it) = self.within(&volume.provider, ProviderApi::Attach, call).await?
            {
                return Ok(Did::pending(&at_it));
            }
        }
        self.detached(job, node).await?;
        Ok(Did::Detached)
    }

    /// Writes down that a node has lost the volume. Others may be leaving the same node at the same time.
    async fn detached(&self, job: &Job<'_>, node: &NodeId) -> Result<()> {
        let volume = &*job.volume.value;
        let mut attempts = 0;
        loop {
            let mut txn = Txn::new();
            let (_, known) = self.node(&volume.provider, node).await?;
            // A wish to have it back keeps the slot.
            if let Some(known) = known.filter(|_| !volume.desired.contains_key(node)) {
                let mut record = (*known.value).clone();
                record.volumes.remove(&volume.key);
                nodes()?.update(&mut txn, &known, &record)?;
            }
            match self.record_with(job, txn, |new| new.maybe_attached.remove(node)).await {
                Err(e) if is_about_a_node(&e) && attempts < ATTEMPTS => attempts += 1,
                outcome => return outcome,
            }
        }
    }

    async fn expand(&self, job: &Job<'_>) -> Result<Did> {
        let volume = &*job.volume.value;
        let (Some(made), Some(growth)) = (volume.made(), &volume.growth) else { return Ok(Did::Nothing) };
        if !(job.grows_online || volume.attached.is_empty()) {
            return Ok(Did::Nothing);
        }
        let asked = job.provider.capabilities().require(&volume.provider, Capability::Expand);
        let size = SizeRange::at_least(growth.to)?;
        let call = job.provider.expand_volume(&growth.token, &made, size);
        let answer = match asked {
            Ok(()) => self.within(&volume.provider, ProviderApi::Modify, call).await,
            Err(e) => Err(e),
        };
        match answer {
            Ok(Progress::Pending(at_it)) => Ok(Did::pending(&at_it)),
            Ok(Progress::Ready(grown)) => {
                self.record(job, |new| {
                    new.size = new.size.max(grown.size);
                    // Where no node has it, that is left to the next one that gets it.
                    match (&mut new.growth, grown.node_expansion_required) {
                        (Some(growth), true) => growth.on_node = true,
                        (growth, _) => *growth = None,
                    }
                })
                .await?;
                Ok(Did::Altered)
            }
            Err(e) if is_refusal(&e) => {
                self.record(job, |new| {
                    new.growth.as_mut().map(|growth| growth.refused = Some(e.to_string()))
                })
                .await?;
                Ok(Did::Refused)
            }
            Err(e) => Err(e),
        }
    }

    async fn modify(&self, job: &Job<'_>) -> Result<Did> {
        let volume = &*job.volume.value;
        let (Some(made), Some(change)) = (volume.made(), &volume.modification) else {
            return Ok(Did::Nothing);
        };
        let answer = match job.provider.capabilities().require(&volume.provider, Capability::Modify) {
            Ok(()) => {
                let call = job.provider.modify_volume(&change.token, &made, &change.parameters);
                self.within(&volume.provider, ProviderApi::Modify, call).await
            }
            Err(e) => Err(e),
        };
        match answer {
            Ok(Progress::Pending(at_it)) => Ok(Did::pending(&at_it)),
            Ok(Progress::Ready(())) => {
                self.record(job, |new| {
                    if let Some(done) = new.modification.take() {
                        new.options.mutable_parameters.extend(done.parameters);
                    }
                })
                .await?;
                Ok(Did::Altered)
            }
            Err(e) if is_refusal(&e) => {
                let why = e.to_string();
                self.record(job, |new| new.modification.as_mut().map(|change| change.refused = Some(why)))
                    .await?;
                Ok(Did::Refused)
            }
            Err(e) => Err(e),
        }
    }

    /// Restores in place, once what is there is kept.
    async fn restore(&self, job: &Job<'_>) -> Result<Did> {
        let volume = &*job.volume.value;
        let (Some(made), Some(wanted)) = (volume.made(), &volume.restoration) else {
            return Ok(Did::Nothing);
        };
        let answer = match job.provider.capabilities().require(&volume.provider, Capability::RestoreInPlace) {
            Ok(()) => self.restored(job, &made, wanted).await,
            Err(e) => Err(e),
        };
        match answer {
            Ok(Progress::Pending(at_it)) => Ok(Did::pending(&at_it)),
            Ok(Progress::Ready(())) => {
                self.record(job, |new| new.restoration = None).await?;
                Ok(Did::Altered)
            }
            Err(e) if is_refusal(&e) => {
                let why = e.to_string();
                self.record(job, |new| new.restoration.as_mut().map(|wanted| wanted.refused = Some(why)))
                    .await?;
                Ok(Did::Refused)
            }
            Err(e) => Err(e),
        }
    }

    async fn restored(&self, job: &Job<'_>, made: &VolumeRef, wanted: &Restoration) -> Result<Progress<()>> {
        let of = |name| crate::SnapshotKey::new(job.volume.key.clone(), name);
        let (from, undo) =
            (snapshot_at(&of(wanted.snapshot.clone()))?, snapshot_at(&of(wanted.undo.clone()))?);
        let view = self.records(&[from.clone(), undo.clone()]).await?;
        let gone = |at: &Key| Error::not_found("restore", format!("there is no snapshot at {at} any more"));
        let kept = read(&snapshots()?, &view, &undo)?.ok_or_else(|| gone(&undo))?;
        match &kept.phase {
            SnapshotPhase::Failed(why) => {
                let message = format!("what is there cannot be kept as snapshot {}: {why}", wanted.undo);
                return Err(Error::new(ErrorKind::Unsupported, "restore", message));
            }
            SnapshotPhase::Ready | SnapshotPhase::Cut => {}
            _ => return Err(waits(format!("snapshot {} is to be taken first", wanted.undo))),
        }
        let from = read(&snapshots()?, &view, &from)?.ok_or_else(|| gone(&from))?;
        let from =
            from.made().ok_or_else(|| waits(format!("snapshot {} is not there yet", wanted.snapshot)))?;
        let call = job.provider.restore_snapshot(&wanted.token, &from, made);
        self.within(&job.volume.provider, ProviderApi::Snapshot, call).await
    }

    async fn delete(&self, job: &Job<'_>) -> Result<Did> {
        let Some(made) = job.volume.made() else { return Ok(Did::Nothing) };
        self.nobody_needs(&job.volume).await?;
        let token = token(&job.volume, &job.volume.token, "delete");
        let call = job.provider.delete_volume(&token, &made);
        match self.within(&job.volume.provider, ProviderApi::Delete, call).await? {
            Progress::Pending(at_it) => Ok(Did::pending(&at_it)),
            Progress::Ready(()) => {
                self.forget(job).await?;
                Ok(Did::Deleted)
            }
        }
    }
}

/// Whether somebody else has just written down something about a node: then that is read again, and nothing is asked
/// of the provider again.
fn is_about_a_node(error: &Error) -> bool {
    let node = |conflict: &Conflict| nodes().is_ok_and(|nodes| nodes.prefix().covers(&conflict.key));
    error.detail::<Conflict>().is_some_and(node)
}

/// Writes down what the provider made.
fn learn(new: &mut Volume, made: ProvisionedVolume) {
    // A release that came first goes on: the volume had to be made to learn what it is called.
    if new.phase == VolumePhase::Creating {
        new.phase = VolumePhase::Ready;
    }
    new.size = new.size.max(made.size);
    (new.handle, new.context) = (Some(made.volume.handle), made.volume.context);
    new.topology = made.topology;
}
