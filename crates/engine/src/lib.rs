//! The cache engine: decides where an entry goes, which caller loads it, and which change wins.
//!
//! The engine is written once for threads and for tasks, generic over a
//! [`Runtime`](larder_exec::runtime::Runtime), which says how to wait and where blocking work runs.
//! It knows the contracts of tiers and of the memory store, but no tier by name.
//!
//! # The path of a hit
//! [`Engine::hit`] asks the memory store and counts the hit. Nothing else.
//!
//! # The path of a miss
//! `read`: asks the tiers in turn, nearest first, each through its layers. Then it verifies the
//! frame, unpacks and decodes it, and copies the value into memory, unless the entry changed
//! meanwhile.
//!
//! # The order of changes
//! `key_lock`: writes, loads and promotions of one key are ordered by its key lock. A write
//! supersedes the loads and promotions in progress. A superseded load hands its value to its
//! waiters but never stores it.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
mod coherence;
mod dictionary;
mod engine;
mod events;
mod invalidation;
mod key_lock;
mod lifecycle;
mod listing;
mod load;
mod memory_only;
pub mod observation;
mod promise;
mod read;
pub mod selector;
mod shells;
mod tier_stack;
mod time;
mod warm_restart;
mod write;

pub use batch::load::{Batch, BatchLoad};
pub use coherence::CoherencePlan;
pub use dictionary::Dictionaries;
pub use engine::{Engine, KeptInvalidations, Parts, Weigh, Weigher};
pub use events::EventSink;
pub use invalidation::by_predicate::{Invalidating, Predicate};
pub use lifecycle::OpenedDir;
pub use listing::TaggedKey;
pub use load::at_once::LoadNow;
pub use load::detached::{Answered, LoadRequest, Loader};
pub use load::flight_wait::STALL;
pub use load::outcome::{Answer, LoadContext, LoadError, Loaded, Loads, LoadsEntry, WithOptions};
#[cfg(feature = "async")]
pub use load::poll_watch::watched;
pub use load::{Begun, Load};
pub use read::explain::{Entry, Explanation};
pub use selector::Hints;
pub use selector::weight_max;
pub use shells::{AnsweredEntry, Threads};
#[cfg(feature = "async")]
pub use shells::{Boxed, Tasks, Watched};
pub use tier_stack::dirty_flag::DirtyFlag;
pub use tier_stack::layers;
pub use tier_stack::tier_handle::TierHandle;
pub use tier_stack::{Decoded, TierStack};
pub use time::expiry::{Expiry, TtlBy};
pub use warm_restart::WarmRestart;
pub use write::atomic::{AnyDecide, Compute, Counter, Decide, Increment};
pub use write::stream::{BytesOf, EntryReader, OwnedReader, StreamSource};
