//! Does everything add up? Every crate's books against what the host runs.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::Resources;
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Namespace, Recorder, Result, TenantContext, TenantRef};
use hivemind_net::{Answer, RecordType};
use hivemind_storage::Orphans;
use hivemind_tenancy::TenantQuota;

use super::app::of_tenant;
use super::{Cluster, WORKLOADS};

/// What runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Apps.
    pub apps: u64,
    /// Containers.
    pub workloads: u64,
    /// IPv4 addresses in use.
    pub addresses_v4: u64,
    /// IPv6 addresses in use.
    pub addresses_v6: u64,
    /// Volumes.
    pub volumes: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.apps += other.apps;
        self.workloads += other.workloads;
        self.addresses_v4 += other.addresses_v4;
        self.addresses_v6 += other.addresses_v6;
        self.volumes += other.volumes;
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// A broken expectation: the books do not add up.
fn leak(what: String) -> Error {
    Error::new(ErrorKind::Corrupt, "audit", what)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(leak(format!("{what}: found {found:?}, expected {expected:?}")))
    }
}

impl Cluster {
    /// Checks that nothing leaked, for each of `tenants`, and at the storage provider; returns what runs, by tenant.
    ///
    /// Volumes must have [settled](Self::settle) before.
    pub async fn audit(&mut self, tenants: &[TenantRef]) -> Result<BTreeMap<TenantRef, Totals>> {
        let contexts: Vec<_> =
            tenants.iter().map(|tenant| self.ctx(tenant, "auditor", "audit")).collect::<Result<_>>()?;
        let totals = self
            .read(|this, view| {
                let each =
                    contexts.iter().map(|ctx| Ok((ctx.tenant().clone(), this.audit_tenant(view, ctx)?)));
                let all: BTreeMap<_, _> = each.collect::<Result<_>>()?;
                this.audit_nodes(view, tenants)?;
                Ok(all)
            })
            .await?;
        let orphans = self.persist(|| self.controller.orphans()).await?;
        same("volumes that only one side knows", &orphans, &Orphans::default())?;
        for (tenant, total) in &totals {
            #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
            self.registry.gauge(&WORKLOADS, Some(&tenant.id), &[]).set(total.workloads as f64);
        }
        Ok(totals)
    }

    fn audit_tenant(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Totals> {
        let apps = of_tenant(view, ctx.tenant())?;
        let mut charged = Resources::new();
        let (mut running, mut claims, mut services) = (BTreeSet::new(), BTreeMap::new(), 0u64);
        let overflow = |e| Error::of(ErrorKind::Corrupt, "audit", e);
        for app in &apps {
            let namespace =
                Namespace::new(app.name.as_str()).map_err(|e| Error::of(ErrorKind::Corrupt, "audit", e))?;
            let mut by_service: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
            for (id, workload) in &app.workloads {
                charged = charged.checked_add(&workload.resources).map_err(overflow)?;
                running.insert(id.clone());
                by_service.entry(&workload.service).or_default().extend(workload.lease.addresses());
            }
            services += count(by_service.len());
            for (service, addresses) in by_service {
                let name = self.names.full_name(ctx, &namespace, service);
                let mut answered = BTreeSet::new();
                for kind in [RecordType::A, RecordType::Aaaa] {
                    match self.names.resolve(view, ctx, &name, kind)? {
                        Answer::NxDomain => return Err(leak(format!("{name} does not resolve"))),
                        answer => answered.extend(answer.addresses().iter().copied()),
                    }
                }
                same(&name, &answered, &addresses)?;
            }
            for (claim, size) in &app.claims {
                charged = charged.checked_add(&Resources::new().with_storage(*size)).map_err(overflow)?;
                let users = app.workloads.values().filter(|workload| workload.claims.contains(claim));
                claims.insert(
                    claim.clone(),
                    users.map(|workload| workload.node.clone()).collect::<BTreeSet<_>>(),
                );
            }
        }
        let invalid = |e| Error::of(ErrorKind::Internal, "audit", e);
        charged = charged
            .with("containers".parse().map_err(invalid)?, count(running.len()))
            .with("services".parse().map_err(invalid)?, services);
        let tenant = &ctx.tenant().id;
        let drift = TenantQuota.recount(view, ctx)?;
        same(&format!("quota ledger of {tenant}"), &drift.ledger, &drift.counted)?;
        same(&format!("quota of {tenant} in use"), &drift.ledger.used, &charged)?;
        same(&format!("quota of {tenant} held"), &drift.ledger.reserved, &Resources::new())?;
        let leaks = self.ipam.audit(view, ctx, &running)?;
        if !leaks.is_clean() {
            return Err(leak(format!("addresses of {tenant}: {leaks:?}")));
        }
        let attached: BTreeMap<_, _> = self
            .storage
            .volumes(view, ctx)?
            .iter()
            .filter_map(|volume| Some((volume.claim.clone()?, volume.attached.keys().cloned().collect())))
            .collect();
        same(&format!("volumes of {tenant} and where they are"), &attached, &claims)?;
        let usage = self.ipam.usage(view, ctx)?;
        Ok(Totals {
            apps: count(apps.len()),
            workloads: count(running.len()),
            addresses_v4: usage.v4.addresses,
            addresses_v6: usage.v6.addresses,
            volumes: count(claims.len()),
        })
    }

    /// What the nodes say they run is what the apps say runs there.
    fn audit_nodes(&self, view: &Snapshot, tenants: &[TenantRef]) -> Result<()> {
        let mut expected: BTreeMap<_, BTreeMap<TenantRef, BTreeSet<_>>> = BTreeMap::new();
        for tenant in tenants {
            for app in of_tenant(view, tenant)? {
                for (id, workload) in &app.workloads {
                    let here = expected.entry(workload.node.clone()).or_default();
                    here.entry(tenant.clone()).or_default().insert(id.clone());
                }
            }
        }
        for (node, running) in self.tenants.nodes(view, &Txn::new())? {
            let here: BTreeMap<_, BTreeSet<_>> = running
                .workloads
                .iter()
                .map(|(tenant, workloads)| (tenant.clone(), workloads.keys().cloned().collect()))
                .collect();
            same(
                &format!("what runs on {}", node.id),
                &here,
                &expected.remove(&node.id).unwrap_or_default(),
            )?;
            if !running.used.fits_in(&node.capacity) {
                return Err(leak(format!(
                    "node {} is overfull: {} of {}",
                    node.id, running.used, node.capacity
                )));
            }
        }
        same("nodes that do not exist and run something", &expected.len(), &0)
    }
}
