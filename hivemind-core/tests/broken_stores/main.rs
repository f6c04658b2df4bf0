//! The suite finds what adapters get wrong: each store here has one bug, and the cases about it fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod store;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;

use hivemind_core::conformance::state_store::{CASES, run_case};
use hivemind_core::testkit::Sim;

use self::store::Broken;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bug {
    None,
    RevisionsSkipOne,
    BookkeepingShows,
    GuardsIgnored,
    GuardsCheckedTooEarly,
    ConflictNamesTheLastKey,
    ConflictLeavesATrace,
    TxnInTwoSteps,
    EmptyValueIsAbsence,
    DeletedKeyIsNotAbsent,
    UnchangedMeansNewest,
    ValuesAreText,
    EqualPutIsNoChange,
    MissingDeleteIsAChange,
    LimitsNotEnforced,
    LimitsOneTooLow,
    CreateRevisionLost,
    GetFindsWhatIsBelow,
    GetIgnoresTheRevision,
    ScanIgnoresTheRevision,
    FutureReadsThePresent,
    ScanIsBackwards,
    ScanTellsTheLastChange,
    PrefixIsBytes,
    MoreAtTheBoundary,
    NextPageRepeatsTheLast,
    CompactionForgetsNothing,
    ExpiredEndsInSilence,
    WatchMissesABatch,
    WatchRepeatsABatch,
    WatchSplitsABatch,
    WatchForgetsDeletes,
    WatchHearsEverything,
    WatchBeginsOneTooLate,
    WatchWithoutBookmarks,
    WatchIsNotWoken,
}

/// Which cases must fail, among others.
const EXPECTED: &[(Bug, &[&str])] = &[
    (Bug::RevisionsSkipOne, &["the_first_commit_gets_the_next_revision", "revisions_grow_by_one"]),
    (Bug::BookkeepingShows, &["an_empty_store_holds_nothing", "the_root_is_everything"]),
    (Bug::EmptyValueIsAbsence, &["a_value_may_be_empty", "exists_holds_for_an_existing_key"]),
    (Bug::DeletedKeyIsNotAbsent, &["absent_holds_for_a_deleted_key"]),
    (Bug::UnchangedMeansNewest, &["unchanged_holds_until_the_next_put"]),
    (Bug::ValuesAreText, &["values_may_hold_any_byte"]),
    (Bug::LimitsOneTooLow, &["the_most_operations_are_accepted", "the_largest_value_is_accepted"]),
    (Bug::GetFindsWhatIsBelow, &["what_was_put_is_read"]),
    (Bug::ScanIsBackwards, &["a_scan_is_in_key_order", "the_root_is_everything"]),
    (Bug::ScanTellsTheLastChange, &["a_scan_of_nothing_tells_the_newest_revision"]),
    (Bug::GuardsIgnored, &["absent_fails_for_an_existing_key", "no_increment_is_lost"]),
    (Bug::GuardsCheckedTooEarly, &["no_increment_is_lost", "of_rival_creators_one_wins"]),
    (Bug::ConflictNamesTheLastKey, &["a_conflict_names_the_first_key_in_key_order"]),
    (
        Bug::ConflictLeavesATrace,
        &["a_refused_transaction_changes_nothing", "a_refused_transaction_is_no_event"],
    ),
    (Bug::TxnInTwoSteps, &["readers_never_see_half_a_transaction", "several_writes_share_one_revision"]),
    (Bug::EqualPutIsNoChange, &["an_equal_value_is_a_change"]),
    (Bug::MissingDeleteIsAChange, &["deleting_a_missing_key_changes_nothing"]),
    (
        Bug::LimitsNotEnforced,
        &[
            "too_many_writes_are_refused",
            "too_many_guards_are_refused",
            "too_large_a_value_is_refused",
            "too_large_a_transaction_is_refused",
        ],
    ),
    (Bug::CreateRevisionLost, &["a_put_again_keeps_the_create_revision"]),
    (Bug::GetIgnoresTheRevision, &["gets_of_the_past_are_exact"]),
    (Bug::ScanIgnoresTheRevision, &["scans_of_the_past_are_exact", "pages_stay_at_one_revision"]),
    (Bug::FutureReadsThePresent, &["the_future_cannot_be_read"]),
    (Bug::PrefixIsBytes, &["a_prefix_is_whole_segments", "a_prefix_excludes_the_key_of_its_own_name"]),
    (Bug::MoreAtTheBoundary, &["more_is_exact_at_the_boundary"]),
    (Bug::NextPageRepeatsTheLast, &["pages_join_without_gap_or_repeat", "a_page_begins_after_any_key"]),
    (
        Bug::CompactionForgetsNothing,
        &["the_compacted_past_is_refused", "a_watch_of_the_compacted_past_is_refused"],
    ),
    (Bug::ExpiredEndsInSilence, &["a_watch_across_a_compaction_has_no_gap"]),
    (Bug::WatchMissesABatch, &["a_slow_reader_misses_nothing", "an_interleaved_reader_misses_nothing"]),
    (Bug::WatchRepeatsABatch, &["a_slow_reader_misses_nothing", "a_cancelled_wait_loses_nothing"]),
    (Bug::WatchSplitsABatch, &["a_batch_is_a_whole_transaction"]),
    (Bug::WatchForgetsDeletes, &["a_deleted_key_is_an_event", "batches_rebuild_what_a_scan_shows"]),
    (Bug::WatchHearsEverything, &["a_watch_hears_only_its_prefix"]),
    (Bug::WatchBeginsOneTooLate, &["a_watch_from_the_past_replays"]),
    (Bug::WatchIsNotWoken, &["a_waiting_watch_is_woken"]),
    (Bug::WatchWithoutBookmarks, &["a_quiet_watch_tells_how_far_it_is"]),
];

/// The cases that fail; one that would never end, fails too.
fn failing(bug: Bug) -> BTreeSet<&'static str> {
    let fails = |name: &str| {
        let sim = Sim::new(1).with_max_steps(100_000);
        !matches!(sim.run(run_case(name, Arc::new(Broken::new(bug)))), Ok(Ok(())))
    };
    CASES.iter().map(|(name, _)| *name).filter(|name| fails(name)).collect()
}

#[test]
fn without_a_bug_nothing_fails() {
    assert_eq!(failing(Bug::None), BTreeSet::new());
}

#[test]
fn each_bug_fails_the_cases_about_it_and_each_case_finds_a_bug() {
    let mut idle: BTreeSet<_> = CASES.iter().map(|(name, _)| *name).collect();
    for (bug, expected) in EXPECTED {
        let failing = failing(*bug);
        for case in *expected {
            assert!(failing.contains(case), "{bug:?} passes {case}, and fails only {failing:?}");
        }
        idle.retain(|case| !failing.contains(case));
    }
    assert_eq!(idle, BTreeSet::new(), "these cases find none of the bugs");
}
