//! Tells two states apart.

use std::cmp::Ordering;
use std::sync::Arc;

use futures_util::TryStreamExt;
use hivemind_core::store::{Key, Prefix, Revision};
use hivemind_core::{Result, StateSource, StateStore};

use super::read::records;

/// How many keys are named.
const NAMED: usize = 16;

/// How two states differ in keys and values. Revisions of records do not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// How many keys only the first has.
    pub only_first: u64,
    /// How many keys only the second has.
    pub only_second: u64,
    /// How many keys have another value.
    pub other_value: u64,
    /// The first few of all these keys.
    pub keys: Vec<Key>,
}

/// How `first` as of one revision and `second` as of another differ; `None` if they are equal.
///
/// # Errors
/// Those of the stores, such as a revision that is compacted.
pub async fn compare(
    first: &Arc<dyn StateStore>,
    first_at: Revision,
    second: &Arc<dyn StateStore>,
    second_at: Revision,
) -> Result<Option<Difference>> {
    let all = |store: &Arc<dyn StateStore>, at| {
        let source: Arc<dyn StateSource> = Arc::new(Arc::clone(store));
        records(source, vec![Prefix::ROOT], at)
    };
    let (mut left, mut right) = (all(first, first_at), all(second, second_at));
    let (mut a, mut b) = (left.try_next().await?, right.try_next().await?);
    let mut difference = Difference::default();
    loop {
        let order = match (&a, &b) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.key.cmp(&b.key),
        };
        let same = order.is_eq() && a.as_ref().map(|r| &r.value) == b.as_ref().map(|r| &r.value);
        if !same {
            let count = match order {
                Ordering::Less => &mut difference.only_first,
                Ordering::Greater => &mut difference.only_second,
                Ordering::Equal => &mut difference.other_value,
            };
            *count += 1;
            let at = if order.is_gt() { &b } else { &a };
            difference.keys.extend(at.iter().map(|r| r.key.clone()));
            difference.keys.truncate(NAMED);
        }
        if order.is_le() {
            a = left.try_next().await?;
        }
        if order.is_ge() {
            b = right.try_next().await?;
        }
    }
    Ok((difference != Difference::default()).then_some(difference))
}
