//! `quickstart`: see the crate's documentation, or `--help`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use hivemind_core::{SystemClock, SystemIds, block_on};
use hivemind_observe::trace::{Attributes, Tracer, TracerOptions};
use hivemind_observe::{ExportLoop, ExportOptions, OtlpLines, Registry};
use quickstart::compose::{self, Compose, ComposeError};
use quickstart::narrate::{Narrator, Silent, Terminal};
use quickstart::outside::{Outside, StoreChoice};
use quickstart::story::{self, Eyes, Outcome, Plan};

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
    /// Where the state lives: `memory`, a directory, or `etcd://HOST:PORT,HOST:PORT/PREFIX`.
    ///
    /// In a directory or in etcd it outlives this program: killed, and started again with the same arguments, it goes
    /// on where it was. A directory is made if it is missing. etcd needs a build with `--features etcd`; without
    /// /PREFIX everything is below `quickstart`.
    #[arg(long, default_value = "memory", value_name = "STORE")]
    store: StoreChoice,
    /// Where backups, volumes and the key of such a run are kept.
    ///
    /// Without it, they are in the directory of the store, or, with etcd, in a directory of the temporary ones.
    #[arg(long, value_name = "DIRECTORY")]
    world: Option<PathBuf>,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
    /// Write the metrics to this file, in Prometheus' text format.
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Write what each request did, and for how long, to this file: a trace each, as OTLP in JSON, which Jaeger reads.
    #[arg(long, value_name = "FILE")]
    traces: Option<PathBuf>,
}

fn complain(text: &str) {
    let _ = writeln!(anstream::stderr(), "quickstart: {text}");
}

/// Reads every file, and says of each what is wrong with it.
fn load(files: &[PathBuf]) -> Option<Vec<Compose>> {
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let read: Vec<Result<Compose, ComposeError>> = if files.is_empty() {
        vec![compose::parse("shop.yaml", "shop", SHOP, &env)]
    } else {
        files.iter().map(|file| compose::load(file, &env)).collect()
    };
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for one in read {
        let warnings = match &one {
            Ok(file) => &file.warnings,
            Err(e) => &e.warnings,
        };
        warnings.iter().for_each(|warning| complain(&warning.to_string()));
        match one {
            Ok(file) => all.push(file),
            Err(e) => errors.push(e),
        }
    }
    errors.iter().for_each(|e| complain(&e.to_string()));
    errors.is_empty().then_some(all)
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
        ("containers that waited for it", outcome.waiting),
        ("alerts fired", outcome.alerts_fired),
        ("alerts resolved", outcome.alerts_resolved),
        ("bytes of backup", outcome.backup_bytes),
        ("milliseconds", outcome.elapsed_ms),
        ("deployments per second", outcome.deployments_per_second),
    ];
    rows.extend(counted.map(|(what, count)| vec![what.to_owned(), count.to_string()]));
    let equal = if outcome.restored_equal { "yes" } else { "no" };
    rows.push(vec!["restored state equals the lost one".to_owned(), equal.to_owned()]);
    rows
}

/// What is wrong, and the exit code that says how far it came.
struct Failure(u8, String);

/// Nothing was begun.
fn refused(e: &hivemind_core::Error) -> Failure {
    Failure(2, format!("{}\nNothing was deployed.", e.message()))
}

fn run(arguments: &Arguments, files: Vec<Compose>) -> Result<(), Failure> {
    let plan = Plan { files, nodes: arguments.nodes, apps: arguments.apps };
    let outside =
        Outside::open(&arguments.store, arguments.world.as_deref(), &plan).map_err(|e| refused(&e))?;
    let mut metrics = arguments.metrics.as_deref().map(Metrics::open).transpose()?;
    let registry = Registry::new();
    let traces = arguments.traces.as_deref().map(|path| traces(path, &registry)).transpose()?;
    let eyes = Eyes { registry, traces };
    let mut out: Box<dyn Narrator> =
        if arguments.json { Box::new(Silent) } else { Box::new(Terminal::new()) };
    #[allow(clippy::disallowed_methods, reason = "the whole run is timed for people, in real time")]
    let started = Instant::now();
    let told = block_on(story::tell(&outside.world, &plan, &eyes, &mut *out, &|| started.elapsed()));
    let elapsed = started.elapsed();
    let written = metrics.as_mut().map_or(Ok(()), |metrics| metrics.write(&eyes.registry.expose()));
    let sent = block_on(eyes.close());
    let mut outcome = told.map_err(|e| Failure(1, e.to_string()))?;
    outcome.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    if arguments.json {
        print_json(&outcome)?;
    } else {
        out.section("Summary");
        out.table(&summary(&outcome));
    }
    sent.map_err(|e| Failure(1, format!("the traces cannot be written: {}", e.message())))?;
    written
}

/// A file, opened before anything is done: so that a wrong name costs nobody a run.
fn create(path: &Path) -> Result<File, Failure> {
    let wrong = |e| Failure(2, format!("{}: cannot be written: {e}\nNothing was deployed.", path.display()));
    File::create(path).map_err(wrong)
}

/// What tells of requests, in real time, and takes it to the file.
fn traces(path: &Path, registry: &Registry) -> Result<(Tracer, ExportLoop), Failure> {
    let lines = OtlpLines::new(create(path)?).map_err(|e| refused(&e))?;
    let clock = Arc::new(SystemClock::new());
    let options = TracerOptions::default().with_recorder(Arc::new(registry.clone()));
    let tracer = Tracer::new(clock.clone(), &SystemIds::new(), options);
    let process = Attributes::new().with("service.name", "quickstart");
    let options = ExportOptions::default().with_resource(process);
    Ok((tracer.clone(), ExportLoop::with_options(tracer, clock, Arc::new(lines), options)))
}

/// The file for the metrics.
struct Metrics<'a>(&'a Path, File);

impl<'a> Metrics<'a> {
    fn open(path: &'a Path) -> Result<Self, Failure> {
        Ok(Self(path, create(path)?))
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.1.write_all(text.as_bytes());
        written.map_err(|e| Failure(1, format!("{}: cannot be written: {e}", self.0.display())))
    }
}

/// A reader that has gone away wants no more; any other failure is one.
fn print_json(outcome: &Outcome) -> Result<(), Failure> {
    let json = serde_json::to_string(outcome).map_err(|e| Failure(1, e.to_string()))?;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{json}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure(1, format!("standard output cannot be written: {e}")))
        }
        _ => Ok(()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(files) = load(&arguments.files) else {
        complain("Nothing was deployed.");
        return ExitCode::from(2);
    };
    match run(&arguments, files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, text)) => {
            complain(&text);
            ExitCode::from(code)
        }
    }
}
