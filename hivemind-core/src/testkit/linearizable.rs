//! Whether what concurrent clients were told by a store can be true. No I/O, no clock, no async.
//!
//! A [`History`] records what clients asked and were told, and in which order: by hand, or by a [`Recorded`] store in
//! front of any other. [`check`] looks for one order of all operations, in keeping with the times at which they began
//! and ended, in which every reply is what a single correct store would have said.
//!
//! ```
//! use std::sync::Arc;
//!
//! use hivemind_core::store::{Key, Txn};
//! use hivemind_core::testkit::linearizable::{History, Outcome, Recorded, check};
//! use hivemind_core::{MemoryStore, StateStore, block_on};
//!
//! let (store, history) = (Arc::new(MemoryStore::new()), History::new());
//! let (ann, bob) = (Recorded::new(store.clone(), &history, 1), Recorded::new(store, &history, 2));
//! let key = Key::new(["a"])?;
//! let mut txn = Txn::new();
//! txn.put(key.clone(), "1");
//! block_on(ann.commit(&txn))?;
//! block_on(bob.get(&key, None))?;
//! assert_eq!(check(&history)?.order, [0, 1]);
//!
//! // A store that has forgotten what it acknowledged.
//! let call = history.operations().pop().unwrap().call;
//! let token = history.invoke(2, call);
//! history.complete(token, Outcome::Found(None));
//! let violation = check(&history).unwrap_err();
//! assert!(violation.to_string().ends_with("get a -> nothing: there is a=\"1\"@1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is checked
//!
//! Commits, gets and scans of the newest revision, and the newest revision itself. Reads of the past only show what
//! must have been committed before they ended. Watches and compactions are not recorded.
//! Revisions must grow, and may have gaps, since an engine may be shared; but all that is written to the recorded keys
//! must be recorded. A commit of unknown outcome may take effect at any time after it began, once, or never; whether a
//! number was left for its revision is not checked if nobody saw it. A conflict must be a true one: a
//! [`FaultyStore`](super::FaultyStore) that invents some does not pass.
//!
//! # What it costs
//!
//! Deciding is NP-complete, but revisions tell nearly all of the order. Ten thousand operations are checked in a
//! fraction of a second if few commits of unknown outcome delete: say, a fifth of all commits unknown and none of them
//! a delete, or a twentieth unknown and a twentieth of all writes deletes. With many of them, above all such as also
//! write something else, the search can give up with [`Violation::Undecided`], which is an error but no proof: a test of a broken store must tell it apart.

mod explain;
mod facts;
mod hidden;
mod history;
mod problem;
mod recorded;
mod ring;
mod search;
mod spans;
#[cfg(test)]
mod tests;
mod translate;
mod verdict;

pub use history::{Call, History, Operation, Outcome, Token};
pub use recorded::Recorded;
pub use verdict::{Blocked, Report, Violation};

use problem::Problem;
use search::Search;

/// How many configurations [`check`] visits at most.
pub const CONFIGURATIONS: usize = 1_000_000;

/// Looks for an order of all operations that explains every reply.
///
/// # Errors
/// The [`Violation`] says which operations cannot be ordered, or that the search was given up.
pub fn check(history: &History) -> Result<Report, Violation> {
    check_within(history, CONFIGURATIONS)
}

/// Like [`check`], and gives up after so many configurations; each takes a hundred bytes or so.
///
/// # Errors
/// As [`check`].
pub fn check_within(history: &History, configurations: usize) -> Result<Report, Violation> {
    Search::new(&Problem::new(history)?).run(configurations)
}
