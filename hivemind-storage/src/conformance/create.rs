//! Making volumes: one name is one volume, and what differs is refused.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use hivemind_core::resources::ByteSize;
use hivemind_core::{ErrorKind, OpToken};

use super::support::*;
use super::{Fixture, Need};
use crate::{PerformanceClass, SizeRange, VolumeMode};

cases! {
    the_provider_says_what_it_is,
    create_makes_a_volume_of_at_least_the_size,
    create_is_idempotent,
    create_by_another_token_is_the_same_volume,
    two_creations_at_once_make_one_volume,
    create_keeps_to_the_limit,
    create_with_a_range_that_the_volume_is_in_is_the_same_volume,
    create_with_another_size_is_refused_and_changes_nothing,
    create_with_a_limit_below_the_volume_is_refused,
    create_with_other_options_is_refused,
    create_without_an_access_mode_is_invalid,
    create_can_be_asked_for_each_access_mode,
    create_can_be_asked_for_all_access_modes_at_once,
    create_makes_block_volumes needs [Need::Block],
    create_makes_volumes_with_a_file_system needs [Need::Filesystem],
    create_with_encryption_is_kept needs [Need::Capability(crate::Capability::Encryption)],
    create_with_replicas_is_kept needs [Need::Capability(crate::Capability::Replicas)],
    create_survives_a_restart needs [Need::Twin],
    create_after_delete_is_a_new_volume,
    tenants_do_not_share_names,
    generations_do_not_share_names,
    names_that_join_alike_are_apart,
    long_names_are_not_cut_short,
    a_new_volume_is_empty needs [Need::Content],
    a_volume_made_anew_is_empty needs [Need::Content],
    a_volume_holds_what_it_should needs [Need::Content],
    a_volume_holds_no_more_than_its_size needs [
        Need::Content, Need::Capability(crate::Capability::HardLimit),
    ],
}

async fn the_provider_says_what_it_is(f: Fixture) -> Outcome {
    use crate::Capability::*;
    f.provider.probe().await?;
    let able = f.provider.capabilities();
    check(able == f.provider.capabilities(), "its capabilities change")?;
    check(!able.access_modes.is_empty(), "it has no access mode")?;
    check(able.filesystem || able.block, "it has neither file systems nor block devices")?;
    for (capability, needed) in [
        (ExpandOnline, &[Expand][..]),
        (RestoreInPlace, &[Snapshots]),
        (GroupSnapshots, &[Snapshots]),
        (ListSnapshots, &[Snapshots]),
        (GrowFromSource, &[Snapshots, Clone]),
        (AttachedNodes, &[Attach]),
        (Fence, &[Attach]),
    ] {
        let holds = !able.has(capability) || needed.iter().any(|needed| able.has(*needed));
        check(holds, &format!("it has {capability}, and not what that rests on"))?;
    }
    Ok(())
}

async fn create_makes_a_volume_of_at_least_the_size(f: Fixture) -> Outcome {
    let at = ours("data")?;
    let made = f.create(&at).await?;
    check(made.volume.key == at, "the volume made has another key")?;
    // A CSI driver may not tell the size.
    let fits = |size: ByteSize| size == ByteSize::ZERO || f.size.admits(size);
    check(fits(made.size), "the volume made has another size than asked for")?;
    let status = f.status(&made.volume).await?;
    check(status.handle == made.volume.handle, "its status is of another volume")?;
    check(status.size == made.size, "its status tells another size")?;
    check(status.attached_to.is_empty(), "it is on a node already")?;
    check(!f.knows_keys || status.key == Some(at), "its status does not tell its key")
}

async fn create_is_idempotent(f: Fixture) -> Outcome {
    let first = f.create(&ours("data")?).await?;
    check(f.create(&ours("data")?).await? == first, "the second creation answered otherwise")?;
    check(f.count().await? == 1, "there is not just one volume")
}

async fn create_by_another_token_is_the_same_volume(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    let first = f.make(&wish).await?;
    wish.token = OpToken::new("another-intent");
    check(f.make(&wish).await? == first, "another token made another volume of one key")?;
    check(f.count().await? == 1, "there is not just one volume")
}

