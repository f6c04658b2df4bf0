//! `quickstart`: see the crate's documentation, or `--help`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use hivemind_backup::FsBackups;
use hivemind_core::{
    BoxFuture, Clock, ManualClock, MemoryKeys, MemoryStore, Runtime, SystemClock, SystemIds, ThreadRuntime,
    Timestamp, block_on,
};
use hivemind_observe::Registry;
use hivemind_storage::MemoryProvider;
use quickstart::cluster::Ports;
use quickstart::compose::{self, Compose, ComposeError};
use quickstart::narrate::{Narrator, Silent, Terminal};
use quickstart::story::{self, Outcome, Plan, World};

const SHOP: &str = include_str!("../compose/shop.yaml");

/// Deploys Compose files for three tenants on a simulated cluster, loses a node, then everything, and restores it.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Compose files; without any, a web shop that ships with this program.
    files: Vec<PathBuf>,
    /// How many nodes the cluster has: four or more.
    #[arg(long, default_value_t = 5, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(4..=10_000))]
    nodes: usize,
    /// Deploy so many apps in all, going round the files and the tenants.
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    apps: Option<usize>,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
    /// Write the metrics to this file, in Prometheus' text format.
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
}

/// The time of the simulated cluster: sleeping takes no time at all.
#[derive(Debug)]
struct Simulated(ManualClock);

impl Clock for Simulated {
    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

impl Runtime for Simulated {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.advance(duration);
        Box::pin(std::future::ready(()))
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        ThreadRuntime::new().spawn(future);
    }
}

fn complain(text: &str) {
    let _ = writeln!(anstream::stderr(), "quickstart: {text}");
}

fn load(files: &[PathBuf]) -> Result<Vec<Compose>, ComposeError> {
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    if files.is_empty() {
        return Ok(vec![compose::parse("shop.yaml", "shop", SHOP, &env)?]);
    }
    files.iter().map(|file| compose::load(file, &env)).collect()
}

/// A directory of this run's own, removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("hivemind-quickstart-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn world(backups: &Path) -> hivemind_core::Result<World> {
    let invalid = |e| hivemind_core::Error::of(hivemind_core::ErrorKind::Internal, "setup", e);
    let ids = Arc::new(SystemIds::new());
    let time = Arc::new(Simulated(ManualClock::new(SystemClock::new().now())));
    let (keys, key) = (MemoryKeys::new(ids.clone()), "quickstart".parse().map_err(invalid)?);
    keys.create(Clone::clone(&key));
    Ok(World {
        ports: Ports {
            store: Arc::new(MemoryStore::new()),
            clock: time.clone(),
            runtime: time,
            ids: ids.clone(),
            provider: Arc::new(MemoryProvider::new("memory".parse().map_err(invalid)?)),
        },
        spare: Arc::new(MemoryStore::new()),
        backups: Arc::new(FsBackups::open(backups)?),
        keys: Arc::new(keys),
        key,
        nonces: ids,
    })
}

fn summary(outcome: &Outcome) -> Vec<Vec<String>> {
    let mut rows = vec![vec!["what".to_owned(), "how many".to_owned()]];
    let counted = [
        ("tenants", outcome.tenants),
        ("apps deployed", outcome.apps),
        ("apps refused", outcome.refused),
        ("containers", outcome.workloads),
        ("volumes", outcome.volumes),
        ("IPv4 addresses", outcome.addresses_v4),
        ("IPv6 addresses", outcome.addresses_v6),
        ("requests denied, as they should be", outcome.denied),
        ("containers moved off the lost node", outcome.moved),
        ("alerts fired", outcome.alerts_fired),
        ("alerts resolved", outcome.alerts_resolved),
        ("bytes of backup", outcome.backup_bytes),
        ("milliseconds", outcome.elapsed_ms),
        ("deployments per second", outcome.deployments_per_second),
    ];
    rows.extend(counted.map(|(what, count)| vec![what.to_owned(), count.to_string()]));
    rows.push(vec!["restored state equals the lost one".to_owned(), outcome.restored_equal.to_string()]);
    rows
}

fn run(arguments: &Arguments, files: Vec<Compose>) -> Result<Outcome, String> {
    let scratch = Scratch::new().map_err(|e| format!("no room for backups: {e}"))?;
    let world = world(&scratch.0).map_err(|e| e.to_string())?;
    let plan = Plan { files, nodes: arguments.nodes, apps: arguments.apps };
    let registry = Registry::new();
    let mut out: Box<dyn Narrator> =
        if arguments.json { Box::new(Silent) } else { Box::new(Terminal::new()) };
    #[allow(clippy::disallowed_methods, reason = "the whole run is timed for people, in real time")]
    let started = Instant::now();
    let told = block_on(story::tell(&world, &plan, &registry, &mut *out, &|| started.elapsed()));
    let elapsed = started.elapsed();
    if let Some(file) = &arguments.metrics {
        std::fs::write(file, registry.expose())
            .map_err(|e| format!("{}: cannot be written: {e}", file.display()))?;
    }
    let mut outcome = told.map_err(|e| e.to_string())?;
    outcome.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    if !arguments.json {
        out.section("Summary");
        out.table(&summary(&outcome));
    }
    Ok(outcome)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let files = match load(&arguments.files) {
        Ok(files) => files,
        Err(e) => {
            complain(&format!("{e}\nNothing was deployed."));
            return ExitCode::from(2);
        }
    };
    for (number, file) in files.iter().enumerate() {
        let shown = arguments
            .files
            .get(number)
            .map_or_else(|| "shop.yaml".to_owned(), |path| path.display().to_string());
        for warning in &file.warnings {
            complain(&format!("{shown}:{}: {}", warning.line, warning.message));
        }
    }
    match run(&arguments, files) {
        Ok(outcome) => {
            if arguments.json {
                let json = serde_json::to_string(&outcome).unwrap_or_default();
                let _ = writeln!(anstream::stdout(), "{json}");
            }
            ExitCode::SUCCESS
        }
        Err(e) => {
            complain(&e);
            ExitCode::FAILURE
        }
    }
}
