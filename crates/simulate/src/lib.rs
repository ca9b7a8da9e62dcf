//! Replays traces of requests against the eviction policies of Larder.
//!
//! A [`Workload`] is a sequence of requests, read by [`trace`]. A request looks a key up, and inserts it if it
//! is absent. [`policies`] counts the hits of each policy, [`optimum`] the most that any cache could have,
//! [`advice`] says in one sentence what another size or policy would change, [`chart`] draws lines in SVG.

pub mod advice;
pub mod chart;
pub mod optimum;
pub mod placement;
pub mod policies;
pub mod trace;
mod workload;

pub use workload::{Weights, Workload};
