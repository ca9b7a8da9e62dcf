//! `tokio` under shuttle's scheduler: its handles to runtimes, and nothing else.

pub mod runtime;
