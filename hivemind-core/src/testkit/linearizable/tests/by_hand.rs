//! Each kind of violation among known outcomes, and its legal twin.

use super::words::{
    at, at_once, bad, commit, conflict, found, get, good, in_turn, newest, page, record, run, scan, together,
};
use crate::store::{Prefix, Revision, ScanPage, ScanRequest};
use crate::testkit::linearizable::{Call, History, Outcome, Violation};

#[test]
fn nothing_is_fine() {
    good(&History::new());
}

#[test]
fn revisions_are_unique_and_may_have_gaps() {
    good(&together(vec![], vec![(commit("+a=1"), at(17)), (commit("+b=1"), at(12))]));
    let violation = bad(&together(vec![], vec![(commit("+a=1"), at(1)), (commit("+b=1"), at(1))]));
    assert!(matches!(&violation, Violation::Contradiction { operations, .. } if operations.len() == 2));
}

#[test]
fn revisions_do_not_go_back() {
    let calls = || vec![(commit("+a=1"), at(5)), (commit("+b=1"), at(3))];
    bad(&in_turn(calls()));
    good(&together(vec![], calls()));
    let calls = || vec![(commit("+a=1"), at(5)), (Call::Revision, newest(4))];
    bad(&in_turn(calls()));
    good(&together(vec![], calls()));
    good(&in_turn(vec![(commit("+a=1"), at(5)), (Call::Revision, newest(9)), (commit("+a=1"), at(10))]));
    bad(&in_turn(vec![(commit("+a=1"), at(5)), (Call::Revision, newest(9)), (commit("+a=1"), at(9))]));
    bad(&in_turn(vec![(commit("+a=1"), at(0))]));
}

#[test]
fn a_violation_shows_what_stands_in_the_way() {
    let told = |calls| {
        let told = bad(&in_turn(calls)).to_string();
        told.split_once("none can:\n").map(|(_, rest)| rest.to_owned()).unwrap()
    };
    assert_eq!(
        told(vec![(commit("+a=1"), at(1)), (commit("-a"), at(2)), (get("a"), found("a=1@1"))]),
        "  client 0 [3..4] commit [delete a] -> committed at 2: what it replaces is yet to be seen by\n    \
         client 0 [5..6] get a -> a=\"1\"@1"
    );
    assert_eq!(
        told(vec![(commit("+a=1"), at(1)), (get("a"), found(""))]),
        "  client 0 [3..4] get a -> nothing: there is a=\"1\"@1"
    );
}

#[test]
fn a_read_is_not_stale() {
    let first = || vec![(commit("+a=1"), at(1))];
    let rest = || vec![(commit("+a=2"), at(2)), (get("a"), found("a=1@1"))];
    let mut all = first();
    all.extend(rest());
    assert_eq!(
        bad(&in_turn(all)).to_string(),
        "not linearizable: the first is at least at revision 2; the second began later, and is at most at revision 1\n  \
         client 0 [3..4] commit [put a=\"2\"] -> committed at 2\n  \
         client 0 [5..6] get a -> a=\"1\"@1"
    );
    good(&together(first(), rest()));
}

#[test]
fn a_guard_holds_when_its_commit_succeeds() {
    let setup = || vec![(commit("+a=1"), at(1)), (commit("+a=2"), at(2))];
    for (guarded, fine) in [
        ("?a@1 +b=1", false),
        ("?a@2 +b=1", true),
        ("!a +b=1", false),
        ("?a +b=1", true),
        ("?b +b=1", false),
        ("!b +b=1", true),
    ] {
        let mut calls = setup();
        calls.push((commit(guarded), at(3)));
        if fine { good(&in_turn(calls)) } else { drop(bad(&in_turn(calls))) }
    }
    // Two that both demand the same: a lost update.
    let rivals = || vec![(commit("?a@2 +a=3"), at(3)), (commit("?a@2 +a=4"), at(4))];
    bad(&together(setup(), rivals()));
    let one_refused = vec![(commit("?a@2 +a=3"), at(3)), (commit("?a@2 +a=4"), conflict("a@3"))];
    good(&together(setup(), one_refused));
}

