//! The node side: what is where, and that nothing is where it should not be.

use std::path::PathBuf;
use std::sync::Arc;

use hivemind_core::ErrorKind;

use super::support::*;
use super::{Fixture, Need};
use crate::{
    AccessMode, Attachment, Capability, NodeCapability, NodeStorage, PublishVolume, StageVolume, VolumeMode,
    VolumeRef,
};

cases! {
    publish_creates_its_target_and_unpublish_removes_it needs [Need::Node],
    publish_otherwise_at_one_path_is_refused needs [Need::Node],
    publish_of_another_volume_at_one_path_is_refused needs [Need::Node],
    stage_otherwise_at_one_path_is_refused needs [
        Need::Node, STAGE, Need::AccessMode(AccessMode::ReadWriteMany),
    ],
    stage_of_another_volume_at_one_path_is_refused needs [Need::Node, STAGE],
    unpublish_by_another_volume_leaves_it needs [Need::Node, STATS],
    unpublish_leaves_other_targets needs [Need::Node, STATS],
    unpublish_keeps_the_content needs [Need::Node, Need::Content],
    a_volume_can_be_published_elsewhere_once_it_left needs [Need::Node],
}

/// A volume that came to the first node, and is staged there if there is staging.
pub(super) struct Here {
    pub(super) volume: VolumeRef,
    attachment: Option<Attachment>,
    staging: Option<PathBuf>,
    directory: PathBuf,
    mode: AccessMode,
    volume_mode: VolumeMode,
}

impl Here {
    pub(super) fn stage(&self) -> Option<StageVolume> {
        let staging = self.staging.clone()?;
        let stage = StageVolume::new(self.volume.clone(), self.attachment.clone(), staging);
        Some(stage.with_access_mode(self.mode).with_volume_mode(self.volume_mode.clone()))
    }

    pub(super) fn publish(&self, target: &str) -> PublishVolume {
        let target = self.directory.join(target);
        let mut publish = PublishVolume::new(self.volume.clone(), self.attachment.clone(), target);
        publish.staging_path.clone_from(&self.staging);
        publish.with_access_mode(self.mode).with_volume_mode(self.volume_mode.clone())
    }
}

impl Fixture {
    pub(super) fn node_side(&self) -> Outcome<Arc<dyn NodeStorage>> {
        self.node.clone().ok_or_else(|| Why("there is no node side".to_owned()))
    }

    /// A new volume of ours, come to the first node.
    pub(super) async fn here(&self, name: &str) -> Outcome<Here> {
        let volume = self.volume(name).await?;
        self.bring_here(&volume).await
    }

    pub(super) async fn bring_here(&self, volume: &VolumeRef) -> Outcome<Here> {
        self.bring_here_as(volume, self.mode(), self.volume_mode()).await
    }

    pub(super) async fn bring_here_as(
        &self,
        volume: &VolumeRef,
        mode: AccessMode,
        volume_mode: VolumeMode,
    ) -> Outcome<Here> {
        let node = self.node_side()?;
        let bring = self.bring(volume, &self.nodes[0]).with_access_mode(mode);
        let attachment = match self.has(Capability::Attach) {
            true => Some(self.attach_as(&bring.with_volume_mode(volume_mode.clone())).await?),
            false => None,
        };
        let staging = match node.node_capabilities().contains(&NodeCapability::Stage) {
            true => Some(self.staging(&format!("staging-{}", volume.key.volume))?),
            false => None,
        };
        let (volume, directory) = (volume.clone(), self.directory.clone());
        let here = Here { volume, attachment, staging, directory, mode, volume_mode };
        if let Some(stage) = here.stage() {
            node.stage_volume(&stage).await?;
        }
        Ok(here)
    }

    /// Takes a volume that nobody has any more from the node.
    pub(super) async fn leave(&self, here: &Here) -> Outcome {
        if let Some(staging) = &here.staging {
            self.node_side()?.unstage_volume(&here.volume, staging).await?;
        }
        if here.attachment.is_some() {
            self.detach(&here.volume, &self.nodes[0]).await?;
        }
        Ok(())
    }
}

async fn publish_creates_its_target_and_unpublish_removes_it(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let publish = here.publish("target");
    for _ in 0..2 {
        node.publish_volume(&publish).await?;
        if f.on_disk() {
            check(publish.target_path.exists(), "it is published, and nothing is at its target")?;
        }
        node.unpublish_volume(&here.volume, &publish.target_path).await?;
        check(!publish.target_path.exists(), "it is unpublished, and its target is still there")?;
    }
    Ok(())
}

