//! Calls that take long, or never end: nobody else waits for them, and nothing is done twice. Time is simulated.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hivemind_core::store::{Prefix, Txn};
use hivemind_core::testkit::Sim;
use hivemind_core::{
    Generation, MemoryStore, OpToken, Pending, Principal, Progress, ProviderName, Result, Runtime,
    StateStore, StateStoreExt, TenantContext, TenantRef, async_trait,
};
use hivemind_storage::{
    CallLimit, CallLimits, Capabilities, ClaimSpec, CreateVolume, MemoryProvider, ProviderApi,
    ProviderRegistry, ProvisionedVolume, StorageManager, StorageMetrics, StorageProvider,
    StorageProviderType, VolumeController, VolumePhase, VolumeRef, VolumeStatus,
};

use super::world::gib;

/// How a provider takes its creations.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// It makes the volume, and its answer never comes.
    ForEver,
    /// It answers after so long.
    After(Duration),
    /// It is at it the first time, and says when to come again.
    Polls(Duration),
}

/// A memory provider whose creations take their time, and which knows with which tokens it was called.
#[derive(Debug)]
struct Slow {
    inner: MemoryProvider,
    runtime: Arc<dyn Runtime>,
    takes: Mutex<Takes>,
    seen: Mutex<Vec<OpToken>>,
    /// How many creations go on, and how many did at most.
    at_once: Mutex<(usize, usize)>,
}

#[async_trait]
impl StorageProvider for Slow {
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
        let first = {
            let mut seen = self.seen.lock().unwrap();
            seen.push(request.token.clone());
            seen.iter().filter(|token| **token == request.token).count() == 1
        };
        let takes = *self.takes.lock().unwrap();
        if let (Takes::Polls(after), true) = (takes, first) {
            return Ok(Progress::Pending(Pending::new(request.token.clone(), after)));
        }
        let made = self.inner.create_volume(request).await;
        match takes {
            Takes::ForEver => std::future::pending().await,
            Takes::Polls(_) => made,
            Takes::After(duration) => {
                {
                    let mut at_once = self.at_once.lock().unwrap();
                    at_once.0 += 1;
                    at_once.1 = at_once.1.max(at_once.0);
                }
                self.runtime.sleep(duration).await;
                self.at_once.lock().unwrap().0 -= 1;
                made
            }
        }
    }
    async fn delete_volume(&self, token: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        self.inner.delete_volume(token, volume).await
    }
    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        self.inner.get_volume_status(volume).await
    }
    async fn get_provider_metrics(&self) -> Result<StorageMetrics> {
        self.inner.get_provider_metrics().await
    }
}

/// A provider that answers, one that is slow, and a controller, in simulated time.
struct Slowly {
    sim: Sim,
    store: MemoryStore,
    slow: Arc<Slow>,
    storage: StorageManager,
    controller: VolumeController,
}

impl Slowly {
    fn new(takes: Takes, limits: CallLimits) -> Self {
        let sim = Sim::new(1);
        let (store, runtime) = (MemoryStore::new(), sim.runtime());
        let slow = Arc::new(Slow {
            inner: MemoryProvider::new("slow".parse().unwrap()),
            runtime: runtime.clone(),
            takes: Mutex::new(takes),
            seen: Mutex::default(),
            at_once: Mutex::default(),
        });
        let mut providers = ProviderRegistry::new().with_limits("slow".parse().unwrap(), limits);
        providers.add(Arc::new(MemoryProvider::new("quick".parse().unwrap()))).unwrap();
        providers.add(slow.clone()).unwrap();
        let storage = StorageManager::new(providers.names());
        let controller = VolumeController::new(Arc::new(store.clone()), providers, sim.clock(), runtime);
        Self { sim, store, slow, storage, controller }
    }

    fn ctx(&self) -> TenantContext {
        let acme = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
        TenantContext::new(acme, Principal::User("ada".parse().unwrap()), "r".parse().unwrap())
    }

    async fn claim(&self, name: &str, provider: &str) {
        let spec = ClaimSpec::new(name.parse().unwrap(), gib(1)).from_provider(provider.parse().unwrap());
        let (view, mut txn) = (self.store.snapshot(&[Prefix::ROOT]).await.unwrap(), Txn::new());
        self.storage.stage_claim(&view, &mut txn, &self.ctx(), &spec).unwrap();
        self.store.commit(&txn).await.unwrap();
    }

    async fn phase(&self, claim: &str) -> VolumePhase {
        let view = self.store.snapshot(&[Prefix::ROOT]).await.unwrap();
        let claim = claim.parse().unwrap();
        self.storage.volume(&view, &Txn::new(), &self.ctx(), &claim).unwrap().phase.clone()
    }

