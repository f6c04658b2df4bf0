//! Secrets are told to the provider, and to nobody by it.

use std::error::Error as _;
use std::fmt;

use hivemind_core::{Result, SecretBytes};

use super::support::*;
use super::{Fixture, Need};
use crate::{PublishVolume, Secrets, StageVolume, VolumeSource};

cases! {
    secrets_of_creations_are_not_told,
    secrets_of_refused_creations_are_not_told,
    secrets_of_attachments_are_not_told needs [ATTACH],
    secrets_of_snapshots_are_not_told needs [SNAPSHOTS],
    secrets_are_not_told_by_the_node needs [Need::Node],
}

const SECRET: &str = "hunter2-8f1c";

fn secrets() -> Secrets {
    Secrets::none().with("key", SecretBytes::new(SECRET.as_bytes().to_vec()))
}

/// The ways in which bytes get into text.
fn spellings() -> Vec<String> {
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let decimal = SECRET.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    vec![SECRET.to_owned(), hex, decimal]
}

fn silent(text: &str, what: &str) -> Outcome {
    let told = spellings().iter().any(|spelling| text.contains(spelling.as_str()));
    check(!told, &format!("{what} tells the secret"))
}

/// Whether neither the answer nor anything in an error tells the secret.
fn keeps<T: fmt::Debug>(outcome: &Result<T>, what: &str) -> Outcome {
    silent(&format!("{outcome:?}"), what)?;
    let Err(error) = outcome else { return Ok(()) };
    silent(&error.to_string(), what)?;
    let mut source = error.source();
    while let Some(deeper) = source {
        silent(&format!("{deeper} {deeper:?}"), what)?;
        source = deeper.source();
    }
    Ok(())
}

async fn secrets_of_creations_are_not_told(f: Fixture) -> Outcome {
    let wish = f.wish(&ours("data")?).with_secrets(secrets());
    silent(&format!("{wish:?}"), "the request")?;
    let made = f.make(&wish).await;
    keeps(&made, "the answer to a creation")?;
    keeps(&f.status(&made?.volume).await, "the status")?;
    silent(&format!("{:?}", f.provider), "the provider's Debug")
}

async fn secrets_of_refused_creations_are_not_told(f: Fixture) -> Outcome {
    f.volume("data").await?;
    let mut other = f.wish(&ours("data")?).with_secrets(secrets());
    other.size = at_least(doubled(doubled(f.size.required())))?;
    keeps(&f.make(&other).await, "the error of a creation")?;
    let of_nothing = f.wish(&ours("copy")?).from_source(VolumeSource::Volume(nowhere()?));
    keeps(&f.make(&of_nothing.with_secrets(secrets())).await, "the error of a creation")?;
    let mut without = f.wish(&ours("odd")?).with_secrets(secrets());
    without.options = without.options.with_access_modes([]);
    keeps(&f.make(&without).await, "the error of a creation")
}

async fn secrets_of_attachments_are_not_told(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let bring = f.bring(&volume, &f.nodes[0]).with_secrets(secrets());
    keeps(&f.attach_as(&bring).await, "the attachment")?;
    let other = bring.clone().with_read_only(true);
    keeps(&f.attach_as(&other).await, "the error of an attachment")?;
    let missing = f.bring(&nowhere()?, &f.nodes[0]).with_secrets(secrets());
    keeps(&f.attach_as(&missing).await, "the error of an attachment")?;
    keeps(&f.status(&volume).await, "the status")?;
    silent(&format!("{:?}", f.provider), "the provider's Debug")
}

async fn secrets_of_snapshots_are_not_told(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    for of in [volume, nowhere()?] {
        let token = hivemind_core::OpToken::new(format!("snap-{}", of.handle));
        let mut request = crate::CreateSnapshot::new(token, snapshot_key(&of, "s1")?, of);
        request.secrets = secrets();
        keeps(&f.snap_as(&request).await, "the answer about a snapshot")?;
    }
    silent(&format!("{:?}", f.provider), "the provider's Debug")
}

async fn secrets_are_not_told_by_the_node(f: Fixture) -> Outcome {
    let node = f.node.clone().ok_or_else(|| Why("there is no node side".to_owned()))?;
    let (staging, target) = (f.staging("staging")?, f.directory.join("target"));
    let publish = PublishVolume::new(nowhere()?, None, target).staged_at(&staging).with_secrets(secrets());
    keeps(&node.publish_volume(&publish).await, "the error of publishing")?;
    let stage = StageVolume::new(nowhere()?, None, staging).with_secrets(secrets());
    keeps(&node.stage_volume(&stage).await, "the error of staging")?;
    let volume = f.volume("data").await?;
    let here = f.bring_here(&volume).await?;
    if let Some(stage) = here.stage() {
        keeps(&node.stage_volume(&stage.with_secrets(secrets())).await, "the answer to staging")?;
    }
    keeps(&node.publish_volume(&here.publish("target").with_secrets(secrets())).await, "publishing")?;
    silent(&format!("{node:?}"), "the node's Debug")
}
