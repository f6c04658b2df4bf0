//! Snapshots of several volumes at one moment: all of them, or none.

use hivemind_core::{ErrorKind, OpToken, Result};

use super::support::*;
use super::{Fixture, Need};
use crate::{
    CreateGroupSnapshot, GroupHandle, GroupKey, GroupSnapshot, SnapshotKey, SnapshotRef, VolumeRef,
    VolumeSnapshot,
};

cases! {
    group_has_a_snapshot_of_each_volume needs [GROUPS],
    group_is_told_by_its_snapshots needs [GROUPS],
    group_is_idempotent needs [GROUPS],
    group_in_another_order_is_the_same_group needs [GROUPS],
    group_survives_a_restart needs [GROUPS, Need::Twin],
    group_of_other_volumes_is_refused needs [GROUPS],
    group_of_no_volumes_is_invalid needs [GROUPS],
    group_with_a_missing_volume_takes_nothing needs [GROUPS],
    group_across_tenants_takes_nothing needs [GROUPS],
    groups_of_two_tenants_do_not_share_names needs [GROUPS],
    group_cannot_lose_one_snapshot needs [GROUPS],
    group_is_deleted_as_a_whole needs [GROUPS],
    group_is_not_deleted_by_a_wrong_list needs [GROUPS],
    delete_of_a_missing_group_succeeds needs [GROUPS],
    group_snapshots_have_the_content needs [GROUPS, RESTORE, Need::Content],
}

fn group_key(tenant: &str) -> Outcome<GroupKey> {
    Ok(GroupKey::new(key(tenant, 1, "data")?.tenant, "g1".parse()?))
}

fn request(key: GroupKey, volumes: &[VolumeRef]) -> CreateGroupSnapshot {
    CreateGroupSnapshot::new(OpToken::new(format!("group-{key}")), key, volumes.to_vec())
}

async fn take(f: &Fixture, volumes: &[VolumeRef]) -> Outcome<GroupSnapshot> {
    Ok(take_as(f, &request(group_key("acme")?, volumes)).await?)
}

async fn take_as(f: &Fixture, request: &CreateGroupSnapshot) -> Result<GroupSnapshot> {
    f.settle(|| f.provider.create_group_snapshot(request)).await
}

/// The snapshots of a group, by the keys they have: of the volume, and named as the group.
fn members(group: &GroupSnapshot, volumes: &[VolumeRef]) -> Vec<SnapshotRef> {
    let of = |volume: &VolumeRef| {
        let taken = group.snapshots.iter().find(|snapshot| snapshot.source == volume.handle)?;
        Some(taken.reference(SnapshotKey::new(volume.key.clone(), group.key.group.clone())))
    };
    volumes.iter().filter_map(of).collect()
}

async fn drop_group(f: &Fixture, key: &GroupKey, handle: &GroupHandle, of: &[SnapshotRef]) -> Result<()> {
    let token = OpToken::new(format!("drop-group-{key}-{}", of.len()));
    f.settle(|| f.provider.delete_group_snapshot(&token, key, handle, of)).await
}

async fn two(f: &Fixture) -> Outcome<[VolumeRef; 2]> {
    Ok([f.volume("data").await?, f.volume("log").await?])
}

async fn snapshots(f: &Fixture) -> Result<u64> {
    Ok(f.provider.get_provider_metrics().await?.snapshots)
}

async fn group_has_a_snapshot_of_each_volume(f: Fixture) -> Outcome {
    let volumes = two(&f).await?;
    let group = take(&f, &volumes).await?;
    check(group.key == group_key("acme")?, "the group has another key")?;
    let members = members(&group, &volumes);
    check(group.snapshots.len() == 2 && members.len() == 2, "it is not one snapshot of each volume")?;
    for member in &members {
        f.provider.get_snapshot_status(member).await?;
    }
    check(snapshots(&f).await? == 2, "there are not just its snapshots")
}

async fn group_is_told_by_its_snapshots(f: Fixture) -> Outcome {
    let volumes = two(&f).await?;
    let group = take(&f, &volumes).await?;
    let its = |snapshot: &VolumeSnapshot| snapshot.group.as_ref() == Some(&group.handle);
    check(
        group.snapshots.iter().all(its),
        "the snapshots of a new group are said to be of another, or of none",
    )?;
    for member in members(&group, &volumes) {
        let found = f.provider.get_snapshot_status(&member).await?;
        check(its(&found), "a snapshot of a group is later said to be of another, or of none")?;
    }
    Ok(())
}

async fn group_is_idempotent(f: Fixture) -> Outcome {
    let volumes = two(&f).await?;
    let first = take(&f, &volumes).await?;
    check(take(&f, &volumes).await? == first, "the second one answered otherwise")?;
    check(snapshots(&f).await? == 2, "there are snapshots twice")
}

async fn group_in_another_order_is_the_same_group(f: Fixture) -> Outcome {
    let [one, other] = two(&f).await?;
    let first = take(&f, &[one.clone(), other.clone()]).await?;
    check(take(&f, &[other, one]).await?.handle == first.handle, "another order is another group")
}

