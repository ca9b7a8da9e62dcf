//! The tiers of Larder for scenes: memory under the scheduler of shuttle, the others unchanged.
//!
//! Memory asks the engine for the freshness of records while it holds a lock. In scenes, each such
//! call is a point at which the scheduler can switch threads.

#[path = "../../../../crates/tiers/src/memory/mod.rs"]
pub mod memory;

pub use real::{
    BudgetShare, CacheDir, DirLock, DiskBudget, FileHotKeys, FileInvalidationLog, FileLearned,
    FoundInvalidations, LastShutdown, NullTier, ShutdownRecord, file, temporary_dir,
};
