//! Watches: from when, what, and that nothing is missing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::support::{Outcome, Store, Watch, ensure, give_way, list, same, show, together, write};
use crate::conformance::Failure;
use crate::store::{Event, Revision};

/// Compares what `watch` tells until `end` with `expected`.
async fn tells(watch: &mut Watch, end: Revision, expected: &[&str]) -> Outcome {
    same("what the watch told", watch.told(end).await?, expected.iter().map(|&s| s.to_owned()).collect())
}

pub(super) async fn a_watch_from_the_past_replays(store: Store) -> Outcome {
    for words in ["+a=1", "+b=2", "+a=3"] {
        write(&store, words).await?;
    }
    let end = Revision::new(3);
    tells(&mut Watch::open(&store, "", 1).await?, end, &["1 +a=1", "2 +b=2", "3 +a=3"]).await?;
    tells(&mut Watch::open(&store, "", 2).await?, end, &["2 +b=2", "3 +a=3"]).await?;
    tells(&mut Watch::open(&store, "", 3).await?, end, &["3 +a=3"]).await
}

pub(super) async fn a_watch_from_the_present_begins_with_the_next(store: Store) -> Outcome {
    write(&store, "+a=1").await?;
    let mut watch = Watch::open(&store, "", 2).await?;
    let end = write(&store, "+a=2").await?;
    tells(&mut watch, end, &["2 +a=2"]).await
}

pub(super) async fn a_watch_from_the_future_waits_for_it(store: Store) -> Outcome {
    let mut watch = Watch::open(&store, "", 3).await?;
    for words in ["+a=1", "+a=2", "+a=3", "+a=4"] {
        write(&store, words).await?;
    }
    tells(&mut watch, Revision::new(4), &["3 +a=3", "4 +a=4"]).await
}

pub(super) async fn a_batch_is_a_whole_transaction(store: Store) -> Outcome {
    let mut watch = Watch::open(&store, "", 1).await?;
    write(&store, "+c=1 +a=1 +b/x=1").await?;
    write(&store, "-c +d=2 +a=2").await?;
    tells(&mut watch, Revision::new(2), &["1 +a=1 +b/x=1 +c=1", "2 +a=2 -c +d=2"]).await
}

pub(super) async fn a_watch_hears_only_its_prefix(store: Store) -> Outcome {
    let mut watch = Watch::open(&store, "a", 1).await?;
    write(&store, "+a=1 +ab=1 +a.b=1 +b/a=1").await?;
    write(&store, "+a/b=2 +c=2").await?;
    write(&store, "-a -ab").await?;
    let end = write(&store, "+a/b/c=4 -a/b").await?;
    tells(&mut watch, end, &["2 +a/b=2", "4 -a/b +a/b/c=4"]).await
}

pub(super) async fn a_quiet_watch_tells_how_far_it_is(store: Store) -> Outcome {
    let mut watch = Watch::open(&store, "a", 1).await?;
    write(&store, "+b=1").await?;
    let end = write(&store, "+b=2").await?;
    // Without a bookmark this waits for ever: a mirror of a quiet prefix could not tell that it is current.
    tells(&mut watch, end, &[]).await
}

pub(super) async fn a_deleted_key_is_an_event(store: Store) -> Outcome {
    let mut watch = Watch::open(&store, "", 1).await?;
    write(&store, "+a=1").await?;
    write(&store, "-a").await?;
    let end = write(&store, "+a=3").await?;
    tells(&mut watch, end, &["1 +a=1", "2 -a", "3 +a=3"]).await
}

pub(super) async fn events_carry_the_record(store: Store) -> Outcome {
    let mut watch = Watch::open(&store, "", 2).await?;
    write(&store, "+a=1").await?;
    let end = write(&store, "+a=2 +b=2").await?;
    let batches = watch.batches(end).await?;
    let records = batches.iter().flat_map(|batch| &batch.events).filter_map(|event| match event {
        Event::Put(record) => Some(show(record)),
        Event::Delete(_) => None,
    });
    same("the records", records.collect::<Vec<_>>(), vec!["a=2@1,2".to_owned(), "b=2@2,2".to_owned()])
}

pub(super) async fn a_slow_reader_misses_nothing(store: Store) -> Outcome {
    let mut watch = Watch::open(&store, "", 1).await?;
    let mut expected = Vec::new();
    for n in 1..=500 {
        write(&store, &format!("+k{}={n}", n % 7)).await?;
        expected.push(format!("{n} +k{}={n}", n % 7));
    }
    same("what the watch told", watch.told(Revision::new(500)).await?, expected)
}

