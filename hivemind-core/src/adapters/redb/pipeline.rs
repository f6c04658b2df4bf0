//! How a transaction becomes durable: decided at once, written together with all that wait, seen only then.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::Database;

use super::Durability;
use super::disk::{Opener, Watched};
use super::fault::Fault;
use super::table;
use crate::adapters::mvcc::{Mvcc, Staged, wake};
use crate::store::{Event, Revision, Txn};
use crate::worker::{Reply, Waiting, reply};
use crate::{Effect, Error, ErrorKind, Result, Retry};

/// Not more than this is acknowledged before it is written, if the durability allows that at all.
const MOST_DEFERRED: usize = 10_000;

/// What the handles and the worker share.
pub(super) struct Pipeline {
    /// What the database is called in messages.
    pub(super) name: String,
    opener: Opener,
    durability: Durability,
    pub(super) mvcc: Mvcc,
    database: Mutex<Option<Arc<Database>>>,
    sync_failed: Arc<AtomicBool>,
    /// Locked after `mvcc`, if both are.
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    pending: Vec<Pending>,
    flush_is_due: bool,
    health: Health,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Health {
    #[default]
    Sound,
    /// A write failed. The database must be opened anew.
    Broken,
    /// What is on the disk cannot be known any more, or is behind what was acknowledged.
    Lost,
}

/// A decided transaction on its way.
struct Pending {
    /// `None` if it only waits for those before it.
    write: Option<(Revision, Arc<[Event]>)>,
    answer: Result<Revision>,
    reply: Option<Reply<Revision>>,
}

/// What a commit has to do next.
pub(super) enum Step {
    Answer(Result<Revision>),
    /// The second says whether a flush is to be queued.
    Wait(Waiting<Revision>, bool),
    /// The answer is there already, but a flush is to be queued.
    Flush(Revision),
    Recover,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipeline {
    /// Opens the database and reads all of it.
    pub(super) fn open(name: String, opener: Opener, durability: Durability) -> Result<Self> {
        let sync_failed = Arc::new(AtomicBool::new(false));
        let open = || {
            let database = open(&opener, &sync_failed)?;
            table::initialise(&database)?;
            let (history, _) = table::load(&database)?;
            Ok((database, history))
        };
        let (database, history) = sheltered(open).map_err(|fault| fault.error("open", &name))?;
        Ok(Self {
            name,
            opener,
            durability,
            mvcc: Mvcc::new(history),
            database: Mutex::new(Some(Arc::new(database))),
            sync_failed,
            queue: Mutex::default(),
        })
    }

    pub(super) fn database(&self, operation: &'static str) -> Result<Arc<Database>> {
        lock(&self.database).clone().ok_or_else(|| self.unwell(operation))
    }

    fn unwell(&self, operation: &'static str) -> Error {
        let message = format!("{}: the disk failed earlier; nothing was written since", self.name);
        Error::new(ErrorKind::Unavailable, operation, message)
    }

    fn lost(&self) -> Error {
        let message = format!(
            "{}: the disk failed to make data durable, so what is on it is not known: \
             check the disk, then start again from the file or from a backup",
            self.name
        );
        Error::new(ErrorKind::Unavailable, "commit", message).with_retry(Retry::Never)
    }

    /// Decides `txn` on all that was decided before.
    pub(super) fn stage(&self, txn: &Txn) -> Step {
        let mut held = self.mvcc.lock();
        let mut queue = lock(&self.queue);
        match queue.health {
            Health::Sound => {}
            Health::Broken => return Step::Recover,
            Health::Lost => return Step::Answer(Err(self.lost())),
        }
        let (write, answer) = match held.history.stage(txn) {
            Ok(Staged::Changed(revision)) => (Some((revision, held.history.staged_last())), Ok(revision)),
            Ok(Staged::Nothing(revision)) => (None, Ok(revision)),
            Err(conflict) => (None, Err(conflict)),
        };
        // What is decided on others' transactions must not be told before they are seen.
        if write.is_none() && !held.history.is_ahead() {
            return Step::Answer(answer);
        }
        let early = (self.durability == Durability::Deferred && queue.pending.len() < MOST_DEFERRED)
            .then(|| write.as_ref().map(|(revision, _)| *revision))
            .flatten();
        let due = !std::mem::replace(&mut queue.flush_is_due, true);
        if let Some(revision) = early {
            queue.pending.push(Pending { write, answer, reply: None });
            held.history.publish(revision);
            let woken = held.take_wakers();
            drop((queue, held));
            wake(woken);
            return if due { Step::Flush(revision) } else { Step::Answer(Ok(revision)) };
        }
        let (reply, waiting) = reply();
        queue.pending.push(Pending { write, answer, reply: Some(reply) });
        Step::Wait(waiting, due)
    }

    /// Writes all that is pending in one go. Only the worker calls this.
    pub(super) fn flush(&self) {
        let pending = {
            let mut queue = lock(&self.queue);
            queue.flush_is_due = false;
            std::mem::take(&mut queue.pending)
        };
        let writes: Vec<_> = pending.iter().filter_map(|one| one.write.as_ref()).collect();
        let batch: Vec<_> = writes.iter().map(|(revision, events)| (*revision, &**events)).collect();
        let database = lock(&self.database).clone();
        let outcome = match &database {
            Some(database) => sheltered(|| table::append(database, &batch)),
            None if batch.is_empty() => Ok(()),
            None => Err(Fault::Damaged("the database is not open".to_owned())),
        };
        let last = batch.last().map(|(revision, _)| *revision);
        drop(database);
        match outcome {
            Ok(()) => {
                if let Some(last) = last {
                    self.publish(last);
                }
                answer(pending);
            }
            Err(fault) => self.fail(pending, last, fault),
        }
    }

    fn publish(&self, revision: Revision) {
        let mut held = self.mvcc.lock();
        held.history.publish(revision);
        let woken = held.take_wakers();
        drop(held);
        wake(woken);
    }

    /// The batch up to `last` could not be written, as far as anybody knows.
    fn fail(&self, batch: Vec<Pending>, last: Option<Revision>, fault: Fault) {
        let deferred = self.durability == Durability::Deferred;
        let lost = deferred || self.sync_failed.load(Ordering::SeqCst);
        let later = {
            let mut held = self.mvcc.lock();
            let mut queue = lock(&self.queue);
            queue.health = if lost { Health::Lost } else { Health::Broken };
            held.history.roll_back();
            std::mem::take(&mut queue.pending)
        };
        *lock(&self.database) = None;
        // Opened anew, the database tells whether the batch is in it.
        let effect = match self.recover() {
            Err(_) => Effect::Unknown,
            Ok(()) if last.is_some_and(|last| self.mvcc.lock().history.newest() >= last) => Effect::Done,
            Ok(()) => Effect::NotStarted,
        };
        let error = fault.error("commit", &self.name);
        if effect == Effect::Done {
            answer(batch);
        } else {
            refuse(batch, &error, effect);
        }
        refuse(later, &error, Effect::NotStarted);
    }

    /// Opens the database anew after a failure, and shows what turned out to be in it. Only the worker calls this.
    pub(super) fn recover(&self) -> Result<()> {
        match lock(&self.queue).health {
            Health::Sound => return Ok(()),
            Health::Lost => return Err(self.lost()),
            Health::Broken => {}
        }
        let mut held = self.mvcc.lock();
        let reopened = sheltered(|| {
            let database = open(&self.opener, &self.sync_failed)?;
            table::catch_up(&database, &mut held.history)?;
            Ok(database)
        });
        let database = reopened.map_err(|fault| fault.error("commit", &self.name))?;
        *lock(&self.database) = Some(Arc::new(database));
        lock(&self.queue).health = Health::Sound;
        let woken = held.take_wakers();
        drop(held);
        wake(woken);
        Ok(())
    }
}

/// The engine checks itself with assertions in debug builds; a damaged file must not bring the host down there either.
pub(super) fn sheltered<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let panicked = |_| Err(Fault::Damaged("the engine gave up on it".to_owned()));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

pub(super) fn open(opener: &Opener, sync_failed: &Arc<AtomicBool>) -> Result<Database, Fault> {
    let storage = Watched { inner: opener()?, sync_failed: Arc::clone(sync_failed) };
    // Everything is read once, at the start, and kept in memory: the engine's own cache would keep it twice.
    Ok(Database::builder().set_cache_size(16 << 20).create_with_backend(storage)?)
}

fn answer(pending: Vec<Pending>) {
    for one in pending {
        if let Some(reply) = one.reply {
            reply.send(one.answer);
        }
    }
}

/// Those that only waited were decided on what is gone now; they did nothing themselves.
fn refuse(pending: Vec<Pending>, error: &Error, effect: Effect) {
    for one in pending {
        if let Some(reply) = one.reply {
            let effect = if one.write.is_some() { effect } else { Effect::NotStarted };
            let own = Error::new(error.kind(), "commit", error.message()).with_effect(effect);
            reply.send(Err(own.with_retry(Retry::Later)));
        }
    }
}
