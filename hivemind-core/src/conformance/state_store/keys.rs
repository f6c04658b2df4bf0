//! Keys and values of every shape.

use super::support::{Outcome, Store, same};
use crate::StateStoreExt as _;
use crate::conformance::Failure;
use crate::store::{Event, Key, MAX_KEY_LEN, Prefix, Revision, ScanRequest, Txn};

/// Puts each of `keys` with its own number, and checks gets, a scan and a watch. The keys must be in order.
async fn round_trip(store: &Store, keys: &[Key]) -> Outcome {
    let mut watch = store.watch(&Prefix::ROOT, Revision::new(1)).await?;
    let mut txn = Txn::new();
    for (n, key) in keys.iter().enumerate() {
        txn.put(key.clone(), n.to_string());
    }
    let revision = store.commit(&txn).await?;
    for (n, key) in keys.iter().enumerate() {
        let found = store.get(key, None).await?.map(|record| (record.key, record.value));
        same("a record", found, Some((key.clone(), n.to_string().into())))?;
    }
    let (_, records) = store.scan_all(&Prefix::ROOT, None).await?;
    same("the scan", &records.into_iter().map(|record| record.key).collect::<Vec<_>>()[..], keys)?;
    loop {
        let item = std::future::poll_fn(|context| watch.as_mut().poll_next(context)).await;
        let batch = item.ok_or_else(|| Failure::new("the watch ended"))??;
        if batch.revision >= revision {
            let told: Vec<Key> = batch.events.iter().map(Event::key).cloned().collect();
            return same("the watch", &told[..], keys);
        }
    }
}

pub(super) async fn keys_may_hold_any_byte_but_the_separator(store: Store) -> Outcome {
    let bytes = (0..=u8::MAX).filter(|&byte| byte != b'/');
    // A few in one transaction, the others in as many as it takes.
    let (low, high): (Vec<u8>, Vec<u8>) = bytes.partition(|byte| byte % 16 == 0);
    let named = |bytes: Vec<u8>| bytes.into_iter().map(|byte| Key::new([[byte, 0], [0xff, byte]]));
    let mut keys = named(low).collect::<Result<Vec<_>, _>>()?;
    round_trip(&store, &keys).await?;
    for batch in named(high).collect::<Result<Vec<_>, _>>()?.chunks(store.limits().max_ops.clamp(1, 64)) {
        let mut txn = Txn::new();
        batch.iter().for_each(|key| txn.put(key.clone(), "x"));
        store.commit(&txn).await?;
        keys.extend_from_slice(batch);
    }
    keys.sort();
    let (_, records) = store.scan_all(&Prefix::ROOT, None).await?;
    same("the scan", records.into_iter().map(|record| record.key).collect(), keys)?;
    // The last byte of all, in a prefix and at the end of a page.
    let below = Prefix::new([[0xff, 0]])?;
    let page = store.scan(&ScanRequest::new(below.clone()).limit(1)).await?;
    same("a page below 0xff", (page.records.len(), page.more), (1, false))?;
    let last = below.key([[0xff, 0xff]])?;
    same("its key", page.records.first().map(|record| &record.key), Some(&last))
}

pub(super) async fn keys_may_hold_unicode(store: Store) -> Outcome {
    let mut keys = Vec::new();
    // Bytes are bytes: the composed and the decomposed form of one word are two keys.
    for name in ["ascii", "größe", "groesse", "gro\u{308}ße", "鍵", "🔑", "مفتاح"] {
        keys.push(Key::new([name, "x"])?);
    }
    keys.sort();
    round_trip(&store, &keys).await
}

pub(super) async fn the_longest_key_is_accepted(store: Store) -> Outcome {
    let one = Key::new([vec![0xff; MAX_KEY_LEN]])?;
    let many = Key::new(vec!["a"; MAX_KEY_LEN.div_ceil(2)])?;
    let almost = Key::new([vec![0xff; MAX_KEY_LEN - 1]])?;
    round_trip(&store, &[many, almost, one]).await
}

pub(super) async fn a_value_may_be_empty(store: Store) -> Outcome {
    let key = Key::new(["a"])?;
    let mut txn = Txn::new();
    txn.put(key.clone(), "");
    store.commit(&txn).await?;
    let found = store.get(&key, None).await?.map(|record| record.value);
    same("the value", found, Some(bytes::Bytes::new()))
}

pub(super) async fn values_may_hold_any_byte(store: Store) -> Outcome {
    let value: Vec<u8> = (0..=u8::MAX).chain([b'/', 0, 0, 0xff]).collect();
    let key = Key::new(["a"])?;
    let mut txn = Txn::new();
    txn.put(key.clone(), value.clone());
    store.commit(&txn).await?;
    let found = store.get(&key, None).await?.map(|record| record.value.to_vec());
    same("the value", found, Some(value))
}

pub(super) async fn five_thousand_keys_are_all_there(store: Store) -> Outcome {
    const COUNT: usize = 5_000;
    let mut keys = Vec::new();
    for n in 0..COUNT {
        // Spread, so that they do not come in order.
        keys.push(Key::new(["many".to_owned(), format!("{:04}", (n * 2_741) % COUNT)])?);
    }
    for batch in keys.chunks(store.limits().max_ops.clamp(1, 100)) {
        let mut txn = Txn::new();
        batch.iter().for_each(|key| txn.put(key.clone(), "x"));
        store.commit(&txn).await?;
    }
    keys.sort();
    for limit in [None, Some(7), Some(1_000), Some(COUNT)] {
        let (mut request, mut found) = (ScanRequest::new(Prefix::new(["many"])?), Vec::new());
        request.limit = limit;
        loop {
            let page = store.scan(&request).await?;
            found.extend(page.records.into_iter().map(|record| record.key));
            match found.last() {
                Some(last) if page.more => request = request.at(page.revision).after(last.clone()),
                _ => break,
            }
            if found.len() > COUNT {
                return Err(Failure::new("the pages never end"));
            }
        }
        same(&format!("pages of {limit:?}"), &found, &keys)?;
    }
    Ok(())
}
