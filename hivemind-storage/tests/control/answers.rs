//! Providers that answer badly: what is final is taken as final, and nothing else is.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hivemind_core::store::{Prefix, Txn};
use hivemind_core::{
    Effect, Error, ErrorKind, ManualClock, MemoryStore, NodeId, OpToken, Progress, ProviderName, Result,
    Retry, StateStore, StateStoreExt, async_trait, block_on,
};
use hivemind_storage::{
    AccessMode, AttachVolume, Attachment, Capabilities, CreateSnapshot, CreateVolume, Cursor, DetachVolume,
    Expanded, MemoryProvider, Page, ProviderRegistry, ProvisionedVolume, SizeRange, SnapshotPhase,
    StorageManager, StorageMetrics, StorageProvider, StorageProviderType, VolumeController, VolumeOptions,
    VolumePhase, VolumeRef, VolumeSnapshot, VolumeStatus,
};

use super::world::{World, controller, gib, memory, node, spec};

/// What becomes of the next call, and what is said of it.
type Script = Mutex<VecDeque<(bool, Error)>>;

/// A provider that answers its next calls by a script.
#[derive(Debug)]
struct Scripted {
    inner: MemoryProvider,
    creates: Script,
    detaches: Script,
    /// How many times snapshots are told to be cut and not ready.
    uploads: Mutex<u32>,
    /// Whether nothing can be changed for want of room.
    full: Mutex<bool>,
    /// The node to which nothing comes.
    unreachable: Mutex<Option<NodeId>>,
    tokens: Mutex<Vec<OpToken>>,
}

impl Scripted {
    fn next(script: &Script) -> Option<(bool, Error)> {
        script.lock().unwrap().pop_front()
    }
}

#[async_trait]
impl StorageProvider for Scripted {
    fn name(&self) -> &ProviderName {
        self.inner.name()
    }
    fn provider_type(&self) -> StorageProviderType {
        self.inner.provider_type()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn probe(&self) -> Result<()> {
        Ok(())
    }
    async fn create_volume(&self, request: &CreateVolume) -> Result<Progress<ProvisionedVolume>> {
        self.tokens.lock().unwrap().push(request.token.clone());
        match Self::next(&self.creates) {
            None => self.inner.create_volume(request).await,
            Some((happens, error)) => {
                if happens {
                    self.inner.create_volume(request).await?;
                }
                Err(error)
            }
        }
    }
    async fn delete_volume(&self, token: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        self.inner.delete_volume(token, volume).await
    }
    async fn attach_volume(&self, request: &AttachVolume) -> Result<Progress<Attachment>> {
        if self.unreachable.lock().unwrap().as_ref() == Some(&request.node.node) {
            return Err(Error::new(ErrorKind::Unavailable, "attach_volume", "the node does not answer"));
        }
        self.inner.attach_volume(request).await
    }
    async fn expand_volume(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        size: SizeRange,
    ) -> Result<Progress<Expanded>> {
        if *self.full.lock().unwrap() {
            return Err(Error::new(ErrorKind::Exhausted, "expand_volume", "no room"));
        }
        self.inner.expand_volume(token, volume, size).await
    }
    async fn create_snapshot(&self, request: &CreateSnapshot) -> Result<Progress<VolumeSnapshot>> {
        let taken = self.inner.create_snapshot(request).await?;
        let mut left = self.uploads.lock().unwrap();
        Ok(match taken {
            Progress::Ready(mut taken) if *left > 0 => {
                *left -= 1;
                taken.ready = false;
                Progress::Ready(taken)
            }
            taken => taken,
        })
    }
    async fn detach_volume(&self, request: &DetachVolume) -> Result<Progress<()>> {
        match Self::next(&self.detaches) {
            None => self.inner.detach_volume(request).await,
            Some((_, error)) => Err(error),
        }
    }
    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        self.inner.get_volume_status(volume).await
    }
    async fn get_provider_metrics(&self) -> Result<StorageMetrics> {
        self.inner.get_provider_metrics().await
    }
    async fn list_volumes<'a>(&self, after: Option<&'a Cursor>, limit: usize) -> Result<Page<VolumeStatus>> {
        self.inner.list_volumes(after, limit).await
    }
}

struct Stage {
    store: MemoryStore,
    provider: Arc<Scripted>,
    storage: StorageManager,
    controller: VolumeController,
    clock: Arc<ManualClock>,
    ctx: hivemind_core::TenantContext,
}

