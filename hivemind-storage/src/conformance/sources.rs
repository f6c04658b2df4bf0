//! Volumes that are made of snapshots and of other volumes.

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Result};

use super::support::*;
use super::{Fixture, Need};
use crate::{Capability, CreateVolume, ProvisionedVolume, SizeRange, SnapshotRef, VolumeRef, VolumeSource};

const GROW: Need = Need::Capability(Capability::GrowFromSource);

cases! {
    a_volume_of_a_snapshot_is_made needs [SNAPSHOTS],
    a_volume_of_a_snapshot_is_made_once needs [SNAPSHOTS],
    a_volume_of_a_snapshot_has_its_content needs [SNAPSHOTS, Need::Content],
    a_volume_of_a_snapshot_is_independent needs [SNAPSHOTS, Need::Content],
    a_volume_of_a_snapshot_can_be_larger needs [SNAPSHOTS, GROW],
    a_volume_of_a_missing_snapshot_is_not_found needs [SNAPSHOTS],
    a_volume_of_anothers_snapshot_is_not_found needs [SNAPSHOTS],
    another_snapshot_as_source_is_refused needs [SNAPSHOTS],
    a_source_where_there_was_none_is_refused needs [SNAPSHOTS],
    a_source_larger_than_the_limit_is_refused needs [SNAPSHOTS],
    clone_makes_an_independent_volume needs [CLONE],
    clone_is_made_once needs [CLONE],
    clone_by_its_own_call_is_the_same needs [CLONE],
    clone_has_the_content needs [CLONE, Need::Content],
    clone_of_an_attached_volume_is_made needs [CLONE, ATTACH],
    clone_can_be_larger needs [CLONE, GROW],
    clone_across_tenants_is_not_found needs [CLONE],
    clone_across_generations_is_not_found needs [CLONE],
    clone_of_a_missing_volume_is_not_found needs [CLONE],
    clone_of_another_volume_is_refused needs [CLONE],
    deleted_in_any_order_all_go needs [SNAPSHOTS, CLONE],
    deleted_in_any_order_the_rest_keeps_its_content needs [SNAPSHOTS, Need::Content],
}

async fn made_of(f: &Fixture, name: &str, source: VolumeSource) -> Outcome<CreateVolume> {
    let mut wish = f.wish(&ours(name)?).from_source(source.clone());
    // At least as large as what it is made of; a CSI driver may not tell.
    let size = match source {
        VolumeSource::Snapshot(of) => f.provider.get_snapshot_status(&of).await?.size,
        VolumeSource::Volume(of) => f.status(&of).await?.size,
    };
    wish.size = at_least(size.max(f.size.required()))?;
    Ok(wish)
}

async fn of_snapshot(f: &Fixture, name: &str, of: &SnapshotRef) -> Outcome<ProvisionedVolume> {
    Ok(f.make(&made_of(f, name, VolumeSource::Snapshot(of.clone())).await?).await?)
}

async fn of_volume(f: &Fixture, name: &str, of: &VolumeRef) -> Outcome<ProvisionedVolume> {
    Ok(f.make(&made_of(f, name, VolumeSource::Volume(of.clone())).await?).await?)
}

async fn a_volume_of_a_snapshot_is_made(f: Fixture) -> Outcome {
    let source = f.create(&ours("data")?).await?;
    let taken = f.snapshot(&source.volume, "s1").await?;
    let made = of_snapshot(&f, "copy", &taken).await?;
    check(made.volume.handle != source.volume.handle, "it is the source itself")?;
    check(made.size >= source.size, "it is smaller than its source")?;
    check(f.status(&made.volume).await?.attached_to.is_empty(), "it is on a node already")
}

async fn a_volume_of_a_snapshot_is_made_once(f: Fixture) -> Outcome {
    let source = f.volume("data").await?;
    let taken = f.snapshot(&source, "s1").await?;
    let wish = made_of(&f, "copy", VolumeSource::Snapshot(taken)).await?;
    let made = f.make(&wish).await?;
    check(f.make(&wish).await? == made, "the second creation answered otherwise")?;
    check(f.count().await? == 2, "there are not just the source and the copy")
}

async fn a_volume_of_a_snapshot_has_its_content(f: Fixture) -> Outcome {
    let (content, source) = (f.reader()?, f.volume("data").await?);
    content.write(&source, b"first").await?;
    let taken = f.snapshot(&source, "s1").await?;
    content.write(&source, b"second").await?;
    let made = of_snapshot(&f, "copy", &taken).await?;
    check(content.read(&made.volume).await? == b"first", "it has not what the snapshot has")
}

async fn a_volume_of_a_snapshot_is_independent(f: Fixture) -> Outcome {
    let (content, source) = (f.reader()?, f.volume("data").await?);
    content.write(&source, b"first").await?;
    let taken = f.snapshot(&source, "s1").await?;
    let made = of_snapshot(&f, "copy", &taken).await?;
    content.write(&made.volume, b"copied").await?;
    check(content.read(&source).await? == b"first", "writing to the copy changed the source")?;
    let other = of_snapshot(&f, "copy-2", &taken).await?;
    check(content.read(&other.volume).await? == b"first", "writing to a copy changed the snapshot")
}

