//! Revisions, and what puts and deletes make of a record.

use super::support::{Outcome, Store, ensure, guarded, list, read, same, txn, write};
use crate::store::{Guard, Prefix, Revision, ScanRequest, Txn};

fn some(record: &str) -> Option<String> {
    Some(record.to_owned())
}

pub(super) async fn an_empty_store_holds_nothing(store: Store) -> Outcome {
    let page = store.scan(&ScanRequest::new(Prefix::ROOT)).await?;
    same("the revision of a scan", page.revision, Revision::ZERO)?;
    ensure(page.records.is_empty() && !page.more, "the store is not empty: each case needs one of its own")?;
    same("a key", read(&store, "a", None).await?, None)
}

pub(super) async fn the_first_commit_gets_the_next_revision(store: Store) -> Outcome {
    same("the reply", write(&store, "+a=1").await?, Revision::new(1))?;
    same("the revision", store.revision().await?, Revision::new(1))
}

pub(super) async fn revisions_grow_by_one(store: Store) -> Outcome {
    for n in 1..=20 {
        same("the reply", write(&store, &format!("+k{}={n}", n % 3)).await?, Revision::new(n))?;
        same("the revision", store.revision().await?, Revision::new(n))?;
    }
    Ok(())
}

pub(super) async fn what_was_put_is_read(store: Store) -> Outcome {
    write(&store, "+other=0").await?;
    write(&store, "+a/b=1").await?;
    same("the record", read(&store, "a/b", None).await?, some("a/b=1@2,2"))?;
    same("a key above it", read(&store, "a", None).await?, None)
}

pub(super) async fn a_put_again_keeps_the_create_revision(store: Store) -> Outcome {
    write(&store, "+a=1").await?;
    write(&store, "+b=1").await?;
    write(&store, "+a=2").await?;
    same("the record", read(&store, "a", None).await?, some("a=2@1,3"))
}

pub(super) async fn a_delete_removes_the_key(store: Store) -> Outcome {
    write(&store, "+a=1 +b=1").await?;
    same("the reply", write(&store, "-a").await?, Revision::new(2))?;
    same("the key", read(&store, "a", None).await?, None)?;
    same("the others", list(&store, "", None).await?, "b=1".to_owned())
}

pub(super) async fn a_recreated_key_is_a_new_one(store: Store) -> Outcome {
    write(&store, "+a=1").await?;
    write(&store, "-a").await?;
    write(&store, "+a=2").await?;
    same("the record", read(&store, "a", None).await?, some("a=2@3,3"))?;
    write(&store, "+a=3").await?;
    same("the record", read(&store, "a", None).await?, some("a=3@3,4"))
}

pub(super) async fn an_equal_value_is_a_change(store: Store) -> Outcome {
    write(&store, "+a=1").await?;
    same("the reply", write(&store, "+a=1").await?, Revision::new(2))?;
    same("the record", read(&store, "a", None).await?, some("a=1@1,2"))
}

pub(super) async fn an_empty_transaction_changes_nothing(store: Store) -> Outcome {
    same("the reply of an empty store", store.commit(&Txn::new()).await?, Revision::ZERO)?;
    write(&store, "+a=1").await?;
    same("the reply", store.commit(&Txn::new()).await?, Revision::new(1))?;
    same("the revision", store.revision().await?, Revision::new(1))
}

pub(super) async fn guards_alone_change_nothing(store: Store) -> Outcome {
    write(&store, "+a=1").await?;
    let reply = store.commit(&guarded("a", Guard::Exists, "")?).await?;
    same("the reply", reply, Revision::new(1))?;
    same("the revision", store.revision().await?, Revision::new(1))
}

pub(super) async fn deleting_a_missing_key_changes_nothing(store: Store) -> Outcome {
    same("the reply of an empty store", write(&store, "-a").await?, Revision::ZERO)?;
    write(&store, "+a=1").await?;
    write(&store, "-a").await?;
    same("the reply", write(&store, "-a -b -c/d").await?, Revision::new(2))?;
    same("the revision", store.revision().await?, Revision::new(2))?;
    same("the next reply", write(&store, "-a +b=1").await?, Revision::new(3))
}

pub(super) async fn several_writes_share_one_revision(store: Store) -> Outcome {
    write(&store, "+a=1 +b=1").await?;
    same("the reply", store.commit(&txn("-a +b=2 +c=2 +d/e=2")?).await?, Revision::new(2))?;
    same("the state", list(&store, "", None).await?, "b=2 c=2 d/e=2".to_owned())?;
    same("a changed record", read(&store, "b", None).await?, some("b=2@1,2"))?;
    same("a new record", read(&store, "d/e", None).await?, some("d/e=2@2,2"))
}
