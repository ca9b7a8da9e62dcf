//! The time of a cache: its clock, and until when entries live.

pub(crate) mod expiry;
pub(crate) mod restart;
pub(crate) mod timeline;