async fn a_volume_of_a_snapshot_can_be_larger(f: Fixture) -> Outcome {
    let source = f.create(&ours("data")?).await?;
    let taken = f.snapshot(&source.volume, "s1").await?;
    let mut wish = made_of(&f, "copy", VolumeSource::Snapshot(taken)).await?;
    wish.size = at_least(doubled(source.size.max(f.size.required())))?;
    let made = f.make(&wish).await?;
    check(made.size == ByteSize::ZERO || wish.size.admits(made.size), "it is not as large as asked for")
}

async fn a_volume_of_a_missing_snapshot_is_not_found(f: Fixture) -> Outcome {
    let source = f.volume("data").await?;
    let wish = f.wish(&ours("copy")?).from_source(VolumeSource::Snapshot(no_snapshot(&source)?));
    f.refuses(&wish, &[ErrorKind::NotFound]).await
}

async fn a_volume_of_anothers_snapshot_is_not_found(f: Fixture) -> Outcome {
    let theirs = f.create(&key("globex", 1, "data")?).await?.volume;
    let taken = f.snapshot(&theirs, "s1").await?;
    let wish = made_of(&f, "copy", VolumeSource::Snapshot(taken)).await?;
    f.refuses(&wish, &[ErrorKind::NotFound]).await
}

async fn another_snapshot_as_source_is_refused(f: Fixture) -> Outcome {
    let source = f.volume("data").await?;
    let (one, other) = (f.snapshot(&source, "s1").await?, f.snapshot(&source, "s2").await?);
    of_snapshot(&f, "copy", &one).await?;
    let wish = made_of(&f, "copy", VolumeSource::Snapshot(other)).await?;
    f.refuses(&wish, &[ErrorKind::AlreadyExists]).await
}

async fn a_source_where_there_was_none_is_refused(f: Fixture) -> Outcome {
    let source = f.volume("data").await?;
    let taken = f.snapshot(&source, "s1").await?;
    let wish = made_of(&f, "data", VolumeSource::Snapshot(taken.clone())).await?;
    f.refuses(&wish, &[ErrorKind::AlreadyExists]).await?;
    of_snapshot(&f, "copy", &taken).await?;
    let mut empty = f.wish(&ours("copy")?);
    empty.size = at_least(ByteSize::from_bytes(1))?;
    f.refuses(&empty, &[ErrorKind::AlreadyExists]).await
}

async fn a_source_larger_than_the_limit_is_refused(f: Fixture) -> Outcome {
    let mut large = f.wish(&ours("data")?);
    large.size = at_least(doubled(doubled(f.size.required())))?;
    let source = f.make(&large).await?.volume;
    let taken = f.snapshot(&source, "s1").await?;
    let mut wish = f.wish(&ours("copy")?).from_source(VolumeSource::Snapshot(taken));
    wish.size = SizeRange::new(f.size.required(), Some(f.size.required()))?;
    f.refuses(&wish, &[ErrorKind::Invalid]).await
}

async fn clone_makes_an_independent_volume(f: Fixture) -> Outcome {
    let source = f.create(&ours("data")?).await?;
    let made = of_volume(&f, "copy", &source.volume).await?;
    check(made.volume.key == ours("copy")?, "the clone has another key")?;
    check(made.volume.handle != source.volume.handle, "the clone is the source itself")?;
    check(made.size >= source.size, "the clone is smaller than its source")?;
    f.delete(&source.volume).await?;
    f.status(&made.volume).await?;
    Ok(())
}

async fn clone_is_made_once(f: Fixture) -> Outcome {
    let source = f.volume("data").await?;
    let wish = made_of(&f, "copy", VolumeSource::Volume(source)).await?;
    let made = f.make(&wish).await?;
    check(f.make(&wish).await? == made, "the second creation answered otherwise")?;
    check(f.count().await? == 2, "there are not just the source and the clone")
}

async fn clone_by_its_own_call_is_the_same(f: Fixture) -> Outcome {
    let source = f.volume("data").await?;
    let with_source = made_of(&f, "copy", VolumeSource::Volume(source.clone())).await?;
    let mut without = with_source.clone();
    without.source = None;
    let made = f.settle(|| f.provider.clone_volume(&source, &without)).await?;
    check(f.make(&with_source).await? == made, "a creation with that source is another volume")
}

async fn clone_has_the_content(f: Fixture) -> Outcome {
    let (content, source) = (f.reader()?, f.volume("data").await?);
    content.write(&source, b"first").await?;
    let wish = made_of(&f, "copy", VolumeSource::Volume(source.clone())).await?;
    let made = f.make(&wish).await?.volume;
    check(content.read(&made).await? == b"first", "the clone has not what the source has")?;
    content.write(&source, b"second").await?;
    // A late repetition must not copy again.
    f.make(&wish).await?;
    check(content.read(&made).await? == b"first", "writing to the source changed the clone")?;
    content.write(&made, b"third").await?;
    check(content.read(&source).await? == b"second", "writing to the clone changed the source")
}

