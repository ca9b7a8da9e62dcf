//! The decisions of Larder: where an entry goes, who loads it, which change wins.
//!
//! The engine is written once, for threads and for tasks: generic over a
//! [`Wait`](wait::Wait), which says how to wait and where blocking work runs.
//! It knows the contracts of tiers and of memory, and no tier by name.
//!
//! # The path of a hit
//! [`Engine::hit`] asks the memory store and counts. Nothing else.
//!
//! # The path of a miss
//! `read.rs`: tier by tier, nearest first, each seen through its layers →
//! verify the frame → unpack → decode → copy into memory, unless the entry
//! changed meanwhile.
//!
//! # The order of changes
//! `gate.rs`: writes, loads and promotions of one key meet at its gate. A write
//! supersedes the loads and promotions in progress; what was superseded is
//! handed to those who wait for it and never stored.

mod copies;
mod engine;
mod explain;
mod flight;
mod gate;
pub mod layers;
mod life;
mod load;
mod read;
pub mod select;
mod slot;
mod stream;
pub mod wait;
mod wire;
mod write;

pub use engine::{Engine, Hints, Parts, Weigh, Weigher};
pub use explain::{Entry, Explanation};
pub use load::LoadError;
pub use slot::Slot;
pub use stream::EntryReader;
pub use wire::{Decoded, Wire};
