//! Larder through its public interface; one binary, so that it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod allocations;
mod attributes;
mod conformance;
mod expiry;
mod flights;
mod golden;
mod invalidation;
mod memo;
mod mistakes;
mod races;
mod reopening;
mod rig;
mod routing;
mod shelves;
mod staleness;
mod tasks;
mod troubles;
mod verbs;