#[test]
fn what_is_acknowledged_is_there() {
    let calls = || vec![(commit("+a=1"), at(1)), (get("a"), found(""))];
    bad(&in_turn(calls()));
    good(&together(vec![], calls()));
    bad(&in_turn(vec![(commit("+a=1"), at(1)), (commit("-a"), at(2)), (get("a"), found("a=1@1"))]));
    good(&in_turn(vec![(commit("+a=1"), at(1)), (commit("-a"), at(2)), (get("a"), found(""))]));
}

#[test]
fn a_read_shows_what_was_written_there() {
    good(&in_turn(vec![(commit("+a=1"), at(1)), (get("a"), found("a=1@1"))]));
    bad(&in_turn(vec![(commit("+a=1"), at(1)), (get("a"), found("a=2@1"))]));
    bad(&in_turn(vec![(commit("+a=1"), at(1)), (get("a"), found("a=1@2"))]));
    bad(&in_turn(vec![(commit("+a=1"), at(1)), (get("b"), found("b=1@1"))]));
    bad(&in_turn(vec![(commit("+a=1"), at(1)), (get("b"), found("a=1@1"))]));
    bad(&in_turn(vec![(commit("+a=1"), Outcome::NotStarted), (get("a"), found("a=1@1"))]));
    bad(&in_turn(vec![(get("a"), at(1))]));
}

#[test]
fn a_commit_is_seen_whole() {
    let setup = || vec![(commit("+a=1 +b=1"), at(1))];
    let both = |words| vec![(commit("+a=2 +b=2"), at(2)), (scan(), page(words, 2))];
    good(&together(setup(), both("a=2@2 b=2@2")));
    bad(&together(setup(), both("a=2@2 b=1@1")));
    bad(&together(setup(), both("a=2@2")));
    bad(&together(setup(), both("b=2@2 a=2@2")));
    // Before the commit, and therefore at the revision before.
    bad(&together(setup(), both("a=1@1 b=1@1")));
    good(&together(setup(), vec![(commit("+a=2 +b=2"), at(2)), (scan(), page("a=1@1 b=1@1", 1))]));
}

#[test]
fn a_page_leaves_out_nothing_but_what_is_more() {
    let list = |after: Option<&str>, words: &str, more| {
        let mut request = ScanRequest::new(Prefix::new(["p"]).unwrap()).limit(1);
        request.after = after.map(super::words::key);
        let records = words.split_whitespace().map(record).collect();
        let outcome = Outcome::Page(ScanPage::new(Revision::new(1), records, more));
        in_turn(vec![(commit("+o=1 +p/a=1 +p/c=1 +q=1"), at(1)), (Call::Scan(request), outcome)])
    };
    good(&list(None, "p/a=1@1", true));
    good(&list(None, "p/a=1@1 p/c=1@1", false));
    bad(&list(None, "p/a=1@1 p/c=1@1", true));
    bad(&list(None, "p/c=1@1", false));
    bad(&list(None, "p/a=1@1", false));
    bad(&list(None, "p/a=1@1 p/c=1@1 q=1@1", false));
    good(&list(Some("p/a"), "p/c=1@1", false));
    good(&list(Some("p/b"), "p/c=1@1", false));
    bad(&list(Some("p/a"), "p/a=1@1 p/c=1@1", false));
    good(&list(Some("p/c"), "", false));
    good(&list(Some("z"), "", false));
}

