//! Proves a [`BackupStorage`]: every sentence of the port's Contract, case by case.
//!
//! Declared outside semantic versioning: the suite grows with what adapters get wrong.
//!
//! ```
//! use hivemind_backup::{MemoryBackups, conformance};
//! use hivemind_core::block_on;
//! use std::sync::Arc;
//!
//! // Every case gets a storage of its own, which must be empty.
//! let failed = block_on(conformance::run_all(|| Arc::new(MemoryBackups::new())));
//! assert_eq!(failed, []);
//! ```

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use hivemind_core::{BackupId, BoxFuture, Error, ErrorKind, Result, Timestamp};

use crate::{BackupMetadata, BackupStorage, BackupStorageExt, ByteStream, Checksum};

/// A case: takes an empty storage, and fails with what is wrong with it.
pub type CaseFn = fn(Arc<dyn BackupStorage>) -> BoxFuture<'static, Result<()>>;

macro_rules! cases {
    ($($case:ident)*) => {
        /// Every case by name, in the order in which [`run_all`] runs them.
        pub const CASES: &[(&str, CaseFn)] = &[$((stringify!($case), |storage| Box::pin($case(storage))),)*];
    };
}

cases! {
    what_was_stored_is_retrieved
    a_listing_is_in_order_and_whole
    a_backup_is_never_overwritten
    a_failed_body_leaves_nothing
    failed_metadata_leave_nothing
    metadata_of_another_backup_are_refused
    a_dropped_store_leaves_nothing
    an_unfinished_store_is_invisible
    a_missing_backup_is_not_found
    deleting_is_idempotent
}

/// Runs every case, each on a storage that `make` makes; gives the name and reason of each that failed.
pub async fn run_all<S: BackupStorage>(make: impl Fn() -> Arc<S>) -> Vec<(&'static str, String)> {
    let mut failed = Vec::new();
    for (name, case) in CASES {
        if let Err(e) = case(make()).await {
            failed.push((*name, e.to_string()));
        }
    }
    failed
}

fn expect(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::internal("conformance", what)) }
}

fn expect_kind<T>(outcome: Result<T>, kind: ErrorKind, what: &str) -> Result<()> {
    match outcome {
        Err(e) => expect(e.kind() == kind, &format!("{what}: expected {kind}, found {e}")),
        Ok(_) => expect(false, &format!("{what}: expected {kind}, found success")),
    }
}

fn id(name: &str) -> Result<BackupId> {
    BackupId::new(name).map_err(|e| Error::internal("conformance", e.to_string()))
}

fn metadata(name: &str, body: &[u8]) -> Result<BackupMetadata> {
    let wrong = |e: hivemind_core::InvalidName| Error::internal("conformance", e.to_string());
    let (cluster, request) = ("c".parse().map_err(wrong)?, "r".parse().map_err(wrong)?);
    let mut metadata = BackupMetadata::new(id(name)?, cluster, request, Timestamp::from_secs(1));
    metadata.checksum = Checksum::blake3(body);
    metadata.stored_bytes = u64::try_from(body.len()).unwrap_or_default();
    Ok(metadata)
}

fn body() -> Bytes {
    (0..1_000_000_u32).flat_map(u32::to_le_bytes).step_by(3).collect::<Vec<_>>().into()
}

async fn nothing_visible(storage: &Arc<dyn BackupStorage>, name: &str) -> Result<()> {
    let listing = storage.list_backups().await?;
    expect(listing.backups.is_empty() && listing.broken.is_empty(), "something is listed")?;
    expect_kind(storage.retrieve_backup(&id(name)?).await.map(|_| ()), ErrorKind::NotFound, "retrieving it")
}

async fn what_was_stored_is_retrieved(storage: Arc<dyn BackupStorage>) -> Result<()> {
    for (name, bytes) in [("large", body()), ("empty", Bytes::new())] {
        let metadata = metadata(name, &bytes)?;
        let pieces: Vec<_> = bytes.chunks(7919).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let sealed = metadata.clone();
        let seal = Box::pin(async { Ok(sealed) });
        storage.store_backup(&metadata.id, stream::iter(pieces).boxed(), seal).await?;
        let found = storage.retrieve_bytes(&metadata.id).await?;
        expect(found == (metadata, bytes), "what is retrieved is not what was stored")?;
    }
    Ok(())
}

