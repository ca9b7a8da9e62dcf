//! Integration tests of Larder through its public interface. They form one binary, so that it links
//! once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "long tests say what they counted")]

mod adaptive;
mod allocations;
mod attributes;
mod budgets;
mod codecs;
mod compute;
mod configuration;
mod conformance;
mod contexts;
mod crashes;
mod depth;
#[cfg(feature = "zstd")]
mod dictionaries;
mod directories;
mod dropped_writes;
#[cfg(feature = "redis")]
mod ephemeral_keys;
mod equal_keys;
mod events;
mod expiry;
mod fixtures;
mod flights;
mod forked;
#[cfg(any(feature = "json", feature = "ndarray", feature = "image", feature = "arrow"))]
mod formats;
mod frames;
mod full;
mod golden;
mod history;
mod invalid_input;
mod invalidation;
mod joined_loads;
mod layers;
mod lifecycle;
#[cfg(all(feature = "observe", unix))]
mod live;
mod memo;
mod model;
mod nested_loads;
#[cfg(feature = "redis")]
mod nodes;
mod observability;
mod overdue;
mod own_tiers;
mod pages;
mod presets;
mod processes;
#[cfg(feature = "metrics")]
mod published;
mod races;
mod read_only;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_cluster;
#[cfg(feature = "redis")]
mod redis_commands;
#[cfg(feature = "redis")]
mod redis_faults;
#[cfg(feature = "redis")]
mod redis_sentinel;
#[cfg(feature = "redis")]
mod redis_tasks;
#[cfg(feature = "redis-tls")]
mod redis_tls;
mod removed;
mod reopening;
mod routing;
mod schedules;
#[cfg(all(feature = "redis", target_os = "linux"))]
mod scopes;
#[cfg(feature = "encrypt")]
mod sealing;
mod shortage;
mod staleness;
mod stopped_leaders;
mod streams;
pub mod strict_lints;
mod tasks;
mod thread_locals;
mod tidy;
mod tier_failures;
mod tier_options;
mod tier_sets;
mod tracing;
mod verbs;
mod warm_restart;
