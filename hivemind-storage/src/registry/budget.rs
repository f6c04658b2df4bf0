//! How often a provider may be called: some count calls, and punish who has too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hivemind_core::{
    Clock, Effect, Error, ErrorKind, OpToken, Progress, ProviderName, Result, Retry, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    AttachVolume, Attachment, Capabilities, Capacity, CapacityQuery, CreateGroupSnapshot, CreateSnapshot,
    CreateVolume, Cursor, DetachVolume, Expanded, FenceEpoch, GroupHandle, GroupKey, GroupSnapshot, NodeRef,
    Page, ProvisionedVolume, SizeRange, SnapshotRef, StorageMetrics, StorageProvider, StorageProviderType,
    VolumeRef, VolumeSnapshot, VolumeStatus,
};

/// What providers count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProviderApi {
    /// Making volumes, clones included.
    Create,
    /// Destroying volumes.
    Delete,
    /// Growing and modifying volumes.
    Modify,
    /// Attaching, detaching and fencing.
    Attach,
    /// Snapshots and groups of them: taking, restoring, destroying.
    Snapshot,
    /// Questions: how something is, lists, capacity.
    Describe,
}

/// So many calls in so long, which may come all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Budget {
    /// So many calls; none at all with zero.
    pub calls: u32,
    /// In so long.
    pub per: Duration,
}

impl Budget {
    /// `calls` in each `per`.
    pub fn new(calls: u32, per: Duration) -> Self {
        Self { calls, per }
    }
}

/// When all calls so far are paid for: the generic cell rate algorithm (ITU-T I.371).
#[derive(Debug, Clone, Copy, Default)]
struct Meter(Timestamp);

impl Meter {
    /// Counts one more call at `now`, or says how long to wait for one.
    fn take(&mut self, budget: &Budget, now: Timestamp) -> Result<(), Duration> {
        let Some(each) = budget.per.checked_div(budget.calls) else { return Err(Duration::MAX) };
        let paid = self.0.max(now).after(each);
        let earliest = paid.before(budget.per);
        if earliest > now {
            return Err(earliest.since(now));
        }
        self.0 = paid;
        Ok(())
    }
}

/// A provider that is called no more often than its budgets allow. What is over is refused at once, with nothing done,
/// and the controller comes again later. What has no budget is not counted.
#[derive(Debug)]
pub struct BudgetedProvider {
    provider: Arc<dyn StorageProvider>,
    clock: Arc<dyn Clock>,
    budgets: BTreeMap<ProviderApi, Budget>,
    meters: Mutex<BTreeMap<ProviderApi, Meter>>,
}

impl BudgetedProvider {
    /// `provider`, called as often as `budgets` allow by `clock`.
    pub fn new(
        provider: Arc<dyn StorageProvider>,
        clock: Arc<dyn Clock>,
        budgets: impl IntoIterator<Item = (ProviderApi, Budget)>,
    ) -> Self {
        Self { provider, clock, budgets: budgets.into_iter().collect(), meters: Mutex::default() }
    }

    fn pay(&self, api: ProviderApi, operation: &'static str) -> Result<()> {
        let Some(budget) = self.budgets.get(&api) else { return Ok(()) };
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters.entry(api).or_default().take(budget, self.clock.now()).map_err(|wait| {
            let message = format!(
                "provider {} may be called {} times in {:?} for {api:?}, and was: again in {wait:?}",
                self.provider.name(),
                budget.calls,
                budget.per
            );
            let over = Error::new(ErrorKind::Unavailable, operation, message);
            over.with_retry(Retry::Later).with_effect(Effect::NotStarted)
        })
    }
}

