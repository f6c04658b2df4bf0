//! Deployments, and two requests that must not pass.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_backup::compare;
use hivemind_core::resources::{ByteSize, MilliCpu};
use hivemind_core::{AppId, Error, ErrorKind, Result, TenantRef};
use hivemind_tenancy::OverQuota;

use super::{Planned, Teller, expect};
use crate::cluster::Deployed;
use crate::compose::{Compose, Service};

/// How many refusals are told one by one.
const TOLD: u64 = 20;

impl Teller<'_> {
    /// Deploys everything; returns the first app of each tenant.
    pub(super) async fn deploy(&mut self) -> Result<BTreeMap<TenantRef, Planned>> {
        self.out.section("Deployments, one transaction each");
        let (mut first, mut made) = (BTreeMap::new(), BTreeMap::<_, Deployed>::new());
        let all = self.plan.apps()?;
        let started = (self.stopwatch)();
        for (number, planned) in all.iter().enumerate() {
            let Some((tenant, user)) = self.tenants.get(planned.tenant).cloned() else { continue };
            let ctx = self.cluster.ctx(&tenant, &user, &format!("deploy-{number}"))?;
            match self.cluster.deploy_or_refuse(&ctx, &planned.app, &planned.compose).await? {
                Ok(deployed) => {
                    let sum = made.entry(tenant.clone()).or_default();
                    sum.workloads += deployed.workloads;
                    sum.addresses_v4 += deployed.addresses_v4;
                    sum.addresses_v6 += deployed.addresses_v6;
                    sum.volumes += deployed.volumes;
                    first.entry(tenant).or_insert_with(|| planned.clone());
                }
                Err(reason) => {
                    self.refused(format!("{} of {} was refused: {reason}", planned.app, tenant.id))
                }
            }
            self.eyes.look().await;
            self.out.progress("deployed", number + 1, all.len());
        }
        let mut rows = vec![["tenant", "containers", "IPv4", "IPv6", "volumes"].map(String::from).to_vec()];
        for (tenant, sum) in &made {
            let numbers = [sum.workloads, sum.addresses_v4, sum.addresses_v6, sum.volumes];
            rows.push(std::iter::once(tenant.id.to_string()).chain(numbers.map(|n| n.to_string())).collect());
        }
        self.out.table(&rows);
        let refused = self.outcome.refused;
        if refused > TOLD {
            self.out.line(&format!("and {} more were refused.", refused - TOLD));
        }
        let took = (self.stopwatch)().saturating_sub(started).as_micros().max(1);
        let deployed = u128::from(u64::try_from(all.len()).unwrap_or(u64::MAX).saturating_sub(refused));
        self.outcome.deployments_per_second = u64::try_from(deployed * 1_000_000 / took).unwrap_or(u64::MAX);
        let reason = self.outcome.refusals.first().map_or("there is none", String::as_str);
        expect(!first.is_empty(), format!("no app at all could be deployed: {reason}"))?;
        Ok(first)
    }

    fn refused(&mut self, what: String) {
        self.outcome.refused += 1;
        if self.outcome.refused <= TOLD {
            self.out.line(&what);
            self.outcome.refusals.push(what);
        }
    }

    /// Something that asks for a little more than the tenant may have of anything, under a name that nobody has.
    fn greedy(&self, tenant: usize) -> Result<Compose> {
        let invalid = |e| Error::of(ErrorKind::Internal, "refuse", e);
        let taken: BTreeSet<_> = self.plan.apps()?.into_iter().map(|planned| planned.app).collect();
        let names = (0..).map(|n| if n == 0 { "greedy".to_owned() } else { format!("greedy-{n}") });
        let mut name = names.map(|name| AppId::new(name).map_err(invalid));
        let name = name.find(|name| !matches!(name, Ok(name) if taken.contains(name)));
        let name = name.unwrap_or_else(|| Err(Error::internal("refuse", "every name is taken")))?;
        let quota = self.plan.tenants()?.into_iter().nth(tenant).map(|plan| plan.quotas).unwrap_or_default();
        let more = |limit: Option<u64>| limit.unwrap_or_default().saturating_add(1);
        let service = Service {
            replicas: 1,
            cpu: MilliCpu::from_millis(more(quota.cpu_limit.map(MilliCpu::as_millis))),
            memory: ByteSize::from_bytes(more(quota.memory_limit.map(ByteSize::as_bytes))),
            ..Service::default()
        };
        let services = BTreeMap::from([("all".parse().map_err(invalid)?, service)]);
        Ok(Compose { name, services, volumes: BTreeMap::new(), warnings: Vec::new() })
    }

    pub(super) async fn refuse(&mut self, first: &BTreeMap<TenantRef, Planned>) -> Result<()> {
        self.out.section("Two requests that must not pass");
        let Some((tenant, user)) =
            self.tenants.iter().find(|(tenant, _)| first.contains_key(tenant)).cloned()
        else {
            return expect(false, "no tenant has an app");
        };
        let Some(planned) = first.get(&tenant) else { return expect(false, "no app to be greedy with") };
        let before = self.cluster.persist(|| self.world.ports.store.revision()).await?;

        let greedy = self.greedy(planned.tenant)?;
        let ctx = self.cluster.ctx(&tenant, &user, "greedy")?;
        let denied = self.cluster.deploy(&ctx, &greedy.name, &greedy).await;
        let over = denied.err().filter(|e| e.kind() == ErrorKind::QuotaExceeded);
        let Some(over) = over else { return expect(false, "an app over its quota was not denied") };
        self.out.line(&format!(
            "{user} deploys {}, which asks for too much of everything. Denied, over quota:",
            greedy.name
        ));
        match over.detail::<OverQuota>() {
            Some(detail) => {
                for short in &detail.short {
                    self.out.line(&format!("  - {short}"));
                    self.out.line(&format!("    what would help: {}", short.help()));
                }
                for resource in &detail.above {
                    self.out.line(&format!("  - {resource}: a tenant above has too little left"));
                }
            }
            None => self.out.line(over.message()),
        }

        let ctx = self.cluster.ctx(&tenant, "mallory", "intrusion")?;
        let refused = self.cluster.deploy(&ctx, &greedy.name, &greedy).await;
        let no = refused.err().filter(|e| e.kind() == ErrorKind::Denied);
        let Some(no) = no else { return expect(false, "a stranger could deploy") };
        self.out.line("mallory, whom nobody gave a role, deploys the same app. Denied, no permission:");
        self.out.line(&format!("  - {}", no.message()));

        let store = &self.world.ports.store;
        let after = self.cluster.persist(|| store.revision()).await?;
        // Others may use the same engine: what counts is what is in our part of it.
        let unchanged =
            before == after || self.cluster.persist(|| compare(store, before, store, after)).await?.is_none();
        expect(unchanged, "a denied request left something behind")?;
        self.out.line("Nothing was left behind: the store is as it was before.");
        self.outcome.denied = 2;
        Ok(())
    }
}
