//! What the quickstart shows: tenants, deployments, refusals, names, a lost node, a disaster and the way back.
//!
//! Every step can be repeated: after a crash the story is told again from the start, on the same store, and does only
//! what is still to be done.

mod claim;
mod deploy;
mod disaster;
mod isolation;
mod plan;
mod reach;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hivemind_backup::BackupStorage;
use hivemind_core::resources::Resources;
use hivemind_core::{Error, ErrorKind, IdSource, KeyId, KeyProvider, NodeId, Result, StateStore, TenantRef};
use hivemind_net::RecordType;
use hivemind_observe::trace::Tracer;
use hivemind_observe::{ExportLoop, Registry};
use hivemind_tenancy::placement::NodeState;
use serde::Serialize;

pub use self::claim::{Run, claim, held};
pub use self::plan::{Plan, Planned};
use crate::cluster::{Cluster, Ports, Totals};
use crate::narrate::Narrator;

/// Everything outside the control plane: what a crash leaves as it is.
#[derive(Debug, Clone)]
pub struct World {
    /// What the cluster stands on.
    pub ports: Ports,
    /// The empty store that takes the place of the lost one.
    pub spare: Arc<dyn StateStore>,
    /// Where backups are kept.
    pub backups: Arc<dyn BackupStorage>,
    /// What wraps the keys of backups.
    pub keys: Arc<dyn KeyProvider>,
    /// The key that wraps them.
    pub key: KeyId,
    /// Randomness for nonces, which must never repeat.
    pub nonces: Arc<dyn IdSource>,
}

/// What is seen of the cluster.
#[derive(Debug, Default)]
pub struct Eyes {
    /// What is measured.
    pub registry: Registry,
    /// What is told of each request, and where to, if anybody wants to know.
    pub traces: Option<(Tracer, ExportLoop)>,
}

impl Eyes {
    /// Sends what waits, once it is enough. That nobody takes it is no reason to deploy less: the end tells.
    async fn look(&self) {
        const ENOUGH: usize = 4096;
        if let Some((tracer, export)) = &self.traces
            && tracer.waiting() >= ENOUGH
        {
            let _ = export.drain().await;
        }
    }

    /// Sends all that waits.
    ///
    /// # Errors
    /// Those of whoever takes it.
    pub async fn close(&self) -> Result<()> {
        match &self.traces {
            Some((_, export)) => export.drain().await.map(|_| ()),
            None => Ok(()),
        }
    }
}

/// How the story ended, as `--json` prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Tenants.
    pub tenants: u64,
    /// Apps that were deployed.
    pub apps: u64,
    /// Apps that were refused, for want of room or because they cannot work here.
    pub refused: u64,
    /// Which apps those are, and why; the first of them.
    pub refusals: Vec<String>,
    /// Containers.
    pub workloads: u64,
    /// Volumes.
    pub volumes: u64,
    /// IPv4 addresses.
    pub addresses_v4: u64,
    /// IPv6 addresses.
    pub addresses_v6: u64,
    /// Requests that were denied, as they should be.
    pub denied: u64,
    /// Workloads that moved off the lost node.
    pub moved: u64,
    /// Workloads that fit nowhere else, and waited for it.
    pub waiting: u64,
    /// Alerts that fired.
    pub alerts_fired: u64,
    /// Alerts that resolved.
    pub alerts_resolved: u64,
    /// Size of both backups, as stored.
    pub backup_bytes: u64,
    /// Whether the restored state equals the lost one, byte for byte.
    pub restored_equal: bool,
    /// How long it took; filled in by whoever has a clock for it.
    pub elapsed_ms: u64,
    /// Deployments per second, while they were made.
    pub deployments_per_second: u64,
}

/// A broken expectation.
pub(crate) fn expect(holds: bool, what: impl Into<String>) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(ErrorKind::Internal, "expectation", what)) }
}