#[async_trait]
impl StorageProvider for BudgetedProvider {
    fn name(&self) -> &ProviderName {
        self.provider.name()
    }
    fn provider_type(&self) -> StorageProviderType {
        self.provider.provider_type()
    }
    fn capabilities(&self) -> Capabilities {
        self.provider.capabilities()
    }
    async fn probe(&self) -> Result<()> {
        self.provider.probe().await
    }
    async fn create_volume(&self, request: &CreateVolume) -> Result<Progress<ProvisionedVolume>> {
        self.pay(ProviderApi::Create, "create_volume")?;
        self.provider.create_volume(request).await
    }
    async fn delete_volume(&self, token: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        self.pay(ProviderApi::Delete, "delete_volume")?;
        self.provider.delete_volume(token, volume).await
    }
    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        self.pay(ProviderApi::Describe, "get_volume_status")?;
        self.provider.get_volume_status(volume).await
    }
    async fn get_provider_metrics(&self) -> Result<StorageMetrics> {
        self.pay(ProviderApi::Describe, "get_provider_metrics")?;
        self.provider.get_provider_metrics().await
    }
    async fn expand_volume(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        size: SizeRange,
    ) -> Result<Progress<Expanded>> {
        self.pay(ProviderApi::Modify, "expand_volume")?;
        self.provider.expand_volume(token, volume, size).await
    }
    async fn modify_volume(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Progress<()>> {
        self.pay(ProviderApi::Modify, "modify_volume")?;
        self.provider.modify_volume(token, volume, parameters).await
    }
    async fn attach_volume(&self, request: &AttachVolume) -> Result<Progress<Attachment>> {
        self.pay(ProviderApi::Attach, "attach_volume")?;
        self.provider.attach_volume(request).await
    }
    async fn detach_volume(&self, request: &DetachVolume) -> Result<Progress<()>> {
        self.pay(ProviderApi::Attach, "detach_volume")?;
        self.provider.detach_volume(request).await
    }
    async fn fence_node(
        &self,
        token: &OpToken,
        node: &NodeRef,
        epoch: FenceEpoch,
        volumes: &[VolumeRef],
    ) -> Result<Progress<()>> {
        self.pay(ProviderApi::Attach, "fence_node")?;
        self.provider.fence_node(token, node, epoch, volumes).await
    }
    async fn unfence_node(&self, token: &OpToken, node: &NodeRef) -> Result<Progress<()>> {
        self.pay(ProviderApi::Attach, "unfence_node")?;
        self.provider.unfence_node(token, node).await
    }
    async fn create_snapshot(&self, request: &CreateSnapshot) -> Result<Progress<VolumeSnapshot>> {
        self.pay(ProviderApi::Snapshot, "create_snapshot")?;
        self.provider.create_snapshot(request).await
    }
    async fn delete_snapshot(&self, token: &OpToken, snapshot: &SnapshotRef) -> Result<Progress<()>> {
        self.pay(ProviderApi::Snapshot, "delete_snapshot")?;
        self.provider.delete_snapshot(token, snapshot).await
    }
    async fn restore_snapshot(
        &self,
        token: &OpToken,
        snapshot: &SnapshotRef,
        volume: &VolumeRef,
    ) -> Result<Progress<()>> {
        self.pay(ProviderApi::Snapshot, "restore_snapshot")?;
        self.provider.restore_snapshot(token, snapshot, volume).await
    }
    async fn clone_volume(
        &self,
        source: &VolumeRef,
        request: &CreateVolume,
    ) -> Result<Progress<ProvisionedVolume>> {
        self.pay(ProviderApi::Create, "clone_volume")?;
        self.provider.clone_volume(source, request).await
    }
    async fn create_group_snapshot(&self, request: &CreateGroupSnapshot) -> Result<Progress<GroupSnapshot>> {
        self.pay(ProviderApi::Snapshot, "create_group_snapshot")?;
        self.provider.create_group_snapshot(request).await
    }
    async fn delete_group_snapshot(
        &self,
        token: &OpToken,
        key: &GroupKey,
        handle: &GroupHandle,
        snapshots: &[SnapshotRef],
    ) -> Result<Progress<()>> {
        self.pay(ProviderApi::Snapshot, "delete_group_snapshot")?;
        self.provider.delete_group_snapshot(token, key, handle, snapshots).await
    }
    async fn get_volume_statuses(&self, volumes: &[VolumeRef]) -> Result<Vec<Result<VolumeStatus>>> {
        self.pay(ProviderApi::Describe, "get_volume_statuses")?;
        self.provider.get_volume_statuses(volumes).await
    }
    async fn get_snapshot_status(&self, snapshot: &SnapshotRef) -> Result<VolumeSnapshot> {
        self.pay(ProviderApi::Describe, "get_snapshot_status")?;
        self.provider.get_snapshot_status(snapshot).await
    }
    async fn list_volumes<'a>(&self, after: Option<&'a Cursor>, limit: usize) -> Result<Page<VolumeStatus>> {
        self.pay(ProviderApi::Describe, "list_volumes")?;
        self.provider.list_volumes(after, limit).await
    }
    async fn list_snapshots<'a>(
        &self,
        after: Option<&'a Cursor>,
        limit: usize,
    ) -> Result<Page<VolumeSnapshot>> {
        self.pay(ProviderApi::Describe, "list_snapshots")?;
        self.provider.list_snapshots(after, limit).await
    }
    async fn get_capacity(&self, query: &CapacityQuery) -> Result<Capacity> {
        self.pay(ProviderApi::Describe, "get_capacity")?;
        self.provider.get_capacity(query).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_may_come_at_once_and_then_as_fast_as_they_are_paid_for() {
        let budget = Budget::new(3, Duration::from_secs(30));
        let (mut meter, at) = (Meter::default(), |secs: u64| Timestamp::from_secs(1000 + secs));
        assert!((0..3).all(|_| meter.take(&budget, at(0)).is_ok()));
        assert_eq!(meter.take(&budget, at(0)), Err(Duration::from_secs(10)));
        assert_eq!(meter.take(&budget, at(9)), Err(Duration::from_secs(1)));
        assert_eq!(meter.take(&budget, at(10)), Ok(()));
        assert!(meter.take(&budget, at(11)).is_err());
        // What was not used is not kept for ever.
        assert!((0..3).all(|_| meter.take(&budget, at(500)).is_ok()));
        assert!(meter.take(&budget, at(500)).is_err());
        assert_eq!(meter.take(&Budget::new(0, Duration::from_secs(1)), at(0)), Err(Duration::MAX));
    }

    proptest::proptest! {
        /// In no span of `per` are there more than twice the calls: those at once, and those that are paid for meanwhile.
        #[test]
        fn no_span_has_more_than_is_allowed(calls in 1u32..6, pauses in proptest::collection::vec(0u64..9, 1..80)) {
            let budget = Budget::new(calls, Duration::from_secs(12));
            let (mut meter, mut now, mut taken) = (Meter::default(), 0, Vec::new());
            for pause in pauses {
                now += pause;
                if meter.take(&budget, Timestamp::from_secs(1000 + now)).is_ok() {
                    taken.push(now);
                }
            }
            for begin in &taken {
                let within = taken.iter().filter(|at| (*begin..*begin + 12).contains(*at)).count();
                proptest::prop_assert!(within <= 2 * calls as usize);
            }
        }
    }
}
