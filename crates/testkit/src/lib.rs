//! Test tools for Larder, and for tiers by other authors.
//!
//! [`conformance`] checks a tier against every promise of
//! [`Tier`](larder_core::tier::Tier), and of the contracts that its accessors show. Tiers for tests:
//!
//! - [`HashMapTier`] is the smallest tier that passes, [`SharedMapTier`] the smallest that nodes share.
//! - [`FaultyTier`] fails and stalls on command.
//! - [`QuotaTier`] fills up, and [`TornTier`] returns torn frames, on command.
//!
//! [`ManualClock`] moves only on command. [`RedisServer`], [`RedisCluster`] and
//! [`RedisSentinels`] are servers that a test starts and stops, and [`Proxy`] is a bad
//! connection to a server. [`sample`] makes keys and frames. [`Spelled`] and [`Rounded`]
//! are keys that are equal and encoded differently.
//!
//! [`history`] finds the reads of a cache that nothing explains. [`workload`] uses a
//! cache from many threads and tasks. [`schedule`] tries every order of a few tasks, and
//! [`crash`] kills processes that use a cache.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "to fail loudly is its job")]

mod block_on;
mod clock;
pub mod conformance;
pub mod crash;
mod faulty;
mod hash_map;
pub mod history;
mod not_run;
mod quota;
mod redis;
pub mod sample;
pub mod schedule;
mod shared_map;
mod spelled;
mod torn;
pub mod workload;

pub use block_on::block_on;
pub use clock::{ManualClock, SkewedClock};
pub use faulty::{FaultyTier, Operation, Times};
pub use hash_map::{HashMapTier, MapStorage};
pub use not_run::not_run;
pub use quota::QuotaTier;
pub use redis::cluster::RedisCluster;
pub use redis::proxy::Proxy;
pub use redis::sentinels::RedisSentinels;
pub use redis::server::RedisServer;
pub use shared_map::{SharedMapStorage, SharedMapTier};
pub use spelled::{Rounded, Spelled};
pub use torn::TornTier;
