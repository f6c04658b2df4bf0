//! Snapshots, and restoring them in place.

use hivemind_core::{ErrorKind, OpToken};

use super::support::*;
use super::{Fixture, Need};
use crate::{CreateSnapshot, SnapshotHandle, SnapshotKey, SnapshotRef};

cases! {
    snapshot_tells_its_source needs [SNAPSHOTS],
    snapshot_is_idempotent needs [SNAPSHOTS],
    snapshot_by_another_token_is_the_same_snapshot needs [SNAPSHOTS],
    snapshot_survives_a_restart needs [SNAPSHOTS, Need::Twin],
    snapshots_of_one_volume_are_apart needs [SNAPSHOTS],
    snapshots_of_two_volumes_do_not_share_names needs [SNAPSHOTS],
    snapshot_of_a_missing_volume_is_not_found needs [SNAPSHOTS],
    snapshot_under_anothers_key_is_not_found needs [SNAPSHOTS, Need::Keys],
    snapshot_named_after_another_volume_is_refused needs [SNAPSHOTS],
    snapshot_of_an_attached_volume_is_taken needs [SNAPSHOTS, ATTACH],
    status_of_a_missing_snapshot_is_not_found needs [SNAPSHOTS],
    a_snapshot_under_anothers_key_is_not_found needs [SNAPSHOTS, Need::Keys],
    delete_of_a_snapshot_under_anothers_key_leaves_it needs [SNAPSHOTS, Need::Keys],
    delete_of_a_snapshot_removes_it needs [SNAPSHOTS],
    delete_of_a_missing_snapshot_succeeds needs [SNAPSHOTS],
    delete_of_a_snapshot_leaves_the_volume_and_others needs [SNAPSHOTS],
    a_snapshot_outlives_later_writes needs [RESTORE, Need::Content],
    restore_gives_the_content_back needs [RESTORE, Need::Content],
    restore_is_idempotent needs [RESTORE],
    restore_of_a_missing_snapshot_is_not_found needs [RESTORE],
    restore_of_a_missing_volume_is_not_found needs [RESTORE],
    restore_of_anothers_snapshot_is_refused needs [RESTORE],
    restore_of_an_attached_volume_is_refused needs [RESTORE, ATTACH],
    restore_keeps_the_size needs [RESTORE, EXPAND],
    restore_leaves_the_snapshot needs [RESTORE],
}

async fn snapshot_tells_its_source(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let taken = f.snap(&volume, "s1").await?;
    check(taken.source == volume.handle, "it says that it is of another volume")?;
    check(taken.key.is_none_or(|key| key.volume == volume.key), "it has another key")?;
    check(taken.size <= f.status(&volume).await?.size, "it asks for more than the volume has")
}

async fn snapshot_is_idempotent(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let first = f.snap(&volume, "s1").await?;
    check(f.snap(&volume, "s1").await? == first, "the second one answered otherwise")?;
    let status = f.provider.get_snapshot_status(&first.reference(snapshot_key(&volume, "s1")?)).await?;
    check(status == first, "its status differs from what taking it said")?;
    check(f.provider.get_provider_metrics().await?.snapshots == 1, "there is not just one snapshot")
}

async fn snapshot_by_another_token_is_the_same_snapshot(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let first = f.snap(&volume, "s1").await?;
    let key = snapshot_key(&volume, "s1")?;
    let again = CreateSnapshot::new(OpToken::new("another-intent"), key, volume);
    check(f.snap_as(&again).await? == first, "another token made another snapshot of one key")
}

async fn snapshot_survives_a_restart(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let first = f.snap(&volume, "s1").await?;
    let mut after = f.clone();
    after.provider = f.twin.clone().ok_or_else(|| Why("there is no other instance".to_owned()))?;
    check(after.snap(&volume, "s1").await? == first, "another instance takes another snapshot")
}

async fn snapshots_of_one_volume_are_apart(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let (one, other) = (f.snapshot(&volume, "s1").await?, f.snapshot(&volume, "s2").await?);
    check(one.handle != other.handle, "two names are one snapshot")
}

