//! Each guard holds and fails; a conflict tells the truth; a refused transaction leaves no trace.

use super::support::{Outcome, Store, conflicts, guarded, key, list, same, txn, write};
use crate::store::{Guard, Revision};

/// Commits a put of `new` under a guard on `name`.
async fn attempt(store: &Store, name: &str, guard: Guard) -> crate::Result<Revision> {
    let txn = guarded(name, guard, "+new=1").map_err(|e| crate::Error::internal("attempt", e.to_string()))?;
    store.commit(&txn).await
}

fn unchanged(at: u64) -> Guard {
    Guard::Unchanged(Revision::new(at))
}

pub(super) async fn absent_holds_for_a_missing_key(store: Store) -> Outcome {
    same("the reply", attempt(&store, "a", Guard::Absent).await?, Revision::new(1))?;
    // A guard is about the state before the transaction, also for a key that the transaction writes.
    let create = guarded("b", Guard::Absent, "+b=1")?;
    same("the reply", store.commit(&create).await?, Revision::new(2))?;
    conflicts(store.commit(&create).await, "b", Some(2))
}

pub(super) async fn absent_holds_for_a_deleted_key(store: Store) -> Outcome {
    write(&store, "+a=1").await?;
    write(&store, "-a").await?;
    same("the reply", attempt(&store, "a", Guard::Absent).await?, Revision::new(3))
}

pub(super) async fn absent_fails_for_an_existing_key(store: Store) -> Outcome {
    write(&store, "+a=1").await?;
    write(&store, "+a=2").await?;
    conflicts(attempt(&store, "a", Guard::Absent).await, "a", Some(2))
}

pub(super) async fn exists_holds_for_an_existing_key(store: Store) -> Outcome {
    write(&store, "+a=").await?;
    same("the reply", attempt(&store, "a", Guard::Exists).await?, Revision::new(2))
}

pub(super) async fn exists_fails_for_a_missing_key(store: Store) -> Outcome {
    write(&store, "+a/b=1 +aa=1").await?;
    conflicts(attempt(&store, "a", Guard::Exists).await, "a", None)
}

pub(super) async fn exists_fails_for_a_deleted_key(store: Store) -> Outcome {
    write(&store, "+a=1").await?;
    write(&store, "-a").await?;
    conflicts(attempt(&store, "a", Guard::Exists).await, "a", None)
}

pub(super) async fn unchanged_holds_until_the_next_put(store: Store) -> Outcome {
    write(&store, "+a=1").await?;
    write(&store, "+a=2").await?;
    write(&store, "+b=1").await?;
    same("the reply", attempt(&store, "a", unchanged(2)).await?, Revision::new(4))
}

pub(super) async fn unchanged_fails_after_a_put(store: Store) -> Outcome {
    write(&store, "+a=1").await?;
    // An equal value is a change.
    write(&store, "+a=1").await?;
    conflicts(attempt(&store, "a", unchanged(1)).await, "a", Some(2))?;
    conflicts(attempt(&store, "a", unchanged(9)).await, "a", Some(2))
}

pub(super) async fn unchanged_fails_after_a_delete(store: Store) -> Outcome {
    write(&store, "+a=1").await?;
    write(&store, "-a").await?;
    conflicts(attempt(&store, "a", unchanged(1)).await, "a", None)?;
    conflicts(attempt(&store, "a", unchanged(2)).await, "a", None)?;
    conflicts(attempt(&store, "a", unchanged(0)).await, "a", None)
}

pub(super) async fn unchanged_fails_for_a_recreated_key(store: Store) -> Outcome {
    write(&store, "+a=1").await?;
    write(&store, "-a").await?;
    write(&store, "+a=1").await?;
    conflicts(attempt(&store, "a", unchanged(1)).await, "a", Some(3))?;
    same("the reply", attempt(&store, "a", unchanged(3)).await?, Revision::new(4))
}

pub(super) async fn a_guard_protects_a_key_that_is_not_written(store: Store) -> Outcome {
    write(&store, "+a=1 +b=1").await?;
    write(&store, "+a=2").await?;
    conflicts(store.commit(&guarded("a", unchanged(1), "+b=2")?).await, "a", Some(2))?;
    same("the state", list(&store, "", None).await?, "a=2 b=1".to_owned())
}

pub(super) async fn a_conflict_names_the_first_key_in_key_order(store: Store) -> Outcome {
    write(&store, "+a=1 +c=1 +d=1").await?;
    write(&store, "+c=2").await?;
    let mut txn = txn("+new=1")?;
    // Staged out of order; `a` holds, `b`, `c` and `d` do not.
    txn.guard(&key("d")?, Guard::Absent)?;
    txn.guard(&key("c")?, unchanged(1))?;
    txn.guard(&key("a")?, unchanged(1))?;
    conflicts(store.commit(&txn).await, "c", Some(2))?;
    txn.guard(&key("b")?, Guard::Exists)?;
    conflicts(store.commit(&txn).await, "b", None)
}

pub(super) async fn a_refused_transaction_changes_nothing(store: Store) -> Outcome {
    write(&store, "+a=1 +b=1").await?;
    conflicts(store.commit(&guarded("z", Guard::Exists, "+a=2 -b +c=2")?).await, "z", None)?;
    same("the revision", store.revision().await?, Revision::new(1))?;
    same("the state", list(&store, "", None).await?, "a=1 b=1".to_owned())?;
    same("the next reply", write(&store, "+a=3").await?, Revision::new(2))
}
