//! What is not claimed is refused as unsupported, before anything happens.

use hivemind_core::{ErrorKind, OpToken};

use super::support::*;
use super::{Fixture, Need};
use crate::{
    AccessMode, Capability, CapacityQuery, CreateGroupSnapshot, CreateSnapshot, ExpandOnNode, FenceEpoch,
    GroupHandle, GroupKey, NodeCapability, StageVolume, Topology, VolumeMode, VolumeSource,
};

const fn without(capability: Capability) -> Need {
    Need::Without(capability)
}

cases! {
    without_attach_nothing_is_attached needs [without(Capability::Attach)],
    without_expand_nothing_grows needs [without(Capability::Expand)],
    without_snapshots_none_is_taken needs [without(Capability::Snapshots)],
    without_snapshots_no_volume_is_made_of_one needs [without(Capability::Snapshots)],
    without_restore_nothing_is_restored needs [SNAPSHOTS, without(Capability::RestoreInPlace)],
    without_groups_none_is_taken needs [SNAPSHOTS, without(Capability::GroupSnapshots)],
    without_clone_none_is_made needs [without(Capability::Clone)],
    without_growing_from_a_snapshot_it_is_refused needs [
        SNAPSHOTS, without(Capability::GrowFromSource),
    ],
    without_growing_from_a_volume_it_is_refused needs [CLONE, without(Capability::GrowFromSource)],
    without_modify_nothing_is_modified needs [without(Capability::Modify)],
    without_modify_nothing_modifiable_is_made needs [without(Capability::Modify)],
    without_lists_volumes_are_not_listed needs [without(Capability::ListVolumes)],
    without_lists_snapshots_are_not_listed needs [without(Capability::ListSnapshots)],
    without_capacity_none_is_told needs [without(Capability::Capacity)],
    without_fence_no_node_is_fenced needs [without(Capability::Fence)],
    without_encryption_nothing_encrypted_is_made needs [without(Capability::Encryption)],
    without_replicas_none_are_made needs [without(Capability::Replicas)],
    without_block_no_device_is_made needs [Need::WithoutBlock],
    without_file_systems_none_is_made needs [Need::WithoutFilesystem],
    without_read_write_once_none_is_made needs [
        Need::WithoutAccessMode(AccessMode::ReadWriteOnce),
    ],
    without_read_write_once_pod_none_is_made needs [
        Need::WithoutAccessMode(AccessMode::ReadWriteOncePod),
    ],
    without_read_only_once_none_is_made needs [Need::WithoutAccessMode(AccessMode::ReadOnlyOnce)],
    without_read_only_many_none_is_made needs [Need::WithoutAccessMode(AccessMode::ReadOnlyMany)],
    without_single_writer_many_none_is_made needs [
        Need::WithoutAccessMode(AccessMode::SingleWriterMany),
    ],
    without_read_write_many_none_is_made needs [Need::WithoutAccessMode(AccessMode::ReadWriteMany)],
    without_stage_nothing_is_staged needs [Need::WithoutNodeCapability(NodeCapability::Stage)],
    without_node_expand_nothing_grows needs [Need::WithoutNodeCapability(NodeCapability::Expand)],
    without_stats_none_are_told needs [Need::WithoutNodeCapability(NodeCapability::Stats)],
}

const UNSUPPORTED: &[ErrorKind] = &[ErrorKind::Unsupported];

async fn snapshots(f: &Fixture) -> Outcome<u64> {
    Ok(f.provider.get_provider_metrics().await?.snapshots)
}

async fn without_attach_nothing_is_attached(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    refused_as(f.attach(&volume, &f.nodes[0]).await, UNSUPPORTED)?;
    refused_as(f.detach(&volume, &f.nodes[0]).await, UNSUPPORTED)?;
    check(f.status(&volume).await?.attached_to.is_empty(), "it is on the node nevertheless")?;
    Ok(f.delete(&volume).await?)
}

