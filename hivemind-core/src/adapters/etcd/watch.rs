//! Watches that outlive connections: each goes on after the last transaction it told, at whatever endpoint answers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse};
use futures_core::Stream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::batches::{Batches, Seen, Told, without_idle};
use super::client::Session;
use super::failure::{Class, Failure};
use super::runtime::Io;
use super::{Inner, layout, wire};
use crate::store::{Compacted, Event, Prefix, Revision, WatchBatch};
use crate::{Error, ErrorKind, Result};

/// How many batches wait for the reader before etcd has to.
const AHEAD: usize = 64;

/// The largest message of a watch; etcd cuts up what is longer than a request may be, but for single records.
const MAX_MESSAGE: usize = 64 << 20;

/// The pauses between attempts to go on grow from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The reader's end. A task fetches, so that a reader that goes away and comes back misses nothing.
pub(super) struct Watch {
    batches: mpsc::Receiver<Result<WatchBatch>>,
    task: AbortHandle,
    /// The task needs the runtime, and must not be what keeps it.
    _io: Io,
}

impl Stream for Watch {
    type Item = Result<WatchBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_recv(context)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A watch at one endpoint.
struct Feed {
    stream: etcd_client::WatchStream,
    session: Session,
}

/// Why a feed ended.
enum End {
    /// The connection is gone; another may do.
    Lost(Failure),
    /// Nobody listens.
    Unheard,
    /// There is no going on.
    Over(Error),
}

impl Inner {
    /// Refuses what is compacted away at once; whatever else goes wrong at first, too.
    pub(super) async fn watch(self: Arc<Self>, io: Io, prefix: Prefix, from: Revision) -> Result<Watch> {
        // Before the namespace was made there is nothing to tell.
        let next = from.max(self.created.next());
        let batches = Batches::new(prefix, next);
        let feed = match self.feed(next).await {
            Ok(feed) => feed,
            Err(End::Over(error)) => return Err(error),
            Err(End::Lost(failure)) => return Err(failure.of_read("watch")),
            Err(End::Unheard) => return Err(Error::internal("watch", "it ended before it began")),
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        let task = io.spawn(self.follow(feed, batches, sender)).abort_handle();
        Ok(Watch { batches: receiver, task, _io: io })
    }

    /// Starts a watch of everything from `next` on. The namespace is watched as a whole: two watches, one for the
    /// prefix and one for the clock, would tell of one transaction at different times.
    async fn feed(&self, next: Revision) -> Result<Feed, End> {
        let start = wire::number(next);
        // etcd itself would start at the very revision of a compaction, and not tell what was deleted there.
        match self.is_there(start.saturating_sub(1)).await {
            Ok(true) => {}
            Ok(false) => return Err(self.over(next, start.saturating_sub(1)).await),
            Err(e) => return Err(End::of(e)),
        }
        let range = self.space.everything();
        let stream = self.connection.repeatable(|session| {
            let mut options = WatchOptions::new().with_start_revision(start).with_fragment();
            if let Some(end) = &range.end {
                options = options.with_range(end.clone());
            }
            let start = range.start.clone();
            async move {
                let mut client = session.client.watch_client().max_decoding_message_size(MAX_MESSAGE);
                let stream = client.watch(start, Some(options)).await?;
                Ok(Feed { stream, session })
            }
        });
        stream.await.map_err(End::of)
    }

    /// The end of a watch whose next transaction is compacted away, as `gone` is.
    async fn over(&self, next: Revision, gone: i64) -> End {
        match self.expired("watch", next, gone).await {
            Ok(error) => End::Over(error),
            Err(e) => End::Lost(Failure::new(Class::Lost, e.message())),
        }
    }

    async fn follow(
        self: Arc<Self>,
        mut feed: Feed,
        mut batches: Batches,
        sender: mpsc::Sender<Result<WatchBatch>>,
    ) {
        let mut pause = PAUSES.0;
        loop {
            let before = batches.next();
            let mut end = self.drain(&mut feed, &mut batches, &sender).await;
            if matches!(end, End::Lost(_)) {
                self.connection.lost(&feed.session);
            }
            batches.restart();
            if batches.next() > before {
                pause = PAUSES.0;
            }
            loop {
                match end {
                    End::Unheard => return,
                    End::Over(error) => {
                        // If nobody listens any more, nobody needs to know.
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                    End::Lost(_) => tokio::time::sleep(pause).await,
                }
                pause = (pause * 2).min(PAUSES.1);
                match self.feed(batches.next()).await {
                    Ok(again) => {
                        feed = again;
                        break;
                    }
                    Err(again) => end = again,
                }
            }
        }
    }

    /// Tells what `feed` brings until it ends.
    async fn drain(
        &self,
        feed: &mut Feed,
        batches: &mut Batches,
        sender: &mpsc::Sender<Result<WatchBatch>>,
    ) -> End {
        loop {
            let response = match feed.stream.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return End::Lost(Failure::new(Class::Lost, "etcd hung up")),
                Err(e) => return End::of(e.into()),
            };
            if response.compact_revision() > 0 {
                let oldest = wire::revision(response.compact_revision());
                let detail = Compacted::new(batches.next(), oldest);
                return End::Over(Error::of(ErrorKind::Expired, "watch", detail));
            }
            if response.canceled() {
                return End::of_cancelled(response.cancel_reason());
            }
            let whole = match self.whole(&response, batches).await {
                Ok(whole) => whole,
                Err(end) => return end,
            };
            for batch in whole {
                let revision = batch.revision;
                if sender.send(Ok(batch)).await.is_err() {
                    return End::Unheard;
                }
                batches.told(revision);
            }
        }
    }

    /// The transactions that are whole with `response`.
    async fn whole(&self, response: &WatchResponse, batches: &mut Batches) -> Result<Vec<WatchBatch>, End> {
        let mut whole = Vec::new();
        for event in response.events() {
            let Some((revision, seen)) = self.seen(event).map_err(End::Over)? else { continue };
            let next = batches.next();
            let Some(Told { batch, doubtful }) = batches.take(revision, seen) else { continue };
            // A server that had not caught up with a compaction at this very revision would leave out deletes.
            let before = wire::number(batch.revision).saturating_sub(1);
            if doubtful && !self.is_there(before).await.map_err(End::of)? {
                return Err(self.over(next, before).await);
            }
            whole.push(batch);
        }
        Ok(without_idle(whole))
    }

    fn seen(&self, event: &etcd_client::Event) -> Result<Option<(Revision, Seen)>> {
        let Some(found) = event.kv() else {
            return Err(wire::broken("watch", "an event without a key"));
        };
        let revision = wire::revision(found.mod_revision());
        let put = event.event_type() == EventType::Put;
        let seen = if found.key() == self.space.clock() {
            if !put {
                return Err(super::txn::no_clock("watch"));
            }
            Some(Seen::Tick { deletes: layout::deletes_of(found.value())? })
        } else if put {
            wire::record(&self.space, found.clone())?.map(|record| Seen::Record(Event::Put(record)))
        } else {
            self.space.key(found.key())?.map(|key| Seen::Record(Event::Delete(key)))
        };
        Ok(seen.map(|seen| (revision, seen)))
    }
}

impl End {
    fn of(failure: Failure) -> Self {
        match failure.class {
            Class::Refused(_) => Self::Over(failure.of_read("watch")),
            _ => Self::Lost(failure),
        }
    }

    fn of_cancelled(reason: &str) -> Self {
        if reason.contains("permission denied") {
            let text = format!("{reason}: the user needs a role that may read the key prefix PREFIX:");
            return Self::Over(Error::new(ErrorKind::Denied, "watch", text));
        }
        Self::Lost(Failure::new(Class::Lost, reason))
    }
}
