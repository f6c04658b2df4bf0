//! Bringing volumes to nodes: each access mode keeps its word.

use hivemind_core::{ErrorKind, Result};

use super::support::*;
use super::{Fixture, Need};
use crate::{AccessMode, Attachment, NodeRef, VolumeRef};

cases! {
    attach_tells_the_node needs [ATTACH],
    attach_is_idempotent needs [ATTACH],
    attach_survives_a_restart needs [ATTACH, Need::Twin],
    attach_of_a_missing_volume_is_not_found needs [ATTACH],
    attach_under_anothers_key_is_not_found needs [ATTACH, Need::Keys],
    attach_otherwise_is_refused needs [ATTACH],
    attach_of_a_block_volume_tells_the_node needs [ATTACH, Need::Block],
    attached_nodes_are_told needs [ATTACH, NODES],
    attached_volumes_are_on_their_own_nodes needs [ATTACH, NODES],
    a_volume_for_one_node_is_refused_to_a_second needs [ATTACH, ONE_NODE],
    a_volume_for_one_workload_is_refused_to_a_second_node needs [
        ATTACH, Need::AccessMode(AccessMode::ReadWriteOncePod),
    ],
    a_volume_read_on_one_node_is_refused_to_a_second needs [
        ATTACH, Need::AccessMode(AccessMode::ReadOnlyOnce),
    ],
    a_volume_read_by_many_goes_to_many_nodes needs [
        ATTACH, Need::AccessMode(AccessMode::ReadOnlyMany),
    ],
    a_volume_of_a_single_writer_has_one_writer needs [
        ATTACH, Need::AccessMode(AccessMode::SingleWriterMany),
    ],
    a_shared_volume_goes_to_many_nodes needs [ATTACH, Need::AccessMode(AccessMode::ReadWriteMany)],
    a_volume_for_one_node_is_not_shared_by_asking needs [
        ATTACH, ONE_NODE, Need::AccessMode(AccessMode::ReadWriteMany),
    ],
    a_second_node_does_not_steal needs [ATTACH, ONE_NODE],
    detach_is_idempotent needs [ATTACH],
    detach_of_a_missing_volume_succeeds needs [ATTACH],
    detach_from_another_node_leaves_it needs [ATTACH],
    detach_under_anothers_key_leaves_it needs [ATTACH, Need::Keys],
    detach_of_one_node_leaves_the_others needs [ATTACH, Need::AccessMode(AccessMode::ReadWriteMany)],
    detached_volumes_attach_elsewhere needs [ATTACH],
    a_detached_volume_attaches_again_otherwise needs [ATTACH],
}

/// That a volume that is on the first node cannot be deleted: where nobody tells the nodes, this shows it.
async fn held(f: &Fixture, volume: &VolumeRef) -> Outcome {
    if f.has(crate::Capability::AttachedNodes) {
        let on = f.status(volume).await?.attached_to;
        return check(on == [f.nodes[0].handle.clone()].into(), "it is not on just the first node");
    }
    refused(f.delete(volume).await, ErrorKind::Conflict)
}

async fn attach_for(
    f: &Fixture,
    volume: &VolumeRef,
    node: &NodeRef,
    mode: AccessMode,
    read_only: bool,
) -> Result<Attachment> {
    f.attach_as(&f.bring(volume, node).with_access_mode(mode).with_read_only(read_only)).await
}

async fn attach_tells_the_node(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let attachment = f.attach(&volume, &f.nodes[0]).await?;
    check(attachment.node == f.nodes[0].node, "the attachment names another node")?;
    let absolute = attachment.path().is_none_or(std::path::Path::is_absolute);
    check(absolute, "the attachment's path is not absolute")
}

async fn attach_is_idempotent(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let first = f.attach(&volume, &f.nodes[0]).await?;
    check(f.attach(&volume, &f.nodes[0]).await? == first, "the second attachment answered otherwise")?;
    held(&f, &volume).await?;
    f.detach(&volume, &f.nodes[0]).await?;
    // Attached twice and detached once, it is on no node.
    Ok(f.delete(&volume).await?)
}