async fn two_creations_at_once_make_one_volume(f: Fixture) -> Outcome {
    let (mut one, mut other) = (f.wish(&ours("data")?), f.wish(&ours("data")?));
    (one.token, other.token) = (OpToken::new("one"), OpToken::new("other"));
    let (mut first, mut second) = (pin!(f.make(&one)), pin!(f.make(&other)));
    let (mut got, mut got_too) = (None, None);
    poll_fn(|context| {
        if got.is_none()
            && let Poll::Ready(made) = first.as_mut().poll(context)
        {
            got = Some(made);
        }
        if got_too.is_none()
            && let Poll::Ready(made) = second.as_mut().poll(context)
        {
            got_too = Some(made);
        }
        if got.is_some() && got_too.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    // One of them may be refused while the other goes on, and then says so; neither may make a second volume.
    let busy = |e: &hivemind_core::Error| matches!(e.kind(), ErrorKind::Conflict | ErrorKind::Unavailable);
    let mut handles = Vec::new();
    for outcome in [got, got_too].into_iter().flatten() {
        match outcome {
            Ok(made) => handles.push(made.volume.handle),
            Err(e) if busy(&e) => {}
            Err(e) => return Err(e.into()),
        }
    }
    handles.dedup();
    check(handles.len() == 1, "two creations of one key have not one volume")?;
    check(f.count().await? == 1, "there is not just one volume")
}

async fn create_keeps_to_the_limit(f: Fixture) -> Outcome {
    let first = f.create(&ours("data")?).await?;
    // What it took for that wish is a size that it can make.
    let size = if first.size == ByteSize::ZERO { doubled(f.size.required()) } else { first.size };
    let mut wish = f.wish(&ours("exact")?);
    wish.size = SizeRange::new(size, Some(size))?;
    let exact = f.make(&wish).await?;
    check(exact.size == ByteSize::ZERO || exact.size == size, "it is larger than its limit")
}

async fn create_with_a_range_that_the_volume_is_in_is_the_same_volume(f: Fixture) -> Outcome {
    let first = f.create(&ours("data")?).await?;
    let mut wish = f.wish(&ours("data")?);
    wish.size = SizeRange::new(ByteSize::from_bytes(1), Some(doubled(doubled(f.size.required()))))?;
    check(f.make(&wish).await? == first, "it is not the same volume")
}

async fn create_with_another_size_is_refused_and_changes_nothing(f: Fixture) -> Outcome {
    let first = f.create(&ours("data")?).await?;
    let mut wish = f.wish(&ours("data")?);
    wish.size = at_least(doubled(first.size.max(f.size.required())))?;
    f.refuses(&wish, &[ErrorKind::AlreadyExists]).await?;
    check(f.status(&first.volume).await?.size == first.size, "the refused creation changed the volume")
}

async fn create_with_a_limit_below_the_volume_is_refused(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    wish.size = at_least(doubled(f.size.required()))?;
    let first = f.make(&wish).await?;
    wish.size = SizeRange::new(f.size.required(), Some(f.size.required()))?;
    f.refuses(&wish, &[ErrorKind::AlreadyExists]).await?;
    check(f.status(&first.volume).await?.size == first.size, "the refused creation changed the volume")
}

async fn create_with_other_options_is_refused(f: Fixture) -> Outcome {
    let first = f.create(&ours("data")?).await?;
    let able = f.provider.capabilities();
    let mut wish = f.wish(&ours("data")?);
    if let Some(mode) = able.access_modes.iter().find(|mode| **mode != f.mode()) {
        wish.options = wish.options.with_access_mode(*mode);
    } else if able.filesystem && able.block {
        wish.options = wish.options.with_volume_mode(VolumeMode::Block);
    } else {
        wish.options.performance_class = PerformanceClass::HighPerformance;
    }
    f.refuses(&wish, &[ErrorKind::AlreadyExists]).await?;
    check(f.create(&ours("data")?).await? == first, "the refused creation changed the volume")
}

async fn create_without_an_access_mode_is_invalid(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    wish.options = wish.options.with_access_modes([]);
    f.refuses(&wish, &[ErrorKind::Invalid]).await
}

async fn create_can_be_asked_for_each_access_mode(f: Fixture) -> Outcome {
    for mode in f.provider.capabilities().access_modes {
        f.volume_for(&format!("for-{mode}"), mode).await?;
    }
    Ok(())
}

async fn create_can_be_asked_for_all_access_modes_at_once(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    wish.options = wish.options.with_access_modes(f.provider.capabilities().access_modes);
    let made = f.make(&wish).await?;
    check(f.make(&wish).await? == made, "the second creation answered otherwise")
}

async fn create_makes_block_volumes(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    wish.options = wish.options.with_volume_mode(VolumeMode::Block);
    let made = f.make(&wish).await?;
    check(f.make(&wish).await? == made, "the second creation answered otherwise")
}

async fn create_makes_volumes_with_a_file_system(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    wish.options = wish.options.with_volume_mode(VolumeMode::filesystem());
    let made = f.make(&wish).await?;
    check(f.make(&wish).await? == made, "the second creation answered otherwise")
}

async fn create_with_encryption_is_kept(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    wish.options = wish.options.with_encryption(true);
    let made = f.make(&wish).await?;
    check(f.make(&wish).await? == made, "the second creation answered otherwise")?;
    f.refuses(&f.wish(&ours("data")?), &[ErrorKind::AlreadyExists]).await
}

async fn create_with_replicas_is_kept(f: Fixture) -> Outcome {
    let mut wish = f.wish(&ours("data")?);
    wish.options = wish.options.with_replicas(std::num::NonZeroU8::MIN.saturating_add(1));
    let made = f.make(&wish).await?;
    check(f.make(&wish).await? == made, "the second creation answered otherwise")?;
    f.refuses(&f.wish(&ours("data")?), &[ErrorKind::AlreadyExists]).await
}

async fn create_survives_a_restart(f: Fixture) -> Outcome {
    let first = f.create(&ours("data")?).await?;
    let mut after = f.clone();
    after.provider = f.twin.clone().ok_or_else(|| Why("there is no other instance".to_owned()))?;
    check(after.create(&ours("data")?).await? == first, "another instance makes another volume")?;
    check(after.status(&first.volume).await? == f.status(&first.volume).await?, "its status differs")?;
    after.delete(&first.volume).await?;
    refused(f.status(&first.volume).await, ErrorKind::NotFound)
}

async fn create_after_delete_is_a_new_volume(f: Fixture) -> Outcome {
    let first = f.volume("data").await?;
    f.delete(&first).await?;
    // The same name, and another intent.
    let mut wish = f.wish(&ours("data")?);
    wish.token = OpToken::new("create-again");
    wish.size = at_least(doubled(f.size.required()))?;
    let second = f.make(&wish).await?;
    let size = f.status(&second.volume).await?.size;
    check(size == ByteSize::ZERO || wish.size.admits(size), "it has the size of the deleted one")
}

async fn tenants_do_not_share_names(f: Fixture) -> Outcome {
    let first = f.create(&key("acme", 1, "data")?).await?;
    let second = f.create(&key("globex", 1, "data")?).await?;
    check(first.volume.handle != second.volume.handle, "two tenants got one volume")?;
    f.delete(&second.volume).await?;
    f.status(&first.volume).await?;
    Ok(())
}

async fn generations_do_not_share_names(f: Fixture) -> Outcome {
    let first = f.create(&key("acme", 1, "data")?).await?;
    let second = f.create(&key("acme", 2, "data")?).await?;
    check(first.volume.handle != second.volume.handle, "two generations got one volume")?;
    f.delete(&first.volume).await?;
    f.status(&second.volume).await?;
    Ok(())
}

async fn names_that_join_alike_are_apart(f: Fixture) -> Outcome {
    let first = f.create(&key("a-b", 1, "c")?).await?;
    let second = f.create(&key("a", 1, "b-c")?).await?;
    check(first.volume.handle != second.volume.handle, "a-b/c and a/b-c are one volume")
}

async fn long_names_are_not_cut_short(f: Fixture) -> Outcome {
    let (tenant, stem) = ("t".repeat(63), "v".repeat(62));
    let first = f.create(&key(&tenant, u64::MAX, &format!("{stem}a"))?).await?;
    let second = f.create(&key(&tenant, u64::MAX, &format!("{stem}b"))?).await?;
    check(first.volume.handle != second.volume.handle, "names that differ at their end are one volume")
}

async fn a_new_volume_is_empty(f: Fixture) -> Outcome {
    let (content, volume) = (f.reader()?, f.volume("data").await?);
    check(content.read(&volume).await?.is_empty(), "a new volume has something in it")
}

async fn a_volume_made_anew_is_empty(f: Fixture) -> Outcome {
    let (content, volume) = (f.reader()?, f.volume("data").await?);
    content.write(&volume, b"of the first one").await?;
    f.delete(&volume).await?;
    let mut wish = f.wish(&ours("data")?);
    wish.token = OpToken::new("create-again");
    let again = f.make(&wish).await?.volume;
    check(content.read(&again).await?.is_empty(), "it has the content of the deleted one")
}

async fn a_volume_holds_what_it_should(f: Fixture) -> Outcome {
    let content = f.reader()?;
    let (one, other) = (f.volume("data").await?, f.volume("other").await?);
    content.write(&one, b"one").await?;
    content.write(&other, b"other").await?;
    check(content.read(&one).await? == b"one", "a volume lost what was written, or has what is another's")
}

async fn a_volume_holds_no_more_than_its_size(f: Fixture) -> Outcome {
    let content = f.reader()?;
    let made = f.create(&ours("data")?).await?;
    let size = made.size.max(f.size.required());
    content.fill(&made.volume, ByteSize::from_bytes(size.as_bytes() / 2)).await?;
    refused(content.fill(&made.volume, doubled(size)).await, ErrorKind::Exhausted)
}
