//! Watches and compactions, and what is no event.

use super::support::{Outcome, Store, Watch, conflicts, ensure, guarded, prefix, refused, same, tell, write};
use crate::ErrorKind;
use crate::conformance::Failure;
use crate::store::{Guard, Revision};

/// A watch may have taken in what it has not told yet, so it either tells everything, or ends with `Expired`.
pub(super) async fn a_watch_across_a_compaction_has_no_gap(store: Store) -> Outcome {
    const LAST: u64 = 20;
    let mut watch = Watch::open(&store, "", 1).await?;
    for n in 1..=LAST {
        write(&store, &format!("+a={n}")).await?;
    }
    store.compact(Revision::new(LAST)).await?;
    let mut told = 0;
    while told < LAST {
        match watch.next().await {
            None => return Err(Failure::new("the watch ended without saying why")),
            Some(Err(error)) => {
                same("the end of the watch", error.kind(), ErrorKind::Expired)?;
                let after = watch.next().await;
                return ensure(after.is_none(), "the watch went on after Expired");
            }
            Some(Ok(batch)) => {
                watch.check(&batch)?;
                if batch.events.is_empty() {
                    ensure(batch.revision.as_u64() <= told, "a bookmark passes over what was not told")?;
                } else {
                    told += 1;
                    same("the batch", tell(&batch), format!("{told} +a={told}"))?;
                }
            }
        }
    }
    Ok(())
}

/// At once, or as the first thing that the watch says.
pub(super) async fn a_watch_of_the_compacted_past_is_refused(store: Store) -> Outcome {
    for n in 1..=5 {
        write(&store, &format!("+a={n}")).await?;
    }
    store.compact(Revision::new(4)).await?;
    for from in [1, 3] {
        match store.watch(&prefix("")?, Revision::new(from)).await {
            Err(error) => same("the refusal", error.kind(), ErrorKind::Expired)?,
            Ok(_) => {
                let mut watch = Watch::open(&store, "", from).await?;
                let Some(item) = watch.next().await else {
                    return Err(Failure::new("the watch ended without saying why"));
                };
                refused("the first item", item, ErrorKind::Expired)?;
                ensure(watch.next().await.is_none(), "the watch went on after Expired")?;
            }
        }
    }
    Ok(())
}

pub(super) async fn a_watch_after_a_compaction_goes_on(store: Store) -> Outcome {
    for n in 1..=5 {
        write(&store, &format!("+a={n}")).await?;
    }
    let mut before = Watch::open(&store, "", 6).await?;
    store.compact(Revision::new(4)).await?;
    let mut after = Watch::open(&store, "", 5).await?;
    let end = write(&store, "+a=6").await?;
    same("the watch from 6", before.told(end).await?, vec!["6 +a=6".to_owned()])?;
    same("the watch from 5", after.told(end).await?, vec!["5 +a=5".to_owned(), "6 +a=6".to_owned()])
}

pub(super) async fn a_refused_transaction_is_no_event(store: Store) -> Outcome {
    let mut watch = Watch::open(&store, "", 1).await?;
    write(&store, "+a=1").await?;
    conflicts(store.commit(&guarded("a", Guard::Absent, "+b=1")?).await, "a", Some(1))?;
    write(&store, "-missing").await?;
    let end = write(&store, "+c=2").await?;
    same("what the watch told", watch.told(end).await?, vec!["1 +a=1".to_owned(), "2 +c=2".to_owned()])
}