pub(super) async fn an_interleaved_reader_misses_nothing(store: Store) -> Outcome {
    const LAST: u64 = 100;
    let mut watch = Watch::open(&store, "p", 1).await?;
    let writer = async {
        for n in 1..=LAST {
            // Every third transaction is outside the prefix, the last one inside.
            let words = if n % 3 == 0 { format!("+q={n}") } else { format!("+p/k={n} +q={n}") };
            write(&store, &words).await?;
            for _ in 0..n % 4 {
                give_way().await;
            }
        }
        Ok(())
    };
    let reader = async {
        let expected = (1..=LAST).filter(|n| n % 3 != 0).map(|n| format!("{n} +p/k={n}")).collect();
        same("what the watch told", watch.told(Revision::new(LAST)).await?, expected)
    };
    together(vec![Box::pin(reader), Box::pin(writer)]).await
}

pub(super) async fn every_watch_hears_everything(store: Store) -> Outcome {
    let mut all = Watch::open(&store, "", 1).await?;
    let mut same_again = Watch::open(&store, "", 1).await?;
    let mut part = Watch::open(&store, "p", 1).await?;
    write(&store, "+a=1").await?;
    let end = write(&store, "+p/a=2").await?;
    tells(&mut all, end, &["1 +a=1", "2 +p/a=2"]).await?;
    tells(&mut part, end, &["2 +p/a=2"]).await?;
    tells(&mut same_again, end, &["1 +a=1", "2 +p/a=2"]).await
}

/// Passes a call on to whoever waits for the case, and remembers it.
struct Woken {
    called: AtomicBool,
    parent: Mutex<Waker>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.called.store(true, Ordering::SeqCst);
        self.parent.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}

/// Nobody looks again who was not called: this waits for ever if the watch never calls.
pub(super) async fn a_waiting_watch_is_woken(store: Store) -> Outcome {
    let mut watch = Watch::open(&store, "", 1).await?;
    let woken = Arc::new(Woken { called: AtomicBool::new(false), parent: Mutex::new(Waker::noop().clone()) });
    let waker = Waker::from(Arc::clone(&woken));
    let early = watch.poll(&mut Context::from_waker(&waker));
    ensure(early.is_pending(), "a watch told something before there was anything")?;
    let end = write(&store, "+a=1").await?;
    std::future::poll_fn(|context| {
        *woken.parent.lock().unwrap_or_else(PoisonError::into_inner) = context.waker().clone();
        if woken.called.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    tells(&mut watch, end, &["1 +a=1"]).await
}

pub(super) async fn a_dropped_watch_disturbs_nobody(store: Store) -> Outcome {
    let mut kept = Watch::open(&store, "", 1).await?;
    let mut dropped = Watch::open(&store, "", 1).await?;
    ensure(dropped.glance().await.is_none(), "a watch told something before there was anything")?;
    drop(dropped);
    let end = write(&store, "+a=1").await?;
    tells(&mut kept, end, &["1 +a=1"]).await
}

pub(super) async fn a_cancelled_wait_loses_nothing(store: Store) -> Outcome {
    let mut watch = Watch::open(&store, "", 1).await?;
    let mut told = Vec::new();
    for n in 1..=30 {
        // Each glance is a wait that is given up at once; now and then it finds something.
        for _ in 0..n % 3 {
            match watch.glance().await {
                None => {}
                Some(None) => return Err(Failure::new("the watch ended")),
                Some(Some(item)) => {
                    let batch = item?;
                    watch.check(&batch)?;
                    told.extend((!batch.events.is_empty()).then(|| super::support::tell(&batch)));
                }
            }
        }
        write(&store, &format!("+a={n}")).await?;
    }
    told.extend(watch.told(Revision::new(30)).await?);
    same("what the watch told", told, (1..=30).map(|n| format!("{n} +a={n}")).collect())
}

pub(super) async fn batches_rebuild_what_a_scan_shows(store: Store) -> Outcome {
    let mut watch = Watch::open(&store, "p", 1).await?;
    for n in 1..=60 {
        // A fixed jumble of puts, overwrites and deletes in a few keys.
        let (put, delete) = ((n * 7) % 11, (n * 5) % 11);
        let words = if put == delete { format!("+p/{put}={n}") } else { format!("+p/{put}={n} -p/{delete}") };
        write(&store, &words).await?;
    }
    let mut rebuilt = BTreeMap::new();
    for batch in watch.batches(Revision::new(60)).await? {
        for event in batch.events {
            match event {
                Event::Put(record) => rebuilt.insert(record.key, record.value),
                Event::Delete(key) => rebuilt.remove(&key),
            };
        }
        let words = rebuilt.iter().map(|(key, value)| format!("{key}={}", value.escape_ascii()));
        let words = words.collect::<Vec<_>>().join(" ");
        let at = batch.revision.as_u64();
        same(&format!("the state at {at}"), words, list(&store, "p", Some(at)).await?)?;
    }
    Ok(())
}