async fn without_expand_nothing_grows(f: Fixture) -> Outcome {
    let made = f.create(&ours("data")?).await?;
    let larger = at_least(doubled(made.size.max(f.size.required())))?;
    refused_as(f.expand(&made.volume, larger).await, UNSUPPORTED)?;
    check(f.status(&made.volume).await?.size == made.size, "it grew nevertheless")
}

async fn without_snapshots_none_is_taken(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let key = snapshot_key(&volume, "s1")?;
    let request = CreateSnapshot::new(OpToken::new("snap"), key, volume.clone());
    refused_as(f.snap_as(&request).await, UNSUPPORTED)?;
    refused_as(f.drop_snapshot(&no_snapshot(&volume)?).await, UNSUPPORTED)?;
    refused_as(f.provider.get_snapshot_status(&no_snapshot(&volume)?).await, UNSUPPORTED)?;
    check(snapshots(&f).await? == 0, "it was taken nevertheless")
}

async fn without_snapshots_no_volume_is_made_of_one(f: Fixture) -> Outcome {
    let source = VolumeSource::Snapshot(no_snapshot(&f.volume("data").await?)?);
    f.refuses(&f.wish(&ours("copy")?).from_source(source), UNSUPPORTED).await
}

async fn without_restore_nothing_is_restored(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let taken = f.snapshot(&volume, "s1").await?;
    refused_as(f.restore(&taken, &volume).await, UNSUPPORTED)
}

async fn without_groups_none_is_taken(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let (token, key) = (OpToken::new("group"), GroupKey::new(volume.key.tenant.clone(), "g1".parse()?));
    let request = CreateGroupSnapshot::new(token.clone(), key.clone(), vec![volume]);
    refused_as(f.settle(|| f.provider.create_group_snapshot(&request)).await, UNSUPPORTED)?;
    let handle = GroupHandle::new("no-such-group")?;
    let gone = f.settle(|| f.provider.delete_group_snapshot(&token, &key, &handle, &[])).await;
    refused_as(gone, UNSUPPORTED)?;
    check(snapshots(&f).await? == 0, "it was taken nevertheless")
}

async fn without_clone_none_is_made(f: Fixture) -> Outcome {
    let source = f.volume("data").await?;
    let wish = f.wish(&ours("copy")?);
    refused_as(f.settle(|| f.provider.clone_volume(&source, &wish)).await, UNSUPPORTED)?;
    check(f.count().await? == 1, "it was made nevertheless")?;
    f.refuses(&wish.from_source(VolumeSource::Volume(source)), UNSUPPORTED).await
}

async fn without_growing_from_a_snapshot_it_is_refused(f: Fixture) -> Outcome {
    let made = f.create(&ours("data")?).await?;
    let source = VolumeSource::Snapshot(f.snapshot(&made.volume, "s1").await?);
    let mut wish = f.wish(&ours("copy")?).from_source(source);
    wish.size = at_least(doubled(made.size.max(f.size.required())))?;
    f.refuses(&wish, UNSUPPORTED).await
}

async fn without_growing_from_a_volume_it_is_refused(f: Fixture) -> Outcome {
    let made = f.create(&ours("data")?).await?;
    let mut wish = f.wish(&ours("copy")?).from_source(VolumeSource::Volume(made.volume));
    wish.size = at_least(doubled(made.size.max(f.size.required())))?;
    f.refuses(&wish, UNSUPPORTED).await
}

async fn without_modify_nothing_is_modified(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let (token, parameters) = (OpToken::new("modify"), [f.modification.clone()].into());
    refused_as(f.settle(|| f.provider.modify_volume(&token, &volume, &parameters)).await, UNSUPPORTED)
}

async fn without_modify_nothing_modifiable_is_made(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    wish.options.mutable_parameters.extend([f.modification.clone()]);
    f.refuses(&wish, UNSUPPORTED).await
}

async fn without_lists_volumes_are_not_listed(f: Fixture) -> Outcome {
    refused_as(f.provider.list_volumes(None, 10).await, UNSUPPORTED)
}

async fn without_lists_snapshots_are_not_listed(f: Fixture) -> Outcome {
    refused_as(f.provider.list_snapshots(None, 10).await, UNSUPPORTED)
}

