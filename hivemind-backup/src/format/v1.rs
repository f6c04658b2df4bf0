//! Format version 1: a header, blocks of records, a trailer. All numbers are little-endian.
//!
//! ```text
//! header   "HIVEBKUP", version u16, compression u8 (0 none, 1 zstd), encryption u8 (0 none, 1 XChaCha20-Poly1305)
//! frame    stored length u32, kind u8 (0 records, 1 trailer), plain length u32, then the stored bytes
//! trailer  records u64, deletions u64, plain bytes u64, BLAKE3 of all plain record bytes
//! ```
//!
//! The stored bytes of a frame are compressed first, then encrypted: nonce (24), ciphertext, tag (16). Kind, plain
//! length, position and identity of the backup are authenticated, so frames cannot be cut off, moved or exchanged.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hivemind_core::store::Key;
use hivemind_core::{Error, Result};

use super::{Change, Damage, Seal};
use crate::FORMAT_VERSION;

const MAGIC: &[u8; 8] = b"HIVEBKUP";
const HEADER: usize = 12;
const FRAME_HEAD: usize = 9;
const RECORDS: u8 = 0;
const TRAILER: u8 = 1;
/// A block is closed once it has so many plain bytes.
const BLOCK: usize = 64 << 10;
/// The most plain bytes of a block: a full one and the largest record.
const MAX_PLAIN: usize = 16 << 20;
/// Room for incompressible bytes, nonce and tag.
const MAX_STORED: usize = MAX_PLAIN + MAX_PLAIN / 128 + 1024;

/// What a backup holds, as counted from its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) records: u64,
    pub(crate) deletions: u64,
    pub(crate) plain_bytes: u64,
    digest: [u8; 32],
}

impl Totals {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(56);
        out.put_u64_le(self.records);
        out.put_u64_le(self.deletions);
        out.put_u64_le(self.plain_bytes);
        out.put_slice(&self.digest);
        out.freeze()
    }
}

/// Counts records on their way, in the same manner in both directions.
#[derive(Debug, Default)]
struct Tally {
    records: u64,
    deletions: u64,
    plain_bytes: u64,
    hash: blake3::Hasher,
    last: Option<Key>,
}

impl Tally {
    /// Counts `change`, unless it is out of order.
    fn count(&mut self, change: &Change) -> bool {
        if self.last.as_ref().is_some_and(|last| last >= change.key()) {
            return false;
        }
        match change {
            Change::Put { .. } => self.records += 1,
            Change::Delete(_) => self.deletions += 1,
        }
        self.last = Some(change.key().clone());
        true
    }

    fn block(&mut self, plain: &[u8]) {
        self.hash.update(plain);
        self.plain_bytes = self.plain_bytes.saturating_add(u64::try_from(plain.len()).unwrap_or(u64::MAX));
    }

    fn totals(&self) -> Totals {
        let Self { records, deletions, plain_bytes, .. } = *self;
        Totals { records, deletions, plain_bytes, digest: *self.hash.finalize().as_bytes() }
    }
}

/// Where nonces come from: never the same one twice.
pub(crate) type Nonces = Box<dyn FnMut() -> [u8; 24] + Send>;

/// Turns changes in key order into bytes; holds one block at a time.
pub(crate) struct Encoder {
    seal: Seal,
    nonces: Nonces,
    /// Bytes ready to leave.
    out: BytesMut,
    block: BytesMut,
    index: u64,
    tally: Tally,
}

impl Encoder {
    pub(crate) fn new(seal: Seal, nonces: Nonces) -> Self {
        let mut out = BytesMut::from(&MAGIC[..]);
        out.put_u16_le(FORMAT_VERSION);
        out.put_slice(&seal.codes());
        Self { seal, nonces, out, block: BytesMut::new(), index: 0, tally: Tally::default() }
    }

    /// Adds a change; gives bytes once a block is full.
    pub(crate) fn push(&mut self, change: &Change) -> Result<Option<Bytes>> {
        let size = change.encoded_len();
        if size > MAX_PLAIN - BLOCK {
            let (key, most) = (change.key(), MAX_PLAIN - BLOCK);
            let message = format!("the record {key} has {size} bytes, a backup takes {most}");
            return Err(Error::invalid("backup", message));
        }
        if !self.tally.count(change) {
            let message = format!("the source sent {} out of order", change.key());
            return Err(Error::internal("backup", message));
        }
        change.encode(&mut self.block).ok_or_else(|| Error::internal("backup", "a length does not fit"))?;
        if self.block.len() < BLOCK {
            return Ok(None);
        }
        self.close_block()?;
        Ok(Some(self.out.split().freeze()))
    }