async fn publish_otherwise_at_one_path_is_refused(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    let publish = here.publish("target");
    node.publish_volume(&publish).await?;
    let other = publish.clone().with_read_only(true);
    refused(node.publish_volume(&other).await, ErrorKind::AlreadyExists)?;
    // What was there first, is.
    Ok(node.publish_volume(&publish).await?)
}

async fn publish_of_another_volume_at_one_path_is_refused(f: Fixture) -> Outcome {
    let (node, one, other) = (f.node_side()?, f.here("data").await?, f.here("other").await?);
    node.publish_volume(&one.publish("target")).await?;
    refused(node.publish_volume(&other.publish("target")).await, ErrorKind::AlreadyExists)?;
    Ok(node.publish_volume(&one.publish("target")).await?)
}

async fn stage_otherwise_at_one_path_is_refused(f: Fixture) -> Outcome {
    let node = f.node_side()?;
    let mut wish = f.wish(&ours("data")?);
    wish.options = wish.options.with_access_modes([f.mode(), AccessMode::ReadWriteMany]);
    let volume = f.make(&wish).await?.volume;
    let here = f.bring_here(&volume).await?;
    let stage = here.stage().ok_or_else(|| Why("there is no staging".to_owned()))?;
    if stage.access_mode == AccessMode::ReadWriteMany {
        return Ok(());
    }
    let other = stage.clone().with_access_mode(AccessMode::ReadWriteMany);
    refused(node.stage_volume(&other).await, ErrorKind::AlreadyExists)?;
    Ok(node.stage_volume(&stage).await?)
}

async fn stage_of_another_volume_at_one_path_is_refused(f: Fixture) -> Outcome {
    let (node, one, other) = (f.node_side()?, f.here("data").await?, f.here("other").await?);
    let stage = one.stage().ok_or_else(|| Why("there is no staging".to_owned()))?;
    let mut taken = other.stage().ok_or_else(|| Why("there is no staging".to_owned()))?;
    taken.staging_path.clone_from(&stage.staging_path);
    refused(node.stage_volume(&taken).await, ErrorKind::AlreadyExists)?;
    Ok(node.stage_volume(&stage).await?)
}

async fn unpublish_by_another_volume_leaves_it(f: Fixture) -> Outcome {
    let (node, one, other) = (f.node_side()?, f.here("data").await?, f.here("other").await?);
    let target = f.directory.join("target");
    node.publish_volume(&one.publish("target")).await?;
    // It may refuse, or see nothing to do; the first volume stays.
    match node.unpublish_volume(&other.volume, &target).await {
        Err(e) if !matches!(e.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists) => Err(e)?,
        _ => {}
    }
    node.volume_stats(&one.volume, &target).await?;
    Ok(())
}

async fn unpublish_leaves_other_targets(f: Fixture) -> Outcome {
    let (node, one, other) = (f.node_side()?, f.here("data").await?, f.here("other").await?);
    node.publish_volume(&one.publish("target")).await?;
    node.publish_volume(&other.publish("target-2")).await?;
    node.unpublish_volume(&one.volume, &f.directory.join("target")).await?;
    node.volume_stats(&other.volume, &f.directory.join("target-2")).await?;
    Ok(())
}

async fn unpublish_keeps_the_content(f: Fixture) -> Outcome {
    let (content, node, volume) = (f.reader()?, f.node_side()?, f.volume("data").await?);
    content.write(&volume, b"kept").await?;
    let here = f.bring_here(&volume).await?;
    node.publish_volume(&here.publish("target")).await?;
    node.unpublish_volume(&volume, &f.directory.join("target")).await?;
    f.leave(&here).await?;
    check(content.read(&volume).await? == b"kept", "unpublishing deleted what is in the volume")
}

async fn a_volume_can_be_published_elsewhere_once_it_left(f: Fixture) -> Outcome {
    let (node, here) = (f.node_side()?, f.here("data").await?);
    for target in ["target", "second", "target"] {
        let publish = here.publish(target);
        node.publish_volume(&publish).await?;
        node.unpublish_volume(&here.volume, &publish.target_path).await?;
    }
    f.leave(&here).await
}
