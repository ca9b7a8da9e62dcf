//! `tokio` under the scheduler of shuttle: only the handles to runtimes.

pub mod runtime;
