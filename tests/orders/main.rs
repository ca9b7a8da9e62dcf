//! Orders of instructions.
//!
//! Everything here runs the sources of the engine and of the front door as they
//! are, over stand-ins for `std`'s threads and atomics, for `parking_lot`,
//! `event-listener`, `tokio` and `futures_util::future::Shared`. Before every lock,
//! atomic, notice and poll shuttle's scheduler decides who goes on, at random or
//! with few changes at chosen places (PCT). What waits for ever is a deadlock that
//! it reports, with the order that led there.
//!
//! `LARDER_ORDERS` says how many orders of each kind every scene is run in,
//! `LARDER_ORDER` which one to repeat.

mod batches;
mod changes;
mod director;
mod far;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../fixtures.rs"]
mod fixtures;
mod lifecycle;
mod loads;
mod rings;
mod sections;
mod slots;
mod stage;
mod standins;
