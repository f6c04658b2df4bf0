//! Reads at old revisions.

use super::support::{Outcome, Store, key, list, read, refused, same, write};
use crate::ErrorKind;
use crate::store::{Prefix, Revision, ScanRequest};

/// Four transactions, and what there was after each; the first line is before any.
const HISTORY: [(&str, &str); 6] = [
    ("", ""),
    ("+a=1 +b=1", "a=1 b=1"),
    ("+a=2 +c=2", "a=2 b=1 c=2"),
    ("-a +b=3", "b=3 c=2"),
    ("-b -c", ""),
    ("+a=5", "a=5"),
];

pub(super) async fn gets_of_the_past_are_exact(store: Store) -> Outcome {
    for (words, _) in HISTORY.iter().skip(1) {
        write(&store, words).await?;
    }
    let expected =
        [None, Some("a=1@1,1"), Some("a=2@1,2"), None, None, Some("a=5@5,5")].map(|r| r.map(str::to_owned));
    for (at, expected) in (0..).zip(expected) {
        same(&format!("a at {at}"), read(&store, "a", Some(at)).await?, expected)?;
    }
    same("b at 2", read(&store, "b", Some(2)).await?, Some("b=1@1,1".to_owned()))?;
    same("b at 3", read(&store, "b", Some(3)).await?, Some("b=3@1,3".to_owned()))
}

pub(super) async fn scans_of_the_past_are_exact(store: Store) -> Outcome {
    for (words, _) in HISTORY.iter().skip(1) {
        write(&store, words).await?;
    }
    for (at, (_, expected)) in (0..).zip(HISTORY) {
        same(&format!("the state at {at}"), list(&store, "", Some(at)).await?, expected.to_owned())?;
        let page = store.scan(&ScanRequest::new(Prefix::ROOT).at(Revision::new(at))).await?;
        same("the revision of the page", page.revision, Revision::new(at))?;
    }
    Ok(())
}

pub(super) async fn before_the_first_transaction_there_is_nothing(store: Store) -> Outcome {
    same("an empty store at zero", list(&store, "", Some(0)).await?, String::new())?;
    write(&store, "+a=1").await?;
    same("the state at zero", list(&store, "", Some(0)).await?, String::new())?;
    same("a at zero", read(&store, "a", Some(0)).await?, None)
}

pub(super) async fn the_future_cannot_be_read(store: Store) -> Outcome {
    for newest in 0..2 {
        let future = Revision::new(newest + 1);
        refused("a get", store.get(&key("a")?, Some(future)).await, ErrorKind::Invalid)?;
        let request = ScanRequest::new(Prefix::ROOT).at(future);
        refused("a scan", store.scan(&request).await, ErrorKind::Invalid)?;
        write(&store, "+a=1").await?;
    }
    Ok(())
}
