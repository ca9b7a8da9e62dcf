//! How callers wait and where work runs: futures that run to completion, shared futures, timers,
//! and a thread pool. This crate knows nothing of caches.
//!
//! All code is written once for threads and for tasks, generic over a
//! [`Runtime`](runtime::Runtime).
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod background;
pub mod origin;
#[cfg(feature = "async")]
mod orphan_runner;
pub mod runtime;
#[cfg(feature = "async")]
mod shared_future;
#[cfg(feature = "async")]
pub mod timer;
#[cfg(not(feature = "async"))]
#[path = "no_uncancellable.rs"]
pub mod uncancellable;
#[cfg(feature = "async")]
pub mod uncancellable;
