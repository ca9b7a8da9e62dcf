//! The results of the checks.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The promise was kept.
    Passed,
    /// The promise was broken, with the message of the check.
    Failed(String),
    /// The capability of the tier excludes the promise.
    NotApplicable(&'static str),
}

/// Why a check does not apply.
#[derive(Debug)]
pub(crate) struct NotApplicable(pub(crate) &'static str);

/// The result of a check, which panics when a promise is broken.
pub(crate) type Verdict = Result<(), NotApplicable>;

/// The outcomes of all checks on one subject. Displays as a list.
#[derive(Clone, Debug)]
pub struct Report {
    subject: String,
    outcomes: Vec<(&'static str, Outcome)>,
}

impl Report {
    pub(crate) fn new(subject: &str) -> Self {
        Self { subject: subject.to_owned(), outcomes: Vec::new() }
    }

    pub(crate) fn record(&mut self, name: &'static str, check: impl FnOnce() -> Verdict) {
        let outcome = match catch_unwind(AssertUnwindSafe(check)) {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(NotApplicable(reason))) => Outcome::NotApplicable(reason),
            Err(panic) => Outcome::Failed(message(&*panic)),
        };
        self.outcomes.push((name, outcome));
    }

    /// Returns every check with its outcome, in the order they ran.
    pub fn outcomes(&self) -> &[(&'static str, Outcome)] {
        &self.outcomes
    }

    /// Returns the outcome of the check `name`, if there is such a check.
    pub fn outcome(&self, name: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|(held, _)| *held == name).map(|(_, outcome)| outcome)
    }

    /// Returns the names of the checks that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        let has_failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
        self.outcomes.iter().filter(|(_, outcome)| has_failed(outcome)).map(|(name, _)| *name).collect()
    }

    /// Asserts that no check failed.
    ///
    /// # Panics
    /// With the whole list if a check failed.
    pub fn assert_all(&self) {
        assert!(self.failed().is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failed().len();
        writeln!(f, "{}: {failed} of {} checks failed", self.subject, self.outcomes.len())?;
        for (name, outcome) in &self.outcomes {
            match outcome {
                Outcome::Passed => writeln!(f, "  passed  {name}")?,
                Outcome::Failed(reason) => writeln!(f, "  FAILED  {name}: {reason}")?,
                Outcome::NotApplicable(reason) => writeln!(f, "  n/a     {name}: {reason}")?,
            }
        }
        Ok(())
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}
