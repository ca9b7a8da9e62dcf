//! Storage tiers of Larder: memory, disk, files and Redis.
//!
//! Tiers other than memory store encoded frames and never decode a value. The memory tier stores
//! the caller's own keys and values. No tier depends on the engine or on another tier.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "disk", feature = "file"))]
mod boot_marker;
#[cfg(any(feature = "disk", feature = "file"))]
mod dir_handle;
#[cfg(any(feature = "disk", feature = "file", feature = "redis"))]
mod dir_lock;
#[cfg(feature = "disk")]
pub mod disk;
#[cfg(any(feature = "disk", feature = "file", feature = "redis"))]
#[cfg_attr(
    not(any(feature = "disk", feature = "file")),
    allow(dead_code, reason = "with Redis alone nothing is on disk")
)]
mod disk_budget;
#[cfg(any(feature = "disk", feature = "file", feature = "redis"))]
mod durable_sync;
#[cfg(any(feature = "disk", feature = "file", feature = "redis"))]
mod entry_check;
#[cfg(feature = "file")]
pub mod file;
#[cfg(any(feature = "disk", feature = "file"))]
mod hot_keys;
#[cfg(any(feature = "disk", feature = "file", feature = "redis"))]
mod invalidation_log;
#[cfg(any(feature = "disk", feature = "file"))]
mod learned;
pub mod memory;
mod null;
#[cfg(any(feature = "disk", feature = "file"))]
mod pressure;
#[cfg(any(feature = "disk", feature = "file", feature = "redis"))]
mod private_file;
#[cfg(feature = "redis")]
pub mod redis;

#[cfg(any(feature = "disk", feature = "file"))]
pub use boot_marker::{LastShutdown, ShutdownRecord};
#[cfg(any(feature = "disk", feature = "file", feature = "redis"))]
pub use dir_lock::DirLock;
#[cfg(any(feature = "disk", feature = "file", feature = "redis"))]
pub use disk_budget::{BudgetShare, CacheDir, DiskBudget};
#[cfg(any(feature = "disk", feature = "file", feature = "redis"))]
pub use entry_check::EntryCheck;
#[cfg(any(feature = "disk", feature = "file"))]
pub use hot_keys::FileHotKeys;
#[cfg(any(feature = "disk", feature = "file", feature = "redis"))]
pub use invalidation_log::{FileInvalidationLog, FoundInvalidations};
#[cfg(any(feature = "disk", feature = "file"))]
pub use learned::FileLearned;
pub use null::NullTier;
#[cfg(any(feature = "disk", feature = "file", feature = "redis"))]
pub use private_file::temporary_dir;
