//! What tests of Larder and of tiers by others are made with.
//!
//! [`conformance`] holds a tier to every promise of
//! [`Tier`](larder_core::tier::Tier). [`HashMapTier`] is the smallest tier
//! that passes, [`FaultyTier`] fails and stalls on command, [`ManualClock`]
//! moves when told, [`RedisServer`] is a server that tests start and stop, and
//! [`sample`] makes keys and frames.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "to fail loudly is its job")]

mod block_on;
mod clock;
pub mod conformance;
mod faulty;
mod hash_map;
mod redis_server;
pub mod sample;

pub use block_on::block_on;
pub use clock::ManualClock;
pub use faulty::{FaultyTier, Operation, Times};
pub use hash_map::{HashMapTier, Shelf};
pub use redis_server::RedisServer;
