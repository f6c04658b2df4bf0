//! Many questions for the status of volumes, and few calls of the driver.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use futures::channel::oneshot;
use hivemind_core::{ErrorKind, OpToken, Progress, ProviderName, Result, async_trait, block_on};
use hivemind_storage::{
    Capabilities, CreateVolume, CsiProvider, CsiServer, Cursor, MemoryProvider, Page, ProvisionedVolume,
    StatusBatcher, StorageMetrics, StorageProvider, StorageProviderType, VolumeKey, VolumeRef, VolumeStatus,
};
use tokio::runtime::Runtime;

use crate::{Place, connect, create, made, name, runtime, server_options, tenant};

/// Counts the questions that come to the provider behind a driver.
#[derive(Debug)]
struct Asked {
    inner: MemoryProvider,
    times: AtomicU64,
    /// Until when the first one waits for its answer.
    until: Mutex<Option<oneshot::Receiver<()>>>,
}

#[async_trait]
impl StorageProvider for Asked {
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
        self.inner.probe().await
    }
    async fn create_volume(&self, request: &CreateVolume) -> Result<Progress<ProvisionedVolume>> {
        self.inner.create_volume(request).await
    }
    async fn delete_volume(&self, token: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        self.inner.delete_volume(token, volume).await
    }
    async fn get_provider_metrics(&self) -> Result<StorageMetrics> {
        self.inner.get_provider_metrics().await
    }
    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        self.times.fetch_add(1, Ordering::Relaxed);
        let until = self.until.lock().unwrap().take();
        if let Some(until) = until {
            until.await.unwrap();
        }
        self.inner.get_volume_status(volume).await
    }
    async fn list_volumes<'a>(&self, after: Option<&'a Cursor>, limit: usize) -> Result<Page<VolumeStatus>> {
        self.times.fetch_add(1, Ordering::Relaxed);
        self.inner.list_volumes(after, limit).await
    }
}

/// A driver over memory that counts questions, and a client of it.
fn counted(runtime: &Runtime, path: &Path) -> (Arc<Asked>, Arc<CsiProvider>) {
    let asked = Arc::new(Asked {
        inner: MemoryProvider::new(name()),
        times: AtomicU64::new(0),
        until: Mutex::default(),
    });
    let server = CsiServer::new(server_options()).with_provider(asked.clone());
    let at = path.to_owned();
    runtime.spawn(async move { server.serve(at, std::future::pending()).await });
    (asked, Arc::new(connect(runtime, path)))
}

fn numbered(client: &CsiProvider, many: u32) -> Vec<VolumeRef> {
    let key = |n| VolumeKey::new(tenant("acme"), format!("v{n}").parse().unwrap());
    (0..many).map(|n| made(client, &key(n))).collect()
}

#[test]
fn a_thousand_who_ask_a_driver_at_once_make_three_calls_at_most() {
    let (runtime, place) = (runtime(), Place::new());
    let (asked, client) = counted(&runtime, &place.socket("csi.sock"));
    let volumes = numbered(&client, 1000);
    let (answer, until) = oneshot::channel();
    *asked.until.lock().unwrap() = Some(until);
    let batcher = StatusBatcher::new(client);
    let mut all: Vec<_> = volumes.iter().map(|volume| Box::pin(batcher.status(volume))).collect();
    // All of them ask before the first is answered.
    let mut context = Context::from_waker(Waker::noop());
    assert!(all.iter_mut().all(|asking| asking.as_mut().poll(&mut context).is_pending()));
    answer.send(()).unwrap();
    for (volume, answer) in volumes.iter().zip(block_on(futures::future::join_all(all))) {
        assert_eq!(answer.unwrap().handle, volume.handle);
    }
    let times = asked.times.load(Ordering::Relaxed);
    assert!(times <= 3, "{times} calls");
}

#[test]
fn few_questions_about_many_volumes_do_not_read_the_whole_list() {
    let (runtime, place) = (runtime(), Place::new());
    let (asked, client) = counted(&runtime, &place.socket("csi.sock"));
    let mut volumes = numbered(&client, 3);
    // Others, with which the list has four pages.
    for n in 0..3100 {
        let key = VolumeKey::new(tenant("served"), format!("a{n}").parse().unwrap());
        block_on(asked.inner.create_volume(&create(&key))).unwrap();
    }
    let gone = volumes.remove(0);
    block_on(client.delete_volume(&OpToken::new("d"), &gone)).unwrap();
    asked.times.store(0, Ordering::Relaxed);
    volumes.insert(1, gone);
    let answers = block_on(client.get_volume_statuses(&volumes)).unwrap();
    let kinds: Vec<_> =
        answers.iter().map(|answer| answer.as_ref().err().map(hivemind_core::Error::kind)).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::NotFound), None]);
    // Three pages at most, and then one by one.
    let times = asked.times.load(Ordering::Relaxed);
    assert!(times <= 6, "{times} calls");
}