async fn a_listing_is_in_order_and_whole(storage: Arc<dyn BackupStorage>) -> Result<()> {
    let mut expected = Vec::new();
    for name in ["b", "a-1", "c", "a"] {
        expected.push(metadata(name, b"x")?);
        storage.store_bytes(&metadata(name, b"x")?, Bytes::from_static(b"x")).await?;
    }
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    expect(storage.list_backups().await?.backups == expected, "the listing is not what was stored, in order")
}

async fn a_backup_is_never_overwritten(storage: Arc<dyn BackupStorage>) -> Result<()> {
    storage.store_bytes(&metadata("a", b"first")?, Bytes::from_static(b"first")).await?;
    let second = storage.store_bytes(&metadata("a", b"second")?, Bytes::from_static(b"second")).await;
    expect_kind(second, ErrorKind::AlreadyExists, "storing it again")?;
    let (_, bytes) = storage.retrieve_bytes(&id("a")?).await?;
    expect(bytes == "first", "the first backup was changed")
}

async fn a_failed_body_leaves_nothing(storage: Arc<dyn BackupStorage>) -> Result<()> {
    let failure = Err(Error::new(ErrorKind::Expired, "read", "the source is gone"));
    let pieces: ByteStream = stream::iter([Ok(body()), failure]).boxed();
    let sealed = metadata("a", b"")?;
    let outcome = storage.store_backup(&id("a")?, pieces, Box::pin(async { Ok(sealed) })).await;
    expect_kind(outcome, ErrorKind::Expired, "a failed body")?;
    nothing_visible(&storage, "a").await
}

async fn failed_metadata_leave_nothing(storage: Arc<dyn BackupStorage>) -> Result<()> {
    let seal = Box::pin(async { Err(Error::new(ErrorKind::Expired, "seal", "no metadata")) });
    let outcome = storage.store_backup(&id("a")?, stream::iter([Ok(body())]).boxed(), seal).await;
    expect_kind(outcome, ErrorKind::Expired, "failed metadata")?;
    nothing_visible(&storage, "a").await
}

async fn metadata_of_another_backup_are_refused(storage: Arc<dyn BackupStorage>) -> Result<()> {
    let other = metadata("b", b"")?;
    let seal = Box::pin(async { Ok(other) });
    let outcome = storage.store_backup(&id("a")?, stream::iter([Ok(body())]).boxed(), seal).await;
    expect_kind(outcome, ErrorKind::Invalid, "metadata of another backup")?;
    nothing_visible(&storage, "a").await
}

/// Polls a store whose body never ends until it has taken `body`, then gives it back.
async fn stuck<'a>(storage: &'a Arc<dyn BackupStorage>, name: &'a BackupId) -> BoxFuture<'a, Result<()>> {
    let (taken, wait) =
        (Arc::new(std::sync::atomic::AtomicBool::new(false)), std::sync::atomic::Ordering::SeqCst);
    let seen = Arc::clone(&taken);
    let end = stream::poll_fn(move |_| {
        seen.store(true, wait);
        Poll::<Option<Result<Bytes>>>::Pending
    });
    let pieces: ByteStream = stream::iter([Ok(body())]).chain(end).boxed();
    let mut store: BoxFuture<'a, Result<()>> =
        storage.store_backup(name, pieces, Box::pin(std::future::pending()));
    let mut context = Context::from_waker(Waker::noop());
    while !taken.load(wait) && store.as_mut().poll(&mut context).is_pending() {
        std::thread::yield_now();
    }
    store
}

async fn a_dropped_store_leaves_nothing(storage: Arc<dyn BackupStorage>) -> Result<()> {
    let name = id("a")?;
    drop(stuck(&storage, &name).await);
    nothing_visible(&storage, "a").await?;
    storage.store_bytes(&metadata("a", b"x")?, Bytes::from_static(b"x")).await
}

async fn an_unfinished_store_is_invisible(storage: Arc<dyn BackupStorage>) -> Result<()> {
    let name = id("a")?;
    let store = stuck(&storage, &name).await;
    nothing_visible(&storage, "a").await?;
    drop(store);
    Ok(())
}

async fn a_missing_backup_is_not_found(storage: Arc<dyn BackupStorage>) -> Result<()> {
    nothing_visible(&storage, "a").await
}

async fn deleting_is_idempotent(storage: Arc<dyn BackupStorage>) -> Result<()> {
    storage.delete_backup(&id("a")?).await?;
    storage.store_bytes(&metadata("a", b"x")?, Bytes::from_static(b"x")).await?;
    storage.delete_backup(&id("a")?).await?;
    storage.delete_backup(&id("a")?).await?;
    nothing_visible(&storage, "a").await
}
