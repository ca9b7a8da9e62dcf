//! Conformance checks: test tiers and memory stores against the promises of their traits.
//!
//! Each promise in a `# Behavior` list of [`Tier`](larder_core::tier::Tier) that is
//! visible from outside is a named check. A check runs on an empty storage place of its
//! own, and knows no implementation. It follows the tier's
//! [`Capability`](larder_core::tier::Capability): a check of something that the tier
//! cannot do is not applicable. To test your own tier:
//!
//! ```
//! use larder_testkit::conformance::{Subject, run};
//! use larder_testkit::{HashMapTier, MapStorage};
//!
//! // The outer closure makes an empty place, the inner one opens a tier on
//! // it, as often as it is called. For files: a temporary folder, and the
//! // tier in it.
//! let subject = Subject::new("hash map", || {
//!     let storage = MapStorage::default();
//!     move || HashMapTier::on(&storage)
//! });
//! run(&subject).assert_all();
//! run(&subject.through_arc()).assert_all();
//! run(&subject.through_box()).assert_all();
//! ```

mod checks;
mod memory;
mod report;
mod subject;
mod typed_memory;

pub use memory::memory;
pub use report::{Outcome, Report};
pub use subject::Subject;
pub use typed_memory::TypedMemory;

/// Runs every check on `subject`, each on an empty place. A check that panics has failed,
/// and the others still run.
///
/// Takes a few seconds: the largest frame is 5 MiB, and no check sleeps.
pub fn run(subject: &Subject) -> Report {
    let mut report = Report::new(subject.name());
    for (name, check) in checks::ALL {
        report.record(name, || check(&subject.fresh()));
    }
    report
}

/// Returns the names of all checks that [`run`] runs, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    checks::ALL.iter().map(|(name, _)| *name)
}
