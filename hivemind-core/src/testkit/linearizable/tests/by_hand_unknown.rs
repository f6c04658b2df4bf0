//! Each kind of violation that involves an unknown outcome, and its legal twin.

use super::words::{at, bad, commit, conflict, found, get, good, in_turn, newest, page, run, scan};
use crate::testkit::linearizable::{Call, History, Outcome, Violation, check, check_within};

/// Commits of unknown outcome, and then what else there was.
fn after(unknown: &[&str], calls: Vec<(Call, Outcome)>) -> History {
    let history = in_turn(unknown.iter().map(|words| (commit(words), Outcome::Unknown)).collect());
    run(&history, calls);
    history
}

#[test]
fn an_unknown_commit_happens_or_not_or_later() {
    let missing = || (get("a"), found(""));
    let there = |revision| (get("a"), found(&format!("a=1@{revision}")));
    good(&after(&["+a=1"], vec![]));
    good(&after(&["+a=1"], vec![missing(), missing()]));
    good(&after(&["+a=1"], vec![there(4), there(4)]));
    good(&after(&["+a=1"], vec![missing(), (commit("+b=1"), at(1)), there(2)]));
    bad(&after(&["+a=1"], vec![there(4), missing()]));
    bad(&after(&["+a=1"], vec![(get("a"), found("a=2@4"))]));
    bad(&after(&["+a=1"], vec![(commit("+b=1"), at(3)), (commit("+b=1"), at(4)), missing(), there(2)]));
}

#[test]
fn an_unknown_commit_happens_at_most_once() {
    let twice = || vec![(get("a"), found("a=1@4")), (commit("-a"), at(5)), (get("a"), found("a=1@6"))];
    bad(&after(&["+a=1"], twice()));
    good(&after(&["+a=1", "+a=1"], twice()));
    bad(&after(&["+a=1", "!a +b=1"], twice()));
}

#[test]
fn an_unknown_commit_does_not_happen_before_it_begins() {
    let read = || (get("a"), found("a=1@1"));
    bad(&in_turn(vec![read(), (commit("+a=1"), Outcome::Unknown)]));
    good(&in_turn(vec![(commit("+a=1"), Outcome::Unknown), read()]));
}

#[test]
fn a_call_without_reply_is_pending_for_ever() {
    let history = History::new();
    let pending = history.invoke(1, commit("+a=1"));
    drop(pending);
    drop(history.invoke(2, get("a")));
    run(&history, vec![(get("a"), found("")), (get("a"), found("a=1@3"))]);
    assert_eq!(check(&history).unwrap().order, [2, 0, 3]);
}

#[test]
fn the_guards_of_an_unknown_commit_hold_if_it_happens() {
    let setup = |words: &str, word: &str| {
        in_turn(vec![
            (commit("+a=1"), at(1)),
            (commit("+a=2"), at(2)),
            (commit(words), Outcome::Unknown),
            (get("b"), found(word)),
        ])
    };
    good(&setup("?a@2 +b=1", "b=1@3"));
    bad(&setup("?a@1 +b=1", "b=1@3"));
    good(&setup("?a@1 +b=1", ""));
    bad(&setup("!a +b=1", "b=1@3"));
}

#[test]
fn an_unseen_delete_shows_in_what_is_missing() {
    let with = |unknown: &str, calls: Vec<(Call, Outcome)>| {
        let history = in_turn(vec![(commit("+a=1 +b=1"), at(1)), (commit(unknown), Outcome::Unknown)]);
        run(&history, calls);
        history
    };
    let gone = || (get("a"), found(""));
    good(&with("-a", vec![gone()]));
    bad(&with("-b", vec![gone()]));
    bad(&with("-a", vec![gone(), (get("a"), found("a=1@1"))]));
    good(&with("-a", vec![(commit("!a +c=1"), at(5))]));
    good(&with("-a", vec![(commit("?a +c=1"), conflict("a"))]));
    bad(&with("-a", vec![(commit("?a +c=1"), conflict("a")), (commit("?a@1"), at(5))]));
    good(&with("-a", vec![(commit("-a"), at(1))]));
    // All of it happens, or nothing.
    good(&with("-a -b", vec![gone(), (get("b"), found(""))]));
    bad(&with("-a -b", vec![gone(), (get("b"), found("b=1@1"))]));
    // Also when one half is overwritten before the other is noticed.
    let half = || vec![(commit("+b=2"), at(7)), (scan(), page("b=2@7", 7))];
    good(&with("?b@1 -a -b", half()));
    good(&with("-a -b", half()));
    bad(&with("?b@2 -a -b", half()));
}

#[test]
fn an_unseen_put_shows_in_guards() {
    good(&after(&["+a=1"], vec![(commit("?a +b=1"), at(9))]));
    good(&after(&["+a=1"], vec![(commit("!a +b=1"), Outcome::Conflict(None))]));
    good(&after(&["+a=1"], vec![(commit("!a +b=1"), conflict("a@3"))]));
    bad(&after(&["+a=1"], vec![(commit("?a +b=1"), at(9)), (get("a"), found(""))]));
    bad(&after(&["+a=1"], vec![(commit("!a +b=1"), Outcome::Conflict(None)), (commit("!a"), at(4))]));
    bad(&after(&["+b=1"], vec![(commit("?a +b=1"), at(9))]));
}

#[test]
fn unknown_commits_may_need_each_other() {
    let calls = || vec![(get("c"), found("c=1@9"))];
    good(&after(&["+a=1", "?a +b=1", "?b +c=1"], calls()));
    bad(&after(&["?a +b=1", "?b +c=1"], calls()));
    // The revision that a guard demands was learned from elsewhere, such as a watch.
    good(&after(&["+a=1", "?a@4 +c=1"], calls()));
    bad(&after(&["+a=1", "?a@10 +c=1"], calls()));
    bad(&after(&["?a@4 +c=1"], calls()));
}

#[test]
fn a_revision_that_only_a_guard_tells_of_does_not_excuse_one_that_goes_back() {
    let unknown = ["+a=1", "?a@4 -b"];
    good(&after(&unknown, vec![(Call::Revision, newest(4)), (commit("!c -d"), at(4))]));
    bad(&after(&unknown, vec![(Call::Revision, newest(4)), (commit("!c -d"), at(2))]));
}

#[test]
fn giving_up_is_not_a_verdict() {
    let history = after(&["+a=1"], vec![(get("a"), found("a=1@1")), (get("a"), found(""))]);
    bad(&history);
    let undecided = check_within(&history, 0).unwrap_err();
    assert!(matches!(undecided, Violation::Undecided { .. }), "{undecided}");
}
