//! Many at once: rivals, readers beside writers, futures dropped half-way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use super::support::{
    Outcome, Store, ensure, give_way, guarded, key, list, prefix, read, same, show, together, txn, write,
};
use crate::store::{Conflict, Guard, Revision, ScanRequest};
use crate::{BoxFuture, ErrorKind, StateStoreExt as _};

pub(super) async fn of_rival_creators_one_wins(store: Store) -> Outcome {
    let (store, won) = (&store, &AtomicU64::new(0));
    let rival = |n: u64| -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            for _ in 0..n % 3 {
                give_way().await;
            }
            match store.commit(&guarded("a", Guard::Absent, &format!("+a={n}"))?).await {
                Ok(revision) => {
                    won.fetch_add(1, Ordering::Relaxed);
                    same("the revision of the winner", revision, Revision::new(1))
                }
                Err(error) => {
                    same("the refusal", error.kind(), ErrorKind::Conflict)?;
                    let found = error.detail::<Conflict>().and_then(|conflict| conflict.found);
                    same("the revision found", found, Some(Revision::new(1)))
                }
            }
        })
    };
    together((0..16).map(rival).collect()).await?;
    same("how many won", won.load(Ordering::Relaxed), 1)?;
    same("the revision", store.revision().await?, Revision::new(1))
}

pub(super) async fn no_increment_is_lost(store: Store) -> Outcome {
    const WRITERS: usize = 8;
    const TIMES: usize = 10;
    let store = &store;
    let writer = |_| -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            let mut done = 0;
            while done < TIMES {
                let old = store.get(&key("counter")?, None).await?;
                give_way().await;
                let guard = old.as_ref().map_or(Guard::Absent, |old| Guard::Unchanged(old.mod_revision));
                let mut add = guarded("counter", guard, "")?;
                // The value is as long as the count.
                let count = old.map_or(0, |old| old.value.len()) + 1;
                add.put(key("counter")?, vec![b'|'; count]);
                match store.commit(&add).await {
                    Ok(_) => done += 1,
                    Err(error) => same("the refusal", error.kind(), ErrorKind::Conflict)?,
                }
            }
            Ok(())
        })
    };
    together((0..WRITERS).map(writer).collect()).await?;
    let count = store.get(&key("counter")?, None).await?.map(|record| record.value.len());
    same("the count", count, Some(WRITERS * TIMES))?;
    let revision = store.revision().await?.as_u64();
    same("the revision", usize::try_from(revision).ok(), Some(WRITERS * TIMES))
}

/// Each transaction gives three keys the same value and exchanges a fourth, so that any mixture is seen.
pub(super) async fn readers_never_see_half_a_transaction(store: Store) -> Outcome {
    const LAST: u64 = 60;
    write(&store, "+p/a=0 +p/m=0 +p/x0=0 +p/z=0").await?;
    let store = &store;
    let writer: BoxFuture<'_, Outcome> = Box::pin(async move {
        for n in 1..=LAST {
            let (old, new) = ((n - 1) % 2, n % 2);
            write(store, &format!("+p/a={n} +p/m={n} -p/x{old} +p/x{new}={n} +p/z={n}")).await?;
            give_way().await;
        }
        Ok(())
    });
    let reader = |n: u64| -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            for _ in 0..100 {
                let (revision, records) = store.scan_all(&prefix("p")?, None).await?;
                let shown: Vec<_> = records.iter().map(show).collect();
                let first = records.first().map(|record| record.value.clone());
                let whole = records.iter().all(|record| Some(&record.value) == first.as_ref());
                ensure(whole && records.len() == 4, &format!("a scan shows half a transaction: {shown:?}"))?;
                let expected = revision.as_u64().saturating_sub(1).to_string();
                same("the value at the revision", first, Some(expected.into()))?;
                for _ in 0..n {
                    give_way().await;
                }
            }
            Ok(())
        })
    };
    together(vec![reader(0), reader(1), writer, reader(2)]).await
}

/// Polls `future` at most `times` and drops it.
async fn drop_after<T>(times: usize, mut future: BoxFuture<'_, T>) {
    for _ in 0..times {
        let done =
            std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await;
        if done {
            return;
        }
        give_way().await;
    }
}

pub(super) async fn a_dropped_commit_is_whole_or_nothing(store: Store) -> Outcome {
    for times in 0..4 {
        let words = format!("+k{times}/a=1 +k{times}/b=1 +k{times}/c=1");
        drop_after(times, Box::pin(store.commit(&txn(&words)?))).await;
        let below = format!("k{times}");
        let found = list(&store, &below, None).await?;
        let count = found.split_whitespace().count();
        ensure(matches!(count, 0 | 3), &format!("half a transaction: {found}"))?;
    }
    // The store goes on as if nothing had been.
    write(&store, "+after=1").await?;
    ensure(read(&store, "after", None).await?.is_some(), "a later commit is not there")
}

pub(super) async fn dropped_reads_change_nothing(store: Store) -> Outcome {
    write(&store, "+a=1 +b=1").await?;
    let (name, everything) = (key("a")?, ScanRequest::new(prefix("")?));
    for times in 0..3 {
        drop_after(times, Box::pin(store.revision())).await;
        drop_after(times, Box::pin(store.get(&name, None))).await;
        drop_after(times, Box::pin(store.scan(&everything))).await;
        drop_after(times, Box::pin(store.watch(&everything.prefix, Revision::new(1)))).await;
    }
    same("the revision", store.revision().await?, Revision::new(1))?;
    same("the state", list(&store, "", None).await?, "a=1 b=1".to_owned())
}
