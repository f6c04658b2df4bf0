//! What every [`StorageProvider`] must do, as cases that anybody can run (feature `testkit`).
//!
//! Outside semantic versioning: new cases may be added at any time.

mod cases;

use std::sync::Arc;

use hivemind_core::{BoxFuture, Progress, Result};

pub use self::cases::CASES;
use crate::{Capability, StorageProvider};

/// What a case does on a fresh provider; `Err` says what went wrong.
pub type CaseFn = fn(Arc<dyn StorageProvider>) -> BoxFuture<'static, std::result::Result<(), String>>;

/// One named case: what it needs, and what it does on a fresh provider.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Case {
    /// The name.
    pub name: &'static str,
    /// The capability without which the case does not apply.
    pub needs: Option<Capability>,
    /// The case itself; `Err` says what went wrong.
    pub run: CaseFn,
}

/// Which cases passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Names of cases that passed.
    pub passed: Vec<&'static str>,
    /// Names of cases that failed, and why.
    pub failed: Vec<(&'static str, String)>,
    /// Names of cases that the provider has no capability for.
    pub skipped: Vec<&'static str>,
}

/// Runs every case that applies, each on a fresh provider from `make`.
pub async fn run_all<F: Future<Output = Arc<dyn StorageProvider>>>(make: impl Fn() -> F) -> Report {
    let mut report = Report::default();
    for case in CASES {
        let provider = make().await;
        if case.needs.is_some_and(|needed| !provider.capabilities().contains(&needed)) {
            report.skipped.push(case.name);
            continue;
        }
        match (case.run)(provider).await {
            Ok(()) => report.passed.push(case.name),
            Err(why) => report.failed.push((case.name, why)),
        }
    }
    report
}

/// Repeats a call until it is no longer pending, a bounded number of times.
async fn settle<T, F: Future<Output = Result<Progress<T>>>>(call: impl Fn() -> F) -> Result<T> {
    for _ in 0..1000 {
        if let Progress::Ready(done) = call().await? {
            return Ok(done);
        }
    }
    Err(hivemind_core::Error::internal("settle", "still pending after 1000 repetitions"))
}
