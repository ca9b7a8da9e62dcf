//! The tiers of Larder for scenes: memory under shuttle's scheduler, the others as they are.
//!
//! Memory asks the engine for the freshness of records under a lock, and the engine of
//! scenes changes who goes on wherever it is asked.

#[path = "../../../../crates/tiers/src/memory/mod.rs"]
pub mod memory;

pub use real::{FileInvalidationLog, FoundInvalidations, Home, NullTier, Share, Space, file};
