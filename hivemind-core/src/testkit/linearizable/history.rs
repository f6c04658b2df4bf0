//! What clients asked and were told, and in which order. No I/O, no clock, no async.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::{Conflict, Guard, Key, Record, Revision, ScanPage, ScanRequest, Txn, Write};

/// What a client asked of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// A commit.
    Commit(Txn),
    /// A get of a key as of a revision; `None` is the newest.
    Get(Key, Option<Revision>),
    /// One page of a scan.
    Scan(ScanRequest),
    /// The newest revision.
    Revision,
}

/// What the client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The commit got this revision.
    Committed(Revision),
    /// A guard of the commit did not hold: this one, if the store named it.
    Conflict(Option<Conflict>),
    /// The commit may have happened, may happen later, or never.
    Unknown,
    /// The call failed and did nothing.
    NotStarted,
    /// The get found this.
    Found(Option<Record>),
    /// The scan found this.
    Page(ScanPage),
    /// The newest revision is this.
    Newest(Revision),
}

/// One call of one client. The times are logical: no two are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// Who called.
    pub client: usize,
    /// What was asked.
    pub call: Call,
    /// When the call began.
    pub invoked: u64,
    /// When the client was told what; `None` if it never was.
    pub completed: Option<(u64, Outcome)>,
}

/// A call that has begun; give it back to [`History::complete`]. Dropped, the call stays pending for ever.
#[derive(Debug)]
#[must_use = "a call that is never completed may take effect at any later time"]
pub struct Token(usize);

/// What all clients did, as a thread-safe recorder. Clones are the same history.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    now: u64,
    initial: Vec<Record>,
    operations: Vec<Operation>,
}

impl Inner {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }
}

impl History {
    /// The empty history of a store without records, at any revision.
    pub fn new() -> Self {
        Self::default()
    }

    /// The empty history of a store that holds exactly these records.
    pub fn starting_with(records: impl IntoIterator<Item = Record>) -> Self {
        let initial = records.into_iter().collect();
        Self(Arc::new(Mutex::new(Inner { initial, ..Inner::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `client` is about to call the store.
    pub fn invoke(&self, client: usize, call: Call) -> Token {
        let mut inner = self.lock();
        let invoked = inner.tick();
        inner.operations.push(Operation { client, call, invoked, completed: None });
        Token(inner.operations.len() - 1)
    }

    /// The call has returned.
    pub fn complete(&self, token: Token, outcome: Outcome) {
        let mut inner = self.lock();
        let now = inner.tick();
        if let Some(operation) = inner.operations.get_mut(token.0) {
            operation.completed = Some((now, outcome));
        }
    }

    /// The calls so far, in the order in which they began.
    pub fn operations(&self) -> Vec<Operation> {
        self.lock().operations.clone()
    }

    /// What the store held before the first call.
    pub(super) fn initial(&self) -> Vec<Record> {
        self.lock().initial.clone()
    }

    #[cfg(test)]
    pub(super) fn of(operations: Vec<Operation>) -> Self {
        Self(Arc::new(Mutex::new(Inner { operations, ..Inner::default() })))
    }
}

/// A value as text, cut short.
pub(super) fn shown(value: &[u8]) -> String {
    const MOST: usize = 32;
    let cut = if value.len() > MOST { ".." } else { "" };
    format!("\"{}{cut}\"", value.get(..MOST).unwrap_or(value).escape_ascii())
}

fn records(records: &[Record]) -> String {
    let each = records.iter().map(|r| format!("{}={}@{}", r.key, shown(&r.value), r.mod_revision));
    each.collect::<Vec<_>>().join(" ")
}

fn transaction(txn: &Txn) -> String {
    let guards = txn.guards().map(|(key, guard)| match guard {
        Guard::Absent => format!("if no {key}"),
        Guard::Exists => format!("if some {key}"),
        Guard::Unchanged(at) => format!("if {key}@{at}"),
    });
    let writes = txn.writes().map(|(key, write)| match write {
        Write::Put(value) => format!("put {key}={}", shown(value)),
        Write::Delete => format!("delete {key}"),
    });
    guards.chain(writes).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(txn) => write!(f, "commit [{}]", transaction(txn)),
            Self::Get(key, None) => write!(f, "get {key}"),
            Self::Get(key, Some(at)) => write!(f, "get {key} as of {at}"),
            Self::Scan(request) => {
                write!(f, "scan \"{}\"", request.prefix)?;
                request.after.as_ref().map_or(Ok(()), |after| write!(f, " after {after}"))?;
                request.at.map_or(Ok(()), |at| write!(f, " as of {at}"))
            }
            Self::Revision => f.write_str("revision"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed(revision) => write!(f, "committed at {revision}"),
            Self::Conflict(None) => f.write_str("conflict"),
            Self::Conflict(Some(Conflict { key, found: None })) => write!(f, "conflict: no {key}"),
            Self::Conflict(Some(Conflict { key, found: Some(at) })) => write!(f, "conflict: {key}@{at}"),
            Self::Unknown => f.write_str("unknown"),
            Self::NotStarted => f.write_str("not started"),
            Self::Found(None) => f.write_str("nothing"),
            Self::Found(Some(record)) => f.write_str(&records(std::slice::from_ref(record))),
            Self::Page(page) => {
                let more = if page.more { " and more" } else { "" };
                write!(f, "[{}]{more} at {}", records(&page.records), page.revision)
            }
            Self::Newest(revision) => write!(f, "{revision}"),
        }
    }
}

impl fmt::Display for Operation {
    /// Such as `client 1 [4..7] get a -> a="x"@3`; the numbers in brackets say when it began and ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, call, invoked, completed } = self;
        match completed {
            Some((end, outcome)) => write!(f, "client {client} [{invoked}..{end}] {call} -> {outcome}"),
            None => write!(f, "client {client} [{invoked}..] {call} -> no reply"),
        }
    }
}
