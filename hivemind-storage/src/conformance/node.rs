//! The node side: bringing volumes to workloads, in the right order, as often as one likes.

use hivemind_core::ErrorKind;

use super::support::*;
use super::{Fixture, Need};
use crate::{
    AccessMode, ExpandOnNode, NodeCapability, PublishVolume, StageVolume, VolumeCondition, VolumeMode,
};

const GROWS: Need = Need::NodeCapability(NodeCapability::Expand);
const CONDITION: Need = Need::NodeCapability(NodeCapability::Condition);
const ONE_WORKLOAD: Need = Need::AccessMode(AccessMode::ReadWriteOncePod);

cases! {
    the_node_says_what_it_is needs [Need::Node],
    stage_is_idempotent needs [Need::Node, STAGE],
    stage_of_a_missing_volume_is_not_found needs [Need::Node, STAGE],
    stage_of_what_is_on_no_node_is_refused needs [Need::Node, STAGE, ATTACH],
    unstage_is_idempotent needs [Need::Node, STAGE],
    unstage_of_what_is_not_there_succeeds needs [Need::Node, STAGE],
    unstage_of_what_is_published_is_refused needs [Need::Node, STAGE],
    publish_is_idempotent needs [Need::Node],
    publish_for_reading_is_idempotent needs [Need::Node],
    publish_of_block_volumes_works needs [Need::Node, Need::Block],
    publish_of_a_missing_volume_is_not_found needs [Need::Node],
    publish_of_what_is_not_staged_is_refused needs [Need::Node, STAGE],
    publish_without_a_staging_path_is_refused needs [Need::Node, STAGE],
    publish_of_what_was_unstaged_is_refused needs [Need::Node, STAGE],
    unpublish_is_idempotent needs [Need::Node],
    unpublish_of_what_is_not_there_succeeds needs [Need::Node],
    a_volume_goes_and_comes_again needs [Need::Node],
    a_volume_for_one_workload_is_refused_at_a_second_target needs [Need::Node, ONE_WORKLOAD],
    a_volume_for_one_node_goes_to_two_workloads needs [Need::Node, ONE_NODE],
    stats_tell_how_full_it_is needs [Need::Node, STATS],
    stats_of_another_path_are_not_found needs [Need::Node, STATS],
    stats_of_a_missing_volume_are_not_found needs [Need::Node, STATS],
    stats_of_an_unpublished_volume_are_not_found needs [Need::Node, STATS],
    stats_tell_the_condition needs [Need::Node, STATS, CONDITION],
    expand_on_the_node_repeats needs [Need::Node, GROWS],
    expand_on_the_node_follows_the_volume needs [Need::Node, GROWS, EXPAND],
    expand_on_the_node_at_another_path_is_not_found needs [Need::Node, GROWS],
    expand_on_the_node_of_a_missing_volume_is_not_found needs [Need::Node, GROWS],
}

async fn the_node_says_what_it_is(f: Fixture) -> Outcome {
    let node = f.node_side()?;
    let info = node.node_info().await?;
    check(info.node == f.nodes[0], "it says that it is another node")?;
    check(node.node_info().await? == info, "it says something else the second time")?;
    check(node.node_capabilities() == node.node_capabilities(), "its capabilities change")
}

async fn stage_is_idempotent(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let stage = here.stage().ok_or_else(|| Why("there is no staging".to_owned()))?;
    node.stage_volume(&stage).await?;
    node.stage_volume(&stage).await?;
    node.publish_volume(&here.publish("target")).await?;
    // Also with workloads that have it.
    Ok(node.stage_volume(&stage).await?)
}

async fn stage_of_a_missing_volume_is_not_found(f: Fixture) -> Outcome {
    let stage = StageVolume::new(nowhere()?, None, f.staging("staging")?);
    refused(f.node_side()?.stage_volume(&stage).await, ErrorKind::NotFound)
}

async fn stage_of_what_is_on_no_node_is_refused(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let stage = here.stage().ok_or_else(|| Why("there is no staging".to_owned()))?;
    node.unstage_volume(&here.volume, &stage.staging_path).await?;
    f.detach(&here.volume, &f.nodes[0]).await?;
    // A host that slept comes with an attachment of yesterday.
    refused_as(node.stage_volume(&stage).await, &[ErrorKind::Conflict, ErrorKind::NotFound])
}

