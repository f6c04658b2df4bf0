//! A transaction beyond the limits is refused before anything happens; one at the limits is not.
//!
//! A limit that no test can reach is passed over: an adapter may have none.

use super::support::{Outcome, Store, key, list, refused, same, write};
use crate::conformance::Failure;
use crate::store::{Guard, OverLimit, Revision, Txn};
use crate::{Effect, ErrorKind};

/// More operations, and more bytes, than this are not tried.
const MOST_OPS: usize = 20_000;
const MOST_BYTES: usize = 32 << 20;

/// Commits `txn`, which must be refused without a trace.
async fn over(store: &Store, txn: &Txn) -> Outcome {
    write(store, "+present=1").await?;
    let error = refused("the commit", store.commit(txn).await, ErrorKind::Invalid)?;
    same("the effect", error.effect(), Effect::NotStarted)?;
    if error.detail::<OverLimit>().is_none() {
        return Err(Failure::new(format!("refused without the detail OverLimit: {error}")));
    }
    same("the revision", store.revision().await?, Revision::new(1))?;
    same("the state", list(store, "", None).await?, "present=1".to_owned())
}

fn puts(count: usize) -> Result<Txn, Failure> {
    let mut txn = Txn::new();
    for n in 0..count {
        txn.put(key(&format!("k{n}"))?, "");
    }
    Ok(txn)
}

fn absences(txn: &mut Txn, count: usize) -> Outcome {
    for n in 0..count {
        txn.guard(&key(&format!("g{n}"))?, Guard::Absent)?;
    }
    Ok(())
}

pub(super) async fn too_many_writes_are_refused(store: Store) -> Outcome {
    let most = store.limits().max_ops;
    if most >= MOST_OPS { Ok(()) } else { over(&store, &puts(most + 1)?).await }
}

pub(super) async fn too_many_guards_are_refused(store: Store) -> Outcome {
    let most = store.limits().max_ops;
    if most >= MOST_OPS {
        return Ok(());
    }
    let mut txn = puts(1)?;
    absences(&mut txn, most + 1)?;
    over(&store, &txn).await
}

pub(super) async fn too_large_a_value_is_refused(store: Store) -> Outcome {
    let most = store.limits().max_value_bytes;
    if most >= MOST_BYTES {
        return Ok(());
    }
    let mut txn = puts(1)?;
    txn.put(key("large")?, vec![b'x'; most + 1]);
    over(&store, &txn).await
}

/// Values of at most the allowed size each that make up `total` bytes together with their keys, if that can be.
fn filled(store: &Store, total: usize) -> Result<Option<Txn>, Failure> {
    let limits = store.limits();
    let (mut txn, mut left, mut count) = (Txn::new(), total, 0);
    while left > 0 {
        let name = key(&format!("k{count:06}"))?;
        let Some(room) = left.checked_sub(name.as_bytes().len()) else { return Ok(None) };
        // Leaves room for one more key, or takes everything.
        let size = match room.min(limits.max_value_bytes) {
            size if size == room => size,
            size => size.min(room.saturating_sub(2 * name.as_bytes().len())),
        };
        left = room - size;
        txn.put(name, vec![b'x'; size]);
        count += 1;
        if count > limits.max_ops {
            return Ok(None);
        }
    }
    Ok(Some(txn))
}

pub(super) async fn too_large_a_transaction_is_refused(store: Store) -> Outcome {
    let most = store.limits().max_txn_bytes;
    if most >= MOST_BYTES {
        return Ok(());
    }
    match filled(&store, most + 1)? {
        Some(txn) => over(&store, &txn).await,
        None => Ok(()),
    }
}

pub(super) async fn the_most_operations_are_accepted(store: Store) -> Outcome {
    let limits = store.limits();
    // Short keys, so that the bytes are no obstacle; twelve of each pair is generous.
    let most = limits.max_ops.min(MOST_OPS).min(limits.max_txn_bytes / 12);
    let mut txn = puts(most)?;
    absences(&mut txn, most)?;
    same("the reply", store.commit(&txn).await?, Revision::new(1))?;
    let found = list(&store, "", None).await?;
    same("how many there are", found.split_whitespace().count(), most)
}

pub(super) async fn the_largest_value_is_accepted(store: Store) -> Outcome {
    let limits = store.limits();
    let name = key("large")?;
    let room = limits.max_txn_bytes.saturating_sub(name.as_bytes().len());
    let value = vec![b'x'; limits.max_value_bytes.min(room).min(MOST_BYTES)];
    let mut txn = Txn::new();
    txn.put(name.clone(), value.clone());
    store.commit(&txn).await?;
    let found = store.get(&name, None).await?;
    same("the value", found.is_some_and(|record| record.value == value), true)
}

pub(super) async fn the_largest_transaction_is_accepted(store: Store) -> Outcome {
    let most = store.limits().max_txn_bytes.min(MOST_BYTES);
    let Some(txn) = filled(&store, most)? else { return Ok(()) };
    same("the reply", store.commit(&txn).await?, Revision::new(1))
}
