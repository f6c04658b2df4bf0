//! Brings providers in line with committed intent, step by step, crash by crash.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hivemind_core::store::Txn;
use hivemind_core::{
    Effect, NodeId, OpToken, Progress, ProviderName, Result, Retry, Runtime, Stamped, StateStore,
    StateStoreExt,
};

use crate::manager::volumes;
use crate::{ProviderRegistry, StorageProvider, Volume, VolumeKey, VolumePhase};

/// How many volumes a page of a provider's list has.
const PAGE: usize = 500;

/// What a tick did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TickReport {
    /// Volumes created.
    pub created: u64,
    /// Volumes attached to a node.
    pub attached: u64,
    /// Volumes detached from a node.
    pub detached: u64,
    /// Volumes deleted.
    pub deleted: u64,
    /// Volumes that the provider refuses to create.
    pub refused: u64,
    /// Calls that go on at the provider.
    pub pending: u64,
    /// Calls that failed and will be repeated.
    pub failed: u64,
}

impl TickReport {
    /// Whether anything moved, or still moves: tick again.
    pub fn changed(&self) -> bool {
        *self != Self::default()
    }
}

/// Volumes that only one side knows of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Orphans {
    /// At a provider, without a record: leaked.
    pub unrecorded: BTreeSet<(ProviderName, VolumeKey)>,
    /// Recorded as there, and missing at their provider: lost.
    pub missing: BTreeSet<(ProviderName, VolumeKey)>,
}

/// Makes committed intents so.
///
/// Every call to a provider has its intent committed before, and its token is the same when it is repeated. So a
/// crash at any point is healed by the next tick.
#[derive(Debug, Clone)]
pub struct VolumeController {
    store: Arc<dyn StateStore>,
    providers: ProviderRegistry,
}

/// What a step came to.
enum Step {
    Created,
    Attached,
    Detached,
    Deleted,
    Refused,
    Pending,
}

impl VolumeController {
    /// A controller on these ports.
    pub fn new(store: Arc<dyn StateStore>, providers: ProviderRegistry) -> Self {
        Self { store, providers }
    }

    /// Takes each volume that is not as intended one step further.
    ///
    /// A volume that fails does not hold up the others. Repeat until nothing [`changed`](TickReport::changed).
    ///
    /// # Errors
    /// Those of reading the store; failures of providers and conflicts are counted in the report.
    pub async fn tick(&self) -> Result<TickReport> {
        let view = self.store.snapshot(&[volumes()?.prefix().clone()]).await?;
        let mut report = TickReport::default();
        for volume in volumes()?.list(&view, &Txn::new(), volumes()?.prefix())? {
            match self.step(&volume).await {
                Ok(None) => {}
                Ok(Some(Step::Created)) => report.created += 1,
                Ok(Some(Step::Attached)) => report.attached += 1,
                Ok(Some(Step::Detached)) => report.detached += 1,
                Ok(Some(Step::Deleted)) => report.deleted += 1,
                Ok(Some(Step::Refused)) => report.refused += 1,
                Ok(Some(Step::Pending)) => report.pending += 1,
                Err(_) => report.failed += 1,
            }
        }
        Ok(report)
    }

    /// Ticks until `shutdown` is ready, every `interval`.
    pub async fn run(
        &self,
        runtime: Arc<dyn Runtime>,
        interval: Duration,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = pin!(shutdown);
        loop {
            let mut round = pin!(async {
                // A store that does not answer is asked again after the interval, like everything else.
                let _ = self.tick().await;
                runtime.sleep(interval).await;
            });
            let stopped = std::future::poll_fn(|context| {
                if shutdown.as_mut().poll(context).is_ready() {
                    return Poll::Ready(true);
                }
                round.as_mut().poll(context).map(|()| false)
            });
            if stopped.await {
                return;
            }
        }
    }

    /// Compares the records with what the providers have; nothing is changed.
    ///
    /// Call it while no tick runs, or expect volumes that are just being created or deleted.
    ///
    /// # Errors
    /// Those of the store and the providers.
    pub async fn orphans(&self) -> Result<Orphans> {
        let view = self.store.snapshot(&[volumes()?.prefix().clone()]).await?;
        let records = volumes()?.list(&view, &Txn::new(), volumes()?.prefix())?;
        let mut recorded: BTreeSet<_> = records.iter().map(|v| (v.provider.clone(), v.key.clone())).collect();
        let mut orphans = Orphans::default();
        for provider in self.providers.iter() {
            let mut after: Option<VolumeKey> = None;
            loop {
                let page = provider.list_volumes(after.as_ref(), PAGE).await?;
                for status in &page {
                    let known = (provider.name().clone(), status.key.clone());
                    if !recorded.remove(&known) {
                        orphans.unrecorded.insert(known);
                    }
                }
                after = page.last().map(|status| status.key.clone());
                if page.len() < PAGE {
                    break;
                }
            }
        }
        let ready = records.iter().filter(|volume| volume.phase == VolumePhase::Ready);
        let there = ready.map(|volume| (volume.provider.clone(), volume.key.clone()));
        orphans.missing = there.filter(|known| recorded.contains(known)).collect();
        Ok(orphans)
    }

