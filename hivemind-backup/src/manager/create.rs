//! Makes full and incremental backups.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hivemind_core::store::{Key, Prefix, Record, Revision, ScanRequest};
use hivemind_core::{BackupId, Error, ErrorKind, IdSource, Result, TenantContext};

use super::BackupManager;
use super::read::{Flow, records};
use crate::engine::{Step, markers, step};
use crate::format::{Change, Encoder, Seal, Totals};
use crate::{
    BackupKind, BackupMetadata, BackupOptions, ByteStream, Checksum, ComponentCount, Compression, Encryption,
};

/// What was found out while a body was made.
#[derive(Debug)]
struct Made {
    totals: Totals,
    stored_bytes: u64,
    checksum: Checksum,
    components: BTreeMap<String, ComponentCount>,
}

struct Making {
    changes: Flow<Change>,
    encoder: Encoder,
    hash: blake3::Hasher,
    stored_bytes: u64,
    components: BTreeMap<String, ComponentCount>,
    made: Arc<Mutex<Option<Made>>>,
}

impl Making {
    fn count(&mut self, change: &Change) {
        let component = change.key().segments().next().unwrap_or_default().escape_ascii().to_string();
        let count = self.components.entry(component).or_default();
        match change {
            Change::Put { .. } => count.records += 1,
            Change::Delete(_) => count.deletions += 1,
        }
    }

    fn stored(&mut self, bytes: &Bytes) {
        self.hash.update(bytes);
        self.stored_bytes += u64::try_from(bytes.len()).unwrap_or_default();
    }

    /// The next bytes, and itself unless they were the last.
    async fn next(mut self) -> Result<(Bytes, Option<Self>)> {
        while let Some(change) = self.changes.try_next().await? {
            self.count(&change);
            if let Some(bytes) = self.encoder.push(&change)? {
                self.stored(&bytes);
                return Ok((bytes, Some(self)));
            }
        }
        let Self { encoder, mut hash, stored_bytes, components, made, .. } = self;
        let (bytes, totals) = encoder.finish()?;
        hash.update(&bytes);
        let stored_bytes = stored_bytes + u64::try_from(bytes.len()).unwrap_or_default();
        let checksum = Checksum::Blake3(*hash.finalize().as_bytes());
        let result = Made { totals, stored_bytes, checksum, components };
        *made.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        Ok((bytes, None))
    }
}

fn seal_metadata(mut draft: BackupMetadata, made: &Mutex<Option<Made>>) -> Result<BackupMetadata> {
    let Some(made) = made.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return Err(Error::internal("backup", "the storage asked for metadata before the body was read"));
    };
    draft.records = made.totals.records;
    draft.deletions = made.totals.deletions;
    draft.plain_bytes = made.totals.plain_bytes;
    draft.stored_bytes = made.stored_bytes;
    draft.checksum = made.checksum;
    draft.components = made.components;
    Ok(draft)
}

/// 24 fresh bytes each time.
fn nonce(ids: &dyn IdSource) -> [u8; 24] {
    let mut nonce = [0; 24];
    let fresh = ids.next_u128().to_le_bytes().into_iter().chain(ids.next_u128().to_le_bytes());
    nonce.iter_mut().zip(fresh).for_each(|(to, from)| *to = from);
    nonce
}

impl BackupManager {
    /// Backs up everything in scope, as of the newest revision.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if a restore into the source is under way; those of the source and the storage.
    pub async fn full(&self, ctx: &TenantContext, options: &BackupOptions) -> Result<BackupMetadata> {
        let revision = self.source.source_revision().await?;
        let draft = self.draft(ctx, options, BackupKind::Full, revision)?;
        let found = records(Arc::clone(&self.source), options.scope.prefixes(), revision);
        self.store(draft, found.map_ok(put).boxed()).await
    }

    /// Backs up what changed since `base`, a backup of the same cluster and scope.
    ///
    /// After a restore of the source, begin with a full backup: its revisions begin anew.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if `base` is of another cluster or scope; [`ErrorKind::Conflict`] if the source is not
    /// a later state of the same history; [`ErrorKind::Expired`] if the source was compacted meanwhile: try again.
    pub async fn incremental(
        &self,
        ctx: &TenantContext,
        base: &BackupId,
        options: &BackupOptions,
    ) -> Result<BackupMetadata> {
        let chain = self.chain(base).await?;
        let Some(last) = chain.last() else {
            return Err(Error::internal("backup", "a chain is never empty"));
        };
        if last.cluster != self.cluster {
            let message = format!("backup {base} is of cluster {}, not of {}", last.cluster, self.cluster);
            return Err(Error::invalid("backup", message));
        }
        if last.options.scope != options.scope {
            return Err(Error::invalid("backup", format!("backup {base} has another scope: use the same")));
        }
        let revision = self.source.source_revision().await?;
        if last.revision > revision {
            return Err(diverged(base));
        }
        let kind = BackupKind::Incremental { base: base.clone(), base_revision: last.revision };
        let draft = self.draft(ctx, options, kind, revision)?;
        let keys = self.base_keys(&chain, last).await?;
        let present = records(Arc::clone(&self.source), options.scope.prefixes(), revision);
        self.store(draft, differences(keys, present, last.revision, base.clone())).await
    }