async fn unstage_is_idempotent(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let stage = here.stage().ok_or_else(|| Why("there is no staging".to_owned()))?;
    node.unstage_volume(&here.volume, &stage.staging_path).await?;
    node.unstage_volume(&here.volume, &stage.staging_path).await?;
    node.stage_volume(&stage).await?;
    Ok(node.unstage_volume(&here.volume, &stage.staging_path).await?)
}

async fn unstage_of_what_is_not_there_succeeds(f: Fixture) -> Outcome {
    let node = f.node_side()?;
    node.unstage_volume(&nowhere()?, &f.directory.join("nothing")).await?;
    let here = f.here("data").await?;
    node.unstage_volume(&here.volume, &f.directory.join("nothing")).await?;
    Ok(node.publish_volume(&here.publish("target")).await?)
}

async fn unstage_of_what_is_published_is_refused(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let stage = here.stage().ok_or_else(|| Why("there is no staging".to_owned()))?;
    node.publish_volume(&here.publish("target")).await?;
    refused(node.unstage_volume(&here.volume, &stage.staging_path).await, ErrorKind::Conflict)?;
    node.unpublish_volume(&here.volume, &f.directory.join("target")).await?;
    Ok(node.unstage_volume(&here.volume, &stage.staging_path).await?)
}

async fn publish_is_idempotent(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let publish = here.publish("target");
    node.publish_volume(&publish).await?;
    node.publish_volume(&publish).await?;
    node.unpublish_volume(&here.volume, &publish.target_path).await?;
    // Published twice and unpublished once, it is not there.
    f.leave(&here).await?;
    Ok(f.delete(&here.volume).await?)
}

async fn publish_for_reading_is_idempotent(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let publish = here.publish("target").with_read_only(true);
    node.publish_volume(&publish).await?;
    node.publish_volume(&publish).await?;
    Ok(node.unpublish_volume(&here.volume, &publish.target_path).await?)
}

async fn publish_of_block_volumes_works(f: Fixture) -> Outcome {
    let node = f.node_side()?;
    let mut wish = f.wish(&ours("data")?);
    wish.options = wish.options.with_volume_mode(VolumeMode::Block);
    let volume = f.make(&wish).await?.volume;
    let here = f.bring_here_as(&volume, f.mode(), VolumeMode::Block).await?;
    let publish = here.publish("device");
    node.publish_volume(&publish).await?;
    node.publish_volume(&publish).await?;
    if f.on_disk() {
        check(!publish.target_path.is_dir(), "a block volume is a directory")?;
    }
    Ok(node.unpublish_volume(&volume, &publish.target_path).await?)
}

async fn publish_of_a_missing_volume_is_not_found(f: Fixture) -> Outcome {
    let publish = PublishVolume::new(nowhere()?, None, f.directory.join("target"));
    let publish = publish.staged_at(f.staging("staging")?);
    refused(f.node_side()?.publish_volume(&publish).await, ErrorKind::NotFound)?;
    check(!publish.target_path.exists(), "it left its target behind")
}

async fn publish_of_what_is_not_staged_is_refused(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let elsewhere = here.publish("target").staged_at(f.staging("elsewhere")?);
    refused(node.publish_volume(&elsewhere).await, ErrorKind::Conflict)
}

async fn publish_without_a_staging_path_is_refused(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let mut publish = here.publish("target");
    publish.staging_path = None;
    refused(node.publish_volume(&publish).await, ErrorKind::Conflict)
}

async fn publish_of_what_was_unstaged_is_refused(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let stage = here.stage().ok_or_else(|| Why("there is no staging".to_owned()))?;
    node.unstage_volume(&here.volume, &stage.staging_path).await?;
    refused(node.publish_volume(&here.publish("target")).await, ErrorKind::Conflict)
}

async fn unpublish_is_idempotent(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let publish = here.publish("target");
    node.publish_volume(&publish).await?;
    node.unpublish_volume(&here.volume, &publish.target_path).await?;
    Ok(node.unpublish_volume(&here.volume, &publish.target_path).await?)
}

async fn unpublish_of_what_is_not_there_succeeds(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    node.unpublish_volume(&here.volume, &f.directory.join("nothing")).await?;
    Ok(node.unpublish_volume(&nowhere()?, &f.directory.join("nothing")).await?)
}

async fn a_volume_goes_and_comes_again(f: Fixture) -> Outcome {
    let node = f.node_side()?;
    let volume = f.volume("data").await?;
    for _ in 0..2 {
        let here = f.bring_here(&volume).await?;
        let publish = here.publish("target");
        node.publish_volume(&publish).await?;
        node.unpublish_volume(&volume, &publish.target_path).await?;
        f.leave(&here).await?;
    }
    Ok(f.delete(&volume).await?)
}

