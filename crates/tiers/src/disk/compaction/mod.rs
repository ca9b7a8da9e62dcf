//! Keeps the disk budget: chooses the next step of compaction or eviction, and runs it.
//!
//! Compaction runs in the call that writes, in one thread at a time, which holds the lock `compaction`
//! exclusively. `scan` and `flush` hold it too, so that rows do not move meanwhile.

pub(in crate::disk) mod driver;
pub(in crate::disk) mod job;
pub(in crate::disk) mod picker;
