//! What is decided on what was read as it was looked for is what is decided on all of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use hivemind_core::store::{Key, Prefix, Snapshot, Txn};
use hivemind_core::testkit::CountingStore;
use hivemind_core::{MemoryStore, StateStore, StateStoreExt, block_on};
use proptest::prelude::*;

fn key(segments: [&str; 2]) -> Key {
    Key::new(segments).unwrap()
}

fn store(records: impl IntoIterator<Item = (Key, String)>) -> MemoryStore {
    let store = MemoryStore::new();
    for some in records.into_iter().collect::<Vec<_>>().chunks(100) {
        let mut txn = Txn::new();
        some.iter().for_each(|(key, value)| txn.put(key.clone(), value.clone()));
        block_on(store.commit(&txn)).unwrap();
    }
    store
}

/// Goes from record to record, each of which names the next, and lists below the name of the last; what it saw.
fn walk(view: &Snapshot, first: &str) -> Vec<String> {
    let (mut seen, mut next) = (Vec::new(), first.to_owned());
    while let Some(found) = view.get(&key(["of", &next])).filter(|_| seen.len() < 20) {
        next = String::from_utf8(found.value.to_vec()).unwrap();
        seen.push(next.clone());
    }
    let below = Prefix::new([next.as_str()]).unwrap();
    seen.extend(view.scan(&below).map(|found| found.key.to_string()));
    seen.extend(view.scan_from(&below, &key([&next, "m"])).map(|found| found.key.to_string()));
    seen
}

proptest! {
    #[test]
    fn what_is_not_read_yet_is_never_taken_for_absent(
        links in prop::collection::vec((0..9u8, 0..9u8), 0..9),
        lists in prop::collection::vec((0..9u8, "[a-z]"), 0..20),
        first in 0..9u8,
    ) {
        let name = |n: u8| format!("n{n}");
        let links = links.into_iter().map(|(from, to)| (key(["of", &name(from)]), name(to)));
        let lists = lists.into_iter().map(|(of, member)| (key([&name(of), &member]), String::new()));
        let store = store(links.chain(lists));
        let whole = block_on(store.snapshot(&[Prefix::ROOT])).unwrap();
        let decided = block_on(store.decide(|view| walk(view, &name(first)))).unwrap();
        prop_assert_eq!(decided, walk(&whole, &name(first)));
    }
}

#[test]
fn it_is_decided_as_of_one_revision_and_costs_what_it_looks_for() {
    for others in [10, 1000] {
        let more = (0..others).map(|n| (key(["more", &n.to_string()]), String::new()));
        let chain = [("a", "b"), ("b", "c")].map(|(from, to)| (key(["of", from]), to.to_owned()));
        let memory = store(chain.into_iter().chain([(key(["c", "x"]), String::new())]).chain(more));
        let (counting, mut calls) = (CountingStore::new(Arc::new(memory.clone())), 0);
        let decided = block_on(counting.decide(|view| {
            calls += 1;
            // Somebody else changes what is read next.
            let mut txn = Txn::new();
            txn.put(key(["of", "b"]), "elsewhere");
            block_on(memory.commit(&txn)).unwrap();
            walk(view, "a")
        }));
        assert_eq!(decided.unwrap(), ["b", "c", "c/x", "c/x"]);
        // Three links, the last of which is none, and one list, each looked for in turn, and read once.
        assert_eq!((counting.take_read(), calls), (4, 5));
    }
}
