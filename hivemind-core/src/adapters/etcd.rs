//! The state store in etcd, for several replicas of a control plane.

mod batches;
mod client;
mod election;
mod failure;
mod layout;
mod options;
mod read;
mod runtime;
mod txn;
mod watch;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use etcd_client::{Compare, CompareOp, GetOptions, GetResponse, Txn as EtcdTxn, TxnOp, TxnOpResponse};

use self::client::Connection;
pub use self::election::EtcdCandidate;
use self::failure::{Class, Failure};
use self::layout::Namespace;
pub use self::options::EtcdOptions;
use self::runtime::Io;
use self::txn::{Plan, Reply};
use crate::store::{Key, Limits, Prefix, Record, Revision, ScanPage, ScanRequest, Txn};
use crate::{Result, StateStore, WatchStream};

/// All state in etcd (3.4 or later), in a namespace of its own.
///
/// Clones share one connection. Works under any executor: the I/O runs on a tokio runtime, see
/// [`EtcdOptions::with_runtime`]. A commit whose future is dropped goes on by itself; so does one whose store is
/// dropped, unless the runtime was the store's own.
///
/// Revisions are etcd's own, which count for everybody who uses it. [`compact`](StateStore::compact) is for everybody,
/// too: let one of the clusters do it, or etcd itself (`--auto-compaction-retention`).
///
/// A commit is sent once. If the connection was refused it is sent to the next endpoint; if the reply was lost, the
/// error says [`Effect::Unknown`](crate::Effect::Unknown), and [`Once`](crate::Once) finds out. Reads are repeated at
/// the other endpoints.
///
/// `docs/state-store.md` tells how it is built.
///
/// ```no_run
/// use hivemind_core::store::{Key, Txn};
/// use hivemind_core::{EtcdOptions, EtcdStore, StateStore, block_on};
///
/// let options: EtcdOptions = "etcd://127.0.0.1:2379/hivemind".parse()?;
/// let store = block_on(EtcdStore::connect(options))?;
/// let mut txn = Txn::new();
/// txn.put(Key::new(["greeting"])?, "hello");
/// block_on(store.commit(&txn))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct EtcdStore {
    inner: Arc<Inner>,
    io: Io,
}

/// What the tasks share; it must not own the runtime that they run in.
#[derive(Debug)]
struct Inner {
    connection: Connection,
    space: Namespace,
    /// When the namespace was made.
    created: Revision,
}

impl EtcdStore {
    /// Finds the namespace, or makes it.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if no endpoint answers, [`Denied`](crate::ErrorKind::Denied) if
    /// etcd refuses the user, [`Unsupported`](crate::ErrorKind::Unsupported) if a newer version made the namespace.
    pub async fn connect(options: EtcdOptions) -> Result<Self> {
        let io = Io::new(options.runtime.clone())?;
        let (connection, space) = (Connection::new(&options), Namespace::new(&options.prefix));
        let found = {
            let (connection, space) = (connection.clone(), space.clone());
            io.run(async move { clock(&connection, &space).await }).await
        };
        let found = found.map_err(|e| e.of_read("connect"))?;
        let Some(clock) = found.kvs().first() else {
            return Err(wire::broken("connect", "there is no clock, and none can be made"));
        };
        layout::deletes_of(clock.value())?;
        let created = wire::revision(clock.create_revision());
        Ok(Self { inner: Arc::new(Inner { connection, space, created }), io })
    }
}

/// Makes the clock if there is none, and reads it.
async fn clock(connection: &Connection, space: &Namespace) -> Result<GetResponse, Failure> {
    let clock = space.clock();
    let read = TxnOp::get(clock, Some(GetOptions::new()));
    let request = EtcdTxn::new()
        .when([Compare::create_revision(clock, CompareOp::Equal, 0)])
        .and_then([TxnOp::put(clock, layout::tick(0), None), read.clone()])
        .or_else([read]);
    let reply = connection.repeatable(|session| {
        let request = request.clone();
        async move { Ok(session.client.kv_client().txn(request).await?) }
    });
    match reply.await?.op_responses().pop() {
        Some(TxnOpResponse::Get(found)) => Ok(found),
        _ => Err(Failure::new(Class::Lost, "etcd answered something else than it was asked")),
    }
}

impl Inner {
    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        let plan = Plan::of(txn)?;
        let request = plan.request(&self.space);
        let call = |session: client::Session| {
            let request = request.clone();
            async move { Ok(session.client.kv_client().txn(request).await?) }
        };
        // Guards alone may be checked as often as one likes.
        let reply = if plan.writes() {
            self.connection.once(call).await.map_err(|e| e.of_write("commit"))?
        } else {
            self.connection.repeatable(call).await.map_err(|e| e.of_read("commit"))?
        };
        let Some(header) = reply.header() else {
            return Err(wire::broken("commit", "there is no header").with_effect(crate::Effect::Unknown));
        };
        plan.outcome(&Reply::from(&reply), wire::revision(header.revision()))
    }

    async fn compact(&self, at: Revision) -> Result<()> {
        let newest = self.newest("compact").await?;
        if at > newest {
            return Err(read::future("compact", at, newest));
        }
        if at == Revision::ZERO {
            return Ok(());
        }
        let done = self.connection.repeatable(|session| async move {
            session.client.kv_client().compact(wire::number(at), None).await?;
            Ok(())
        });
        match done.await {
            Err(e) if e.class != Class::Compacted => Err(e.of_write("compact")),
            _ => Ok(()),
        }
    }
}

impl EtcdStore {
    /// Does `work` where the I/O runs.
    async fn run<T, F>(&self, operation: &'static str, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let work = work(Arc::clone(&self.inner));
        let done = self.io.run(async move { Ok(work.await) }).await;
        done.unwrap_or_else(|failure| Err(failure.of_write(operation)))
    }
}

#[async_trait]
impl StateStore for EtcdStore {
    async fn revision(&self) -> Result<Revision> {
        self.run("revision", |inner| async move { inner.newest("revision").await }).await
    }

    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        let key = key.clone();
        self.run("get", |inner| async move { inner.get(&key, at).await }).await
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        let request = request.clone();
        self.run("scan", |inner| async move { inner.scan(&request).await }).await
    }

    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        self.limits().check(txn)?;
        let txn = txn.clone();
        self.run("commit", |inner| async move { inner.commit(&txn).await }).await
    }

    async fn watch(&self, prefix: &Prefix, from: Revision) -> Result<WatchStream> {
        let (io, prefix) = (self.io.clone(), prefix.clone());
        let watch = self.run("watch", |inner| inner.watch(io, prefix, from)).await?;
        Ok(Box::pin(watch))
    }

    async fn compact(&self, at: Revision) -> Result<()> {
        self.run("compact", |inner| async move { inner.compact(at).await }).await
    }

    fn limits(&self) -> Limits {
        txn::limits()
    }
}
