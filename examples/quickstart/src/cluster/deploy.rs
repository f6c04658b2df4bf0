//! One request, through all crates, in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::labels::Selector;
use hivemind_core::resources::Resources;
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    AccessRequest, AppId, Authorizer, ClaimId, Error, ErrorKind, Namespace, NodeId, QuotaGate, ReservationId,
    ResourceKind, Result, ServiceName, TenantContext, Verb, WorkloadId,
};
use hivemind_net::{Lease, Service as NamedService, ServiceEndpoint};
use hivemind_observe::trace::{Span, SpanKind, Tracer};
use hivemind_storage::{AccessMode, ClaimSpec, VolumeOptions};
use hivemind_tenancy::placement::WorkloadRequest;
use hivemind_tenancy::{RoleAuthorizer, Tenant, TenantQuota};
use serde::{Deserialize, Serialize};

use super::app::{apps, key};
use super::{App, Cluster, Workload};
use crate::compose::Compose;

pub(super) const POOL: &str = "pool";
pub(super) const DEDICATED: &str = "dedicated";
pub(super) const SHARED: &str = "shared";

/// What a deployment made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// Containers.
    pub workloads: u64,
    /// IPv4 addresses.
    pub addresses_v4: u64,
    /// IPv6 addresses.
    pub addresses_v6: u64,
    /// Volumes.
    pub volumes: u64,
}

fn invalid<E: std::error::Error + Send + Sync + 'static>(e: E) -> Error {
    Error::of(ErrorKind::Invalid, "deploy", e)
}

pub(super) fn kind() -> Result<ResourceKind> {
    "apps".parse().map_err(invalid)
}

/// One container to be.
struct Wanted {
    service: ServiceName,
    request: WorkloadRequest,
    claims: BTreeSet<ClaimId>,
}

pub(super) fn claim_id(app: &AppId, volume: &ClaimId) -> Result<ClaimId> {
    ClaimId::new(format!("{app}-{volume}")).map_err(invalid)
}

/// Where a tenant's workloads may run.
pub(super) fn pool_of(tenant: &Tenant) -> Result<Selector> {
    let dedicated = tenant.isolation_level.settings().compute_isolation;
    format!("{POOL}={}", if dedicated { DEDICATED } else { SHARED }).parse().map_err(invalid)
}

fn wanted(app: &AppId, compose: &Compose, on: &Selector) -> Result<Vec<Wanted>> {
    let mut all = Vec::new();
    for (name, service) in &compose.services {
        let resources = Resources::new().with_cpu(service.cpu).with_memory(service.memory);
        let claims: BTreeSet<_> =
            service.mounts.iter().map(|mount| claim_id(app, &mount.volume)).collect::<Result<_>>()?;
        for replica in 1..=service.replicas {
            let id = WorkloadId::new(format!("{app}-{name}-{replica}")).map_err(invalid)?;
            let request =
                WorkloadRequest::new(id, resources.clone()).on(on.clone()).spread_by(format!("{app}/{name}"));
            all.push(Wanted { service: name.clone(), request, claims: claims.clone() });
        }
    }
    if all.is_empty() {
        return Err(Error::invalid("deploy", format!("app {app} has no container to run")));
    }
    Ok(all)
}

fn reservation(app: &AppId) -> Result<ReservationId> {
    ReservationId::new(format!("app-{app}")).map_err(invalid)
}

/// What the containers and services of an app are charged with; volumes are charged by the storage crate.
fn charge(wanted: &[Wanted]) -> Result<Resources> {
    let mut total = Resources::new();
    for one in wanted {
        total = total.checked_add(&one.request.resources).map_err(invalid)?;
    }
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    // A service without a container has no name, and costs nothing.
    let services: BTreeSet<_> = wanted.iter().map(|one| &one.service).collect();
    Ok(total
        .with("containers".parse().map_err(invalid)?, count(wanted.len()))
        .with("services".parse().map_err(invalid)?, count(services.len())))
}

