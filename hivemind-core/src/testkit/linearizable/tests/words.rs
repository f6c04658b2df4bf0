//! Histories in few words.

use crate::store::{Conflict, Guard, Key, Prefix, Record, Revision, ScanPage, ScanRequest, Txn};
use crate::testkit::linearizable::{Call, History, Outcome, Violation, check};

pub(super) fn key(name: &str) -> Key {
    Key::new(name.split('/')).unwrap()
}

fn revision(text: &str) -> Revision {
    Revision::new(text.parse().unwrap())
}

/// `+a=1` puts, `-a` deletes, `!a` demands absence, `?a` existence, `?a@3` that it is unchanged.
pub(super) fn commit(words: &str) -> Call {
    let mut txn = Txn::new();
    for word in words.split_whitespace() {
        let (kind, rest) = word.split_at(1);
        match (kind, rest.split_once(['=', '@'])) {
            ("+", Some((name, value))) => txn.put(key(name), value.to_owned()),
            ("-", None) => txn.delete(key(rest)),
            ("!", None) => txn.guard(&key(rest), Guard::Absent).unwrap(),
            ("?", None) => txn.guard(&key(rest), Guard::Exists).unwrap(),
            ("?", Some((name, at))) => txn.guard(&key(name), Guard::Unchanged(revision(at))).unwrap(),
            _ => panic!("{word} is no word"),
        }
    }
    Call::Commit(txn)
}

/// `a=1@3`.
pub(super) fn record(word: &str) -> Record {
    let (name, rest) = word.split_once('=').unwrap();
    let (value, at) = rest.split_once('@').unwrap();
    Record::new(key(name), value.to_owned().into(), revision(at), revision(at))
}

pub(super) fn get(name: &str) -> Call {
    Call::Get(key(name), None)
}

pub(super) fn scan() -> Call {
    Call::Scan(ScanRequest::new(Prefix::ROOT))
}

pub(super) fn at(number: u64) -> Outcome {
    Outcome::Committed(Revision::new(number))
}

pub(super) fn newest(number: u64) -> Outcome {
    Outcome::Newest(Revision::new(number))
}

/// `a=1@3`, or nothing.
pub(super) fn found(word: &str) -> Outcome {
    Outcome::Found((!word.is_empty()).then(|| record(word)))
}

pub(super) fn page(words: &str, at: u64) -> Outcome {
    let records = words.split_whitespace().map(record).collect();
    Outcome::Page(ScanPage::new(Revision::new(at), records, false))
}

/// `a@3`, or `a` for a conflict with an absent key.
pub(super) fn conflict(word: &str) -> Outcome {
    let (name, found) = word.split_once('@').map_or((word, None), |(name, at)| (name, Some(revision(at))));
    Outcome::Conflict(Some(Conflict::new(key(name), found)))
}

/// Calls of one client, one after the other.
pub(super) fn run(history: &History, calls: Vec<(Call, Outcome)>) {
    for (call, outcome) in calls {
        let token = history.invoke(0, call);
        history.complete(token, outcome);
    }
}

/// Calls one after the other.
pub(super) fn in_turn(calls: Vec<(Call, Outcome)>) -> History {
    let history = History::new();
    run(&history, calls);
    history
}

/// Calls after `before`, all at once.
pub(super) fn together(before: Vec<(Call, Outcome)>, calls: Vec<(Call, Outcome)>) -> History {
    let history = in_turn(before);
    at_once(&history, calls);
    history
}

pub(super) fn at_once(history: &History, calls: Vec<(Call, Outcome)>) {
    let begin = |(n, (call, outcome))| (history.invoke(n, call), outcome);
    let begun: Vec<_> = calls.into_iter().enumerate().map(begin).collect();
    for (token, outcome) in begun {
        history.complete(token, outcome);
    }
}

#[track_caller]
pub(super) fn good(history: &History) {
    if let Err(violation) = check(history) {
        panic!("{violation}");
    }
}

#[track_caller]
pub(super) fn bad(history: &History) -> Violation {
    let violation = check(history).unwrap_err();
    assert!(!violation.operations().is_empty(), "{violation}");
    violation
}
