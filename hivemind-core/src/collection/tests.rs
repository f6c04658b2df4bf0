use proptest::prelude::*;

use super::*;
use crate::store::{Conflict, Record};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Lamp {
    watts: u32,
}

impl Stored for Lamp {
    const KIND: &'static str = "lamp";
    const VERSION: u32 = 2;

    fn upgrade(from: u32, mut body: serde_json::Value) -> Option<serde_json::Value> {
        if from != 1 {
            return None;
        }
        let kilowatts = body.as_object_mut()?.remove("kilowatts")?.as_u64()?;
        body["watts"] = (kilowatts * 1000).into();
        Some(body)
    }
}

fn lamps() -> Collection<Lamp> {
    Collection::new(Prefix::new(["lamps"]).unwrap())
}

fn key(name: &str) -> Key {
    lamps().key([name]).unwrap()
}

fn record(name: &str, value: &str, revision: u64) -> Record {
    let revision = Revision::new(revision);
    Record::new(key(name), Bytes::copy_from_slice(value.as_bytes()), revision, revision)
}

#[test]
fn an_old_record_is_upgraded_and_a_newer_one_refused() {
    let old = decode::<Lamp>(&key("a"), br#"{"schema":1,"body":{"kilowatts":2}}"#).unwrap();
    assert_eq!(old, Lamp { watts: 2000 });
    for (bad, says) in [
        (r#"{"schema":3,"body":{"watts":1}}"#, "newer version (schema 3, this one reads up to 2)"),
        (r#"{"schema":0,"body":{"watts":1}}"#, "schema 0 is unknown"),
        (r#"{"schema":2,"body":{"watts":-1}}"#, "lamp at lamps/a"),
        ("", "lamp at lamps/a"),
    ] {
        let error = decode::<Lamp>(&key("a"), bad.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(says), "{error}");
    }
}

#[test]
fn versions_are_written_in_decimal() {
    for number in [0, 1, 9, 10, 4_294_967_295] {
        assert_eq!(decimal(number, &mut [7; 10]), number.to_string().as_bytes());
    }
}

#[test]
fn what_a_decision_has_written_is_not_decoded_again_by_who_reads_it_next() {
    let (mut view, mut txn) = (Snapshot::default(), Txn::new());
    let read = |view: &Snapshot, txn: &Txn, name: &str| lamps().get(view, txn, &key(name)).unwrap().unwrap();
    let bytes = |txn: &Txn, name: &str| match txn.staged(&key(name)) {
        Staged::Put(bytes) => bytes.clone(),
        other => panic!("{other:?}"),
    };
    lamps().create_known(&view, &mut txn, key("a"), Lamp { watts: 5 }).unwrap();
    let written = read(&view, &txn, "a");
    assert!(Arc::ptr_eq(&written.value, &read(&view, &txn, "a").value));
    let again = lamps().create_known(&view, &mut txn, key("a"), Lamp { watts: 6 });
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let put = |view: &mut Snapshot, name: &str, bytes: Bytes, revision: u64| {
        let revision = Revision::new(revision);
        view.put(Record::new(key(name), bytes, revision, revision));
    };
    // Other bytes that are equal are decoded, for who knows where they come from.
    put(&mut view, "b", Bytes::copy_from_slice(&bytes(&txn, "a")), 1);
    put(&mut view, "a", bytes(&txn, "a"), 1);
    let none = Txn::new();
    assert!(Arc::ptr_eq(&written.value, &read(&view, &none, "a").value));
    assert_eq!(read(&view, &none, "b").value, written.value);
    assert!(!Arc::ptr_eq(&written.value, &read(&view, &none, "b").value));

    let mut txn = Txn::new();
    lamps().update_known(&view, &mut txn, &read(&view, &none, "a"), Lamp { watts: 7 }).unwrap();
    assert_eq!(txn.guards().collect::<Vec<_>>(), [(&key("a"), Guard::Unchanged(Revision::new(1)))]);
    let updated = read(&view, &txn, "a");
    // Only so much is remembered; what is not is decoded.
    for n in 0..100 {
        lamps().create_known(&view, &mut txn, key(&format!("c{n}")), Lamp { watts: n }).unwrap();
    }
    put(&mut view, "a", bytes(&txn, "a"), 2);
    put(&mut view, "c99", bytes(&txn, "c99"), 2);
    assert_eq!(read(&view, &none, "a").value, updated.value);
    assert!(!Arc::ptr_eq(&updated.value, &read(&view, &none, "a").value));
    assert_eq!(*read(&view, &none, "c99").value, Lamp { watts: 99 });
}

#[test]
fn a_value_is_decoded_once() {
    let view = Snapshot::new(Revision::new(1), [record("a", r#"{"schema":2,"body":{"watts":5}}"#, 1)]);
    let first = lamps().get(&view, &Txn::new(), &key("a")).unwrap().unwrap();
    let second = lamps().get(&view, &Txn::new(), &key("a")).unwrap().unwrap();
    assert!(Arc::ptr_eq(&first.value, &second.value));
}

#[test]
fn a_record_is_read_however_its_envelope_is_written() {
    for text in [
        r#"{"schema":2,"body":{"watts":5}}"#,
        r#"{"schema":2,"body":{"watts":5} }"#,
        r#" {"body": {"watts": 5}, "schema": 2}"#,
        r#"{"schema":2,"body":{"watts":5},"more":{"watts":6}}"#,
    ] {
        assert_eq!(decode::<Lamp>(&key("a"), text.as_bytes()).unwrap(), Lamp { watts: 5 }, "{text}");
    }
    for text in [
        r#"{"schema":2,"body":{"watts":5},"schema":2}"#,
        r#"{"schema":2,"body":{"watts":5}}}"#,
        r#"{"schema":02,"body":{"watts":5}}"#,
        r#"{"schema":2,"body":}"#,
    ] {
        assert_eq!(
            decode::<Lamp>(&key("a"), text.as_bytes()).unwrap_err().kind(),
            ErrorKind::Corrupt,
            "{text}"
        );
    }
}

#[test]
fn what_is_put_again_as_it_was_is_not_decoded_again() {
    let mut view = Snapshot::new(Revision::new(1), [record("a", r#"{"schema":2,"body":{"watts":5}}"#, 1)]);
    let read = |view: &Snapshot| lamps().require(view, &Txn::new(), &key("a")).unwrap();
    let first = read(&view);
    view.put(record("a", r#"{"schema":2,"body":{"watts":5}}"#, 2));
    let again = read(&view);
    assert!(Arc::ptr_eq(&first.value, &again.value));
    assert_eq!(again.revision, Some(Revision::new(2)));
    view.put(record("a", r#"{"schema":2,"body":{"watts":6}}"#, 3));
    assert_eq!(read(&view).watts, 6);
}

#[test]
fn what_is_touched_is_written_again_unread_and_once() {
    let damaged = r#"{"schema":2,"body":damaged}"#;
    let view = Snapshot::new(Revision::new(7), [record("a", damaged, 4)]);
    let mut txn = Txn::new();
    lamps().touch(&view, &mut txn, &key("a")).unwrap();
    let mut expected = Txn::new();
    expected.guard(&key("a"), Guard::Unchanged(Revision::new(4))).unwrap();
    expected.put(key("a"), damaged);
    assert_eq!(txn, expected);

    txn.put(key("a"), "staged");
    lamps().touch(&view, &mut txn, &key("a")).unwrap();
    assert_eq!(txn.staged(&key("a")), Staged::Put(&"staged".into()), "a write of this transaction is one");
    txn.delete(key("a"));
    for gone in ["a", "b"] {
        assert_eq!(lamps().touch(&view, &mut txn, &key(gone)).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn writes_stage_the_guards_that_make_the_reads_true() {
    let view = Snapshot::new(Revision::new(7), [record("a", r#"{"schema":2,"body":{"watts":5}}"#, 4)]);
    let mut txn = Txn::new();
    let a = lamps().require(&view, &txn, &key("a")).unwrap();
    lamps().update(&mut txn, &a, &Lamp { watts: 6 }).unwrap();
    lamps().create(&view, &mut txn, key("b"), &Lamp { watts: 1 }).unwrap();
    let guards: Vec<_> = txn.guards().map(|(key, guard)| (key.clone(), guard)).collect();
    assert_eq!(guards, [(key("a"), Guard::Unchanged(Revision::new(4))), (key("b"), Guard::Absent)]);

    let error = lamps().create(&view, &mut txn, key("b"), &Lamp { watts: 2 }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn decisions_on_two_states_of_a_record_conflict() {
    let older = Snapshot::new(Revision::new(1), [record("a", r#"{"schema":2,"body":{"watts":5}}"#, 1)]);
    let newer = Snapshot::new(Revision::new(2), [record("a", r#"{"schema":2,"body":{"watts":6}}"#, 2)]);
    let mut txn = Txn::new();
    let old = lamps().require(&older, &txn, &key("a")).unwrap();
    let new = lamps().require(&newer, &txn, &key("a")).unwrap();
    lamps().expect(&mut txn, &old).unwrap();
    assert!(lamps().expect(&mut txn, &new).unwrap_err().detail::<Conflict>().is_some());
}

proptest! {
    /// Whatever is staged, reading through the transaction equals reading a map to which it was applied.
    #[test]
    fn reads_see_what_is_staged(
        stored in prop::collection::btree_map("[a-d]{1,2}", 0u32..100, 0..8),
        steps in prop::collection::vec(("[a-d]{1,2}", prop::option::of(0u32..100)), 0..12),
    ) {
        let records = stored.iter().map(|(name, watts)| {
            record(name, &format!(r#"{{"schema":2,"body":{{"watts":{watts}}}}}"#), 1)
        });
        let (view, mut txn, mut model) = (Snapshot::new(Revision::new(1), records), Txn::new(), stored.clone());
        for (name, watts) in steps {
            let found = lamps().get(&view, &txn, &key(&name)).unwrap();
            prop_assert_eq!(found.as_ref().map(|lamp| lamp.watts), model.get(&name).copied());
            match (watts, found) {
                (Some(watts), Some(old)) => lamps().update(&mut txn, &old, &Lamp { watts }).unwrap(),
                (Some(watts), None) => lamps().create(&view, &mut txn, key(&name), &Lamp { watts }).unwrap(),
                (None, Some(old)) => lamps().delete(&mut txn, &old).unwrap(),
                (None, None) => {}
            }
            match watts {
                Some(watts) => { model.insert(name, watts); }
                None => { model.remove(&name); }
            }
        }
        let listed: Vec<_> = lamps().list(&view, &txn, lamps().prefix()).unwrap()
            .into_iter().map(|lamp| (lamp.stored_at.clone(), lamp.watts)).collect();
        let expected: Vec<_> = model.iter().map(|(name, watts)| (key(name), *watts)).collect();
        prop_assert_eq!(listed, expected);
    }
}
