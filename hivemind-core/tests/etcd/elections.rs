//! Leader election by leases.

use std::time::Duration;

use hivemind_core::store::Conflict;
use hivemind_core::{
    ErrorKind, EtcdCandidate, EtcdStore, Leadership, SeededIds, Standing, StateStore, block_on,
};

use crate::server::shared;
use crate::support::{connect, eventually, fresh_prefix, options, read, store_on, txn, wait};

/// etcd makes leases at least about twice this long.
const LEASE: Duration = Duration::from_millis(900);

fn candidate(store: &EtcdStore, name: &str, seed: u64) -> EtcdCandidate {
    let election = "controller".parse().unwrap();
    EtcdCandidate::new(&election, name.parse().unwrap(), LEASE, store.clone(), &SeededIds::new(seed)).unwrap()
}

fn leads(candidate: &mut EtcdCandidate) -> Option<Leadership> {
    match wait("the tick", candidate.tick()).unwrap() {
        Standing::Leader(leadership) => Some(leadership),
        Standing::Follower { .. } => None,
    }
}

fn commit(store: &EtcdStore, leadership: &Leadership, words: &str) -> Result<(), ErrorKind> {
    let mut txn = txn(words);
    leadership.fence(&mut txn).unwrap();
    let done = block_on(store.commit(&txn));
    done.map(drop).map_err(|e| {
        assert!(e.detail::<Conflict>().is_some(), "{e}");
        e.kind()
    })
}

#[test]
fn a_silent_leader_is_succeeded_and_fenced() {
    let Some(server) = shared() else { return };
    let store = store_on(server);
    let (mut a, mut b) = (candidate(&store, "a", 1), candidate(&store, "b", 2));
    let old = leads(&mut a).unwrap();
    commit(&store, &old, "+x=old").unwrap();
    match wait("the tick", b.tick()).unwrap() {
        Standing::Follower { leader } => assert_eq!(leader.unwrap().as_str(), "a"),
        Standing::Leader(_) => panic!("there are two"),
    }
    let mut new = None;
    eventually("b leads", || {
        new = leads(&mut b);
        new.is_some()
    });
    let new = new.unwrap();
    assert!(new.fencing_token() > old.fencing_token());
    assert_eq!(commit(&store, &old, "+x=stale"), Err(ErrorKind::Conflict));
    commit(&store, &new, "+x=new").unwrap();
    assert_eq!(read(&store, "x").as_deref(), Some("new"));
    assert!(leads(&mut a).is_none(), "its lease is gone, and another's holds");
}

#[test]
fn a_leader_that_ticks_stays_and_writes_nothing() {
    let Some(server) = shared() else { return };
    let store = store_on(server);
    let (mut a, mut b) = (candidate(&store, "a", 1), candidate(&store, "b", 2));
    let first = leads(&mut a).unwrap();
    let revision = block_on(store.revision()).unwrap();
    // Several times as long as the lease.
    for _ in 0..40 {
        assert_eq!(leads(&mut a).as_ref(), Some(&first));
        assert!(leads(&mut b).is_none());
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(block_on(store.revision()).unwrap(), revision);
}

#[test]
fn a_leader_that_lost_its_lease_to_nobody_goes_on_in_the_same_term() {
    let Some(server) = shared() else { return };
    let prefix = fresh_prefix();
    let store = connect(&options(&[server.endpoint()]).with_prefix(&prefix).unwrap());
    let (mut a, mut b) = (candidate(&store, "a", 1), candidate(&store, "b", 2));
    let first = leads(&mut a).unwrap();
    // As if it had run out.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut etcd = etcd_client::Client::connect([server.endpoint()], None).await.unwrap();
        let found = etcd.get(format!("{prefix}:lease/controller"), None).await.unwrap();
        etcd.lease_revoke(found.kvs()[0].lease()).await.unwrap();
    });
    assert_eq!(leads(&mut a).as_ref(), Some(&first));
    assert!(leads(&mut b).is_none());
    assert_eq!(commit(&store, &first, "+x=1"), Ok(()));
}

#[test]
fn resigning_makes_room_at_once() {
    let Some(server) = shared() else { return };
    let store = store_on(server);
    let (mut a, mut b) = (candidate(&store, "a", 1), candidate(&store, "b", 2));
    let old = leads(&mut a).unwrap();
    block_on(b.resign()).unwrap();
    assert!(leads(&mut b).is_none());
    block_on(a.resign()).unwrap();
    assert!(leads(&mut b).is_some());
    assert_eq!(commit(&store, &old, "+x=late"), Err(ErrorKind::Conflict));
    assert!(leads(&mut a).is_none());
}

#[test]
fn a_restarted_leader_is_another_candidate() {
    let Some(server) = shared() else { return };
    let store = store_on(server);
    let old = leads(&mut candidate(&store, "a", 1)).unwrap();
    let mut again = candidate(&store, "a", 2);
    assert!(leads(&mut again).is_none());
    eventually("the old lease has run out", || leads(&mut again).is_some());
    assert_eq!(commit(&store, &old, "+x=stale"), Err(ErrorKind::Conflict));
}

#[test]
fn a_lease_of_zero_is_refused() {
    let Some(server) = shared() else { return };
    let (election, ids) = ("e".parse().unwrap(), SeededIds::new(1));
    let made = EtcdCandidate::new(&election, "a".parse().unwrap(), Duration::ZERO, store_on(server), &ids);
    assert_eq!(made.unwrap_err().kind(), ErrorKind::Invalid);
}
