//! Several namespaces on one etcd do not know of each other.

use hivemind_core::store::{FutureRevision, Prefix};
use hivemind_core::{ErrorKind, StateStore, StateStoreExt, block_on};

use crate::server::shared;
use crate::support::{connect, fresh_prefix, key, next, options, read, told, watch, write};

#[test]
fn namespaces_do_not_see_each_other() {
    let Some(server) = shared() else { return };
    let base = options(&[server.endpoint()]);
    let name = fresh_prefix();
    let stores = ["", "/data", "0", "-"]
        .map(|suffix| connect(&base.clone().with_prefix(&format!("{name}{suffix}")).unwrap()));
    for (n, store) in stores.iter().enumerate() {
        write(store, &format!("+a={n} +data/x={n}"));
    }
    for (n, store) in stores.iter().enumerate() {
        let (_, records) = block_on(store.scan_all(&Prefix::ROOT, None)).unwrap();
        let values: Vec<_> = records.iter().map(|record| record.value.to_vec()).collect();
        assert_eq!(values, [n.to_string(), n.to_string()].map(String::into_bytes));
    }
}

#[test]
fn a_watch_does_not_hear_the_neighbours() {
    let Some(server) = shared() else { return };
    let (ours, theirs) = (options(&[server.endpoint()]), options(&[server.endpoint()]));
    let (ours, theirs) = (connect(&ours), connect(&theirs));
    let first = write(&ours, "+a=1");
    let mut watch = watch(&ours, first);
    write(&theirs, "+a=2");
    let last = write(&ours, "+a=3");
    assert_eq!(told(&mut watch, last), [first, last]);
}

#[test]
fn what_the_neighbours_committed_is_the_future() {
    let Some(server) = shared() else { return };
    let (ours, theirs) = (options(&[server.endpoint()]), options(&[server.endpoint()]));
    let (ours, theirs) = (connect(&ours), connect(&theirs));
    let newest = write(&ours, "+a=1");
    let later = write(&theirs, "+a=2");
    assert_eq!(block_on(ours.revision()).unwrap(), newest);
    let refused = block_on(ours.get(&key("a"), Some(later))).unwrap_err();
    assert_eq!(refused.detail::<FutureRevision>(), Some(&FutureRevision::new(later, newest)));
    let refused = block_on(ours.compact(later)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    // A watch from there waits.
    let mut watch = watch(&ours, later);
    let last = write(&ours, "+a=3");
    assert_eq!(next(&mut watch).unwrap().unwrap().revision, last);
}

#[test]
fn a_namespace_is_found_again() {
    let Some(server) = shared() else { return };
    let options = options(&[server.endpoint()]);
    let first = connect(&options);
    let revision = write(&first, "+a=1");
    let again = connect(&options);
    assert_eq!(block_on(again.revision()).unwrap(), revision);
    assert_eq!(read(&again, "a").as_deref(), Some("1"));
}
