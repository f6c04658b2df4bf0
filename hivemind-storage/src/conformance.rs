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

use std::fmt;

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

    /// Those of the skipped cases that could not be tried for want of something around the provider: they say nothing of
    /// it.
    pub fn untried(&self) -> impl Iterator<Item = &(&'static str, Need)> {
        self.skipped.iter().filter(|(_, need)| need.is_of_the_fixture())
    }
}

/// What failed and why, what could not be tried, and what does not apply: print it, so that nothing is left out in silence.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        let untried = self.untried().count();
        writeln!(
            f,
            "{} cases passed, {} failed, {untried} were NOT TRIED, {} do not apply",
            passed.len(),
            failed.len(),
            skipped.len() - untried
        )?;
        failed.iter().try_for_each(|(name, why)| writeln!(f, "FAILED    {name}: {why}"))?;
        self.untried().try_for_each(|(name, need)| writeln!(f, "NOT TRIED {name}: it needs {need}"))?;
        let others = skipped.iter().filter(|(_, need)| !need.is_of_the_fixture());
        others.into_iter().try_for_each(|(name, need)| writeln!(f, "skipped   {name}: it is about {need}"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Capability;

    #[test]
    fn a_report_says_what_was_left_out_and_why() {
        let report = Report {
            passed: vec!["one"],
            failed: vec![("two", "it is gone".to_owned())],
            skipped: vec![("three", Need::Content), ("four", Need::Without(Capability::Clone))],
        };
        let expected = "1 cases passed, 1 failed, 1 were NOT TRIED, 1 do not apply\n\
            FAILED    two: it is gone\n\
            NOT TRIED three: it needs what reads and writes volumes\n\
            skipped   four: it is about a provider without clone\n";
        assert_eq!(report.to_string(), expected);
    }
}