async fn snapshots_of_two_volumes_do_not_share_names(f: Fixture) -> Outcome {
    let (one, other) = (f.volume("data").await?, f.volume("other").await?);
    let (first, second) = (f.snapshot(&one, "s1").await?, f.snapshot(&other, "s1").await?);
    check(first.handle != second.handle, "one name of two volumes is one snapshot")?;
    f.drop_snapshot(&second).await?;
    f.provider.get_snapshot_status(&first).await?;
    Ok(())
}

async fn snapshot_of_a_missing_volume_is_not_found(f: Fixture) -> Outcome {
    let of = nowhere()?;
    let request = CreateSnapshot::new(OpToken::new("snap"), snapshot_key(&of, "s1")?, of);
    refused(f.snap_as(&request).await, ErrorKind::NotFound)
}

async fn snapshot_under_anothers_key_is_not_found(f: Fixture) -> Outcome {
    let of = foreign(&f.volume("data").await?)?;
    let request = CreateSnapshot::new(OpToken::new("snap"), snapshot_key(&of, "s1")?, of);
    refused(f.snap_as(&request).await, ErrorKind::NotFound)
}

async fn snapshot_named_after_another_volume_is_refused(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let theirs = SnapshotKey::new(key("globex", 1, "data")?, "s1".parse()?);
    let request = CreateSnapshot::new(OpToken::new("snap"), theirs, volume);
    refused_as(f.snap_as(&request).await, &[ErrorKind::Invalid, ErrorKind::NotFound])?;
    check(f.provider.get_provider_metrics().await?.snapshots == 0, "another tenant has a snapshot of it")
}

async fn snapshot_of_an_attached_volume_is_taken(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    f.attach(&volume, &f.nodes[0]).await?;
    f.snap(&volume, "s1").await?;
    Ok(f.detach(&volume, &f.nodes[0]).await?)
}

async fn status_of_a_missing_snapshot_is_not_found(f: Fixture) -> Outcome {
    let missing = no_snapshot(&f.volume("data").await?)?;
    refused(f.provider.get_snapshot_status(&missing).await, ErrorKind::NotFound)
}

/// The same handle, under the key of another tenant's snapshot.
fn foreign_snapshot(taken: &SnapshotRef) -> Outcome<SnapshotRef> {
    let theirs = SnapshotKey::new(key("globex", 1, "data")?, "s1".parse()?);
    Ok(SnapshotRef::new(theirs, taken.handle.clone()))
}

async fn a_snapshot_under_anothers_key_is_not_found(f: Fixture) -> Outcome {
    let taken = f.snapshot(&f.volume("data").await?, "s1").await?;
    refused(f.provider.get_snapshot_status(&foreign_snapshot(&taken)?).await, ErrorKind::NotFound)
}

async fn delete_of_a_snapshot_under_anothers_key_leaves_it(f: Fixture) -> Outcome {
    let taken = f.snapshot(&f.volume("data").await?, "s1").await?;
    f.drop_snapshot(&foreign_snapshot(&taken)?).await?;
    f.provider.get_snapshot_status(&taken).await?;
    Ok(())
}

async fn delete_of_a_snapshot_removes_it(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let taken = f.snapshot(&volume, "s1").await?;
    f.drop_snapshot(&taken).await?;
    refused(f.provider.get_snapshot_status(&taken).await, ErrorKind::NotFound)?;
    Ok(f.drop_snapshot(&taken).await?)
}

async fn delete_of_a_missing_snapshot_succeeds(f: Fixture) -> Outcome {
    let mut missing = no_snapshot(&f.volume("data").await?)?;
    for text in ["no-such-snapshot", "..", "--help", "a b", "/"] {
        missing.handle = SnapshotHandle::new(text)?;
        f.drop_snapshot(&missing).await?;
    }
    Ok(())
}

