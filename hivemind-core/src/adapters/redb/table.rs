//! What is where in the database: the base as of the last compaction, and the log of every transaction since.

use std::collections::BTreeMap;

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::fault::Fault;
use super::frame::{self, SCHEMA};
use crate::adapters::mvcc::History;
use crate::store::{Event, Key, Revision};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const BASE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("base");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

/// How much one slice of a compaction takes from the log, so that commits need not wait long.
const SLICE_REVISIONS: u64 = 2_000;
const SLICE_BYTES: usize = 4 << 20;

/// The numbers by which a missing part is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    /// The newest transaction.
    pub(super) newest: Revision,
    /// The revision that the base shows.
    pub(super) oldest: Revision,
    /// How many records the base has.
    records: u64,
    /// The sum of their fingerprints.
    digest: u64,
}

impl Meta {
    fn read(table: &impl ReadableTable<&'static str, u64>) -> Result<Option<Self>, Fault> {
        let number =
            |name: &str| -> Result<Option<u64>, Fault> { Ok(table.get(name)?.map(|found| found.value())) };
        let Some(schema) = number("schema")? else { return Ok(None) };
        if schema != SCHEMA {
            return Err(Fault::Schema { found: schema });
        }
        let must = |name: &'static str| {
            number(name)?.ok_or_else(|| Fault::Damaged(format!("it does not say its {name}")))
        };
        let (newest, oldest) = (Revision::new(must("newest")?), Revision::new(must("oldest")?));
        Ok(Some(Self { newest, oldest, records: must("records")?, digest: must("digest")? }))
    }

    fn write(self, txn: &WriteTransaction) -> Result<(), Fault> {
        let mut table = txn.open_table(META)?;
        for (name, number) in [
            ("schema", SCHEMA),
            ("newest", self.newest.as_u64()),
            ("oldest", self.oldest.as_u64()),
            ("records", self.records),
            ("digest", self.digest),
        ] {
            table.insert(name, number)?;
        }
        Ok(())
    }
}

fn begin(database: &Database) -> Result<WriteTransaction, Fault> {
    let mut txn = database.begin_write()?;
    // Costs a second sync, and survives a second crash inside the recovery from the first.
    txn.set_two_phase_commit(true);
    Ok(txn)
}

/// Makes the tables of a new database. One with anything else in it is refused.
pub(super) fn initialise(database: &Database) -> Result<(), Fault> {
    let txn = begin(database)?;
    if Meta::read(&txn.open_table(META)?)?.is_none() {
        if txn.list_tables()?.count() > 1 {
            return Err(Fault::Foreign);
        }
        txn.open_table(BASE)?;
        txn.open_table(LOG)?;
        let zero = Revision::ZERO;
        Meta { newest: zero, oldest: zero, records: 0, digest: 0 }.write(&txn)?;
        txn.commit()?;
    }
    Ok(())
}

/// Adds transactions to the log, all or none, for good.
pub(super) fn append(database: &Database, batch: &[(Revision, &[Event])]) -> Result<(), Fault> {
    let Some((newest, _)) = batch.last() else { return Ok(()) };
    let txn = begin(database)?;
    {
        let mut log = txn.open_table(LOG)?;
        for (revision, events) in batch {
            log.insert(revision.as_u64(), frame::encode_events(*revision, events).as_slice())?;
        }
        txn.open_table(META)?.insert("newest", newest.as_u64())?;
    }
    Ok(txn.commit()?)
}

/// Moves a slice of the log into the base, up to `at`. Whether that is reached.
pub(super) fn compact(database: &Database, at: Revision) -> Result<bool, Fault> {
    let txn = begin(database)?;
    let mut meta = Meta::read(&txn.open_table(META)?)?.ok_or(Fault::Foreign)?;
    if meta.oldest >= at {
        return Ok(true);
    }
    {
        let (mut log, mut base) = (txn.open_table(LOG)?, txn.open_table(BASE)?);
        let first = meta.oldest;
        let mut last: BTreeMap<Key, Event> = BTreeMap::new();
        let mut bytes = 0;
        while meta.oldest < at
            && bytes < SLICE_BYTES
            && meta.oldest.as_u64() - first.as_u64() < SLICE_REVISIONS
        {
            let next = meta.oldest.next();
            let removed = log.remove(next.as_u64())?.ok_or_else(|| missing(next))?;
            bytes += removed.value().len();
            let events = frame::decode_events(next, removed.value()).map_err(|e| damaged(next, e))?;
            last.extend(events.into_iter().map(|event| (event.key().clone(), event)));
            meta.oldest = next;
        }
        for event in last.values() {
            fold(&mut base, &mut meta, event)?;
        }
    }
    meta.write(&txn)?;
    txn.commit()?;
    Ok(meta.oldest >= at)
}

