//! What every [`StorageProvider`] and [`NodeStorage`] must do, as cases that anybody can run (feature `testkit`).
//!
//! Each [`Case`] runs on a fresh [`Fixture`] and says what it [`Need`]s; what is missing is in the [`Report`], so that
//! nothing is skipped in silence. Every capability that can be claimed is needed by at least one case.
//!
//! What the ports do not show is not proved: that an encrypted volume is unreadable below the provider, that replicas
//! are as many as asked for and apart, that a performance class is fast. For those the suite proves only that the wish
//! is accepted, kept, and compared when the creation is repeated. What is *in* volumes is proved where the fixture has
//! a [`Content`], such as [`PublishedContent`].
//!
//! Outside semantic versioning: new cases may be added at any time.

mod attach;
mod content;
mod create;
mod delete;
mod expand;
mod fence;
mod fixture;
mod groups;
mod list;
mod node;
mod node_paths;
mod places;
mod secrets;
mod snapshots;
mod sources;
mod support;
mod unsupported;

use hivemind_core::BoxFuture;

pub use self::content::{Content, PublishedContent};
pub use self::fixture::{Fixture, Need};
#[cfg(doc)]
use crate::{NodeStorage, StorageProvider};

/// What a case does on a fresh fixture; `Err` says what went wrong.
pub type CaseFn = fn(Fixture) -> BoxFuture<'static, std::result::Result<(), String>>;

/// One named case: what it needs, and what it does on a fresh fixture.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Case {
    /// The name.
    pub name: &'static str,
    /// Without each of these it does not apply.
    pub needs: &'static [Need],
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
    /// Names of cases that do not apply, and what is missing.
    pub skipped: Vec<(&'static str, Need)>,
}

impl Report {
    /// Whether no case failed.
    pub fn is_ok(&self) -> bool {
        self.failed.is_empty()
    }
}

/// Every case, in the order in which they run: by subject.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    [
        create::CASES,
        delete::CASES,
        list::CASES,
        expand::CASES,
        attach::CASES,
        fence::CASES,
        snapshots::CASES,
        sources::CASES,
        groups::CASES,
        places::CASES,
        secrets::CASES,
        unsupported::CASES,
        node::CASES,
        node_paths::CASES,
    ]
    .into_iter()
    .flatten()
}

/// Runs every case that applies, each on a fresh fixture from `make`.
pub async fn run_all<F: Future<Output = Fixture>>(make: impl Fn() -> F) -> Report {
    let mut report = Report::default();
    for case in cases() {
        let fixture = make().await;
        if let Some(missing) = case.needs.iter().find(|need| !need.is_met_by(&fixture)) {
            report.skipped.push((case.name, *missing));
            continue;
        }
        match (case.run)(fixture).await {
            Ok(()) => report.passed.push(case.name),
            Err(why) => report.failed.push((case.name, why)),
        }
    }
    report
}
