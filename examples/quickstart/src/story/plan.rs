//! What is deployed for whom. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::resources::{ByteSize, MilliCpu, ResourceName};
use hivemind_core::{AppId, Error, ErrorKind, Result};
use hivemind_tenancy::{IsolationLevel, ResourceQuotas};

use crate::cluster::TenantPlan;
use crate::compose::Compose;
use crate::story::total;

/// The tenants: name, isolation, who deploys.
const TENANTS: [(&str, IsolationLevel, &str); 3] = [
    ("hooli", IsolationLevel::Hard, "gavin"),
    ("acme", IsolationLevel::Soft, "ada"),
    ("globex", IsolationLevel::NetworkOnly, "hank"),
];

/// What is deployed on how many nodes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The files.
    pub files: Vec<Compose>,
    /// How many nodes there are: at least four.
    pub nodes: usize,
    /// How many apps in all; the files go round. `None` is each file once for each tenant.
    pub apps: Option<usize>,
}

/// One app to be deployed.
#[derive(Debug, Clone)]
pub struct Planned {
    /// For which tenant, by number.
    pub tenant: usize,
    /// Under which name.
    pub app: AppId,
    /// From which file.
    pub compose: Compose,
}

fn invalid<E: std::error::Error + Send + Sync + 'static>(e: E) -> Error {
    Error::of(ErrorKind::Invalid, "plan", e)
}

impl Plan {
    fn count(&self) -> usize {
        self.apps.unwrap_or(self.files.len() * TENANTS.len())
    }

    /// Tells plans apart: the same for the same apps, in the same order, on as many nodes.
    pub fn fingerprint(&self) -> Result<String> {
        let text = serde_json::to_vec(&(&self.files, self.nodes, self.count())).map_err(invalid)?;
        Ok(blake3::hash(&text).to_hex().to_string())
    }

    /// What it is, for people.
    pub fn in_words(&self) -> String {
        let names: Vec<_> = self.files.iter().map(|file| file.name.as_str()).take(5).collect();
        let more = self.files.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{} apps of {}{more} on {} nodes", self.count(), names.join(", "), self.nodes)
    }

    /// Every app, in the order of deployment.
    pub fn apps(&self) -> Result<Vec<Planned>> {
        let tenants = TENANTS.len();
        let count = self.count();
        let mut all = Vec::with_capacity(count);
        // A name that stands in a file is that file's; a second app of the name gets a number that nobody has.
        let mut taken: BTreeSet<AppId> = self.files.iter().map(|file| file.name.clone()).collect();
        let mut used: BTreeSet<(usize, AppId)> = BTreeSet::new();
        for (number, compose) in self.files.iter().cycle().take(count).enumerate() {
            let tenant = (number / self.files.len().max(1)) % tenants;
            let mut app = compose.name.clone();
            let mut suffix = number;
            while !used.insert((tenant, app.clone())) {
                loop {
                    app = AppId::new(format!("{}-{suffix}", compose.name)).map_err(invalid)?;
                    if taken.insert(app.clone()) {
                        break;
                    }
                    suffix += count;
                }
            }
            all.push(Planned { tenant, app, compose: compose.clone() });
        }
        Ok(all)
    }

    /// The tenants, each with a quota a quarter above what is to be deployed for it.
    pub fn tenants(&self) -> Result<Vec<TenantPlan>> {
        let apps = self.apps()?;
        let mut plans = Vec::new();
        for (number, (id, isolation, developer)) in TENANTS.into_iter().enumerate() {
            let own = apps.iter().filter(|planned| planned.tenant == number);
            let costs =
                own.map(|planned| crate::cluster::cost(&planned.compose)).collect::<Result<Vec<_>>>()?;
            let need = total(costs)?;
            let more = |amount: u64| amount.saturating_add(amount / 4);
            let count = |name: &str| -> Result<u64> {
                let name: ResourceName = name.parse().map_err(invalid)?;
                Ok(more(need.amount(&name)))
            };
            let gib = ByteSize::from_gib(1).as_bytes();
            let whole_gib = |bytes: u64| ByteSize::from_gib(more(bytes).div_ceil(gib));
            let quotas = ResourceQuotas::default()
                .with_cpu_limit(MilliCpu::from_cores(more(need.cpu().as_millis()).div_ceil(1000)))
                .with_memory_limit(whole_gib(need.memory().as_bytes()))
                .with_storage_limit(whole_gib(need.storage().as_bytes()))
                .with_max_containers(count("containers")?)
                .with_max_services(count("services")?);
            plans.push(TenantPlan {
                id: id.parse().map_err(invalid)?,
                isolation,
                quotas,
                developer: developer.into(),
            });
        }
        Ok(plans)
    }
}