    fn calls(&self) -> usize {
        self.slow.seen.lock().unwrap().len()
    }
}

fn limit(seconds: u64, at_once: usize) -> CallLimits {
    let limit = CallLimit::new(Duration::from_secs(seconds), NonZeroUsize::new(at_once).unwrap());
    CallLimits::default().with(ProviderApi::Create, limit)
}

#[test]
fn a_provider_that_never_answers_holds_up_no_other() {
    let world = Slowly::new(Takes::ForEver, limit(60, 2));
    let (clock, runtime) = (world.sim.clock(), world.sim.runtime());
    let began = clock.now();
    world
        .sim
        .run(async {
            for number in 0..5 {
                world.claim(&format!("stuck-{number}"), "slow").await;
            }
            let enough = async {
                // What is asked for while the calls hang is made at once.
                for number in 0..3 {
                    runtime.sleep(Duration::from_secs(3)).await;
                    let name = format!("fine-{number}");
                    world.claim(&name, "quick").await;
                    runtime.sleep(Duration::from_secs(2)).await;
                    assert_eq!(world.phase(&name).await, VolumePhase::Ready);
                }
            };
            world.controller.run(Duration::from_secs(1), enough).await;
        })
        .unwrap();
    assert!(clock.now().since(began) < Duration::from_secs(60));
    assert_eq!(world.calls(), 2, "more calls than there may be at once");
}

#[test]
fn a_tick_ends_after_one_deadline_and_its_calls_are_repeated_with_their_tokens() {
    let world = Slowly::new(Takes::ForEver, limit(60, 2));
    let (clock, runtime) = (world.sim.clock(), world.sim.runtime());
    let began = clock.now();
    world
        .sim
        .run(async {
            for number in 0..5 {
                world.claim(&format!("stuck-{number}"), "slow").await;
            }
            world.claim("fine", "quick").await;
            let report = world.controller.tick().await.unwrap();
            assert_eq!((report.created, report.failed, report.refused), (1, 2, 0));
            assert_eq!(clock.now().since(began), Duration::from_secs(60));
            // It is not known what came of it: neither failed, nor there.
            assert_eq!(world.phase("stuck-0").await, VolumePhase::Creating);
            let view = world.store.snapshot(&[Prefix::ROOT]).await.unwrap();
            let told = world.storage.explain_claim(&view, &world.ctx(), &"stuck-0".parse().unwrap());
            let because = told.unwrap().failing.unwrap().0;
            assert!(because.contains("provider slow did not answer in 60s"), "{because}");

            *world.slow.takes.lock().unwrap() = Takes::After(Duration::from_secs(1));
            while world.controller.tick().await.unwrap().changed() {
                runtime.sleep(Duration::from_secs(1)).await;
            }
            for number in 0..5 {
                assert_eq!(world.phase(&format!("stuck-{number}")).await, VolumePhase::Ready);
            }
        })
        .unwrap();
    let mut tokens = world.slow.seen.lock().unwrap().clone();
    assert_eq!(tokens.len(), 7);
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 5, "another token for the same intent");
}

#[test]
fn calls_go_on_beside_each_other_as_many_as_are_allowed() {
    let world = Slowly::new(Takes::After(Duration::from_secs(10)), limit(60, 3));
    let clock = world.sim.clock();
    let began = clock.now();
    world
        .sim
        .run(async {
            for number in 0..9 {
                world.claim(&format!("v-{number}"), "slow").await;
            }
            assert_eq!(world.controller.tick().await.unwrap().created, 9);
        })
        .unwrap();
    assert_eq!(world.slow.at_once.lock().unwrap().1, 3);
    assert_eq!(clock.now().since(began), Duration::from_secs(30));
}

#[test]
fn what_goes_on_is_asked_for_when_the_provider_says() {
    let world = Slowly::new(Takes::Polls(Duration::from_secs(10)), CallLimits::default());
    let runtime = world.sim.runtime();
    world
        .sim
        .run(async {
            world.claim("data", "slow").await;
            assert_eq!(world.controller.tick().await.unwrap().pending, 1);
            for _ in 0..9 {
                runtime.sleep(Duration::from_secs(1)).await;
                let report = world.controller.tick().await.unwrap();
                assert_eq!((report.waiting, report.pending, report.created), (1, 0, 0));
            }
            assert_eq!(world.calls(), 1);
            runtime.sleep(Duration::from_secs(1)).await;
            assert_eq!(world.controller.tick().await.unwrap().created, 1);
        })
        .unwrap();
    assert_eq!(world.calls(), 2);
}
