//! A CSI driver over a pool on a disk of this node, or over memory: see `--help`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgGroup, Parser};
use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Generation, NodeId, ProviderName, Result, TenantId, TenantRef};
use hivemind_storage::{
    Capabilities, Capability, CsiServer, CsiServerOptions, LocalProvider, MemoryNode, MemoryProvider,
    NodeInfo, NodeStorage, StorageProvider,
};
use tokio::signal::unix::{SignalKind, signal};

/// What the volumes of `--memory` together may have.
const MEMORY: ByteSize = ByteSize::from_gib(1024);

/// Serves volumes of this node as a CSI driver, until it is asked to end (SIGTERM or SIGINT).
///
/// Ends with 2 for wrong arguments, and with 1 if it cannot do what they say.
#[derive(Debug, Parser)]
#[command(version, about)]
#[command(group = ArgGroup::new("storage").required(true).args(["pool", "memory"]))]
struct Arguments {
    /// Where to listen: a unix socket, such as `unix:///run/csi.sock`. One at which nobody listens is replaced.
    #[arg(long, value_name = "ENDPOINT", value_parser = socket)]
    endpoint: PathBuf,
    /// Keep volumes in this directory, which exists and has nothing else in it.
    #[arg(long, value_name = "DIRECTORY", value_parser = directory)]
    pool: Option<PathBuf>,
    /// Keep volumes in memory, without mounting anything: to try callers.
    #[arg(long)]
    memory: bool,
    /// How callers know the driver: a domain name.
    #[arg(long, default_value = "volumes.hivemind.example", value_name = "NAME")]
    name: String,
    /// How callers know this node.
    #[arg(long, default_value = "node-1", value_name = "NODE")]
    node: NodeId,
    /// Whose volumes they are.
    #[arg(long, default_value = "csi", value_name = "TENANT")]
    tenant: TenantId,
}

/// The path of a unix socket.
fn socket(endpoint: &str) -> std::result::Result<PathBuf, String> {
    let path = PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint));
    match path.parent().filter(|_| path.is_absolute()) {
        None => Err("give unix:// and an absolute path, such as unix:///run/csi.sock".to_owned()),
        Some(directory) if !directory.is_dir() => {
            Err(format!("there is no directory {}: make it", directory.display()))
        }
        Some(_) => Ok(path),
    }
}

fn directory(path: &str) -> std::result::Result<PathBuf, String> {
    let path = PathBuf::from(path);
    if path.is_dir() { Ok(path) } else { Err("there is no such directory: make it".to_owned()) }
}

fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "csi-driver: {text}");
}

/// Both sides of a storage system.
type Sides = (Arc<dyn StorageProvider>, Arc<dyn NodeStorage>);

fn local(name: ProviderName, node: NodeInfo, directory: &Path) -> Result<Sides> {
    let provider = LocalProvider::open(name, node, directory)?;
    let node = provider.node()?;
    Ok((Arc::new(provider), Arc::new(node)))
}

/// All that CSI has words for, except places: there are none in memory.
fn memory(name: ProviderName, node: NodeInfo) -> Sides {
    let everything = MemoryProvider::new(name.clone()).capabilities();
    let features = everything.features.iter().copied().filter(|feature| *feature != Capability::Topology);
    let able = Capabilities::new(features)
        .with_access_modes(everything.access_modes.iter().copied())
        .with_volume_modes(true, true);
    let provider = Arc::new(MemoryProvider::new(name).with_capabilities(able).with_capacity(MEMORY));
    let node = MemoryNode::new(provider.clone(), node);
    (provider, Arc::new(node))
}

/// A driver as the arguments say.
fn driver(arguments: &Arguments) -> Result<CsiServer> {
    let tenant = TenantRef::new(arguments.tenant.clone(), Generation::from_u64(0));
    let node = NodeInfo::new(arguments.node.clone());
    let options = CsiServerOptions::new(&arguments.name, env!("CARGO_PKG_VERSION"), tenant)?
        .with_nodes([node.node.handle.clone()])
        .with_mutable_parameters(["speed"]);
    let name = "csi-driver".parse().map_err(|e| Error::of(ErrorKind::Internal, "csi-driver", e))?;
    let (provider, node_side) = match &arguments.pool {
        Some(directory) => local(name, node, directory)?,
        None => memory(name, node),
    };
    Ok(CsiServer::new(options).with_provider(provider).with_node(node_side))
}

/// Ready when the process is asked to end.
fn asked_to_end() -> std::io::Result<impl Future<Output = ()> + Send> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let driver = match driver(&arguments) {
        Ok(driver) => driver,
        Err(error) => {
            complain(&error);
            return ExitCode::from(if error.kind() == ErrorKind::Invalid { 2 } else { 1 });
        }
    };
    let end = match asked_to_end() {
        Ok(end) => end,
        Err(error) => {
            complain(error);
            return ExitCode::FAILURE;
        }
    };
    complain(format_args!("serving {} at {}", arguments.name, arguments.endpoint.display()));
    match driver.serve(&arguments.endpoint, end).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}