    fn draft(
        &self,
        ctx: &TenantContext,
        options: &BackupOptions,
        kind: BackupKind,
        revision: Revision,
    ) -> Result<BackupMetadata> {
        let id = format!("backup-{:032x}", self.ids.next_u128());
        let id = BackupId::new(id).map_err(|e| Error::internal("backup", e.to_string()))?;
        let now = self.clock.now();
        let mut draft = BackupMetadata::new(id, self.cluster.clone(), ctx.request().clone(), now);
        draft.kind = kind;
        draft.revision = revision;
        draft.options = options.clone();
        draft.compression = match options.compression.zstd_level() {
            None => Compression::None,
            Some(_) => Compression::Zstd,
        };
        Ok(draft)
    }

    async fn store(&self, mut draft: BackupMetadata, changes: Flow<Change>) -> Result<BackupMetadata> {
        let mut key = None;
        if let Some(id) = &draft.options.encrypt_with {
            let fresh = self.key_provider()?.generate_data_key(id, &draft.binding()).await?;
            draft.encryption = Some(Encryption::new(id.clone(), fresh.wrapped.clone()));
            key = Some(fresh.plain.clone());
        }
        let seal = Seal::new(draft.compression, draft.options.compression, key, draft.binding())?;
        let ids = Arc::clone(&self.ids);
        let made = Arc::new(Mutex::new(None));
        let making = Making {
            changes: refuse_markers(changes)?,
            encoder: Encoder::new(seal, Box::new(move || nonce(&*ids))),
            hash: blake3::Hasher::new(),
            stored_bytes: 0,
            components: BTreeMap::new(),
            made: Arc::clone(&made),
        };
        let body: ByteStream = stream::try_unfold(Some(making), |making| async move {
            match making {
                None => Ok(None),
                Some(making) => making.next().await.map(Some),
            }
        })
        .boxed();
        let id = draft.id.clone();
        let sealed = Arc::new(Mutex::new(None));
        let result = Arc::clone(&sealed);
        let metadata = Box::pin(async move {
            let metadata = seal_metadata(draft, &made)?;
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(metadata.clone());
            Ok(metadata)
        });
        self.storage.store_backup(&id, body, metadata).await?;
        let sealed = sealed.lock().unwrap_or_else(PoisonError::into_inner).take();
        sealed.ok_or_else(|| Error::internal("backup", "the storage never asked for the metadata"))
    }

    /// The keys of the base: from the source's past, or from the backups if that is gone.
    async fn base_keys(&self, chain: &[BackupMetadata], base: &BackupMetadata) -> Result<Flow<Key>> {
        let probe = ScanRequest::new(Prefix::ROOT).at(base.revision).limit(1);
        match self.source.read_page(&probe).await {
            Ok(_) => {
                let past = records(Arc::clone(&self.source), base.options.scope.prefixes(), base.revision);
                Ok(past.map_ok(|record| record.key).boxed())
            }
            Err(e) if e.kind() == ErrorKind::Expired => {
                Ok(self.merged(chain).await?.map_ok(|(key, _)| key).boxed())
            }
            Err(e) => Err(e),
        }
    }
}

fn put(record: Record) -> Change {
    Change::Put { key: record.key, value: record.value, mod_revision: record.mod_revision }
}

fn diverged(base: &BackupId) -> Error {
    let message = format!("the source is not a later state of backup {base}: make a full backup");
    Error::new(ErrorKind::Conflict, "backup", message)
}

/// A half restored store must not be backed up: its marker would come along.
fn refuse_markers(changes: Flow<Change>) -> Result<Flow<Change>> {
    let markers = markers()?.prefix().clone();
    let checked = changes.map(move |change| match change {
        Ok(Change::Put { key, .. }) if markers.covers(&key) => {
            let message = format!("a restore into the source is under way, see {key}: finish it first");
            Err(Error::new(ErrorKind::Conflict, "backup", message))
        }
        change => change,
    });
    Ok(checked.boxed())
}

struct Comparing {
    keys: Flow<Key>,
    present: Flow<Record>,
    key: Option<Key>,
    record: Option<Record>,
    begun: bool,
}

impl Comparing {
    async fn next(&mut self, since: Revision, base: &BackupId) -> Result<Option<Change>> {
        if !self.begun {
            self.begun = true;
            self.key = self.keys.try_next().await?;
            self.record = self.present.try_next().await?;
        }
        loop {
            let step = step(self.key.as_ref(), self.record.as_ref(), since);
            let mut gone = None;
            if matches!(step, Step::Delete | Step::Same | Step::Put { in_base: true }) {
                gone = std::mem::replace(&mut self.key, self.keys.try_next().await?);
            }
            let mut found = None;
            if matches!(step, Step::Same | Step::Put { .. }) {
                found = std::mem::replace(&mut self.record, self.present.try_next().await?);
            }
            match step {
                Step::End => return Ok(None),
                Step::Diverged => return Err(diverged(base)),
                Step::Same => {}
                Step::Put { .. } => return Ok(found.map(put)),
                Step::Delete => return Ok(gone.map(Change::Delete)),
            }
        }
    }
}

/// What must be done to the base to get the present.
fn differences(keys: Flow<Key>, present: Flow<Record>, since: Revision, base: BackupId) -> Flow<Change> {
    let comparing = Comparing { keys, present, key: None, record: None, begun: false };
    stream::try_unfold((comparing, base), move |(mut comparing, base)| async move {
        let change = comparing.next(since, &base).await?;
        Ok(change.map(|change| (change, (comparing, base))))
    })
    .boxed()
}
