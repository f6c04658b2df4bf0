//! Growing volumes, which never shrink.

use hivemind_core::ErrorKind;
use hivemind_core::resources::ByteSize;

use super::support::*;
use super::{Fixture, Need};
use crate::{Capability, SizeRange};

const ONLINE: Need = Need::Capability(Capability::ExpandOnline);
const OFFLINE: Need = Need::Without(Capability::ExpandOnline);

cases! {
    expand_grows_and_repeats needs [EXPAND],
    expand_to_less_changes_nothing needs [EXPAND],
    expand_refuses_to_shrink needs [EXPAND],
    expand_repeated_late_does_not_shrink needs [EXPAND],
    expand_keeps_to_the_limit needs [EXPAND],
    expand_of_a_missing_volume_is_not_found needs [EXPAND],
    expand_under_anothers_key_is_not_found needs [EXPAND, Need::Keys],
    expand_keeps_the_content needs [EXPAND, Need::Content],
    expand_of_an_attached_volume_grows_it needs [EXPAND, ONLINE, ATTACH],
    expand_of_an_attached_volume_is_refused needs [EXPAND, OFFLINE, ATTACH],
    expand_repeated_after_attaching_succeeds needs [EXPAND, OFFLINE, ATTACH],
}

async fn expand_grows_and_repeats(f: Fixture) -> Outcome {
    let made = f.create(&ours("data")?).await?;
    let larger = doubled(made.size.max(f.size.required()));
    for _ in 0..2 {
        let grown = f.expand(&made.volume, at_least(larger)?).await?;
        check(grown.size >= larger, "it did not grow")?;
    }
    let size = f.status(&made.volume).await?.size;
    check(size == ByteSize::ZERO || size >= larger, "the status does not show it")
}

async fn expand_to_less_changes_nothing(f: Fixture) -> Outcome {
    let made = f.create(&ours("data")?).await?;
    let less = f.expand(&made.volume, at_least(ByteSize::from_bytes(1))?).await?;
    check(less.size >= f.size.required(), "it says that it shrank")?;
    check(f.status(&made.volume).await?.size == made.size, "it shrank")
}

async fn expand_refuses_to_shrink(f: Fixture) -> Outcome {
    let made = f.create(&ours("data")?).await?;
    let limit = ByteSize::from_bytes(f.size.required().as_bytes() / 2);
    let shrunk = SizeRange::new(ByteSize::from_bytes(1), Some(limit))?;
    refused(f.expand(&made.volume, shrunk).await, ErrorKind::Invalid)?;
    check(f.status(&made.volume).await?.size == made.size, "it shrank")
}

async fn expand_repeated_late_does_not_shrink(f: Fixture) -> Outcome {
    let made = f.create(&ours("data")?).await?;
    let larger = doubled(made.size.max(f.size.required()));
    f.expand(&made.volume, at_least(larger)?).await?;
    f.expand(&made.volume, at_least(doubled(larger))?).await?;
    let late = f.expand(&made.volume, at_least(larger)?).await?;
    check(late.size >= doubled(larger), "a late repetition says less than it has")?;
    let size = f.status(&made.volume).await?.size;
    check(size == ByteSize::ZERO || size >= doubled(larger), "a late repetition shrank it")
}

async fn expand_keeps_to_the_limit(f: Fixture) -> Outcome {
    let made = f.create(&ours("data")?).await?;
    let larger = doubled(made.size.max(f.size.required()));
    let grown = f.expand(&made.volume, SizeRange::new(larger, Some(larger))?).await?;
    check(grown.size == larger, "it is larger than its limit, or smaller than asked for")
}

async fn expand_of_a_missing_volume_is_not_found(f: Fixture) -> Outcome {
    refused(f.expand(&nowhere()?, f.size).await, ErrorKind::NotFound)
}

async fn expand_under_anothers_key_is_not_found(f: Fixture) -> Outcome {
    let made = f.create(&ours("data")?).await?;
    let larger = at_least(doubled(f.size.required()))?;
    refused(f.expand(&foreign(&made.volume)?, larger).await, ErrorKind::NotFound)?;
    check(f.status(&made.volume).await?.size == made.size, "it grew under another's key")
}

async fn expand_keeps_the_content(f: Fixture) -> Outcome {
    let (content, volume) = (f.reader()?, f.volume("data").await?);
    content.write(&volume, b"kept").await?;
    f.expand(&volume, at_least(doubled(f.size.required()))?).await?;
    check(content.read(&volume).await? == b"kept", "it lost its content")
}

async fn expand_of_an_attached_volume_grows_it(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    f.attach(&volume, &f.nodes[0]).await?;
    let larger = doubled(f.status(&volume).await?.size.max(f.size.required()));
    check(f.expand(&volume, at_least(larger)?).await?.size >= larger, "it did not grow")?;
    f.detach(&volume, &f.nodes[0]).await?;
    Ok(())
}

async fn expand_of_an_attached_volume_is_refused(f: Fixture) -> Outcome {
    let made = f.create(&ours("data")?).await?;
    f.attach(&made.volume, &f.nodes[0]).await?;
    let larger = at_least(doubled(made.size.max(f.size.required())))?;
    refused(f.expand(&made.volume, larger).await, ErrorKind::Conflict)?;
    check(f.status(&made.volume).await?.size == made.size, "it grew, although it was refused")?;
    f.detach(&made.volume, &f.nodes[0]).await?;
    check(f.expand(&made.volume, larger).await?.size >= larger.required(), "it does not grow on no node")
}

async fn expand_repeated_after_attaching_succeeds(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let larger = at_least(doubled(f.status(&volume).await?.size.max(f.size.required())))?;
    let grown = f.expand(&volume, larger).await?;
    f.attach(&volume, &f.nodes[0]).await?;
    // Whoever did not hear the answer asks again, and nothing is left to do.
    check(f.expand(&volume, larger).await? == grown, "the repetition answered otherwise")
}
