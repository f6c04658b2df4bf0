//! Placement beside forge-orchestration: `cargo bench --manifest-path examples/peers/Cargo.toml --bench place`.

use std::error::Error;

use peers::contest::Contest;
use peers::placement::{forge, hivemind};

fn main() -> Result<(), Box<dyn Error>> {
    for nodes in [100, 1_000, 5_000] {
        let mut contest = Contest::default();
        contest.add("hivemind, index", hivemind::plain(nodes)?);
        contest.add("forge-orchestration, OptimizedScheduler", forge::optimized(nodes));
        contest.run(&format!("place and keep, resources only, {nodes} nodes"));

        let mut contest = Contest::default();
        contest.add("hivemind, index", hivemind::affine(nodes)?);
        contest.add("forge-orchestration, Scheduler", forge::affine(nodes));
        contest
            .run(&format!("place and keep, one required node affinity term and a toleration, {nodes} nodes"));
    }
    Ok(())
}
