//! What a suite found out.

use std::fmt;

use crate::Error;
use crate::store::InvalidKey;

/// Why a case failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure: say what was found and what was expected.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(format!("a call failed that must not: {error}"))
    }
}

impl From<InvalidKey> for Failure {
    fn from(error: InvalidKey) -> Self {
        Self(format!("the case itself is wrong: {error}"))
    }
}

/// Which cases passed and which failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The cases that passed, in order.
    pub passed: Vec<&'static str>,
    /// The cases that failed, in order, and why.
    pub failed: Vec<(&'static str, Failure)>,
}

impl Report {
    pub(super) fn add(&mut self, case: &'static str, outcome: Result<(), Failure>) {
        match outcome {
            Ok(()) => self.passed.push(case),
            Err(failure) => self.failed.push((case, failure)),
        }
    }

    /// Does nothing if every case passed.
    ///
    /// # Panics
    /// That is its job: when a case failed, with the name and the reason of each that did.
    #[allow(clippy::panic, reason = "a test helper fails by panicking")]
    pub fn assert_passed(&self) {
        if !self.failed.is_empty() {
            panic!("{self}");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.passed.len() + self.failed.len();
        write!(f, "{} of {all} cases passed", self.passed.len())?;
        for (case, failure) in &self.failed {
            write!(f, "\n  {case}: {failure}")?;
        }
        Ok(())
    }
}