struct Teller<'a> {
    world: &'a World,
    plan: &'a Plan,
    eyes: &'a Eyes,
    out: &'a mut dyn Narrator,
    stopwatch: &'a dyn Fn() -> Duration,
    cluster: Cluster,
    tenants: Vec<(TenantRef, String)>,
    outcome: Outcome,
}

/// Tells the story on `world`, seen by `eyes`; `stopwatch` tells real time, for the speed.
///
/// # Errors
/// The first expectation that does not hold, or a failure that does not go away.
pub async fn tell(
    world: &World,
    plan: &Plan,
    eyes: &Eyes,
    out: &mut dyn Narrator,
    stopwatch: &dyn Fn() -> Duration,
) -> Result<Outcome> {
    let mut cluster = Cluster::start(world.ports.clone(), eyes.registry.clone()).await?;
    if let Some((tracer, _)) = &eyes.traces {
        cluster = cluster.traced_by(tracer.clone());
    }
    let mut teller = Teller {
        world,
        plan,
        eyes,
        out,
        stopwatch,
        cluster,
        tenants: Vec::new(),
        outcome: Outcome::default(),
    };
    teller.create().await?;
    let first = teller.deploy().await?;
    teller.refuse(&first).await?;
    teller.resolve(&first).await?;
    teller.cluster.settle().await?;
    teller.audit().await?;
    teller.verify_isolation().await?;
    teller.explain_reach().await?;
    let full = teller.back_up_full().await?;
    teller.lose_a_node().await?;
    teller.restore(full).await?;
    Ok(teller.outcome)
}

