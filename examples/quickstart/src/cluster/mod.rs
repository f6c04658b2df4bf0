//! A small orchestrator: what a host writes around the crates.

mod app;
mod audit;
mod deploy;
mod isolation;
mod look;
mod reach;
mod recover;
mod setup;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hivemind_core::store::{Prefix, Revision, Snapshot, Txn};
use hivemind_core::{
    Answered, Clock, Effect, Error, ErrorKind, IdSource, Metric, Mirror, MirrorFeed, Once, Principal,
    ReceiverName, Recorder, Result, Runtime, SeededIds, StateStore, TenantContext, TenantRef,
};
use hivemind_net::{IpamManager, ServiceRegistry};
use hivemind_observe::notify::{Notification, NotifyRules, Route};
use hivemind_observe::trace::{Sampling, Tracer, TracerOptions};
use hivemind_observe::{
    AlertEngine, AlertManager, AlertRule, AlertState, Comparison, MemoryNotifier, NotifyLoop, Registry,
};
use hivemind_storage::{ProviderRegistry, StorageManager, StorageProvider, VolumeController};
use hivemind_tenancy::placement::{NodeState, Packing, Placement, PlacementPolicy, WorkloadRequest};
use hivemind_tenancy::{ClusterMirror, TenantManager, TenantQuota};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use app::{App, Workload};
pub use audit::Totals;
pub use deploy::Deployed;
pub(crate) use deploy::cost;
pub use reach::reach;
pub use recover::Moves;
pub use setup::{TenantPlan, node_name};

/// How often a request is tried that the store does not answer, or whose state changes under it.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(20);
/// By which ties between nodes are decided: always alike, so that a run can be told again.
const SEED: u64 = 0;
const READY: Metric = Metric::new("hivemind_nodes_ready", "Nodes that take workloads.");
const WORKLOADS: Metric = Metric::new("hivemind_workloads", "Workloads that are deployed.");
const REQUESTS: Metric = Metric::new("quickstart_requests_total", "Requests, by how they ended.");

/// What a cluster stands on. All of it outlives a crash of the control plane.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Where the state lives.
    pub store: Arc<dyn StateStore>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How to wait.
    pub runtime: Arc<dyn Runtime>,
    /// Where generations come from.
    pub ids: Arc<dyn IdSource>,
    /// Where volumes live.
    pub provider: Arc<dyn StorageProvider>,
}

/// The control plane of one process. What it remembers is a copy of the store.
#[derive(Debug)]
pub struct Cluster {
    ports: Ports,
    mirror: Mirror,
    feed: MirrorFeed,
    /// Which nodes are best, as far as the mirror shows. A decision only borrows the cluster, and one is made at a time.
    placing: Mutex<ClusterMirror>,
    tenants: TenantManager,
    ipam: IpamManager,
    names: ServiceRegistry,
    storage: StorageManager,
    controller: VolumeController,
    registry: Registry,
    tracer: Tracer,
}

/// Who hears of alerts.
fn receiver() -> Result<ReceiverName> {
    "on-call".parse().map_err(|e| Error::of(ErrorKind::Internal, "alert", e))
}

/// Whether a failure may pass: the store did not answer, or somebody else was faster.
fn passes(e: &Error) -> bool {
    e.effect() == Effect::Unknown || matches!(e.kind(), ErrorKind::Conflict | ErrorKind::Unavailable)
}

