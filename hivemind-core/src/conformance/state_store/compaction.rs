//! What a compaction forgets, and what it does not.

use super::support::{Outcome, Store, ensure, key, list, read, refused, same, write};
use crate::ErrorKind;
use crate::conformance::Failure;
use crate::store::{Compacted, Prefix, Revision, ScanRequest};

/// Five transactions: `a` is put four times, `b` comes and goes.
async fn fill(store: &Store) -> Outcome {
    for words in ["+a=1", "+a=2 +b=2", "+a=3", "-b", "+a=5"] {
        write(store, words).await?;
    }
    Ok(())
}

async fn compact(store: &Store, at: u64) -> Outcome {
    Ok(store.compact(Revision::new(at)).await?)
}

fn expired<T>(what: &str, call: crate::Result<T>, asked: u64, oldest: u64) -> Outcome {
    let error = refused(what, call, ErrorKind::Expired)?;
    let Some(detail) = error.detail::<Compacted>() else {
        return Err(Failure::new(format!("{what}: Expired without the detail Compacted")));
    };
    same(what, *detail, Compacted::new(Revision::new(asked), Revision::new(oldest)))
}

pub(super) async fn the_compacted_past_is_refused(store: Store) -> Outcome {
    fill(&store).await?;
    compact(&store, 3).await?;
    for at in 0..3 {
        expired("a get", store.get(&key("a")?, Some(Revision::new(at))).await, at, 3)?;
        expired("a get of nothing", store.get(&key("z")?, Some(Revision::new(at))).await, at, 3)?;
        let request = ScanRequest::new(Prefix::ROOT).at(Revision::new(at));
        expired("a scan", store.scan(&request).await, at, 3)?;
    }
    Ok(())
}

pub(super) async fn compaction_keeps_the_present(store: Store) -> Outcome {
    fill(&store).await?;
    compact(&store, 5).await?;
    same("the state", list(&store, "", None).await?, "a=5".to_owned())?;
    same("the record", read(&store, "a", None).await?, Some("a=5@1,5".to_owned()))?;
    // An old value that is still the newest one stays, however old.
    write(&store, "+b=6").await?;
    compact(&store, 6).await?;
    same("the old record", read(&store, "a", None).await?, Some("a=5@1,5".to_owned()))
}

pub(super) async fn the_revision_of_the_compaction_stays_readable(store: Store) -> Outcome {
    fill(&store).await?;
    compact(&store, 3).await?;
    for (at, expected) in [(3, "a=3 b=2"), (4, "a=3"), (5, "a=5")] {
        same(&format!("the state at {at}"), list(&store, "", Some(at)).await?, expected.to_owned())?;
    }
    same("b at 3", read(&store, "b", Some(3)).await?, Some("b=2@2,2".to_owned()))
}

pub(super) async fn what_was_deleted_stays_deleted(store: Store) -> Outcome {
    fill(&store).await?;
    compact(&store, 4).await?;
    same("b at 4", read(&store, "b", Some(4)).await?, None)?;
    same("b now", read(&store, "b", None).await?, None)?;
    same("the state", list(&store, "", None).await?, "a=5".to_owned())?;
    write(&store, "+b=6").await?;
    same("b anew", read(&store, "b", None).await?, Some("b=6@6,6".to_owned()))?;
    same("b before", read(&store, "b", Some(5)).await?, None)
}

pub(super) async fn compacting_backwards_changes_nothing(store: Store) -> Outcome {
    fill(&store).await?;
    compact(&store, 4).await?;
    compact(&store, 4).await?;
    compact(&store, 2).await?;
    compact(&store, 0).await?;
    expired("a get", store.get(&key("a")?, Some(Revision::new(3))).await, 3, 4)?;
    same("the state at 4", list(&store, "", Some(4)).await?, "a=3".to_owned())
}

pub(super) async fn compacting_the_future_is_refused(store: Store) -> Outcome {
    fill(&store).await?;
    let call = store.compact(Revision::new(6)).await;
    refused("a compaction", call, ErrorKind::Invalid)?;
    same("the state at 1", list(&store, "", Some(1)).await?, "a=1".to_owned())
}

pub(super) async fn compaction_gets_no_revision(store: Store) -> Outcome {
    compact(&store, 0).await?;
    fill(&store).await?;
    compact(&store, 5).await?;
    same("the revision", store.revision().await?, Revision::new(5))?;
    same("the next reply", write(&store, "+a=6").await?, Revision::new(6))
}

pub(super) async fn pages_of_a_compacted_revision_are_refused(store: Store) -> Outcome {
    write(&store, "+a=1 +b=1 +c=1").await?;
    let first = store.scan(&ScanRequest::new(Prefix::ROOT).limit(1)).await?;
    ensure(first.more, "a page of one of three says there is no more")?;
    write(&store, "+b=2").await?;
    compact(&store, 2).await?;
    let rest = ScanRequest::new(Prefix::ROOT).at(first.revision).after(key("a")?);
    expired("the second page", store.scan(&rest).await, 1, 2)
}