impl Stage {
    fn new() -> Self {
        let provider = Arc::new(Scripted {
            inner: memory(),
            creates: Script::default(),
            detaches: Script::default(),
            uploads: Mutex::default(),
            full: Mutex::default(),
            unreachable: Mutex::default(),
            tokens: Mutex::default(),
        });
        let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::default()));
        let mut providers = ProviderRegistry::new();
        providers.add(provider.clone()).unwrap();
        let storage = StorageManager::new(providers.names());
        let controller = controller(Arc::new(store.clone()), providers, clock.clone());
        Self { store, provider, storage, controller, clock, ctx: World::new(memory()).ctx("acme") }
    }

    fn commit(
        &self,
        decide: impl FnOnce(&StorageManager, &hivemind_core::store::Snapshot, &mut Txn) -> Result<()>,
    ) -> Result<()> {
        let (view, mut txn) = (block_on(self.store.snapshot(&[Prefix::ROOT])).unwrap(), Txn::new());
        decide(&self.storage, &view, &mut txn)?;
        block_on(self.store.commit(&txn)).map(|_| ())
    }

    fn claim(&self) {
        self.commit(|s, view, txn| s.stage_claim(view, txn, &self.ctx, &spec("data"))).unwrap();
    }

    fn tick(&self, times: usize) {
        for _ in 0..times {
            block_on(self.controller.tick()).unwrap();
            self.clock.advance(Duration::from_secs(600));
        }
    }

    fn phase(&self) -> Option<VolumePhase> {
        let view = block_on(self.store.snapshot(&[Prefix::ROOT])).unwrap();
        let volumes = self.storage.volumes(&view, &self.ctx).unwrap();
        assert!(volumes.len() <= 1);
        volumes.first().map(|volume| volume.phase.clone())
    }

    fn there(&self) -> Vec<VolumeStatus> {
        block_on(self.provider.list_volumes(None, 100)).unwrap().items
    }
}

fn told(kind: ErrorKind, effect: Effect, retry: Retry) -> Error {
    Error::new(kind, "create_volume", "as the script says").with_effect(effect).with_retry(retry)
}

#[test]
fn pitfall_02_an_answer_that_is_not_final_neither_forgets_nor_doubles() {
    let retries = [Retry::Never, Retry::Later, Retry::AfterReread, Retry::AfterChange];
    let mut final_ones = 0;
    for kind in ErrorKind::ALL.into_iter().filter(|kind| *kind != ErrorKind::Expired) {
        for retry in retries {
            for happens in [false, true] {
                for released in [false, true] {
                    let stage = Stage::new();
                    // It may have happened: whoever says so may not say otherwise.
                    let effect = if happens { Effect::Unknown } else { Effect::NotStarted };
                    stage.provider.creates.lock().unwrap().push_back((happens, told(kind, effect, retry)));
                    stage.claim();
                    stage.tick(1);
                    if released {
                        let data = "data".parse().unwrap();
                        stage.commit(|s, view, txn| s.stage_release(view, txn, &stage.ctx, &data)).unwrap();
                    }
                    stage.tick(4);
                    let is_final = !happens && retry == Retry::Never;
                    final_ones += usize::from(is_final);
                    let what = format!("{kind}, {retry:?}, happens {happens}, released {released}");
                    match (released, is_final) {
                        (true, _) => assert_eq!((stage.phase(), stage.there().len()), (None, 0), "{what}"),
                        (false, true) => {
                            assert!(matches!(stage.phase(), Some(VolumePhase::Failed(_))), "{what}")
                        }
                        (false, false) => {
                            assert_eq!(
                                (stage.phase(), stage.there().len()),
                                (Some(VolumePhase::Ready), 1),
                                "{what}"
                            );
                        }
                    }
                }
            }
        }
    }
    assert!(final_ones > 0);
}

#[test]
fn pitfall_03_a_token_that_is_used_up_is_replaced_once() {
    let stage = Stage::new();
    let burnt = told(ErrorKind::Expired, Effect::NotStarted, Retry::Never);
    stage.provider.creates.lock().unwrap().push_back((false, burnt));
    stage.claim();
    stage.tick(3);
    assert_eq!((stage.phase(), stage.there().len()), (Some(VolumePhase::Ready), 1));
    let tokens = stage.provider.tokens.lock().unwrap().clone();
    assert_eq!(tokens.len(), 2);
    assert_ne!(tokens[0], tokens[1]);
}

#[test]
fn pitfall_04_no_room_for_what_is_there_already_is_not_the_end() {
    for released in [false, true] {
        let stage = Stage::new();
        let lost = told(ErrorKind::Unavailable, Effect::Unknown, Retry::Later);
        stage.provider.creates.lock().unwrap().push_back((true, lost));
        for _ in 0..3 {
            let full = told(ErrorKind::Exhausted, Effect::NotStarted, Retry::AfterChange);
            stage.provider.creates.lock().unwrap().push_back((false, full));
        }
        stage.claim();
        stage.tick(2);
        if released {
            let data = "data".parse().unwrap();
            stage.commit(|s, view, txn| s.stage_release(view, txn, &stage.ctx, &data)).unwrap();
        }
        stage.tick(6);
        assert_eq!(stage.there().len(), usize::from(!released));
        assert_eq!(stage.phase().is_none(), released);
    }
}

