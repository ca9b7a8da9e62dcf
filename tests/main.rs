//! Larder through its public interface; one binary, so that it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "long tests say what they counted")]

mod allocations;
mod attributes;
mod configuration;
mod conformance;
mod contexts;
mod crashes;
mod events;
mod expiry;
mod flights;
mod frames;
mod full;
mod golden;
mod history;
mod invalidation;
mod layers;
mod life;
mod logs;
mod memo;
mod mistakes;
mod model;
#[cfg(feature = "redis")]
mod nodes;
mod observability;
mod presets;
mod processes;
#[cfg(feature = "metrics")]
mod published;
mod races;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_cluster;
#[cfg(feature = "redis")]
mod redis_faults;
#[cfg(feature = "redis")]
mod redis_sentinel;
#[cfg(feature = "redis-tls")]
mod redis_tls;
mod reopening;
mod rig;
mod routing;
mod schedules;
mod shelves;
mod staleness;
mod streams;
mod tasks;
mod troubles;
mod verbs;
