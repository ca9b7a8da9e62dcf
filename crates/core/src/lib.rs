//! Shared types and contracts of Larder.
//!
//! The other crates build on these: keys and their encoding, the frame around an encoded value, the traits of
//! a byte tier and of a memory store, the facts that a selector sees and the placement that it returns,
//! counters, the clock and the error type.
//!
//! This crate contains no engine and no tier. Its only I/O is reading the clock.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod bus;
pub mod clock;
pub mod codec;
pub mod compress;
mod durability;
pub mod entry_meta;
pub mod erased;
mod error;
pub mod events;
pub mod frame;
pub mod hex;
pub mod hot_keys;
pub mod invalidation;
pub mod key;
pub mod memory;
#[cfg(any(feature = "image", feature = "arrow"))]
pub mod natural;
pub mod place;
pub mod stats;
pub mod stream;
pub mod tier;

pub use bytes::Bytes;
pub use durability::Durability;
pub use error::{Error, ErrorKind, Result};
pub use place::kinds;
pub use stats::latency;