#[test]
fn a_volume_stays_until_its_snapshot_is_whole() {
    let stage = Stage::new();
    let (data, s1) = ("data".parse().unwrap(), "s1".parse().unwrap());
    stage.claim();
    stage.tick(2);
    *stage.provider.uploads.lock().unwrap() = 3;
    stage.commit(|s, view, txn| s.stage_snapshot(view, txn, &stage.ctx, &data, &s1)).unwrap();
    let phase = || {
        let view = block_on(stage.store.snapshot(&[Prefix::ROOT])).unwrap();
        let volume = "data".parse().unwrap();
        stage.storage.snapshot(&view, &Txn::new(), &stage.ctx, &volume, &s1).unwrap().phase.clone()
    };
    stage.tick(1);
    assert_eq!(phase(), SnapshotPhase::Cut);
    stage.commit(|s, view, txn| s.stage_release(view, txn, &stage.ctx, &data)).unwrap();
    stage.tick(1);
    assert_eq!((phase(), stage.there().len()), (SnapshotPhase::Cut, 1));
    stage.tick(6);
    assert_eq!((phase(), stage.there().len()), (SnapshotPhase::Ready, 0));
}

#[test]
fn growth_that_finds_no_room_keeps_the_volume_from_no_node() {
    let stage = Stage::new();
    let data = "data".parse().unwrap();
    stage.claim();
    stage.tick(2);
    *stage.provider.full.lock().unwrap() = true;
    stage.commit(|s, view, txn| s.stage_expand(view, txn, &stage.ctx, &data, gib(2))).unwrap();
    stage.commit(|s, view, txn| s.stage_attach(view, txn, &stage.ctx, &data, &node("n1"))).unwrap();
    let report = block_on(stage.controller.tick()).unwrap();
    assert_eq!((report.attached, report.failed), (1, 0), "what was done is told");
    let there = stage.there();
    assert_eq!((there[0].attached_to.len(), there[0].size), (1, gib(1)));
    *stage.provider.full.lock().unwrap() = false;
    stage.tick(2);
    assert_eq!(stage.there()[0].size, gib(2));
}

#[test]
fn a_node_that_cannot_have_a_shared_volume_keeps_it_from_no_other() {
    let stage = Stage::new();
    let data = "data".parse().unwrap();
    let options = VolumeOptions::default().with_access_modes([AccessMode::ReadWriteMany]);
    let spec = spec("data").with_options(options);
    stage.commit(|s, view, txn| s.stage_claim(view, txn, &stage.ctx, &spec)).unwrap();
    stage.tick(2);
    *stage.provider.unreachable.lock().unwrap() = Some(node("n1"));
    for n in ["n1", "n2", "n3"] {
        stage.commit(|s, view, txn| s.stage_attach(view, txn, &stage.ctx, &data, &node(n))).unwrap();
    }
    stage.tick(3);
    let nodes: Vec<_> = stage.there()[0].attached_to.iter().map(ToString::to_string).collect();
    assert_eq!(nodes, ["n2", "n3"]);
}

#[test]
fn pitfall_10_somebody_elses_attachment_is_left_alone() {
    let stage = Stage::new();
    stage.claim();
    stage.tick(2);
    let view = block_on(stage.store.snapshot(&[Prefix::ROOT])).unwrap();
    let data = "data".parse().unwrap();
    let made = stage.storage.volume(&view, &Txn::new(), &stage.ctx, &data).unwrap().made().unwrap();
    let foreign = AttachVolume::new(OpToken::new("by hand"), made.clone(), node("n9").into());
    block_on(stage.provider.attach_volume(&foreign)).unwrap();
    stage.commit(|s, view, txn| s.stage_attach(view, txn, &stage.ctx, &data, &node("n1"))).unwrap();
    stage.tick(5);
    let nodes =
        |stage: &Stage| stage.there()[0].attached_to.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(nodes(&stage), ["n9"]);
    let detach = DetachVolume::new(OpToken::new("by hand"), made, node("n9").into());
    block_on(stage.provider.inner.detach_volume(&detach)).unwrap();
    stage.tick(2);
    assert_eq!(nodes(&stage), ["n1"]);
}

#[test]
fn pitfall_27_a_volume_that_does_not_come_off_goes_nowhere_else() {
    let stage = Stage::new();
    let data = "data".parse().unwrap();
    stage.claim();
    stage.commit(|s, view, txn| s.stage_attach(view, txn, &stage.ctx, &data, &node("n1"))).unwrap();
    stage.tick(3);
    for _ in 0..3 {
        let stuck = told(ErrorKind::Unavailable, Effect::Unknown, Retry::Later);
        stage.provider.detaches.lock().unwrap().push_back((false, stuck));
    }
    stage.commit(|s, view, txn| s.stage_detach(view, txn, &stage.ctx, &data, &node("n1"))).unwrap();
    stage.commit(|s, view, txn| s.stage_attach(view, txn, &stage.ctx, &data, &node("n2"))).unwrap();
    let nodes =
        |stage: &Stage| stage.there()[0].attached_to.iter().map(ToString::to_string).collect::<Vec<_>>();
    for _ in 0..3 {
        stage.tick(1);
        assert_eq!(nodes(&stage), ["n1"]);
    }
    stage.tick(3);
    assert_eq!(nodes(&stage), ["n2"]);
}
