//! A store with one bug.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::task::Poll;

use hivemind_core::store::{
    Conflict, Guard, Key, Limits, Prefix, Record, Revision, ScanPage, ScanRequest, Txn, Write,
};
use hivemind_core::{
    Error, ErrorKind, MemoryStore, Result, StateStore, StateStoreExt, WatchStream, async_trait,
};

use crate::Bug;
use crate::watch::BrokenWatch;

#[derive(Debug)]
pub(crate) struct Broken {
    inner: MemoryStore,
    bug: Bug,
    ever: Mutex<BTreeSet<Key>>,
}

impl Broken {
    pub(crate) fn new(bug: Bug) -> Self {
        let inner = match bug {
            Bug::LimitsNotEnforced => {
                MemoryStore::with_limits(Limits::new(usize::MAX, usize::MAX, usize::MAX))
            }
            Bug::LimitsOneTooLow => {
                let most = Limits::default();
                let (ops, bytes, value) = (most.max_ops, most.max_txn_bytes, most.max_value_bytes);
                MemoryStore::with_limits(Limits::new(ops - 1, bytes - 1, value - 1))
            }
            _ => MemoryStore::new(),
        };
        Self { inner, bug, ever: Mutex::default() }
    }

    fn record(&self, mut record: Record) -> Record {
        if self.bug == Bug::CreateRevisionLost {
            record.create_revision = record.mod_revision;
        }
        if self.bug == Bug::ValuesAreText {
            record.value = String::from_utf8_lossy(&record.value).into_owned().into();
        }
        record
    }

    fn told(&self, revision: Revision) -> Revision {
        let skip = self.bug == Bug::RevisionsSkipOne && revision > Revision::ZERO;
        if skip { revision.next() } else { revision }
    }

    /// The revision that a read really reads at.
    async fn at(&self, ignored: bool, at: Option<Revision>) -> Option<Revision> {
        let newest = self.inner.revision().await.unwrap();
        at.filter(|at| !(ignored || self.bug == Bug::FutureReadsThePresent && *at > newest))
    }

    /// The last guard that does not hold.
    async fn last_failing(&self, txn: &Txn) -> Result<Option<(Key, Option<Revision>)>> {
        let mut failing = None;
        for (key, guard) in txn.guards() {
            let found = self.inner.get(key, None).await?.map(|record| record.mod_revision);
            if !guard.holds(found) {
                failing = Some((key.clone(), found));
            }
        }
        Ok(failing)
    }

    /// The conflict that the bug sees, if any.
    async fn wrongly_refused(&self, txn: &Txn) -> Result<Option<(Key, Option<Revision>)>> {
        let newest = self.inner.revision().await?;
        let first = |wrong: &dyn Fn(&Key, Guard) -> bool| {
            txn.guards().find(|(key, guard)| wrong(key, *guard)).map(|(key, _)| (key.clone(), Some(newest)))
        };
        Ok(match self.bug {
            Bug::GuardsCheckedTooEarly | Bug::ConflictNamesTheLastKey => self.last_failing(txn).await?,
            Bug::UnchangedMeansNewest => {
                first(&|_, guard| matches!(guard, Guard::Unchanged(at) if at < newest))
            }
            Bug::DeletedKeyIsNotAbsent => {
                let ever = self.ever.lock().unwrap();
                first(&|key, guard| guard == Guard::Absent && ever.contains(key))
            }
            _ => None,
        })
    }

    /// The transactions that the bug makes of one.
    async fn miswritten(&self, txn: &Txn) -> Result<Vec<Txn>> {
        Ok(match self.bug {
            Bug::TxnInTwoSteps => {
                let (mut even, mut odd) = (0, 1);
                let half = |n: &mut u32| {
                    *n += 1;
                    n.is_multiple_of(2)
                };
                vec![rebuilt(txn, true, |_, _| half(&mut even)), rebuilt(txn, false, |_, _| half(&mut odd))]
            }
            Bug::EqualPutIsNoChange => {
                let (_, now) = self.inner.scan_all(&Prefix::ROOT, None).await?;
                let now: BTreeMap<_, _> = now.into_iter().map(|r| (r.key, r.value)).collect();
                let changes = |key: &Key, write: &Write| match write {
                    Write::Put(value) => now.get(key) != Some(value),
                    Write::Delete => true,
                };
                vec![rebuilt(txn, true, changes)]
            }
            Bug::EmptyValueIsAbsence => {
                let mut out = txn.clone();
                for (key, write) in txn.writes() {
                    if matches!(write, Write::Put(value) if value.is_empty()) {
                        out.delete(key.clone());
                    }
                }
                vec![out]
            }
            _ => vec![txn.clone()],
        })
    }

    /// A transaction that nobody asked for.
    async fn touch(&self, name: &str) -> Result<Revision> {
        let mut txn = Txn::new();
        txn.put(Key::new([name]).unwrap(), "");
        self.inner.commit(&txn).await
    }

