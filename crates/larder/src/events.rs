//! The events that a listener receives; see [`on_event`](crate::MemoryBuilder::on_event) and
//! [docs/observability.md](https://github.com/larder-rs/larder/blob/main/docs/observability.md).

pub use larder_core::events::{Cause, Event, Extent, Line, Writer};