async fn a_volume_for_one_workload_is_refused_at_a_second_target(f: Fixture) -> Outcome {
    let node = f.node_side()?;
    let mode = AccessMode::ReadWriteOncePod;
    let volume = f.volume_for("data", mode).await?;
    let here = f.bring_here_as(&volume, mode, f.volume_mode()).await?;
    node.publish_volume(&here.publish("target")).await?;
    refused(node.publish_volume(&here.publish("second")).await, ErrorKind::Conflict)?;
    check(!f.directory.join("second").exists(), "it left the second target behind")?;
    node.unpublish_volume(&volume, &f.directory.join("target")).await?;
    // Once the one workload has left, another may have it.
    Ok(node.publish_volume(&here.publish("second")).await?)
}

async fn a_volume_for_one_node_goes_to_two_workloads(f: Fixture) -> Outcome {
    let node = f.node_side()?;
    let volume = f.volume_for("data", AccessMode::ReadWriteOnce).await?;
    let here = f.bring_here_as(&volume, AccessMode::ReadWriteOnce, f.volume_mode()).await?;
    node.publish_volume(&here.publish("target")).await?;
    node.publish_volume(&here.publish("second")).await?;
    node.unpublish_volume(&volume, &f.directory.join("target")).await?;
    // The second one is still there.
    Ok(node.publish_volume(&here.publish("second")).await?)
}

async fn stats_tell_how_full_it_is(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let publish = here.publish("target");
    node.publish_volume(&publish).await?;
    let bytes = node.volume_stats(&here.volume, &publish.target_path).await?.bytes;
    check(bytes.total > 0, "it has no bytes at all")?;
    check(bytes.used <= bytes.total && bytes.available <= bytes.total, "a part is more than the whole")
}

async fn stats_of_another_path_are_not_found(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    node.publish_volume(&here.publish("target")).await?;
    refused(node.volume_stats(&here.volume, &f.directory.join("other")).await, ErrorKind::NotFound)
}

async fn stats_of_a_missing_volume_are_not_found(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    node.publish_volume(&here.publish("target")).await?;
    refused(node.volume_stats(&nowhere()?, &f.directory.join("target")).await, ErrorKind::NotFound)
}

async fn stats_of_an_unpublished_volume_are_not_found(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let publish = here.publish("target");
    node.publish_volume(&publish).await?;
    node.unpublish_volume(&here.volume, &publish.target_path).await?;
    refused(node.volume_stats(&here.volume, &publish.target_path).await, ErrorKind::NotFound)
}

async fn stats_tell_the_condition(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let publish = here.publish("target");
    node.publish_volume(&publish).await?;
    let condition = node.volume_stats(&here.volume, &publish.target_path).await?.condition;
    check(condition == VolumeCondition::Normal, "a new volume's condition is not told, or not normal")
}

async fn expand_on_the_node_repeats(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let publish = here.publish("target");
    node.publish_volume(&publish).await?;
    let grow = ExpandOnNode::new(here.volume.clone(), publish.target_path).with_volume_mode(f.volume_mode());
    let first = node.expand_on_node(&grow).await?;
    check(node.expand_on_node(&grow).await? == first, "the second one answered otherwise")
}

async fn expand_on_the_node_follows_the_volume(f: Fixture) -> Outcome {
    let (node, volume) = (f.node_side()?, f.volume("data").await?);
    let larger = doubled(f.status(&volume).await?.size.max(f.size.required()));
    let grown = f.expand(&volume, at_least(larger)?).await?;
    let here = f.bring_here(&volume).await?;
    let publish = here.publish("target");
    node.publish_volume(&publish).await?;
    let grow =
        ExpandOnNode::new(volume, publish.target_path).to_size(grown.size).with_volume_mode(f.volume_mode());
    check(node.expand_on_node(&grow).await? >= larger, "the node has less than the volume")
}

async fn expand_on_the_node_at_another_path_is_not_found(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    node.publish_volume(&here.publish("target")).await?;
    let grow = ExpandOnNode::new(here.volume, f.directory.join("other"));
    refused(node.expand_on_node(&grow).await, ErrorKind::NotFound)
}

async fn expand_on_the_node_of_a_missing_volume_is_not_found(f: Fixture) -> Outcome {
    let grow = ExpandOnNode::new(nowhere()?, f.directory.join("target"));
    refused(f.node_side()?.expand_on_node(&grow).await, ErrorKind::NotFound)
}