async fn attach_survives_a_restart(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let first = f.attach(&volume, &f.nodes[0]).await?;
    let mut after = f.clone();
    after.provider = f.twin.clone().ok_or_else(|| Why("there is no other instance".to_owned()))?;
    held(&after, &volume).await?;
    check(after.attach(&volume, &f.nodes[0]).await? == first, "another instance answers otherwise")?;
    after.detach(&volume, &f.nodes[0]).await?;
    Ok(f.delete(&volume).await?)
}

async fn attach_of_a_missing_volume_is_not_found(f: Fixture) -> Outcome {
    refused(f.attach(&nowhere()?, &f.nodes[0]).await, ErrorKind::NotFound)
}

async fn attach_under_anothers_key_is_not_found(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    refused(f.attach(&foreign(&volume)?, &f.nodes[0]).await, ErrorKind::NotFound)?;
    Ok(f.delete(&volume).await?)
}

async fn attach_otherwise_is_refused(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    f.attach(&volume, &f.nodes[0]).await?;
    let other = f.bring(&volume, &f.nodes[0]).with_read_only(true);
    refused(f.attach_as(&other).await, ErrorKind::AlreadyExists)?;
    held(&f, &volume).await
}

async fn attach_of_a_block_volume_tells_the_node(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    wish.options = wish.options.with_volume_mode(crate::VolumeMode::Block);
    let volume = f.make(&wish).await?.volume;
    let bring = f.bring(&volume, &f.nodes[0]).with_volume_mode(crate::VolumeMode::Block);
    let attachment = f.attach_as(&bring).await?;
    check(attachment.node == f.nodes[0].node, "the attachment names another node")
}

async fn attached_nodes_are_told(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    check(f.status(&volume).await?.attached_to.is_empty(), "a new volume is on a node")?;
    f.attach(&volume, &f.nodes[1]).await?;
    let on = f.status(&volume).await?.attached_to;
    check(on == [f.nodes[1].handle.clone()].into(), "its status does not tell the node, by its handle")?;
    f.detach(&volume, &f.nodes[1]).await?;
    check(f.status(&volume).await?.attached_to.is_empty(), "it is still on the node")
}

async fn attached_volumes_are_on_their_own_nodes(f: Fixture) -> Outcome {
    let (one, other) = (f.volume("data").await?, f.volume("other").await?);
    f.attach(&one, &f.nodes[0]).await?;
    f.attach(&other, &f.nodes[1]).await?;
    held(&f, &one).await?;
    let on = f.status(&other).await?.attached_to;
    check(on == [f.nodes[1].handle.clone()].into(), "the other volume is not on the other node")
}

/// A volume of this mode is refused to the second node, and stays on the first.
async fn one_node_only(f: &Fixture, mode: AccessMode, read_only: bool) -> Outcome {
    let volume = f.volume_for("data", mode).await?;
    attach_for(f, &volume, &f.nodes[0], mode, read_only).await?;
    refused(attach_for(f, &volume, &f.nodes[1], mode, read_only).await, ErrorKind::Conflict)?;
    held(f, &volume).await?;
    f.detach(&volume, &f.nodes[0]).await?;
    attach_for(f, &volume, &f.nodes[1], mode, read_only).await?;
    Ok(())
}

async fn a_volume_for_one_node_is_refused_to_a_second(f: Fixture) -> Outcome {
    one_node_only(&f, AccessMode::ReadWriteOnce, false).await
}

async fn a_volume_for_one_workload_is_refused_to_a_second_node(f: Fixture) -> Outcome {
    one_node_only(&f, AccessMode::ReadWriteOncePod, false).await
}

async fn a_volume_read_on_one_node_is_refused_to_a_second(f: Fixture) -> Outcome {
    one_node_only(&f, AccessMode::ReadOnlyOnce, true).await
}

/// A volume of this mode goes to both nodes, and leaves them one by one.
async fn both_nodes(f: &Fixture, mode: AccessMode, read_only: [bool; 2]) -> Outcome<VolumeRef> {
    let volume = f.volume_for("data", mode).await?;
    for (node, read_only) in f.nodes.iter().zip(read_only) {
        attach_for(f, &volume, node, mode, read_only).await?;
    }
    if f.has(crate::Capability::AttachedNodes) {
        check(f.status(&volume).await?.attached_to.len() == 2, "it is not on both nodes")?;
    }
    Ok(volume)
}