async fn delete_of_a_snapshot_leaves_the_volume_and_others(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let (one, other) = (f.snapshot(&volume, "s1").await?, f.snapshot(&volume, "s2").await?);
    f.drop_snapshot(&one).await?;
    f.status(&volume).await?;
    f.provider.get_snapshot_status(&other).await?;
    Ok(())
}

async fn a_snapshot_outlives_later_writes(f: Fixture) -> Outcome {
    let (content, volume) = (f.reader()?, f.volume("data").await?);
    content.write(&volume, b"first").await?;
    let taken = f.snapshot(&volume, "s1").await?;
    content.write(&volume, b"second").await?;
    // A late repetition must not cut it anew.
    f.snap(&volume, "s1").await?;
    check(content.read(&volume).await? == b"second", "taking a snapshot changed the volume")?;
    f.restore(&taken, &volume).await?;
    check(content.read(&volume).await? == b"first", "the snapshot is not of when it was taken")
}

async fn restore_gives_the_content_back(f: Fixture) -> Outcome {
    let (content, volume) = (f.reader()?, f.volume("data").await?);
    content.write(&volume, b"first").await?;
    let taken = f.snapshot(&volume, "s1").await?;
    content.write(&volume, b"second").await?;
    f.snapshot(&volume, "s2").await?;
    f.restore(&taken, &volume).await?;
    check(content.read(&volume).await? == b"first", "it has not the content of the snapshot")?;
    content.write(&volume, b"third").await?;
    check(content.read(&volume).await? == b"third", "it cannot be written any more")?;
    let token = OpToken::new("restore-again");
    f.settle(|| f.provider.restore_snapshot(&token, &taken, &volume)).await?;
    check(content.read(&volume).await? == b"first", "writing to the restored volume changed the snapshot")
}

async fn restore_is_idempotent(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let before = f.status(&volume).await?;
    let taken = f.snapshot(&volume, "s1").await?;
    f.restore(&taken, &volume).await?;
    f.restore(&taken, &volume).await?;
    check(f.status(&volume).await? == before, "it is another volume now")
}

async fn restore_of_a_missing_snapshot_is_not_found(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    refused(f.restore(&no_snapshot(&volume)?, &volume).await, ErrorKind::NotFound)
}

async fn restore_of_a_missing_volume_is_not_found(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let taken = f.snapshot(&volume, "s1").await?;
    let mut missing = nowhere()?;
    missing.key = volume.key;
    refused(f.restore(&taken, &missing).await, ErrorKind::NotFound)
}

async fn restore_of_anothers_snapshot_is_refused(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let theirs = f.create(&key("globex", 1, "data")?).await?.volume;
    let taken: SnapshotRef = f.snapshot(&theirs, "s1").await?;
    refused_as(f.restore(&taken, &volume).await, &[ErrorKind::NotFound, ErrorKind::Invalid])
}

async fn restore_of_an_attached_volume_is_refused(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let taken = f.snapshot(&volume, "s1").await?;
    f.attach(&volume, &f.nodes[0]).await?;
    refused(f.restore(&taken, &volume).await, ErrorKind::Conflict)?;
    f.detach(&volume, &f.nodes[0]).await?;
    Ok(f.restore(&taken, &volume).await?)
}

async fn restore_keeps_the_size(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let taken = f.snapshot(&volume, "s1").await?;
    let larger = at_least(doubled(f.status(&volume).await?.size.max(f.size.required())))?;
    let grown = f.expand(&volume, larger).await?;
    f.restore(&taken, &volume).await?;
    let size = f.status(&volume).await?.size;
    check(size.as_bytes() == 0 || size == grown.size, "the volume has another size than before")
}

async fn restore_leaves_the_snapshot(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let taken = f.snap(&volume, "s1").await?;
    let of = taken.reference(snapshot_key(&volume, "s1")?);
    f.restore(&of, &volume).await?;
    check(f.provider.get_snapshot_status(&of).await? == taken, "the snapshot was used up, or changed")
}