    /// Closes the backup: its last bytes and what it holds.
    pub(crate) fn finish(mut self) -> Result<(Bytes, Totals)> {
        if !self.block.is_empty() {
            self.close_block()?;
        }
        let totals = self.tally.totals();
        self.frame(TRAILER, totals.encode())?;
        Ok((self.out.freeze(), totals))
    }

    fn close_block(&mut self) -> Result<()> {
        let plain = self.block.split().freeze();
        self.tally.block(&plain);
        self.frame(RECORDS, plain)
    }

    fn frame(&mut self, kind: u8, plain: Bytes) -> Result<()> {
        let length =
            |n: usize| u32::try_from(n).map_err(|_| Error::internal("backup", "a block is too large"));
        let mut head = [kind, 0, 0, 0, 0];
        let (_, plain_len) = head.split_at_mut(1);
        plain_len.copy_from_slice(&length(plain.len())?.to_le_bytes());
        let stored = self.seal.seal(self.index, &head, plain, (self.nonces)())?;
        self.out.put_u32_le(length(stored.len())?);
        self.out.put_slice(&head);
        self.out.put_slice(&stored);
        self.index += 1;
        Ok(())
    }
}

/// Turns bytes back into changes; holds one block at a time, and trusts nothing.
pub(crate) struct Decoder {
    seal: Seal,
    buffer: BytesMut,
    begun: bool,
    index: u64,
    tally: Tally,
    totals: Option<Totals>,
}

impl Decoder {
    pub(crate) fn new(seal: Seal) -> Self {
        let tally = Tally::default();
        Self { seal, buffer: BytesMut::new(), begun: false, index: 0, tally, totals: None }
    }

    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The changes of the next block; `None` if it is not there in full.
    pub(crate) fn next_block(&mut self) -> Result<Option<Vec<Change>>> {
        if !self.begun {
            if self.buffer.len() < HEADER {
                return Ok(None);
            }
            self.header()?;
        }
        if self.totals.is_some() {
            return if self.buffer.is_empty() { Ok(None) } else { Err(Damage::Trailing.into()) };
        }
        let Some(mut head) = self.buffer.get(..FRAME_HEAD) else { return Ok(None) };
        let stored_len = usize::try_from(head.get_u32_le()).unwrap_or(usize::MAX);
        let authenticated = Bytes::copy_from_slice(head);
        let kind = head.get_u8();
        let plain_len = usize::try_from(head.get_u32_le()).unwrap_or(usize::MAX);
        if stored_len > MAX_STORED || plain_len > MAX_PLAIN || kind > TRAILER {
            return Err(Damage::BadHead(self.index).into());
        }
        if self.buffer.len() < FRAME_HEAD + stored_len {
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEAD);
        let stored = self.buffer.split_to(stored_len).freeze();
        let plain = self.seal.open(self.index, &authenticated, stored, plain_len)?;
        let changes = if kind == TRAILER { self.trailer(&plain)? } else { self.records(plain)? };
        self.index += 1;
        Ok(Some(changes))
    }

    /// What it held, if it was whole.
    pub(crate) fn finish(&self) -> Result<Totals> {
        match self.totals {
            Some(totals) if self.buffer.is_empty() => Ok(totals),
            Some(_) => Err(Damage::Trailing.into()),
            None => Err(Damage::Truncated(self.index).into()),
        }
    }

    fn header(&mut self) -> Result<()> {
        let mut header = self.buffer.split_to(HEADER);
        if header.split_to(MAGIC.len()) != MAGIC[..] {
            return Err(Damage::NotABackup.into());
        }
        let version = header.get_u16_le();
        if version != FORMAT_VERSION {
            return Err(Damage::UnknownVersion(version).into());
        }
        if header != self.seal.codes()[..] {
            return Err(Damage::OtherHeader.into());
        }
        self.begun = true;
        Ok(())
    }

    fn records(&mut self, mut plain: Bytes) -> Result<Vec<Change>> {
        self.tally.block(&plain);
        let mut changes = Vec::new();
        while !plain.is_empty() {
            match Change::decode(&mut plain) {
                Some(change) if self.tally.count(&change) => changes.push(change),
                _ => return Err(Damage::BadRecords(self.index).into()),
            }
        }
        Ok(changes)
    }

    fn trailer(&mut self, plain: &Bytes) -> Result<Vec<Change>> {
        let totals = self.tally.totals();
        if *plain != totals.encode() {
            return Err(Damage::OtherTotals.into());
        }
        self.totals = Some(totals);
        Ok(Vec::new())
    }
}
