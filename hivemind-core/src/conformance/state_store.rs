//! Proves a [`StateStore`]: every sentence of the port's Contract, case by case.
//!
//! ```
//! use hivemind_core::conformance::state_store;
//! use hivemind_core::{MemoryStore, block_on};
//! use std::sync::Arc;
//!
//! // Every case gets a store of its own, which must be empty.
//! let report = block_on(state_store::run_all(|| async { Arc::new(MemoryStore::new()) }));
//! report.assert_passed();
//! ```
//!
//! The cases need no runtime and no clock of their own; the store may need one. A store that never answers hangs the
//! suite: give the test a time limit. Nobody else may write to the store meanwhile. Its revisions may begin anywhere.

mod commits;
mod compaction;
mod concurrency;
mod guards;
mod keys;
mod limits;
mod past;
mod relative;
mod scans;
mod support;
mod watch_ends;
mod watches;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use self::relative::Relative;
use super::{Failure, Report};
use crate::{BoxFuture, StateStore};

/// A case: takes an empty store that counts its revisions from zero, and says what is wrong with it.
///
/// [`run_case`] runs one on any empty store, wherever its revisions begin.
pub type CaseFn = fn(Arc<dyn StateStore>) -> BoxFuture<'static, Result<(), Failure>>;

/// An empty store for one case, and whatever must live as long: a directory, a container.
pub struct Fixture {
    store: Arc<dyn StateStore>,
    guard: Option<Box<dyn Any + Send>>,
}

impl Fixture {
    /// `store`, and `guard`, which is dropped after the case.
    pub fn new(store: Arc<dyn StateStore>, guard: impl Any + Send) -> Self {
        Self { store, guard: Some(Box::new(guard)) }
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("store", &self.store).finish_non_exhaustive()
    }
}

impl From<Arc<dyn StateStore>> for Fixture {
    fn from(store: Arc<dyn StateStore>) -> Self {
        Self { store, guard: None }
    }
}

impl<S: StateStore> From<Arc<S>> for Fixture {
    fn from(store: Arc<S>) -> Self {
        Self { store, guard: None }
    }
}

/// Runs every case, each on a store that `make` makes for it.
pub async fn run_all<F, Fut>(mut make: F) -> Report
where
    F: FnMut() -> Fut,
    Fut: Future<Output: Into<Fixture>>,
{
    let mut report = Report::default();
    for (name, case) in CASES {
        let Fixture { store, guard } = make().await.into();
        report.add(name, run(*case, store).await);
        drop(guard);
    }
    report
}

/// Runs the case called `name` on `store`, which must be empty.
///
/// # Errors
/// What is wrong with the store, or that there is no such case.
pub async fn run_case(name: &str, store: Arc<dyn StateStore>) -> Result<(), Failure> {
    match CASES.iter().find(|(case, _)| *case == name) {
        Some((_, case)) => run(*case, store).await,
        None => Err(Failure::new(format!("there is no case {name:?}: see CASES"))),
    }
}

async fn run(case: CaseFn, store: Arc<dyn StateStore>) -> Result<(), Failure> {
    case(Arc::new(Relative::to_now(store).await?)).await
}

macro_rules! cases {
    ($($group:ident: $($case:ident)*;)*) => {
        /// Every case by name, in the order in which [`run_all`] runs them.
        pub const CASES: &[(&str, CaseFn)] =
            &[$($((stringify!($case), |store| Box::pin($group::$case(store))),)*)*];
    };
}

cases! {
    commits:
        an_empty_store_holds_nothing
        the_first_commit_gets_the_next_revision
        revisions_grow_by_one
        what_was_put_is_read
        a_put_again_keeps_the_create_revision
        a_delete_removes_the_key
        a_recreated_key_is_a_new_one
        an_equal_value_is_a_change
        an_empty_transaction_changes_nothing
        guards_alone_change_nothing
        deleting_a_missing_key_changes_nothing
        several_writes_share_one_revision;
    guards:
        absent_holds_for_a_missing_key
        absent_holds_for_a_deleted_key
        absent_fails_for_an_existing_key
        exists_holds_for_an_existing_key
        exists_fails_for_a_missing_key
        exists_fails_for_a_deleted_key
        unchanged_holds_until_the_next_put
        unchanged_fails_after_a_put
        unchanged_fails_after_a_delete
        unchanged_fails_for_a_recreated_key
        a_guard_protects_a_key_that_is_not_written
        a_conflict_names_the_first_key_in_key_order
        a_refused_transaction_changes_nothing;
    scans:
        a_scan_is_in_key_order
        a_prefix_is_whole_segments
        a_prefix_excludes_the_key_of_its_own_name
        the_root_is_everything
        a_scan_of_nothing_tells_the_newest_revision
        pages_join_without_gap_or_repeat
        more_is_exact_at_the_boundary
        a_limit_of_zero_counts_as_one
        a_page_begins_after_any_key
        pages_stay_at_one_revision;
    past:
        gets_of_the_past_are_exact
        scans_of_the_past_are_exact
        before_the_first_transaction_there_is_nothing
        the_future_cannot_be_read;
    compaction:
        the_compacted_past_is_refused
        compaction_keeps_the_present
        the_revision_of_the_compaction_stays_readable
        what_was_deleted_stays_deleted
        compacting_backwards_changes_nothing
        compacting_the_future_is_refused
        compaction_gets_no_revision
        pages_of_a_compacted_revision_are_refused;
    watches:
        a_watch_from_the_past_replays
        a_watch_from_the_present_begins_with_the_next
        a_watch_from_the_future_waits_for_it
        a_batch_is_a_whole_transaction
        a_watch_hears_only_its_prefix
        a_quiet_watch_tells_how_far_it_is
        a_deleted_key_is_an_event
        events_carry_the_record
        a_slow_reader_misses_nothing
        an_interleaved_reader_misses_nothing
        every_watch_hears_everything
        a_waiting_watch_is_woken
        a_dropped_watch_disturbs_nobody
        a_cancelled_wait_loses_nothing
        batches_rebuild_what_a_scan_shows;
    watch_ends:
        a_watch_across_a_compaction_has_no_gap
        a_watch_of_the_compacted_past_is_refused
        a_watch_after_a_compaction_goes_on
        a_refused_transaction_is_no_event;
    limits:
        too_many_writes_are_refused
        too_many_guards_are_refused
        too_large_a_value_is_refused
        too_large_a_transaction_is_refused
        the_most_operations_are_accepted
        the_largest_value_is_accepted
        the_largest_transaction_is_accepted;
    keys:
        keys_may_hold_any_byte_but_the_separator
        keys_may_hold_unicode
        the_longest_key_is_accepted
        a_value_may_be_empty
        values_may_hold_any_byte
        five_thousand_keys_are_all_there;
    concurrency:
        of_rival_creators_one_wins
        no_increment_is_lost
        readers_never_see_half_a_transaction
        a_dropped_commit_is_whole_or_nothing
        dropped_reads_change_nothing;
}
