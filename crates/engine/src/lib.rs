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

mod among;
mod background;
mod batch;
mod copies;
mod detached;
mod distrust;
mod doubt;
mod draft;
mod encodings;
mod engine;
mod events;
mod expiry;
mod explain;
mod flight;
mod gate;
mod invalidate;
mod landing;
pub mod layers;
#[cfg(feature = "async")]
mod left;
mod life;
mod load;
mod load_wait;
mod loaded;
mod many;
mod marks;
mod nodes;
mod own_writes;
mod pause;
mod poll_watch;
mod read;
mod reentrancy;
mod refused;
mod remove;
mod repair;
mod replica;
mod restart;
mod retime;
mod round;
#[cfg(not(feature = "async"))]
#[path = "no_section.rs"]
mod section;
#[cfg(feature = "async")]
mod section;
pub mod select;
mod settle;
mod shared;
mod shells;
mod shield;
mod slot;
mod stream;
mod taint;
mod tell;
mod timeline;
#[cfg(feature = "async")]
mod timer;
mod verbs;
pub mod wait;
mod watch;
mod wire;
#[cfg(feature = "async")]
mod work;
mod write;

pub use detached::{Answered, LoadRequest, Loader};
pub use engine::{Engine, Hints, KeptMarks, Parts, Weigh, Weigher};
pub use events::Audience;
pub use expiry::{Expiry, TtlBy};
pub use explain::{Entry, Explanation};
pub use load::{Begun, Load};
pub use load_wait::STALL;
pub use loaded::{Answer, LoadContext, LoadError, Loaded, Loads, LoadsEntry, WithOptions};
pub use nodes::NodesPlan;
#[cfg(feature = "async")]
pub use poll_watch::watched;
pub use round::{Batch, BatchLoad};
pub use shells::{AnsweredEntry, Threads};
#[cfg(feature = "async")]
pub use shells::{Boxed, Tasks, Watched};
pub use slot::Slot;
pub use stream::{BytesOf, EntryReader, OwnedReader, Source};
pub use taint::Taint;
pub use verbs::{Counter, Increment};
pub use wire::{Decoded, Wire};
