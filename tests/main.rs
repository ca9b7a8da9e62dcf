//! Larder through its public interface; one binary, so that it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod allocations;
mod configuration;
mod conformance;
mod contexts;
mod flights;
mod golden;
mod layers;
mod life;
mod logs;
mod mistakes;
mod presets;
mod races;
mod reopening;
mod rig;
mod routing;
mod tasks;
mod troubles;