    async fn commit_parts(&self, parts: Vec<Txn>) -> Result<Revision> {
        let mut revision = Revision::ZERO;
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                give_way().await;
            }
            revision = self.inner.commit(part).await?;
        }
        Ok(revision)
    }
}

async fn give_way() {
    let mut given = false;
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut given, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The writes of `txn` that `keep` keeps; its guards only if `guarded`.
fn rebuilt(txn: &Txn, guarded: bool, mut keep: impl FnMut(&Key, &Write) -> bool) -> Txn {
    let mut out = Txn::new();
    for (key, guard) in txn.guards().filter(|_| guarded) {
        out.guard(key, guard).unwrap();
    }
    for (key, write) in txn.writes() {
        match write {
            write if !keep(key, write) => {}
            Write::Put(value) => out.put(key.clone(), value.clone()),
            Write::Delete => out.delete(key.clone()),
        }
    }
    out
}

#[async_trait]
impl StateStore for Broken {
    async fn revision(&self) -> Result<Revision> {
        Ok(self.told(self.inner.revision().await?))
    }

    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        let at = self.at(self.bug == Bug::GetIgnoresTheRevision, at).await;
        if self.bug == Bug::GetFindsWhatIsBelow {
            let (_, all) = self.inner.scan_all(&Prefix::ROOT, at).await?;
            return Ok(all.into_iter().find(|record| record.key.as_bytes().starts_with(key.as_bytes())));
        }
        Ok(self.inner.get(key, at).await?.map(|record| self.record(record)))
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        let mut request = request.clone();
        let asked = request.at;
        request.at = self.at(self.bug == Bug::ScanIgnoresTheRevision, asked).await;
        if self.bug == Bug::PrefixIsBytes {
            let everything = ScanRequest::new(Prefix::ROOT);
            let stem = request.prefix.as_bytes().strip_suffix(b"/").unwrap_or_default().to_vec();
            let mut page = self.inner.scan(&everything).await?;
            page.records.retain(|record| record.key.as_bytes().starts_with(&stem));
            return Ok(page);
        }
        if self.bug == Bug::NextPageRepeatsTheLast
            && let Some(after) = request.after.take()
        {
            let mut page = self.inner.scan(&request).await?;
            page.records.retain(|record| record.key >= after);
            return Ok(page);
        }
        let mut page = self.inner.scan(&request).await?;
        page.more |= self.bug == Bug::MoreAtTheBoundary && Some(page.records.len()) == request.limit;
        page.revision = asked.unwrap_or(self.told(page.revision));
        if self.bug == Bug::ScanTellsTheLastChange {
            page.revision = page.records.iter().map(|r| r.mod_revision).max().unwrap_or_default();
        }
        if self.bug == Bug::BookkeepingShows && request.prefix == Prefix::ROOT && !page.more {
            let clock = Key::new(["~clock"]).unwrap();
            page.records.push(Record::new(clock, "".into(), page.revision, page.revision));
        }
        if self.bug == Bug::ScanIsBackwards {
            page.records.reverse();
        }
        page.records = page.records.into_iter().map(|record| self.record(record)).collect();
        Ok(page)
    }

    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        if let Some((key, found)) = self.wrongly_refused(txn).await? {
            return Err(Error::of(ErrorKind::Conflict, "commit", Conflict::new(key, found)));
        }
        match self.bug {
            Bug::GuardsIgnored => self.inner.commit(&rebuilt(txn, false, |_, _| true)).await,
            Bug::GuardsCheckedTooEarly => {
                give_way().await;
                self.inner.commit(&rebuilt(txn, false, |_, _| true)).await
            }
            Bug::ConflictLeavesATrace => {
                let outcome = self.inner.commit(txn).await;
                if outcome.is_err() {
                    self.touch("trace").await?;
                }
                outcome
            }
            Bug::MissingDeleteIsAChange => {
                let before = self.inner.revision().await?;
                let after = self.inner.commit(txn).await?;
                if after > before || txn.writes().len() == 0 { Ok(after) } else { self.touch("bump").await }
            }
            Bug::RevisionsSkipOne => Ok(self.told(self.inner.commit(txn).await?)),
            Bug::DeletedKeyIsNotAbsent => {
                self.ever.lock().unwrap().extend(txn.writes().map(|(key, _)| key.clone()));
                self.inner.commit(txn).await
            }
            _ => self.commit_parts(self.miswritten(txn).await?).await,
        }
    }

    async fn watch(&self, prefix: &Prefix, from: Revision) -> Result<WatchStream> {
        let (prefix, from) = match self.bug {
            Bug::WatchHearsEverything => (&Prefix::ROOT, from),
            Bug::WatchBeginsOneTooLate => (prefix, from.next()),
            _ => (prefix, from),
        };
        let inner = self.inner.watch(prefix, from).await?;
        Ok(Box::pin(BrokenWatch::new(inner, self.bug)))
    }

    async fn compact(&self, at: Revision) -> Result<()> {
        if self.bug == Bug::CompactionForgetsNothing { Ok(()) } else { self.inner.compact(at).await }
    }

    fn limits(&self) -> Limits {
        Limits::default()
    }
}