async fn a_volume_read_by_many_goes_to_many_nodes(f: Fixture) -> Outcome {
    both_nodes(&f, AccessMode::ReadOnlyMany, [true, true]).await.map(|_| ())
}

async fn a_volume_of_a_single_writer_has_one_writer(f: Fixture) -> Outcome {
    let mode = AccessMode::SingleWriterMany;
    let volume = both_nodes(&f, mode, [false, true]).await?;
    f.detach(&volume, &f.nodes[1]).await?;
    refused(attach_for(&f, &volume, &f.nodes[1], mode, false).await, ErrorKind::Conflict)?;
    f.detach(&volume, &f.nodes[0]).await?;
    attach_for(&f, &volume, &f.nodes[1], mode, false).await?;
    Ok(())
}

async fn a_shared_volume_goes_to_many_nodes(f: Fixture) -> Outcome {
    both_nodes(&f, AccessMode::ReadWriteMany, [false, false]).await.map(|_| ())
}

async fn a_volume_for_one_node_is_not_shared_by_asking(f: Fixture) -> Outcome {
    let volume = f.volume_for("data", AccessMode::ReadWriteOnce).await?;
    // It may refuse the first one, too: the volume was not made for that.
    let mut went = 0;
    for node in &f.nodes {
        match attach_for(&f, &volume, node, AccessMode::ReadWriteMany, false).await {
            Ok(_) => went += 1,
            Err(e) if matches!(e.kind(), ErrorKind::Conflict | ErrorKind::Invalid) => {}
            Err(e) => return Err(e.into()),
        }
    }
    check(went < 2, "a volume made for one node is on two, because attaching asked for it")
}

async fn a_second_node_does_not_steal(f: Fixture) -> Outcome {
    let volume = f.volume_for("data", AccessMode::ReadWriteOnce).await?;
    f.attach(&volume, &f.nodes[0]).await?;
    // Whatever it asks for.
    for mode in f.provider.capabilities().access_modes {
        for read_only in [false, true] {
            let outcome = attach_for(&f, &volume, &f.nodes[1], mode, read_only).await;
            refused_as(outcome, &[ErrorKind::Conflict, ErrorKind::Invalid])?;
        }
    }
    held(&f, &volume).await
}

async fn detach_is_idempotent(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    f.attach(&volume, &f.nodes[0]).await?;
    f.detach(&volume, &f.nodes[0]).await?;
    f.detach(&volume, &f.nodes[0]).await?;
    check(f.status(&volume).await?.attached_to.is_empty(), "it is still on the node")?;
    Ok(f.delete(&volume).await?)
}

async fn detach_of_a_missing_volume_succeeds(f: Fixture) -> Outcome {
    Ok(f.detach(&nowhere()?, &f.nodes[0]).await?)
}

async fn detach_from_another_node_leaves_it(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    f.attach(&volume, &f.nodes[0]).await?;
    f.detach(&volume, &f.nodes[1]).await?;
    held(&f, &volume).await
}

async fn detach_under_anothers_key_leaves_it(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    f.attach(&volume, &f.nodes[0]).await?;
    f.detach(&foreign(&volume)?, &f.nodes[0]).await?;
    held(&f, &volume).await
}

async fn detach_of_one_node_leaves_the_others(f: Fixture) -> Outcome {
    let volume = both_nodes(&f, AccessMode::ReadWriteMany, [false, false]).await?;
    f.detach(&volume, &f.nodes[1]).await?;
    held(&f, &volume).await
}

async fn detached_volumes_attach_elsewhere(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    f.attach(&volume, &f.nodes[0]).await?;
    f.detach(&volume, &f.nodes[0]).await?;
    let there = f.attach(&volume, &f.nodes[1]).await?;
    check(there.node == f.nodes[1].node, "the attachment names another node")
}

async fn a_detached_volume_attaches_again_otherwise(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    f.attach(&volume, &f.nodes[0]).await?;
    f.detach(&volume, &f.nodes[0]).await?;
    let mut again = f.bring(&volume, &f.nodes[0]).with_read_only(true);
    again.token = hivemind_core::OpToken::new("attach-again");
    f.attach_as(&again).await?;
    Ok(())
}