#[test]
fn a_conflict_is_true() {
    let setup = || vec![(commit("+a=1 +b=1"), at(1))];
    let refused = |words, outcome| {
        let mut calls = setup();
        calls.push((commit(words), outcome));
        in_turn(calls)
    };
    good(&refused("!a +c=1", conflict("a@1")));
    good(&refused("!a +c=1", Outcome::Conflict(None)));
    bad(&refused("!a +c=1", conflict("a@2")));
    bad(&refused("!a +c=1", conflict("a")));
    bad(&refused("!a +c=1", conflict("b@1")));
    bad(&refused("?a@1 +c=1", Outcome::Conflict(None)));
    bad(&refused("?a@1 +c=1", conflict("a@1")));
    // It names the first.
    good(&refused("!a !b", conflict("a@1")));
    bad(&refused("!a !b", conflict("b@1")));
    good(&refused("?a !b", conflict("b@1")));
    // It did nothing.
    let calls = vec![(commit("!a +c=1"), conflict("a@1")), (get("c"), found("c=1@2"))];
    bad(&together(setup(), calls));
    // At its instant there was a reason, before or after.
    let calls = |deleted, outcome| vec![(commit("-a"), at(deleted)), (commit("?a@1 +c=1"), outcome)];
    good(&together(setup(), calls(2, conflict("a"))));
    good(&together(setup(), calls(3, at(2))));
    bad(&together(setup(), calls(2, at(3))));
    bad(&together(setup(), calls(2, conflict("a@2"))));
}

#[test]
fn what_changes_nothing_gets_the_newest_revision() {
    let after = |words, number| in_turn(vec![(commit("+a=1"), at(1)), (commit(words), at(number))]);
    good(&after("-b", 1));
    good(&after("?a@1", 1));
    good(&after("", 1));
    bad(&after("-a", 1));
    bad(&after("-a -b", 1));
    good(&after("-a -b", 2));
    bad(&after("+a=1", 1));
    bad(&after("", 0));
    let both = vec![(commit("-a"), at(2)), (commit("-a"), at(2))];
    good(&together(vec![(commit("+a=1"), at(1))], both));
    let both = vec![(commit("-a"), at(2)), (commit("-a"), at(2))];
    bad(&together(vec![(commit("+a=1 +b=1"), at(1)), (commit("-b"), at(2))], both));
}

#[test]
fn readers_agree_on_the_order_of_writers() {
    let readers = |second: [&str; 2]| {
        let history = History::new();
        let x = history.invoke(1, commit("+x=1"));
        let y = history.invoke(2, commit("+y=1"));
        run(&history, vec![(get("x"), found("x=1@1")), (get("y"), found(""))]);
        run(&history, vec![(get("y"), found(second[0])), (get("x"), found(second[1]))]);
        history.complete(x, at(1));
        history.complete(y, at(2));
        history
    };
    good(&readers(["y=1@2", "x=1@1"]));
    good(&readers(["", "x=1@1"]));
    bad(&readers(["y=1@2", ""]));
}

#[test]
fn a_slow_operation_may_be_anywhere_in_its_time() {
    let slow = |word: &str| {
        let history = in_turn(vec![(commit("+a=0"), at(1))]);
        let token = history.invoke(1, get("a"));
        run(&history, (2..300).map(|n| (commit(&format!("+a={n}")), at(n))).collect());
        history.complete(token, found(word));
        history
    };
    good(&slow("a=0@1"));
    good(&slow("a=150@150"));
    good(&slow("a=299@299"));
    bad(&slow("a=299@298"));
}

#[test]
fn a_store_need_not_begin_empty() {
    let history = |word| {
        let history = History::starting_with([record("a=1@7")]);
        run(&history, vec![(get("a"), found(word)), (commit("?a@7 +a=2"), at(9))]);
        history
    };
    good(&history("a=1@7"));
    bad(&history(""));
    bad(&history("a=2@7"));
    let history = History::starting_with([record("a=1@7")]);
    at_once(&history, vec![(commit("+b=1"), at(7))]);
    bad(&history);
}

#[test]
fn the_past_was_once_the_present() {
    let past = |word| (Call::Get(super::words::key("a"), Some(Revision::new(1))), found(word));
    let calls = |word| vec![(commit("+a=1"), at(1)), (commit("+a=2"), at(2)), past(word)];
    good(&in_turn(calls("a=1@1")));
    bad(&in_turn(calls("a=2@1")));
    bad(&in_turn(calls("a=1@3")));
    bad(&in_turn(vec![past("a=1@1"), (commit("+a=1"), at(1))]));
    good(&in_turn(vec![(commit("+a=1"), Outcome::Unknown), past("a=1@1")]));
    bad(&in_turn(vec![(commit("+a=1"), Outcome::Unknown), past("a=1@0")]));
}
