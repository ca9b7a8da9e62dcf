//! Larder through its public interface; one binary, so that it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod allocations;
mod conformance;
mod flights;
mod golden;
mod mistakes;
mod races;
#[cfg(feature = "redis")]
mod redis;
mod reopening;
mod rig;
mod routing;
mod tasks;
mod troubles;