impl Teller<'_> {
    fn names(&self) -> Vec<TenantRef> {
        self.tenants.iter().map(|(tenant, _)| tenant.clone()).collect()
    }

    async fn create(&mut self) -> Result<()> {
        self.out.section("Nodes and tenants");
        self.cluster.add_nodes(self.plan.nodes).await?;
        self.out.line(&format!("{} nodes of 16 cores and 64 GiB joined.", self.plan.nodes));
        let mut rows = vec![
            ["tenant", "isolation", "cpu", "memory", "storage", "containers"].map(String::from).to_vec(),
        ];
        for tenant in self.plan.tenants()? {
            let created = self.cluster.create_tenant(&tenant).await?;
            let quotas = &tenant.quotas;
            let limit = |amount: Option<String>| amount.unwrap_or_else(|| "-".to_owned());
            rows.push(vec![
                created.id.to_string(),
                tenant.isolation.to_string(),
                limit(quotas.cpu_limit.map(|limit| limit.to_string())),
                limit(quotas.memory_limit.map(|limit| limit.to_string())),
                limit(quotas.storage_limit.map(|limit| limit.to_string())),
                limit(quotas.max_containers.map(|limit| limit.to_string())),
            ]);
            self.tenants.push((created, tenant.developer.clone()));
        }
        self.out.table(&rows);
        self.outcome.tenants = u64::try_from(self.tenants.len()).unwrap_or_default();
        Ok(())
    }

    async fn resolve(&mut self, first: &BTreeMap<TenantRef, Planned>) -> Result<()> {
        self.out.section("Names and walls");
        let Some((owner, planned)) = first.iter().next() else { return expect(false, "no app was deployed") };
        let Some(service) =
            planned.compose.services.iter().find(|(_, s)| s.replicas > 0).map(|(name, _)| name)
        else {
            return expect(false, "the first app has no running service");
        };
        let owner_ctx = self.cluster.ctx(owner, "resolver", "resolve")?;
        let name = self.cluster.service_name(&owner_ctx, &planned.app, service)?;
        for kind in [RecordType::A, RecordType::Aaaa] {
            let answer = self.cluster.resolve(&owner_ctx, &name, kind).await?;
            expect(!answer.is_empty(), format!("{name} has no address of type {kind:?}"))?;
            let shown: Vec<_> = answer.iter().map(ToString::to_string).collect();
            self.out.line(&format!(
                "{name} {} {}",
                if kind == RecordType::A { "A   " } else { "AAAA" },
                shown.join(" ")
            ));
        }
        let strangers: Vec<_> = self.names().into_iter().filter(|tenant| tenant != owner).collect();
        for stranger in strangers {
            let ctx = self.cluster.ctx(&stranger, "resolver", "resolve")?;
            let answer = self.cluster.resolve(&ctx, &name, RecordType::A).await?;
            expect(answer.is_empty(), format!("tenant {} can resolve {name}", stranger.id))?;
            let seen = self.cluster.sees(&ctx, owner, &planned.app).await?;
            expect(!seen, format!("tenant {} can see a volume or an address of {}", stranger.id, owner.id))?;
            self.out.line(&format!(
                "tenant {} sees neither that name nor its volumes and addresses.",
                stranger.id
            ));
        }
        Ok(())
    }

    async fn audit(&mut self) -> Result<()> {
        let names = self.names();
        let mut total = Totals::default();
        for (_, one) in self.cluster.audit(&names).await? {
            total += one;
        }
        let outcome = &mut self.outcome;
        (outcome.apps, outcome.workloads, outcome.volumes) = (total.apps, total.workloads, total.volumes);
        (outcome.addresses_v4, outcome.addresses_v6) = (total.addresses_v4, total.addresses_v6);
        expect(total.addresses_v4 == total.workloads, "a workload has no IPv4 address")?;
        expect(total.addresses_v6 == total.workloads, "a workload has no IPv6 address")
    }

    async fn lose_a_node(&mut self) -> Result<()> {
        self.out.section("A node is lost");
        let names = self.names();
        let lost = self.lost_node(&names).await?;
        let moves = self.cluster.fail_node(&lost, &self.tenants).await?;
        (self.outcome.moved, self.outcome.waiting) = (moves.moved, moves.waiting);
        self.cluster.settle().await?;
        self.out.line(&format!(
            "{lost} failed: {} workloads moved; addresses stayed, volumes followed.",
            moves.moved
        ));
        if moves.waiting > 0 {
            self.out.line(&format!("{} fit nowhere else, and wait for it to come back.", moves.waiting));
        }
        expect(moves.moved + moves.waiting > 0, "nothing ran on the lost node")?;
        self.audit().await?;

        let (fired, told) = self.cluster.observe(self.plan.nodes, Duration::from_secs(30)).await?;
        let rule = "node-down".parse().map_err(|e| Error::of(ErrorKind::Internal, "alert", e))?;
        self.out.line(&format!(
            "After 30 s without it, alert node-down fires ({} so far).",
            fired.totals(&rule).fired
        ));
        // After a crash it may have been told before.
        told.iter().for_each(|message| self.out.line(&format!("{} is told: {message}.", message.receiver)));
        self.cluster.set_node_state(&lost, NodeState::Ready, "repair").await?;
        let (resolved, told) = self.cluster.observe(self.plan.nodes, Duration::ZERO).await?;
        let totals = resolved.totals(&rule);
        self.out.line(&format!("{lost} comes back: the alert resolves ({} so far).", totals.resolved));
        told.iter().for_each(|message| self.out.line(&format!("{} is told: {message}.", message.receiver)));
        (self.outcome.alerts_fired, self.outcome.alerts_resolved) = (totals.fired, totals.resolved);
        expect(totals.fired == 1 && totals.resolved == 1, "the alert did not fire once and resolve once")
    }

    /// The busiest node, chosen once: after a crash it is the same one.
    async fn lost_node(&mut self, names: &[TenantRef]) -> Result<NodeId> {
        let busiest = self.cluster.busiest_node(names).await?;
        self.cluster.remember(&busiest, "lost-node").await
    }
}

/// What the storage of all apps of a plan needs; for quotas.
pub(crate) fn total(all: impl IntoIterator<Item = Resources>) -> Result<Resources> {
    all.into_iter().try_fold(Resources::new(), |sum, one| {
        sum.checked_add(&one).map_err(|e| Error::of(ErrorKind::Invalid, "plan", e))
    })
}