/// What a deployment of `compose` is charged with, volumes included.
pub(crate) fn cost(compose: &Compose) -> Result<Resources> {
    let total = charge(&wanted(&compose.name, compose, &Selector::everything())?)?;
    compose.volumes.values().try_fold(total, |total, size| {
        total.checked_add(&Resources::new().with_storage(*size)).map_err(invalid)
    })
}

/// Whether an app cannot be deployed for a reason of its own, which concerns no other app.
fn refusal(e: &Error) -> bool {
    matches!(
        e.kind(),
        ErrorKind::Exhausted | ErrorKind::Invalid | ErrorKind::QuotaExceeded | ErrorKind::AlreadyExists
    )
}

/// The steps of a request, one after the other.
struct Steps<'a> {
    tracer: &'a Tracer,
    ctx: &'a TenantContext,
    now: Option<Span>,
}

impl Steps<'_> {
    /// Ends one and begins another.
    fn begin(&mut self, name: &'static str) -> &mut Span {
        self.now = None;
        self.now.insert(self.tracer.span(self.ctx, name))
    }
}

impl Cluster {
    /// Deploys `compose` as `app` for the tenant of `ctx`: all of it or nothing, exactly once per request.
    pub async fn deploy(&mut self, ctx: &TenantContext, app: &AppId, compose: &Compose) -> Result<Deployed> {
        let mut span = self.deployment(ctx, app);
        let ctx = &span.within(ctx.clone());
        let outcome =
            self.request(ctx, "deploy", |this, view, txn| this.stage(view, txn, ctx, app, compose)).await;
        if let Err(e) = &outcome {
            span.fail(e.message());
        }
        let result = match &outcome {
            Ok(_) => "deployed",
            Err(e) if matches!(e.kind(), ErrorKind::Denied | ErrorKind::QuotaExceeded) => "denied",
            Err(_) => "refused",
        };
        self.count(ctx.tenant(), result);
        Ok(outcome?.value)
    }

    /// Deploys `compose` as `app`, or refuses it for good: the reason is recorded, and the same request gets it again,
    /// even if there is room by then.
    pub async fn deploy_or_refuse(
        &mut self,
        ctx: &TenantContext,
        app: &AppId,
        compose: &Compose,
    ) -> Result<Result<Deployed, String>> {
        const OPERATION: &str = "deploy-or-refuse";
        let mut span = self.deployment(ctx, app);
        let ctx = &span.within(ctx.clone());
        let deploy =
            |this: &Self, view: &Snapshot, txn: &mut Txn| this.stage(view, txn, ctx, app, compose).map(Ok);
        let answer: Result<Deployed, String> = match self.request(ctx, OPERATION, deploy).await {
            Ok(answered) => answered.value,
            Err(e) if refusal(&e) => {
                let reason = e.message().to_owned();
                self.request(ctx, OPERATION, |_, _, _| Ok(Err(reason.clone()))).await?.value
            }
            Err(e) => return Err(e),
        };
        if let Err(reason) = &answer {
            span.fail(reason);
        }
        self.count(ctx.tenant(), if answer.is_ok() { "deployed" } else { "refused" });
        Ok(answer)
    }

    fn deployment(&self, ctx: &TenantContext, app: &AppId) -> Span {
        self.tracer.span(ctx, "deploy").with_kind(SpanKind::Server).with("app", app.to_string())
    }