fn fold(
    base: &mut Table<'_, &'static [u8], &'static [u8]>,
    meta: &mut Meta,
    event: &Event,
) -> Result<(), Fault> {
    let key = event.key().as_bytes();
    let old = match event {
        Event::Put(record) => {
            let frame = frame::encode_record(record);
            meta.records += 1;
            meta.digest = meta.digest.wrapping_add(frame::fingerprint(&frame));
            base.insert(key, frame.as_slice())?
        }
        Event::Delete(_) => base.remove(key)?,
    };
    if let Some(old) = old {
        meta.records = meta.records.saturating_sub(1);
        meta.digest = meta.digest.wrapping_sub(frame::fingerprint(old.value()));
    }
    Ok(())
}

fn missing(revision: Revision) -> Fault {
    Fault::Damaged(format!("transaction {revision} is missing"))
}

fn damaged(revision: Revision, damage: frame::Damage) -> Fault {
    Fault::Damaged(format!("transaction {revision} is damaged: {damage}"))
}

/// Reads everything, and checks it.
pub(super) fn load(database: &Database) -> Result<(History, Meta), Fault> {
    let txn = database.begin_read()?;
    let meta = Meta::read(&txn.open_table(META)?)?.ok_or(Fault::Foreign)?;
    let base = txn.open_table(BASE)?;
    let (mut records, mut digest) = (Vec::new(), 0u64);
    for entry in base.iter()? {
        let (key, frame) = entry?;
        let (key, frame) = (key.value(), frame.value());
        digest = digest.wrapping_add(frame::fingerprint(frame));
        let what = |damage| Fault::Damaged(format!("record {} is damaged: {damage}", key.escape_ascii()));
        records.push(frame::decode_record(key, frame).map_err(what)?);
    }
    if u64::try_from(records.len()).ok() != Some(meta.records) || digest != meta.digest {
        let found = records.len();
        return Err(Fault::Damaged(format!("of {} records {found} are there, or others", meta.records)));
    }
    let mut history = History::begin(meta.oldest, records);
    replay(&txn.open_table(LOG)?, meta, &mut history)?;
    Ok((history, meta))
}

/// Brings `history` up to what the log holds.
pub(super) fn catch_up(database: &Database, history: &mut History) -> Result<(), Fault> {
    let txn = database.begin_read()?;
    let meta = Meta::read(&txn.open_table(META)?)?.ok_or(Fault::Foreign)?;
    replay(&txn.open_table(LOG)?, meta, history)
}

fn replay(
    log: &impl ReadableTable<u64, &'static [u8]>,
    meta: Meta,
    history: &mut History,
) -> Result<(), Fault> {
    for entry in log.range(history.newest().next().as_u64()..)? {
        let (revision, frame) = entry?;
        let (found, expected) = (Revision::new(revision.value()), history.newest().next());
        if found != expected {
            return Err(missing(expected));
        }
        history.replay(frame::decode_events(found, frame.value()).map_err(|e| damaged(found, e))?);
    }
    if history.newest() == meta.newest { Ok(()) } else { Err(missing(history.newest().next())) }
}

/// Copies everything as of one moment into an empty database.
pub(super) fn copy(from: &Database, into: &Database) -> Result<(), Fault> {
    let (source, target) = (from.begin_read()?, begin(into)?);
    let meta = Meta::read(&source.open_table(META)?)?.ok_or(Fault::Foreign)?;
    {
        let (mut base, mut log) = (target.open_table(BASE)?, target.open_table(LOG)?);
        for entry in source.open_table(BASE)?.iter()? {
            let (key, frame) = entry?;
            base.insert(key.value(), frame.value())?;
        }
        for entry in source.open_table(LOG)?.iter()? {
            let (revision, frame) = entry?;
            log.insert(revision.value(), frame.value())?;
        }
    }
    meta.write(&target)?;
    Ok(target.commit()?)
}