async fn without_capacity_none_is_told(f: Fixture) -> Outcome {
    let query = CapacityQuery::new(f.options(), Topology::everywhere());
    refused_as(f.provider.get_capacity(&query).await, UNSUPPORTED)
}

async fn without_fence_no_node_is_fenced(f: Fixture) -> Outcome {
    let (volume, token, node) = (f.volume("data").await?, OpToken::new("fence"), &f.nodes[0]);
    let (epoch, volumes) = (FenceEpoch::from_u64(1), [volume.clone()]);
    refused_as(f.settle(|| f.provider.fence_node(&token, node, epoch, &volumes)).await, UNSUPPORTED)?;
    refused_as(f.settle(|| f.provider.unfence_node(&token, node)).await, UNSUPPORTED)?;
    if f.has(Capability::Attach) {
        f.attach(&volume, node).await?;
    }
    Ok(())
}

async fn without_encryption_nothing_encrypted_is_made(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    wish.options = wish.options.with_encryption(true);
    f.refuses(&wish, UNSUPPORTED).await
}

async fn without_replicas_none_are_made(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    wish.options = wish.options.with_replicas(std::num::NonZeroU8::MIN.saturating_add(1));
    f.refuses(&wish, UNSUPPORTED).await
}

async fn without_block_no_device_is_made(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    wish.options = wish.options.with_volume_mode(VolumeMode::Block);
    f.refuses(&wish, UNSUPPORTED).await
}

async fn without_file_systems_none_is_made(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    wish.options = wish.options.with_volume_mode(VolumeMode::filesystem());
    f.refuses(&wish, UNSUPPORTED).await
}

/// A volume of `mode` alone, and of `mode` beside one that there is, is refused.
async fn without_mode(f: Fixture, mode: AccessMode) -> Outcome {
    for modes in [vec![mode], vec![f.mode(), mode]] {
        let mut wish = f.wish(&ours("data")?);
        wish.options = wish.options.with_access_modes(modes);
        f.refuses(&wish, UNSUPPORTED).await?;
    }
    Ok(())
}

async fn without_read_write_once_none_is_made(f: Fixture) -> Outcome {
    without_mode(f, AccessMode::ReadWriteOnce).await
}

async fn without_read_write_once_pod_none_is_made(f: Fixture) -> Outcome {
    without_mode(f, AccessMode::ReadWriteOncePod).await
}

async fn without_read_only_once_none_is_made(f: Fixture) -> Outcome {
    without_mode(f, AccessMode::ReadOnlyOnce).await
}

async fn without_read_only_many_none_is_made(f: Fixture) -> Outcome {
    without_mode(f, AccessMode::ReadOnlyMany).await
}

async fn without_single_writer_many_none_is_made(f: Fixture) -> Outcome {
    without_mode(f, AccessMode::SingleWriterMany).await
}

async fn without_read_write_many_none_is_made(f: Fixture) -> Outcome {
    without_mode(f, AccessMode::ReadWriteMany).await
}

async fn without_stage_nothing_is_staged(f: Fixture) -> Outcome {
    let (node, volume) = (f.node_side()?, f.volume("data").await?);
    let staging = f.staging("staging")?;
    let stage = StageVolume::new(volume.clone(), None, &staging);
    refused_as(node.stage_volume(&stage).await, UNSUPPORTED)?;
    refused_as(node.unstage_volume(&volume, &staging).await, UNSUPPORTED)
}

async fn without_node_expand_nothing_grows(f: Fixture) -> Outcome {
    let (node, volume) = (f.node_side()?, f.volume("data").await?);
    let grow = ExpandOnNode::new(volume, f.directory.join("target"));
    refused_as(node.expand_on_node(&grow).await, UNSUPPORTED)
}

async fn without_stats_none_are_told(f: Fixture) -> Outcome {
    let (node, volume) = (f.node_side()?, f.volume("data").await?);
    refused_as(node.volume_stats(&volume, &f.directory.join("target")).await, UNSUPPORTED)
}