impl Cluster {
    /// A control plane on `ports`, measuring into `registry`.
    pub async fn start(ports: Ports, registry: Registry) -> Result<Self> {
        let mut attempt = 0;
        let (mirror, feed) = loop {
            match Mirror::open(Arc::clone(&ports.store), Prefix::ROOT).await {
                Ok(opened) => break opened,
                Err(e) if attempt >= ATTEMPTS || !passes(&e) => return Err(e),
                Err(_) => {
                    attempt += 1;
                    ports.runtime.sleep(PAUSE).await;
                }
            }
        };
        let mut providers = ProviderRegistry::new();
        providers.add(Arc::clone(&ports.provider))?;
        let quota: Arc<TenantQuota> = Arc::new(TenantQuota);
        // Records nothing, so its ids do not matter.
        let none = TracerOptions::default().with_sampling(Sampling::NONE);
        let tracer = Tracer::new(Arc::clone(&ports.clock), &SeededIds::new(SEED), none);
        Ok(Self {
            tenants: TenantManager::new(
                Arc::clone(&ports.store),
                Arc::clone(&ports.clock),
                Arc::clone(&ports.ids),
            ),
            ipam: IpamManager::new(Arc::clone(&ports.store), Arc::clone(&ports.clock)),
            names: ServiceRegistry::new("cluster.local")?,
            storage: StorageManager::new(providers.names()).with_quota(quota.clone()),
            controller: VolumeController::new(
                Arc::clone(&ports.store),
                providers,
                Arc::clone(&ports.clock),
                Arc::clone(&ports.runtime),
            )
            .with_quota(quota),
            ports,
            mirror,
            feed,
            placing: Mutex::new(ClusterMirror::new(Packing::Spread, SEED)),
            registry,
            tracer,
        })
    }

    /// Tells `tracer` what each request did, and for how long.
    #[must_use]
    pub fn traced_by(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    /// The name of a request in the context of `tenant`.
    pub fn ctx(&self, tenant: &TenantRef, user: &str, request: &str) -> Result<TenantContext> {
        let invalid = |e| Error::of(ErrorKind::Invalid, "request", e);
        let principal = Principal::User(user.parse().map_err(invalid)?);
        Ok(TenantContext::new(tenant.clone(), principal, request.parse().map_err(invalid)?))
    }

    fn admin(&self, request: &str) -> Result<TenantContext> {
        self.ctx(&TenantRef::system(), "operator", request)
    }

    /// Decides on the newest state and commits, exactly once per request and operation, whatever fails.
    ///
    /// A refusal of `decide` is final. A conflict means to decide again; a store that does not answer is asked again.
    async fn request<T>(
        &mut self,
        ctx: &TenantContext,
        operation: &str,
        mut decide: impl FnMut(&Self, &Snapshot, &mut Txn) -> Result<T>,
    ) -> Result<Answered<T>>
    where
        T: Serialize + DeserializeOwned + Send,
    {
        let once = Once::new(ctx, operation, self.ports.clock.now())?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let failed = match self.try_request(ctx, &once, &mut decide).await {
                Ok(answered) => return Ok(answered),
                Err(e) => e,
            };
            if !passes(&failed) || attempt >= ATTEMPTS {
                return Err(failed);
            }
            self.ports.runtime.sleep(PAUSE).await;
        }
    }

    async fn try_request<T>(
        &mut self,
        ctx: &TenantContext,
        once: &Once,
        decide: &mut impl FnMut(&Self, &Snapshot, &mut Txn) -> Result<T>,
    ) -> Result<Answered<T>>
    where
        T: Serialize + DeserializeOwned + Send,
    {
        let reading = self.tracer.span(ctx, "read");
        let newest = self.ports.store.revision().await?;
        self.catch_up(newest).await?;
        reading.end();
        let mut txn = Txn::new();
        let value = {
            let view = self.mirror.view();
            if let Some(answered) = once.answer(&view)? {
                return Ok(answered);
            }
            decide(self, &view, &mut txn)?
        };
        let mut committing = self.tracer.span(ctx, "commit").with("writes", txn.writes().len());
        let committed = once.commit(&*self.ports.store, txn, value).await;
        if let Err(e) = &committed {
            committing.fail(e);
        }
        committed
    }

    /// Brings the mirror forward to `newest`, and the placing with it.
    async fn catch_up(&mut self, newest: Revision) -> Result<()> {
        while self.mirror.view().revision() < newest {
            let change = self.feed.advance().await?;
            self.placing.get_mut().unwrap_or_else(PoisonError::into_inner).note(&change);
        }
        Ok(())
    }

