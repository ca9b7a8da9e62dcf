//! Holds tiers and memory stores to what their traits promise.
//!
//! Each promise in a `# Behavior` list of [`Tier`](larder_core::tier::Tier)
//! that can be seen from outside is a check with a name. A check runs on a
//! place of its own, knows no implementation, and goes by
//! [`Capability`](larder_core::tier::Capability): what a tier says it cannot
//! do is not applicable. A tier of your own is tested like this:
//!
//! ```
//! use larder_testkit::conformance::{Subject, run};
//! use larder_testkit::{HashMapTier, Shelf};
//!
//! // The outer closure makes an empty place, the inner one opens a tier on
//! // it, as often as it is called. For files: a temporary folder, and the
//! // tier in it.
//! let subject = Subject::new("hash map", || {
//!     let shelf = Shelf::default();
//!     move || HashMapTier::on(&shelf)
//! });
//! run(&subject).assert_all();
//! run(&subject.through_arc()).assert_all();
//! run(&subject.through_box()).assert_all();
//! ```

mod checks;
mod memory;
mod report;
mod subject;

pub use memory::memory;
pub use report::{Outcome, Report};
pub use subject::Subject;

/// Runs every check on `subject`, each on a fresh place; one that panics has
/// failed, and the others still run.
///
/// Takes a few seconds: the largest frame is 5 MiB, and no check sleeps.
pub fn run(subject: &Subject) -> Report {
    let mut report = Report::new(subject.name());
    for (name, check) in checks::ALL {
        report.record(name, || check(&subject.fresh()));
    }
    report
}

/// The names of all checks that [`run`] runs, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    checks::ALL.iter().map(|(name, _)| *name)
}
