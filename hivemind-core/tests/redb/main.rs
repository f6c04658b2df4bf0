//! The embedded store: the suite, restarts, crashes, lost power, failing disks.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod damage;
mod disk;
mod faults;
mod files;
mod kill;
mod power;
mod restart;
mod suite;

use hivemind_core::store::{Key, Prefix, Revision, Txn};
use hivemind_core::{Result, StateStore, StateStoreExt, block_on};

/// A transaction that puts these values.
fn put<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Txn {
    let mut txn = Txn::new();
    for (key, value) in pairs {
        txn.put(Key::new(key.split('/')).unwrap(), value.to_owned());
    }
    txn
}

fn commit(store: &dyn StateStore, key: &str, value: &str) -> Result<Revision> {
    block_on(store.commit(&put([(key, value)])))
}

/// Everything as of `at`: `key=value@created,modified`.
fn shown(store: &dyn StateStore, at: Option<Revision>) -> Result<Vec<String>> {
    let (_, records) = block_on(store.scan_all(&Prefix::ROOT, at))?;
    let show = |r: &hivemind_core::store::Record| {
        format!("{}={}@{},{}", r.key, r.value.escape_ascii(), r.create_revision, r.mod_revision)
    };
    Ok(records.iter().map(show).collect())
}

/// How many seeds or rounds: `usual`, or what the environment asks for.
fn rounds(usual: u64) -> u64 {
    std::env::var("HIVEMIND_ROUNDS").ok().and_then(|asked| asked.parse().ok()).unwrap_or(usual)
}