async fn clone_of_an_attached_volume_is_made(f: Fixture) -> Outcome {
    let source = f.volume("data").await?;
    f.attach(&source, &f.nodes[0]).await?;
    let made = of_volume(&f, "copy", &source).await?;
    check(f.status(&made.volume).await?.attached_to.is_empty(), "the clone is on the node, too")?;
    Ok(f.detach(&source, &f.nodes[0]).await?)
}

async fn clone_can_be_larger(f: Fixture) -> Outcome {
    let source = f.create(&ours("data")?).await?;
    let mut wish = made_of(&f, "copy", VolumeSource::Volume(source.volume)).await?;
    wish.size = at_least(doubled(source.size.max(f.size.required())))?;
    let made = f.make(&wish).await?;
    check(made.size == ByteSize::ZERO || wish.size.admits(made.size), "it is not as large as asked for")
}

async fn clone_across_tenants_is_not_found(f: Fixture) -> Outcome {
    let theirs = f.create(&key("globex", 1, "data")?).await?.volume;
    let wish = made_of(&f, "copy", VolumeSource::Volume(theirs)).await?;
    f.refuses(&wish, &[ErrorKind::NotFound]).await
}

async fn clone_across_generations_is_not_found(f: Fixture) -> Outcome {
    let earlier = f.create(&key("acme", 0, "data")?).await?.volume;
    let wish = made_of(&f, "copy", VolumeSource::Volume(earlier)).await?;
    f.refuses(&wish, &[ErrorKind::NotFound]).await
}

async fn clone_of_a_missing_volume_is_not_found(f: Fixture) -> Outcome {
    let wish = f.wish(&ours("copy")?).from_source(VolumeSource::Volume(nowhere()?));
    f.refuses(&wish, &[ErrorKind::NotFound]).await
}

async fn clone_of_another_volume_is_refused(f: Fixture) -> Outcome {
    let (one, other) = (f.volume("data").await?, f.volume("other").await?);
    of_volume(&f, "copy", &one).await?;
    let wish = made_of(&f, "copy", VolumeSource::Volume(other)).await?;
    f.refuses(&wish, &[ErrorKind::AlreadyExists]).await
}

/// All six orders of three things.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// Whether it is gone; what others depend on may be refused until they are.
fn gone(outcome: Result<()>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::Conflict => Ok(false),
        Err(e) => Err(Error::internal("delete", e.to_string())),
    }
}

async fn deleted_in_any_order_all_go(f: Fixture) -> Outcome {
    for order in ORDERS {
        let source = f.volume("data").await?;
        let taken = f.snapshot(&source, "s1").await?;
        let of_snap = of_snapshot(&f, "copy", &taken).await?.volume;
        let of_source = of_volume(&f, "clone", &source).await?.volume;
        let mut left = order.to_vec();
        for _ in 0..3 {
            let mut stay = Vec::new();
            for which in left {
                let went = match which {
                    0 => gone(f.delete(&source).await)?,
                    1 => gone(f.drop_snapshot(&taken).await)?,
                    _ => gone(f.delete(&of_snap).await)? & gone(f.delete(&of_source).await)?,
                };
                if !went {
                    stay.push(which);
                }
            }
            left = stay;
        }
        check(left.is_empty(), &format!("deleted in the order {order:?}, something stays for ever"))?;
        refused(f.status(&source).await, ErrorKind::NotFound)?;
        refused(f.status(&of_snap).await, ErrorKind::NotFound)?;
        refused(f.provider.get_snapshot_status(&taken).await, ErrorKind::NotFound)?;
    }
    check(f.count().await? == 0, "something is left")
}

async fn deleted_in_any_order_the_rest_keeps_its_content(f: Fixture) -> Outcome {
    let content = f.reader()?;
    for (round, order) in ORDERS.into_iter().enumerate() {
        let source = f.volume(&format!("data-{round}")).await?;
        content.write(&source, b"kept").await?;
        let taken = f.snapshot(&source, "s1").await?;
        let copy = of_snapshot(&f, &format!("copy-{round}"), &taken).await?.volume;
        let mut there = [true; 3];
        for which in order {
            let went = match which {
                0 => gone(f.delete(&source).await)?,
                1 => gone(f.drop_snapshot(&taken).await)?,
                _ => gone(f.delete(&copy).await)?,
            };
            if let Some(there) = there.get_mut(which) {
                *there = !went;
            }
            for (volume, there) in [(&source, there[0]), (&copy, there[2])] {
                let kept = !there || content.read(volume).await? == b"kept";
                check(kept, &format!("deleting in the order {order:?} changed what was not deleted"))?;
            }
            if there[1] && which == 0 && !there[0] {
                f.provider.get_snapshot_status(&taken).await?;
            }
        }
    }
    Ok(())
}
