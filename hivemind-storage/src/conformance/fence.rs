//! Keeping nodes that do not answer from their volumes.

use hivemind_core::{ErrorKind, OpToken, Result};

use super::support::*;
use super::{Fixture, Need};
use crate::{AttachVolume, DetachVolume, FenceEpoch, Fenced, NodeRef, VolumeRef};

cases! {
    fence_ends_older_attachments needs [ATTACH, FENCE],
    fence_is_idempotent needs [ATTACH, FENCE],
    fence_survives_a_restart needs [ATTACH, FENCE, Need::Twin],
    fence_keeps_the_node_out_until_it_is_let_in needs [ATTACH, FENCE],
    fence_leaves_other_nodes_alone needs [ATTACH, FENCE],
    fence_of_a_node_without_volumes_keeps_it_out needs [ATTACH, FENCE],
    an_older_epoch_is_refused needs [ATTACH, FENCE],
    an_epoch_is_told_by_the_attachment needs [ATTACH, FENCE],
    unfence_is_idempotent needs [ATTACH, FENCE],
    unfence_does_not_give_back_what_it_had needs [ATTACH, FENCE],
    detach_by_force_is_idempotent needs [ATTACH],
}

fn epoch(number: u64) -> FenceEpoch {
    FenceEpoch::from_u64(number)
}

async fn fence(f: &Fixture, node: &NodeRef, at: u64, volumes: &[VolumeRef]) -> Result<()> {
    let token = OpToken::new(format!("fence-{node}-{at}"));
    f.settle(|| f.provider.fence_node(&token, node, epoch(at), volumes)).await
}

async fn unfence(f: &Fixture, node: &NodeRef) -> Result<()> {
    let token = OpToken::new(format!("unfence-{node}"));
    f.settle(|| f.provider.unfence_node(&token, node)).await
}

fn by(f: &Fixture, volume: &VolumeRef, node: &NodeRef, at: u64) -> AttachVolume {
    let mut bring = f.bring(volume, node).of_epoch(epoch(at));
    bring.token = OpToken::new(format!("attach-{}-{node}-{at}", volume.key));
    bring
}

async fn attach_by(f: &Fixture, volume: &VolumeRef, node: &NodeRef, at: u64) -> Result<crate::Attachment> {
    f.attach_as(&by(f, volume, node, at)).await
}

async fn fence_ends_older_attachments(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    attach_by(&f, &volume, &f.nodes[0], 1).await?;
    fence(&f, &f.nodes[0], 2, std::slice::from_ref(&volume)).await?;
    let on = f.status(&volume).await?.attached_to;
    check(!on.contains(&f.nodes[0].handle), "the fenced node still has it")?;
    attach_by(&f, &volume, &f.nodes[1], 2).await?;
    Ok(())
}

async fn fence_is_idempotent(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    attach_by(&f, &volume, &f.nodes[0], 1).await?;
    for _ in 0..2 {
        fence(&f, &f.nodes[0], 2, std::slice::from_ref(&volume)).await?;
    }
    attach_by(&f, &volume, &f.nodes[1], 2).await?;
    // A late repetition takes nothing from the node that has it now.
    fence(&f, &f.nodes[0], 2, std::slice::from_ref(&volume)).await?;
    refused(f.delete(&volume).await, ErrorKind::Conflict)
}

async fn fence_survives_a_restart(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    attach_by(&f, &volume, &f.nodes[0], 1).await?;
    fence(&f, &f.nodes[0], 2, std::slice::from_ref(&volume)).await?;
    let mut after = f.clone();
    after.provider = f.twin.clone().ok_or_else(|| Why("there is no other instance".to_owned()))?;
    refused(attach_by(&after, &volume, &f.nodes[0], 2).await, ErrorKind::Conflict)
}

async fn fence_keeps_the_node_out_until_it_is_let_in(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    attach_by(&f, &volume, &f.nodes[0], 1).await?;
    fence(&f, &f.nodes[0], 2, std::slice::from_ref(&volume)).await?;
    for at in [1, 2] {
        refused(attach_by(&f, &volume, &f.nodes[0], at).await, ErrorKind::Conflict)?;
    }
    unfence(&f, &f.nodes[0]).await?;
    attach_by(&f, &volume, &f.nodes[0], 3).await?;
    Ok(())
}

async fn fence_leaves_other_nodes_alone(f: Fixture) -> Outcome {
    let (one, other) = (f.volume("data").await?, f.volume("other").await?);
    attach_by(&f, &one, &f.nodes[0], 1).await?;
    attach_by(&f, &other, &f.nodes[1], 1).await?;
    fence(&f, &f.nodes[0], 2, std::slice::from_ref(&one)).await?;
    refused(f.delete(&other).await, ErrorKind::Conflict)?;
    f.detach(&other, &f.nodes[1]).await?;
    attach_by(&f, &other, &f.nodes[1], 1).await?;
    Ok(())
}

async fn fence_of_a_node_without_volumes_keeps_it_out(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    fence(&f, &f.nodes[0], 2, std::slice::from_ref(&volume)).await?;
    refused(attach_by(&f, &volume, &f.nodes[0], 2).await, ErrorKind::Conflict)?;
    attach_by(&f, &volume, &f.nodes[1], 2).await?;
    Ok(())
}

async fn an_older_epoch_is_refused(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    attach_by(&f, &volume, &f.nodes[0], 5).await?;
    f.detach(&volume, &f.nodes[0]).await?;
    // Somebody who slept meanwhile comes with what was decided before.
    refused(attach_by(&f, &volume, &f.nodes[1], 4).await, ErrorKind::Conflict)?;
    attach_by(&f, &volume, &f.nodes[1], 5).await?;
    Ok(())
}

async fn an_epoch_is_told_by_the_attachment(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let attachment = attach_by(&f, &volume, &f.nodes[0], 7).await?;
    check(attachment.epoch == epoch(7), "the attachment does not tell its epoch")
}

async fn unfence_is_idempotent(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    unfence(&f, &f.nodes[0]).await?;
    fence(&f, &f.nodes[0], 2, &[]).await?;
    unfence(&f, &f.nodes[0]).await?;
    unfence(&f, &f.nodes[0]).await?;
    attach_by(&f, &volume, &f.nodes[0], 3).await?;
    Ok(())
}

async fn unfence_does_not_give_back_what_it_had(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    attach_by(&f, &volume, &f.nodes[0], 1).await?;
    fence(&f, &f.nodes[0], 2, std::slice::from_ref(&volume)).await?;
    unfence(&f, &f.nodes[0]).await?;
    check(f.status(&volume).await?.attached_to.is_empty(), "the node has it again")?;
    refused(attach_by(&f, &volume, &f.nodes[0], 1).await, ErrorKind::Conflict)
}

async fn detach_by_force_is_idempotent(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    f.attach(&volume, &f.nodes[0]).await?;
    let token = OpToken::new("force");
    let request = DetachVolume::new(token, volume.clone(), f.nodes[0].clone()).by_force(Fenced::PowerOff);
    for _ in 0..2 {
        f.settle(|| f.provider.detach_volume(&request)).await?;
    }
    f.attach(&volume, &f.nodes[1]).await?;
    Ok(())
}
