//! Who reaches whom, and why not.

use hivemind_core::{Error, ErrorKind, Result};
use hivemind_net::policy::{AnyPolicy, Change, Endpoint, EndpointKey, NetworkPolicy, PolicySpec, Verdict};

use super::{Teller, expect};
use crate::cluster::reach;

/// The port that is asked about.
const PORT: u16 = 5432;

fn app_of(one: &Endpoint) -> Option<&str> {
    one.profile().labels().iter().find(|(key, _)| key.as_str() == "app").map(|(_, value)| value.as_str())
}

/// Nobody comes in, but the workloads of the same app.
fn app_only(of: &Endpoint) -> Result<Change> {
    let invalid = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Invalid, "policy", e.to_string());
    let selector = serde_json::json!({"matchLabels": {"app": app_of(of)}});
    let spec =
        serde_json::json!({"podSelector": selector, "ingress": [{"from": [{"podSelector": selector}]}]});
    let spec: PolicySpec = serde_json::from_value(spec).map_err(|e| invalid(&e))?;
    let name = "app-only".parse().map_err(|e| invalid(&e))?;
    let (tenant, namespace) = (of.profile().tenant().clone(), of.profile().namespace().clone());
    Ok(Change::Policy(AnyPolicy::Network(NetworkPolicy::new(tenant, namespace, name, spec))))
}

impl Teller<'_> {
    /// Asks the policies three questions: within an app, within a tenant, and between tenants.
    pub(super) async fn explain_reach(&mut self) -> Result<()> {
        self.out.section("Who reaches whom");
        self.out
            .line("By the policies of the network, which this simulated cluster has no packets to hold to:");
        let mut world = self.cluster.network(&self.names()).await?;
        let all: Vec<Endpoint> = world.endpoints().cloned().collect();
        let Some(target) = all.first() else { return Ok(()) };
        world.apply(app_only(target)?);
        let own = |one: &&Endpoint| one.key().tenant == target.key().tenant && one.key() != target.key();
        let mate = all.iter().filter(own).find(|one| app_of(one) == app_of(target));
        let neighbour = all.iter().filter(own).find(|one| app_of(one) != app_of(target));
        let stranger = all.iter().find(|one| one.key().tenant != target.key().tenant);
        let asked = [(mate, Verdict::Allow), (neighbour, Verdict::Deny), (stranger, Verdict::Deny)];
        for (from, verdict) in asked.into_iter().filter_map(|(from, verdict)| Some((from?, verdict))) {
            let (from, to): (EndpointKey, EndpointKey) = (from.key(), target.key());
            let told = reach(&world, &from, &to, PORT)?;
            expect(told.verdict == verdict, format!("{told}"))?;
            for line in told.to_string().lines() {
                self.out.line(line);
            }
        }
        Ok(())
    }
}