    fn stage(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        app: &AppId,
        compose: &Compose,
    ) -> Result<Deployed> {
        let mut steps = Steps { tracer: &self.tracer, ctx, now: None };
        steps.begin("authorize");
        let access = AccessRequest::new(Verb::Create, kind()?).named(app.as_str());
        RoleAuthorizer::new().authorize(view, ctx, &access).into_result(ctx, &access)?;
        let tenant = Tenant::of(view, txn, ctx)?;
        let wanted = wanted(app, compose, &pool_of(&tenant)?)?;
        steps.begin("reserve");
        TenantQuota.reserve(view, txn, ctx, &reservation(app)?, &charge(&wanted)?)?;
        let requests: Vec<_> = wanted.iter().map(|one| one.request.clone()).collect();
        steps.begin("place").set("containers", requests.len());
        let nodes = self.stage_place(view, txn, ctx, &requests)?;
        steps.begin("claim").set("volumes", compose.volumes.len());
        let claims = self.stage_volumes(view, txn, ctx, app, compose, &wanted, &nodes)?;
        let pairs: Vec<_> = nodes.iter().map(|(workload, node)| (workload.clone(), node.clone())).collect();
        steps.begin("assign");
        let leases = self.ipam.stage_assign(view, txn, ctx, &pairs)?;
        steps.begin("register");
        self.stage_names(view, txn, ctx, app, &wanted, &leases)?;
        drop(steps);

        let mut workloads = BTreeMap::new();
        for one in wanted {
            let Wanted { service, request, claims } = one;
            let (Some(node), Some(lease)) = (nodes.get(&request.id), leases.get(&request.id)) else {
                return Err(Error::internal("deploy", format!("{} has no node or no address", request.id)));
            };
            let (node, lease) = (node.clone(), lease.clone());
            workloads
                .insert(request.id, Workload { service, node, lease, resources: request.resources, claims });
        }
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let made = Deployed {
            workloads: count(workloads.len()),
            addresses_v4: count(leases.values().filter(|lease| lease.v4.is_some()).count()),
            addresses_v6: count(leases.values().filter(|lease| lease.v6.is_some()).count()),
            volumes: count(claims.len()),
        };
        let record = App { name: app.clone(), workloads, claims };
        apps()?.create(view, txn, key(ctx.tenant(), app)?, &record)?;
        Ok(made)
    }

    #[allow(clippy::too_many_arguments, reason = "one step of a request, with all that came before it")]
    fn stage_volumes(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        app: &AppId,
        compose: &Compose,
        wanted: &[Wanted],
        nodes: &BTreeMap<WorkloadId, NodeId>,
    ) -> Result<BTreeMap<ClaimId, hivemind_core::resources::ByteSize>> {
        let mut claims = BTreeMap::new();
        for (volume, size) in &compose.volumes {
            let id = claim_id(app, volume)?;
            if self.storage.volume(view, txn, ctx, &id).is_ok() {
                let message =
                    format!("volume {volume} of {app} is {id} here, and another app has that: rename one");
                return Err(Error::new(ErrorKind::AlreadyExists, "deploy", message));
            }
            let users: Vec<_> = wanted.iter().filter(|one| one.claims.contains(&id)).collect();
            let mode = if users.len() > 1 { AccessMode::ReadWriteMany } else { AccessMode::ReadWriteOnce };
            let options = VolumeOptions::default().with_access_mode(mode);
            let spec = ClaimSpec::new(id.clone(), *size).with_options(options);
            self.storage.stage_claim(view, txn, ctx, &spec)?;
            for node in users.iter().filter_map(|one| nodes.get(&one.request.id)) {
                self.storage.stage_attach(view, txn, ctx, &id, node)?;
            }
            claims.insert(id, *size);
        }
        Ok(claims)
    }

    fn stage_names(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        app: &AppId,
        wanted: &[Wanted],
        leases: &BTreeMap<WorkloadId, Lease>,
    ) -> Result<()> {
        let namespace = Namespace::new(app.as_str()).map_err(invalid)?;
        let mut services: BTreeMap<&ServiceName, NamedService> = BTreeMap::new();
        for one in wanted {
            if let Some(lease) = leases.get(&one.request.id) {
                let endpoints = &mut services.entry(&one.service).or_default().endpoints;
                endpoints.insert(one.request.id.clone(), ServiceEndpoint::from(lease));
            }
        }
        for (name, service) in services {
            self.names.stage_register(view, txn, ctx, &namespace, name, &service)?;
        }
        Ok(())
    }
}