async fn group_survives_a_restart(f: Fixture) -> Outcome {
    let volumes = two(&f).await?;
    let first = take(&f, &volumes).await?;
    let mut after = f.clone();
    after.provider = f.twin.clone().ok_or_else(|| Why("there is no other instance".to_owned()))?;
    check(take(&after, &volumes).await? == first, "another instance takes another group")
}

async fn group_of_other_volumes_is_refused(f: Fixture) -> Outcome {
    let volumes = two(&f).await?;
    let first = take(&f, &volumes).await?;
    let other = [volumes[0].clone(), f.volume("third").await?];
    for other in [&other[..], &other[..1]] {
        refused(take_as(&f, &request(group_key("acme")?, other)).await, ErrorKind::AlreadyExists)?;
    }
    check(snapshots(&f).await? == 2, "the refused group took a snapshot")?;
    check(take(&f, &volumes).await? == first, "the refused group changed the first one")
}

async fn group_of_no_volumes_is_invalid(f: Fixture) -> Outcome {
    refused(take_as(&f, &request(group_key("acme")?, &[])).await, ErrorKind::Invalid)
}

async fn group_with_a_missing_volume_takes_nothing(f: Fixture) -> Outcome {
    let there = f.volume("log").await?;
    let with_missing = request(group_key("acme")?, &[there.clone(), nowhere()?]);
    refused(take_as(&f, &with_missing).await, ErrorKind::NotFound)?;
    check(snapshots(&f).await? == 0, "a group that was not taken left a snapshot")?;
    // Its name is free.
    check(take(&f, &[there]).await?.snapshots.len() == 1, "its name cannot be used any more")
}

async fn group_across_tenants_takes_nothing(f: Fixture) -> Outcome {
    let ours = f.volume("data").await?;
    let theirs = f.create(&key("globex", 1, "data")?).await?.volume;
    let mixed = request(group_key("acme")?, &[ours, theirs]);
    refused_as(take_as(&f, &mixed).await, &[ErrorKind::NotFound, ErrorKind::Invalid])?;
    check(snapshots(&f).await? == 0, "a group that was not taken left a snapshot")
}

async fn groups_of_two_tenants_do_not_share_names(f: Fixture) -> Outcome {
    let ours = f.volume("data").await?;
    let theirs = f.create(&key("globex", 1, "data")?).await?.volume;
    let first = take(&f, &[ours]).await?;
    let second = take_as(&f, &request(group_key("globex")?, &[theirs])).await?;
    check(first.handle != second.handle, "two tenants got one group")
}

async fn group_cannot_lose_one_snapshot(f: Fixture) -> Outcome {
    let volumes = two(&f).await?;
    let group = take(&f, &volumes).await?;
    let members = members(&group, &volumes);
    let Some(member) = members.first() else { return Err(Why("it has no snapshot".to_owned())) };
    refused(f.drop_snapshot(member).await, ErrorKind::Invalid)?;
    f.provider.get_snapshot_status(member).await?;
    Ok(())
}

async fn group_is_deleted_as_a_whole(f: Fixture) -> Outcome {
    let volumes = two(&f).await?;
    let own = f.snapshot(&volumes[0], "own").await?;
    let group = take(&f, &volumes).await?;
    let members = members(&group, &volumes);
    for _ in 0..2 {
        drop_group(&f, &group.key, &group.handle, &members).await?;
    }
    for member in &members {
        refused(f.provider.get_snapshot_status(member).await, ErrorKind::NotFound)?;
    }
    f.provider.get_snapshot_status(&own).await?;
    check(f.count().await? == 2, "the volumes went with it")
}

async fn group_is_not_deleted_by_a_wrong_list(f: Fixture) -> Outcome {
    let volumes = two(&f).await?;
    let group = take(&f, &volumes).await?;
    let members = members(&group, &volumes);
    let Some((part, _)) = members.split_first() else { return Err(Why("it is empty".to_owned())) };
    let part = std::slice::from_ref(part);
    refused(drop_group(&f, &group.key, &group.handle, part).await, ErrorKind::Invalid)?;
    for member in &members {
        f.provider.get_snapshot_status(member).await?;
    }
    Ok(())
}

async fn delete_of_a_missing_group_succeeds(f: Fixture) -> Outcome {
    Ok(drop_group(&f, &group_key("acme")?, &GroupHandle::new("no-such-group")?, &[]).await?)
}

async fn group_snapshots_have_the_content(f: Fixture) -> Outcome {
    let (content, volumes) = (f.reader()?, two(&f).await?);
    content.write(&volumes[0], b"data").await?;
    content.write(&volumes[1], b"log").await?;
    let group = take(&f, &volumes).await?;
    for (volume, member) in volumes.iter().zip(members(&group, &volumes)) {
        let before = content.read(volume).await?;
        content.write(volume, b"later").await?;
        f.restore(&member, volume).await?;
        check(content.read(volume).await? == before, "a snapshot of the group has not what was there")?;
    }
    Ok(())
}
