//! Lists, page by page, while things come and go.

use std::collections::BTreeSet;

use hivemind_core::ErrorKind;

use super::support::*;
use super::{Fixture, Need};
use crate::{Capability, Cursor, SnapshotHandle, VolumeHandle, VolumeRef};

const LIST_SNAPSHOTS: Need = Need::Capability(Capability::ListSnapshots);

cases! {
    list_of_nothing_is_empty needs [LIST],
    list_tells_each_volume needs [LIST],
    list_pages_without_gaps_or_doubles needs [LIST],
    list_keeps_its_place_while_volumes_come needs [LIST],
    list_keeps_its_place_while_volumes_go needs [LIST],
    list_refuses_a_foreign_cursor needs [LIST],
    list_tells_the_nodes needs [LIST, ATTACH, NODES],
    snapshots_are_listed_in_pages needs [SNAPSHOTS, LIST_SNAPSHOTS],
    snapshots_are_listed_as_they_are needs [SNAPSHOTS, LIST_SNAPSHOTS],
    list_of_snapshots_refuses_a_foreign_cursor needs [LIST_SNAPSHOTS],
}

async fn several(f: &Fixture) -> Outcome<Vec<VolumeRef>> {
    let mut made = Vec::new();
    for number in 0..7 {
        let tenant = if number % 2 == 0 { "acme" } else { "globex" };
        made.push(f.create(&key(tenant, 1, &format!("v{number}"))?).await?.volume);
    }
    Ok(made)
}

/// The handles on one page of at most `limit`, and where the list goes on.
async fn page(
    f: &Fixture,
    after: Option<&Cursor>,
    limit: usize,
) -> Outcome<(Vec<VolumeHandle>, Option<Cursor>)> {
    let page = f.provider.list_volumes(after, limit).await?;
    check(page.items.len() <= limit, "a page has more than was asked for")?;
    Ok((page.items.into_iter().map(|status| status.handle).collect(), page.next))
}

/// The rest of the list.
async fn rest(f: &Fixture, mut after: Option<Cursor>, limit: usize) -> Outcome<Vec<VolumeHandle>> {
    let mut found = Vec::new();
    for _ in 0..100 {
        let Some(cursor) = after else { return Ok(found) };
        let (handles, next) = page(f, Some(&cursor), limit).await?;
        found.extend(handles);
        after = next;
    }
    Err(Why("the list has no end".to_owned()))
}

/// Whether `found` has each of `wanted` exactly once.
fn each_once(found: &[VolumeHandle], wanted: &[VolumeRef]) -> bool {
    wanted.iter().all(|volume| found.iter().filter(|handle| **handle == volume.handle).count() == 1)
}

async fn list_of_nothing_is_empty(f: Fixture) -> Outcome {
    let (found, next) = page(&f, None, 10).await?;
    check(found.is_empty() && next.is_none(), "there is something in the list already")
}

async fn list_tells_each_volume(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let all = f.all().await?;
    check(all == [f.status(&volume).await?], "the list tells something else than the status")
}

async fn list_pages_without_gaps_or_doubles(f: Fixture) -> Outcome {
    let made = several(&f).await?;
    for limit in [1, 3, 7, 1000] {
        let (mut found, next) = page(&f, None, limit).await?;
        found.extend(rest(&f, next, limit).await?);
        let whole = each_once(&found, &made) && found.len() == made.len();
        check(whole, &format!("in pages of {limit} the list is not each volume once"))?;
    }
    Ok(())
}

async fn list_keeps_its_place_while_volumes_come(f: Fixture) -> Outcome {
    let made = several(&f).await?;
    let (mut found, next) = page(&f, None, 3).await?;
    f.volume("a-new-one").await?;
    f.create(&key("zeta", 1, "a-new-one")?).await?;
    found.extend(rest(&f, next, 3).await?);
    check(each_once(&found, &made), "a volume that was there all the time is not on exactly one page")
}

async fn list_keeps_its_place_while_volumes_go(f: Fixture) -> Outcome {
    let made = several(&f).await?;
    let (mut found, next) = page(&f, None, 3).await?;
    // Also those to which the cursor may point.
    let (gone, kept): (Vec<_>, Vec<_>) = made.into_iter().partition(|volume| found.contains(&volume.handle));
    for volume in &gone {
        f.delete(volume).await?;
    }
    found.extend(rest(&f, next, 3).await?);
    check(each_once(&found, &kept), "a volume that was there all the time is not on exactly one page")
}

async fn list_refuses_a_foreign_cursor(f: Fixture) -> Outcome {
    f.volume("data").await?;
    for text in ["", "no such cursor", "{}", "999999999999999999999"] {
        let cursor = Cursor::new(text);
        refused(f.provider.list_volumes(Some(&cursor), 10).await, ErrorKind::Invalid)
            .map_err(|why| Why(format!("cursor {text:?}: {}", why.0)))?;
    }
    Ok(())
}

async fn list_tells_the_nodes(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    f.attach(&volume, &f.nodes[0]).await?;
    let on: Vec<_> = f.all().await?.into_iter().flat_map(|status| status.attached_to).collect();
    check(on == [f.nodes[0].handle.clone()], "the list does not tell the node")
}

async fn snapshots_are_listed_in_pages(f: Fixture) -> Outcome {
    let (one, other) = (f.volume("data").await?, f.volume("other").await?);
    let mut made = BTreeSet::new();
    for name in ["s1", "s2", "s3"] {
        made.insert(f.snapshot(&one, name).await?.handle);
        made.insert(f.snapshot(&other, name).await?.handle);
    }
    for limit in [1, 4, 1000] {
        let mut found: Vec<SnapshotHandle> = Vec::new();
        let mut after: Option<Cursor> = None;
        for _ in 0..100 {
            let page = f.provider.list_snapshots(after.as_ref(), limit).await?;
            check(page.items.len() <= limit, "a page has more than was asked for")?;
            found.extend(page.items.into_iter().map(|snapshot| snapshot.handle));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let whole = found.len() == made.len() && found.into_iter().collect::<BTreeSet<_>>() == made;
        check(whole && after.is_none(), &format!("in pages of {limit} it is not each snapshot once"))?;
    }
    Ok(())
}

async fn snapshots_are_listed_as_they_are(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let taken = f.snapshot(&volume, "s1").await?;
    let listed = f.provider.list_snapshots(None, 10).await?.items;
    check(listed == [f.provider.get_snapshot_status(&taken).await?], "the list differs from the status")?;
    f.drop_snapshot(&taken).await?;
    check(f.provider.list_snapshots(None, 10).await?.items.is_empty(), "a deleted one is listed")
}

async fn list_of_snapshots_refuses_a_foreign_cursor(f: Fixture) -> Outcome {
    let cursor = Cursor::new("no such cursor");
    refused(f.provider.list_snapshots(Some(&cursor), 10).await, ErrorKind::Invalid)
}
