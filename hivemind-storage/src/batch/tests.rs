use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use futures::future::join_all;
use hivemind_core::resources::ByteSize;
use hivemind_core::{ErrorKind, Generation, OpToken, Progress, ProviderName, TenantRef, block_on};

use super::*;
use crate::{
    Capabilities, CreateVolume, MemoryProvider, ProvisionedVolume, SizeRange, StorageMetrics,
    StorageProviderType, VolumeKey, VolumeOptions,
};

/// Counts calls, each of which gives the others a chance to come, too.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn StorageProvider>,
    calls: AtomicUsize,
}

#[async_trait]
impl StorageProvider for Counting {
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
        self.inner.create_volume(request).await
    }
    async fn delete_volume(&self, token: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        self.inner.delete_volume(token, volume).await
    }
    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.get_volume_status(volume).await
    }
    async fn get_provider_metrics(&self) -> Result<StorageMetrics> {
        self.inner.get_provider_metrics().await
    }
    async fn get_volume_statuses(&self, volumes: &[VolumeRef]) -> Result<Vec<Result<VolumeStatus>>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut yielded = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        self.inner.get_volume_statuses(volumes).await
    }
}

fn provider(volumes: usize) -> (Arc<Counting>, Vec<VolumeRef>) {
    counting(Arc::new(MemoryProvider::new("memory".parse().unwrap())), volumes)
}

fn counting(inner: Arc<dyn StorageProvider>, volumes: usize) -> (Arc<Counting>, Vec<VolumeRef>) {
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    let make = |number: usize| {
        let key = VolumeKey::new(tenant.clone(), format!("v{number}").parse().unwrap());
        let size = SizeRange::at_least(ByteSize::from_mib(1)).unwrap();
        let request =
            CreateVolume::new(OpToken::new(format!("t{number}")), key, size, VolumeOptions::default());
        block_on(inner.create_volume(&request)).unwrap().ready().unwrap().volume
    };
    let made = (0..volumes).map(make).collect();
    (Arc::new(Counting { inner, calls: AtomicUsize::new(0) }), made)
}

#[test]
fn a_thousand_who_ask_at_once_make_three_calls_at_most() {
    let (provider, volumes) = provider(1000);
    let batcher = StatusBatcher::new(provider.clone());
    let answers = block_on(join_all(volumes.iter().map(|volume| batcher.status(volume))));
    for (volume, answer) in volumes.iter().zip(answers) {
        assert_eq!(answer.unwrap().handle, volume.handle);
    }
    assert!(provider.calls.load(Ordering::Relaxed) <= 3, "{:?} calls", provider.calls);
}

/// Wakes a thread, and counts how often.
#[derive(Debug)]
struct Wakes(std::thread::Thread, AtomicUsize);

impl std::task::Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.unpark();
    }
}

#[cfg(all(feature = "local", target_os = "linux"))]
#[test]
fn a_local_pool_answers_many_questions_in_one_go() {
    let directory = tempfile::tempdir().unwrap();
    let node = crate::NodeInfo::new("n1".parse().unwrap());
    let pool = crate::LocalProvider::open("local".parse().unwrap(), node, directory.path()).unwrap();
    let (pool, volumes) = counting(Arc::new(pool), 50);
    // Its thread wakes whoever waits once for each thing that it is asked to do.
    let wakes = Arc::new(Wakes(std::thread::current(), AtomicUsize::new(0)));
    let waker = Waker::from(wakes.clone());
    let mut asking = pin!(pool.inner.get_volume_statuses(&volumes));
    let answers = loop {
        match asking.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answers) => break answers.unwrap(),
            Poll::Pending => std::thread::park(),
        }
    };
    assert!(answers.len() == 50 && answers.iter().all(Result::is_ok));
    assert!(wakes.1.load(Ordering::Relaxed) <= 1, "{wakes:?}");
}

#[test]
fn pitfall_26_a_missing_volume_spoils_no_other_answer() {
    let (provider, mut volumes) = provider(99);
    let mut missing = volumes[0].clone();
    missing.handle = "nothing".parse().unwrap();
    volumes.push(missing);
    let batcher = StatusBatcher::new(provider);
    let answers = block_on(join_all(volumes.iter().map(|volume| batcher.status(volume))));
    let (found, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(found.len(), 99);
    assert!(lost.into_iter().all(|answer| answer.is_err_and(|e| e.kind() == ErrorKind::NotFound)));
}

#[test]
fn whoever_leads_may_be_dropped() {
    let (provider, volumes) = provider(3);
    let batcher = StatusBatcher::new(provider);
    let mut context = Context::from_waker(Waker::noop());
    let mut second = pin!(batcher.status(&volumes[1]));
    let mut third = pin!(batcher.status(&volumes[2]));
    {
        let mut first = pin!(batcher.status(&volumes[0]));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(third.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(block_on(second).unwrap().handle, volumes[1].handle);
    assert_eq!(block_on(third).unwrap().handle, volumes[2].handle);
}

#[test]
fn whoever_is_told_to_lead_may_be_dropped_before_it_hears_of_it() {
    let (provider, volumes) = provider(4);
    let batcher = StatusBatcher::new(provider);
    let mut context = Context::from_waker(Waker::noop());
    let mut fourth = pin!(batcher.status(&volumes[3]));
    {
        let mut second = Box::pin(batcher.status(&volumes[1]));
        {
            let mut first = pin!(batcher.status(&volumes[0]));
            assert!(first.as_mut().poll(&mut context).is_pending());
            assert!(second.as_mut().poll(&mut context).is_pending());
            assert!(fourth.as_mut().poll(&mut context).is_pending());
            // Dropped, it hands on to the second, which never looks.
        }
        drop(second);
    }
    assert_eq!(block_on(fourth).unwrap().handle, volumes[3].handle);
    assert_eq!(block_on(batcher.status(&volumes[2])).unwrap().handle, volumes[2].handle);
}
