//! Order, prefixes and pages.

use super::support::{Outcome, Store, ensure, key, list, prefix, same, write};
use crate::conformance::Failure;
use crate::store::{Prefix, Revision, ScanPage, ScanRequest};

/// Reads the pages of `request` to the end, checks the size of each, and joins the names.
async fn pages(store: &Store, mut request: ScanRequest) -> Result<String, Failure> {
    let mut names = Vec::new();
    loop {
        let page = store.scan(&request).await?;
        let most = request.limit.map_or(usize::MAX, |limit| limit.max(1));
        ensure(page.records.len() <= most, "a page has more records than the limit")?;
        names.extend(page.records.iter().map(|record| record.key.to_string()));
        match page.records.last() {
            Some(last) if page.more => request = request.at(page.revision).after(last.key.clone()),
            None if page.more => return Err(Failure::new("a page says there is more, and is empty")),
            _ => return Ok(names.join(" ")),
        }
        ensure(names.len() < 1_000, "the pages never end")?;
    }
}

pub(super) async fn a_scan_is_in_key_order(store: Store) -> Outcome {
    write(&store, "+b=1 +a.b=1 +c=1").await?;
    write(&store, "+a/b=1 +a0=1 +B=1").await?;
    write(&store, "+a=1").await?;
    // By bytes: '.' is before '/', which is before '0'; capitals are before small letters.
    same("the order", list(&store, "", None).await?, "B=1 a=1 a.b=1 a/b=1 a0=1 b=1 c=1".to_owned())
}

pub(super) async fn a_prefix_is_whole_segments(store: Store) -> Outcome {
    write(&store, "+a/b/c=1 +a/b/d/e=1 +a/bc=1 +a/b.c=1 +a/b0=1 +ab=1 +b/a/b=1").await?;
    same("below a/b", list(&store, "a/b", None).await?, "a/b/c=1 a/b/d/e=1".to_owned())?;
    same("below a/b/d", list(&store, "a/b/d", None).await?, "a/b/d/e=1".to_owned())?;
    same("below c", list(&store, "c", None).await?, String::new())
}

pub(super) async fn a_prefix_excludes_the_key_of_its_own_name(store: Store) -> Outcome {
    write(&store, "+a=1 +a/b=1").await?;
    same("below a", list(&store, "a", None).await?, "a/b=1".to_owned())?;
    same("below a/b", list(&store, "a/b", None).await?, String::new())
}

pub(super) async fn the_root_is_everything(store: Store) -> Outcome {
    write(&store, "+a=1 +b/c=1 +~=1").await?;
    same("below the root", list(&store, "", None).await?, "a=1 b/c=1 ~=1".to_owned())
}

pub(super) async fn a_scan_of_nothing_tells_the_newest_revision(store: Store) -> Outcome {
    write(&store, "+a=1").await?;
    write(&store, "+a=2").await?;
    let page = store.scan(&ScanRequest::new(prefix("nothing")?)).await?;
    same("the page", page, ScanPage::new(Revision::new(2), Vec::new(), false))
}

pub(super) async fn pages_join_without_gap_or_repeat(store: Store) -> Outcome {
    write(&store, "+p/a=1 +p/b=1 +p/c=1 +p/d=1 +p/e=1 +o=1 +q=1").await?;
    write(&store, "-p/c").await?;
    for limit in 1..=5 {
        let found = pages(&store, ScanRequest::new(prefix("p")?).limit(limit)).await?;
        same(&format!("pages of {limit}"), found, "p/a p/b p/d p/e".to_owned())?;
    }
    Ok(())
}

pub(super) async fn more_is_exact_at_the_boundary(store: Store) -> Outcome {
    write(&store, "+p/a=1 +p/b=1 +p/c=1 +q=1").await?;
    // Deleted keys are not "more".
    write(&store, "+p/d=1").await?;
    write(&store, "-p/d").await?;
    for limit in 1..=4 {
        let page = store.scan(&ScanRequest::new(prefix("p")?).limit(limit)).await?;
        let found = page.records.len();
        ensure((1..=limit).contains(&found), &format!("a page of {limit} has {found} records"))?;
        same(&format!("more after {found} of 3"), page.more, found < 3)?;
    }
    Ok(())
}

pub(super) async fn a_limit_of_zero_counts_as_one(store: Store) -> Outcome {
    write(&store, "+a=1 +b=1").await?;
    let page = store.scan(&ScanRequest::new(Prefix::ROOT).limit(0)).await?;
    same("the records and whether there are more", (page.records.len(), page.more), (1, true))?;
    same("all pages", pages(&store, ScanRequest::new(Prefix::ROOT).limit(0)).await?, "a b".to_owned())
}

pub(super) async fn a_page_begins_after_any_key(store: Store) -> Outcome {
    write(&store, "+p/b=1 +p/d=1 +a=1 +z=1").await?;
    for (after, expected) in [
        ("a", "p/b p/d"),
        ("p", "p/b p/d"),
        ("p/a", "p/b p/d"),
        ("p/b", "p/d"),
        ("p/c", "p/d"),
        ("p/d", ""),
        ("p/z", ""),
        ("p0", ""),
        ("z", ""),
    ] {
        let found = pages(&store, ScanRequest::new(prefix("p")?).after(key(after)?)).await?;
        same(&format!("what comes after {after}"), found, expected.to_owned())?;
    }
    Ok(())
}

pub(super) async fn pages_stay_at_one_revision(store: Store) -> Outcome {
    write(&store, "+a=1 +b=1 +c=1 +d=1").await?;
    let first = store.scan(&ScanRequest::new(Prefix::ROOT).limit(2)).await?;
    write(&store, "-c +bb=2 +d=2 +e=2").await?;
    let mut names: Vec<_> = first.records.iter().map(|record| record.key.to_string()).collect();
    let mut request = ScanRequest::new(Prefix::ROOT).at(first.revision);
    request.after = first.records.last().map(|record| record.key.clone());
    let second = store.scan(&request).await?;
    same("the revision of the second page", second.revision, first.revision)?;
    ensure(second.records.iter().all(|record| record.value == "1"), "the second page shows a later value")?;
    names.push(pages(&store, request).await?);
    same("both pages", names.join(" "), "a b c d".to_owned())
}
