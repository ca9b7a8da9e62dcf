//! Model checking of thread interleavings ("orders") with shuttle.
//!
//! The tests run the unchanged sources of the engine and of the public API over stand-ins for the
//! threads and atomics of `std`, for `parking_lot`, `event-listener`, `tokio` and
//! `futures_util::future::Shared`. Before every lock, atomic, notification and poll, the scheduler
//! of shuttle chooses the next thread: at random, or with few preemptions at chosen points (PCT).
//! It reports a deadlock with the order that led to it.
//!
//! `LARDER_ORDERS` sets the number of orders of each kind for every scene. `LARDER_ORDER` is an
//! order to repeat.

mod at_once;
mod batches;
mod changes;
mod director;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../fixtures.rs"]
mod fixtures;
mod lazy_caches;
mod lifecycle;
mod loads;
mod rings;
mod scenario;
mod sections;
mod standins;
mod suspending_tier;
