//! Opens everything outside the control plane: in memory, or so that it outlives the process.
//!
//! A durable world has two parts. The state store is a file or an etcd. The rest, which in a real cluster is elsewhere
//! anyway, is a directory: backups, the volumes of the simulated storage provider, the key of backups, and the
//! simulated time. A record in the store says which run it holds and which directory belongs to it.

mod choice;
mod clock;
mod directory;
#[cfg(feature = "etcd")]
mod etcd;
mod files;
mod key;
mod volumes;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hivemind_backup::FsBackups;
use hivemind_core::{
    Clock, Error, ErrorKind, KeyId, MemoryKeys, MemoryStore, ProviderName, RedbStore, Result, StateStore,
    SystemClock, SystemIds, block_on,
};
use hivemind_storage::MemoryProvider;

pub use self::choice::StoreChoice;
use self::clock::Simulated;
use self::directory::{BACKUPS, Directory};
use self::key::FileKey;
use crate::cluster::Ports;
use crate::story::{Plan, Run, World, claim, held};

const STATE: &str = "state.redb";
const SPARE: &str = "spare.redb";
const WORLD: &str = "world";

/// An open world; dropped, it is closed, and removed if it was in memory.
#[derive(Debug)]
pub struct Outside {
    /// The world.
    pub world: World,
    _directory: Option<Directory>,
    _scratch: Option<tempfile::TempDir>,
}

/// The store of a run, and the empty one that takes its place once it is lost.
struct Stores {
    state: Arc<dyn StateStore>,
    spare: Arc<dyn StateStore>,
    /// Shorter sleeps are real.
    real: Duration,
}

fn name<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(text: &str) -> Result<T> {
    text.parse().map_err(|e| Error::of(ErrorKind::Internal, "world", e))
}

/// What the provider is called: volumes are recorded under it.
fn provider_name() -> Result<ProviderName> {
    name("memory")
}

fn key_name() -> Result<KeyId> {
    name("quickstart")
}

impl Outside {
    /// Opens the world of `plan`, or makes it, in `store` and, if it is to last, in the directory `world`.
    ///
    /// # Errors
    /// Says why not: nothing was begun then, and what was there is as it was.
    pub fn open(store: &StoreChoice, world: Option<&Path>, plan: &Plan) -> Result<Self> {
        match store {
            StoreChoice::Memory if world.is_some() => {
                Err(Error::invalid("world", "--world needs a store that lasts: give --store, too"))
            }
            StoreChoice::Memory => Self::in_memory(),
            StoreChoice::Directory(path) => {
                let world = world.map_or_else(|| path.join(WORLD), Path::to_owned);
                files::refuse_strangers(path, &[STATE, SPARE, WORLD])?;
                Self::durable(&world, plan, || in_files(path))
            }
            StoreChoice::Etcd(url) => Self::in_etcd(url, world, plan),
        }
    }

    #[cfg(feature = "etcd")]
    fn in_etcd(url: &str, world: Option<&Path>, plan: &Plan) -> Result<Self> {
        let place = etcd::Place::parse(url)?;
        let world = world.map_or_else(|| place.world(), Path::to_owned);
        Self::durable(&world, plan, || place.open())
    }

    #[cfg(not(feature = "etcd"))]
    fn in_etcd(url: &str, _: Option<&Path>, _: &Plan) -> Result<Self> {
        let message = format!(
            "this program was built without etcd. With protoc installed, run \
             `cargo run --release -p quickstart --features etcd -- --store {url}`"
        );
        Err(Error::new(ErrorKind::Unsupported, "world", message))
    }

    fn in_memory() -> Result<Self> {
        // Nobody else can know its name, or look into it.
        let scratch = tempfile::Builder::new().prefix("hivemind-quickstart-").tempdir();
        let scratch = scratch.map_err(files::io(&std::env::temp_dir()))?;
        let (ids, key) = (Arc::new(SystemIds::new()), key_name()?);
        let time = Arc::new(Simulated::new(SystemClock::new().now(), Duration::ZERO));
        let keys = MemoryKeys::new(ids.clone());
        keys.create(key.clone());
        let world = World {
            ports: Ports {
                store: Arc::new(MemoryStore::new()),
                clock: time.clone(),
                runtime: time,
                ids: ids.clone(),
                provider: Arc::new(MemoryProvider::new(provider_name()?)),
            },
            spare: Arc::new(MemoryStore::new()),
            backups: Arc::new(FsBackups::open(scratch.path())?),
            keys: Arc::new(keys),
            key,
            nonces: ids,
        };
        Ok(Self { world, _directory: None, _scratch: Some(scratch) })
    }

    fn durable(path: &Path, plan: &Plan, open: impl FnOnce() -> Result<Stores>) -> Result<Self> {
        let ids = Arc::new(SystemIds::new());
        let found = Directory::find(path)?;
        let Stores { state, spare, real } = open()?;
        let now = SystemClock::new().now();
        let mut directory = match (block_on(held(&*state))?, found) {
            (Some(run), found) => belonging(&run, plan, found, path)?,
            (None, Some(directory)) if directory.used() => {
                let message = format!(
                    "the store is empty, and {} is of another run: give another --world, or remove it",
                    path.display()
                );
                return Err(Error::invalid("world", message));
            }
            (None, found) => {
                let directory = found.map_or_else(|| Directory::create(path, &*ids), Ok)?;
                let run = block_on(claim(&*state, &Run::new(plan, directory.id())?, now))?;
                belonging(&run, plan, Some(directory), path)?
            }
        };
        let time = Arc::new(Simulated::new(directory.begin(now)?, real));
        let key = key_name()?;
        let world = World {
            ports: Ports {
                store: state,
                clock: time.clone(),
                runtime: time,
                ids: ids.clone(),
                provider: Arc::new(volumes::open(directory.path(), provider_name()?)?),
            },
            spare,
            backups: Arc::new(FsBackups::open(directory.path().join(BACKUPS))?),
            keys: Arc::new(FileKey::open(directory.path(), key.clone(), ids.clone())?),
            key,
            nonces: ids,
        };
        Ok(Self { world, _directory: Some(directory), _scratch: None })
    }
}

/// The directory that belongs to the run of a store, if that run is of this plan.
fn belonging(run: &Run, plan: &Plan, found: Option<Directory>, path: &Path) -> Result<Directory> {
    if run.plan != plan.fingerprint()? {
        let message = format!(
            "this store holds a run of {}, and this is one of {}: give another --store, or the same arguments",
            run.what,
            plan.in_words()
        );
        return Err(Error::new(ErrorKind::AlreadyExists, "world", message));
    }
    found.filter(|directory| directory.id() == run.world).ok_or_else(|| {
        let message = format!(
            "this store holds a run whose volumes and backups are not in {}: give the --world of then, \
             or another --store",
            path.display()
        );
        Error::not_found("world", message)
    })
}

fn in_files(path: &Path) -> Result<Stores> {
    files::make_directory(path)?;
    let open = |name| -> Result<Arc<dyn StateStore>> { Ok(Arc::new(RedbStore::open(path.join(name))?)) };
    let stores = Stores { state: open(STATE)?, spare: open(SPARE)?, real: Duration::ZERO };
    files::tidy(path)?;
    Ok(stores)
}
