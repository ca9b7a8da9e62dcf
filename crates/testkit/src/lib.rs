//! What tests of Larder and of tiers by others are made with.
//!
//! [`conformance`] holds a tier to every promise of
//! [`Tier`](larder_core::tier::Tier). [`HashMapTier`] is the smallest tier
//! that passes, [`FaultyTier`] fails and stalls on command, [`QuotaTier`] is
//! full and [`TornTier`] returns torn frames when told, [`ManualClock`] moves
//! when told, [`RedisServer`] is a server that tests start and stop,
//! [`RedisCluster`] and
//! [`RedisSentinels`] several, [`Proxy`] a
//! bad line to one, and [`sample`] makes keys and frames. [`Spelled`] and [`Rounded`]
//! are keys that are equal and encoded differently.
//!
//! [`history`] finds the reads of a cache that nothing explains, [`workload`]
//! makes many threads and tasks
//! use one, [`schedule`] tries every order of a few tasks, and [`crash`] kills
//! processes that use a cache.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "to fail loudly is its job")]

mod block_on;
mod clock;
pub mod conformance;
pub mod crash;
mod faulty;
mod hash_map;
pub mod history;
mod not_run;
mod proxy;
mod quota;
mod redis_cluster;
mod redis_sentinels;
mod redis_server;
pub mod sample;
pub mod schedule;
mod spelled;
mod torn;
pub mod workload;

pub use block_on::block_on;
pub use clock::ManualClock;
pub use faulty::{FaultyTier, Operation, Times};
pub use hash_map::{HashMapTier, Shelf};
pub use not_run::not_run;
pub use proxy::Proxy;
pub use quota::QuotaTier;
pub use redis_cluster::RedisCluster;
pub use redis_sentinels::RedisSentinels;
pub use redis_server::RedisServer;
pub use spelled::{Rounded, Spelled};
pub use torn::TornTier;
