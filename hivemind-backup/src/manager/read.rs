//! Reads sources and backups as streams that hold one page or block at a time.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures_core::Stream;
use futures_util::{StreamExt, TryStreamExt, stream};
use hivemind_core::store::{Key, Prefix, Record, Revision, ScanRequest};
use hivemind_core::{Error, ErrorKind, Result, SecretBytes, StateSource};

use super::BackupManager;
use crate::engine::newest;
use crate::format::{Change, Damage, Decoder, Seal};
use crate::{BackupMetadata, ByteStream, Checksum, CompressionLevel, FORMAT_VERSION};

pub(super) type Flow<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// How many records a page has.
const PAGE: usize = 256;

/// The records below `prefixes` as of `at`, in key order.
pub(super) fn records(source: Arc<dyn StateSource>, prefixes: Vec<Prefix>, at: Revision) -> Flow<Record> {
    let requests: VecDeque<_> =
        prefixes.into_iter().map(|prefix| ScanRequest::new(prefix).at(at).limit(PAGE)).collect();
    stream::try_unfold((source, requests), |(source, mut requests)| async move {
        let Some(request) = requests.pop_front() else { return Ok(None) };
        let page = source.read_page(&request).await?;
        match page.records.last() {
            Some(last) if page.more => requests.push_front(request.after(last.key.clone())),
            None if page.more => {
                return Err(Error::internal("backup", "the source said there is more, and sent nothing"));
            }
            _ => {}
        }
        let page = stream::iter(page.records.into_iter().map(Ok));
        Ok(Some((page, (source, requests))))
    })
    .try_flatten()
    .boxed()
}

struct Reading {
    body: ByteStream,
    decoder: Decoder,
    metadata: BackupMetadata,
    hash: blake3::Hasher,
    stored_bytes: u64,
    ended: bool,
}

impl Reading {
    /// The changes of one more block; `None` at the end, once everything was found right.
    async fn next(&mut self) -> Result<Option<Vec<Change>>> {
        loop {
            if let Some(changes) = self.decoder.next_block()? {
                return Ok(Some(changes));
            }
            if self.ended {
                return Ok(None);
            }
            match self.body.try_next().await? {
                Some(piece) => {
                    self.hash.update(&piece);
                    self.stored_bytes += u64::try_from(piece.len()).unwrap_or_default();
                    self.decoder.feed(&piece);
                }
                None => {
                    self.ended = true;
                    self.check()?;
                }
            }
        }
    }

    fn check(&self) -> Result<()> {
        let (totals, metadata) = (self.decoder.finish()?, &self.metadata);
        let right = metadata.records == totals.records
            && metadata.deletions == totals.deletions
            && metadata.plain_bytes == totals.plain_bytes
            && metadata.stored_bytes == self.stored_bytes
            && metadata.checksum == Checksum::Blake3(*self.hash.finalize().as_bytes())
            && (metadata.base().is_some() || totals.deletions == 0);
        if right { Ok(()) } else { Err(Damage::OtherMetadata.into()) }
    }
}

impl BackupManager {
    /// The changes of one backup; the stream fails unless everything about it is right, at the latest at its end.
    pub(super) async fn changes(&self, expected: &BackupMetadata) -> Result<Flow<Change>> {
        if expected.format != FORMAT_VERSION {
            return Err(Damage::UnknownVersion(expected.format).into());
        }
        let (metadata, body) = self.storage.retrieve_backup(&expected.id).await?;
        if metadata != *expected {
            return Err(Damage::OtherMetadata.into());
        }
        let key = self.data_key(&metadata).await?;
        let seal = Seal::new(metadata.compression, CompressionLevel::None, key, metadata.binding())?;
        let (decoder, hash) = (Decoder::new(seal), blake3::Hasher::new());
        let reading = Reading { body, decoder, metadata, hash, stored_bytes: 0, ended: false };
        let flow = stream::try_unfold(reading, |mut reading| async move {
            let Some(changes) = reading.next().await? else { return Ok::<_, Error>(None) };
            Ok(Some((stream::iter(changes.into_iter().map(Ok)), reading)))
        });
        Ok(flow.try_flatten().boxed())
    }

    async fn data_key(&self, metadata: &BackupMetadata) -> Result<Option<SecretBytes>> {
        let Some(encryption) = &metadata.encryption else { return Ok(None) };
        let keys = self.key_provider()?;
        keys.unwrap_data_key(&encryption.key, &encryption.wrapped, &metadata.binding()).await.map(Some)
    }

    pub(super) fn key_provider(&self) -> Result<&dyn hivemind_core::KeyProvider> {
        self.keys.as_deref().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "backup",
                "encryption needs a key provider: give the manager one",
            )
        })
    }

    /// The records that `chain` makes together, in key order.
    pub(super) async fn merged(&self, chain: &[BackupMetadata]) -> Result<Flow<(Key, bytes::Bytes)>> {
        let mut flows = Vec::new();
        let mut heads = Vec::new();
        for backup in chain {
            let mut flow = self.changes(backup).await?;
            heads.push(flow.try_next().await?);
            flows.push(flow);
        }
        Ok(stream::try_unfold((flows, heads), |(mut flows, mut heads)| async move {
            while let Some((key, winner)) = newest(&heads) {
                let mut found = None;
                for (index, (flow, head)) in flows.iter_mut().zip(&mut heads).enumerate() {
                    if head.as_ref().is_some_and(|change| *change.key() == key) {
                        let change = std::mem::replace(head, flow.try_next().await?);
                        if index == winner {
                            found = change;
                        }
                    }
                }
                if let Some(Change::Put { key, value, .. }) = found {
                    return Ok(Some(((key, value), (flows, heads))));
                }
            }
            Ok(None)
        })
        .boxed())
    }
}