    /// Stages a node for each of `workloads`, all or none.
    fn stage_place(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workloads: &[WorkloadRequest],
    ) -> Result<Placement> {
        let mut placing = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = PlacementPolicy::default();
        self.tenants.stage_place_with(&mut placing, view, txn, ctx, workloads, &policy)
    }

    /// Reads the newest state.
    pub async fn read<T>(&mut self, read: impl Fn(&Self, &Snapshot) -> Result<T>) -> Result<T> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let caught_up = match self.ports.store.revision().await {
                Ok(newest) => self.catch_up(newest).await,
                Err(e) => Err(e),
            };
            match caught_up {
                Ok(()) => return read(self, &self.mirror.view()),
                Err(e) if attempt >= ATTEMPTS || !passes(&e) => return Err(e),
                Err(_) => self.ports.runtime.sleep(PAUSE).await,
            }
        }
    }

    /// Reconciles volumes until the outside world is as intended.
    pub async fn settle(&mut self) -> Result<()> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.controller.tick().await {
                Ok(report) if !report.changed() => return Ok(()),
                Ok(_) => last = None,
                Err(e) if !passes(&e) => return Err(e),
                Err(e) => last = Some(e),
            }
            self.ports.runtime.sleep(PAUSE).await;
        }
        Err(last.unwrap_or_else(|| Error::internal("settle", "volumes do not come to rest")))
    }

    /// Measures the cluster, evaluates alerts, again after `wait`, and tells who is on call; returns what the alerts remember, and
    /// what was told.
    pub async fn observe(&mut self, nodes: usize, wait: Duration) -> Result<(AlertState, Vec<Notification>)> {
        let ready = self.read(|this, view| this.ready_nodes(view)).await?;
        #[allow(clippy::cast_precision_loss, reason = "a cluster has fewer than 2^52 nodes")]
        let threshold = nodes as f64;
        #[allow(clippy::cast_precision_loss, reason = "a cluster has fewer than 2^52 nodes")]
        self.registry.gauge(&READY, None, &[]).set(ready as f64);
        let name = "node-down".parse().map_err(|e| Error::of(ErrorKind::Internal, "alert", e))?;
        let rule = AlertRule::new(name, READY.name, Comparison::Below, threshold)
            .map_err(|e| Error::of(ErrorKind::Internal, "alert", e))?
            .held_for(Duration::from_secs(30));
        let (store, clock) = (Arc::clone(&self.ports.store), Arc::clone(&self.ports.clock));
        let alerts = AlertManager::new(store, clock, self.registry.clone(), AlertEngine::new([rule]));
        for pause in [Duration::ZERO, wait] {
            self.ports.runtime.sleep(pause).await;
            self.persist(|| alerts.tick()).await?;
        }
        let on_call = Route::to(receiver()?).waiting(Duration::ZERO).every(Duration::ZERO);
        let (store, clock) = (Arc::clone(&self.ports.store), Arc::clone(&self.ports.clock));
        let phone = Arc::new(MemoryNotifier::new());
        let telling = NotifyLoop::new(store, clock, NotifyRules::new(on_call))
            .with_receiver(receiver()?, phone.clone());
        let firing = self.persist(|| alerts.firing()).await?;
        self.persist(|| telling.tick(&firing)).await?;
        Ok((self.persist(|| alerts.state()).await?, phone.told()))
    }

    /// Repeats a call until the store answers.
    pub async fn persist<T, F: Future<Output = Result<T>>>(&self, call: impl Fn() -> F) -> Result<T> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match call().await {
                Err(e) if attempt < ATTEMPTS && passes(&e) => {
                    self.ports.runtime.sleep(PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    fn ready_nodes(&self, view: &Snapshot) -> Result<usize> {
        let nodes = self.tenants.nodes(view, &Txn::new())?;
        Ok(nodes.iter().filter(|(node, _)| node.state == NodeState::Ready).count())
    }

    fn count(&self, tenant: &TenantRef, result: &str) {
        self.registry.counter(&REQUESTS, Some(&tenant.id), &[("result", result)]).add(1);
    }
}
