//! What tenants were promised, and what the cluster keeps of it.

use hivemind_core::Result;
use hivemind_tenancy::isolation::Violation;

use super::{Teller, expect};

/// How many violations are told one by one.
const TOLD: usize = 4;

fn concerns_nodes(violation: &Violation) -> bool {
    use Violation::{ForeignOnDedicated, SharedNode, UnmarkedNode};
    matches!(violation, SharedNode { .. } | UnmarkedNode { .. } | ForeignOnDedicated { .. })
}

impl Teller<'_> {
    /// Verifies isolation: on nodes it must hold; what this cluster does not have is told as missing.
    pub(super) async fn verify_isolation(&mut self) -> Result<()> {
        self.out.section("Isolation, promised and verified");
        let names = self.names();
        let (intents, found) = self.cluster.verify_isolation(&names).await?;
        for one in intents.iter().take(TOLD) {
            let (settings, yes) = (&one.isolation, |own| if own { "own" } else { "shared" });
            self.out.line(&format!(
                "{} is promised: nodes {}, network {}, storage {}.",
                one.tenant.id,
                yes(settings.compute_isolation),
                yes(settings.network_isolation),
                yes(settings.storage_isolation),
            ));
        }
        let (nodes, missing): (Vec<_>, Vec<_>) = found.iter().partition(|one| concerns_nodes(one));
        expect(nodes.is_empty(), nodes.first().map(|one| one.to_string()).unwrap_or_default())?;
        self.out.line(
            "Nodes: nobody is where they must not be, and nobody beside a tenant with nodes of its own.",
        );
        if !missing.is_empty() {
            self.out.line(&format!(
                "{} promises are not kept: this small orchestrator has no network policies, and one pool of volumes.",
                missing.len()
            ));
        }
        for violation in missing.iter().take(TOLD) {
            self.out.line(&format!("  - {violation}"));
        }
        if missing.len() > TOLD {
            self.out.line(&format!("  and {} more.", missing.len() - TOLD));
        }
        Ok(())
    }
}