    async fn step(&self, volume: &Stamped<Volume>) -> Result<Option<Step>> {
        let provider = &**self.providers.provider(&volume.provider)?;
        match &volume.phase {
            VolumePhase::Creating => self.create(provider, volume).await.map(Some),
            VolumePhase::Failed(_) => Ok(None),
            // Detach always comes before attach: never a node too many, not even for a moment.
            _ if !volume.maybe_attached.is_empty() => self.detach(provider, volume).await.map(Some),
            phase => {
                if *phase == VolumePhase::Deleting {
                    return self.delete(provider, volume).await.map(Some);
                }
                match volume.desired.iter().find(|node| !volume.attached.contains_key(*node)) {
                    Some(node) => self.attach(provider, volume, node).await.map(Some),
                    None => Ok(None),
                }
            }
        }
    }

    async fn create(&self, provider: &dyn StorageProvider, volume: &Stamped<Volume>) -> Result<Step> {
        let made = provider.create_volume(&volume.token, &volume.key, volume.size, &volume.options).await;
        match made {
            Ok(Progress::Pending(_)) => Ok(Step::Pending),
            Ok(Progress::Ready(status)) => {
                let ready = |new: &mut Volume| {
                    new.phase = VolumePhase::Ready;
                    new.size = status.size;
                };
                self.record(volume, ready).await?;
                Ok(Step::Created)
            }
            Err(e) if e.effect() == Effect::NotStarted && e.retry() == Retry::Never => {
                let reason = e.to_string();
                self.record(volume, |new| new.phase = VolumePhase::Failed(reason)).await?;
                Ok(Step::Refused)
            }
            Err(e) => Err(e),
        }
    }

    async fn attach(
        &self,
        provider: &dyn StorageProvider,
        volume: &Stamped<Volume>,
        node: &NodeId,
    ) -> Result<Step> {
        match provider.attach_volume(&token(volume, "attach"), &volume.key, node).await? {
            Progress::Pending(_) => Ok(Step::Pending),
            Progress::Ready(at) => {
                self.record(volume, |new| new.attached.insert(node.clone(), at)).await?;
                Ok(Step::Attached)
            }
        }
    }

    /// Takes the volume away from a node that may have it and is not to.
    async fn detach(&self, provider: &dyn StorageProvider, volume: &Stamped<Volume>) -> Result<Step> {
        let Some(node) = volume.maybe_attached.first() else { return Ok(Step::Pending) };
        if provider.detach_volume(&token(volume, "detach"), &volume.key, node).await?.ready().is_none() {
            return Ok(Step::Pending);
        }
        self.record(volume, |new| new.maybe_attached.retain(|other| other != node)).await?;
        Ok(Step::Detached)
    }

    async fn delete(&self, provider: &dyn StorageProvider, volume: &Stamped<Volume>) -> Result<Step> {
        match provider.delete_volume(&token(volume, "delete"), &volume.key).await? {
            Progress::Pending(_) => Ok(Step::Pending),
            Progress::Ready(()) => {
                let mut txn = Txn::new();
                volumes()?.delete(&mut txn, volume)?;
                self.store.commit(&txn).await?;
                Ok(Step::Deleted)
            }
        }
    }

    /// Writes down what has become so, if the intent is still the one that was acted on.
    async fn record<R>(&self, old: &Stamped<Volume>, change: impl FnOnce(&mut Volume) -> R) -> Result<()> {
        let mut new = (*old.value).clone();
        change(&mut new);
        let mut txn = Txn::new();
        volumes()?.update(&mut txn, old, &new)?;
        self.store.commit(&txn).await?;
        Ok(())
    }
}

/// A token for a step of a volume's life: the same for the same intent, another for a later one.
fn token(volume: &Stamped<Volume>, step: &str) -> OpToken {
    let revision = volume.revision.unwrap_or_default();
    OpToken::new(format!("{}#{step}@{revision}", volume.token.as_str()))
}
