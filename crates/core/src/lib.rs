//! The vocabulary of Larder.
//!
//! Everything the other crates talk about stands here: keys and how they
//! become bytes, the frame around an encoded value, the contracts of a byte
//! tier and of a memory store, the facts a selector sees and the placement it
//! answers with, counters, the clock and the one error type.
//!
//! This crate knows no engine, no tier and does no I/O but reading the clock.

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
pub mod invalidation;
pub mod key;
pub mod kinds;
pub mod latency;
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
