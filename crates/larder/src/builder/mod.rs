//! The builder functions and what they return.
//!
//! Nothing is checked before `build()`, and then everything.

mod listener;
mod memory;
mod said;
#[cfg(feature = "_codec")]
mod tiered;
mod time;

use larder_core::{Error, Result};

use self::said::Said;

pub use memory::{MemoryBuilder, mcache};
#[cfg(feature = "disk")]
pub use tiered::bcache;
#[cfg(feature = "file")]
pub use tiered::fcache;
#[cfg(feature = "_codec")]
pub use tiered::{TieredBuilder, ucache};

/// Refuses a value outside of a range, by the name of its option.
fn within(option: &str, given: u64, allowed: std::ops::RangeInclusive<u64>, unit: &str) -> Result<()> {
    if allowed.contains(&given) {
        return Ok(());
    }
    let range = format!("{} to {} {unit}", allowed.start(), allowed.end());
    Err(Error::config(option, format_args!("{given} {unit}"), range))
}

/// Entries that a memory store may be bounded to.
pub(crate) const CAPACITY: std::ops::RangeInclusive<u64> = 1..=u32::MAX as u64;
/// Bytes that a memory store may be bounded to: 64 KiB to 16 TiB.
pub(crate) const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 40;
/// Bytes that disk and files may be bounded to: 16 MiB to 1 PiB.
pub(crate) const DISK_BYTES: std::ops::RangeInclusive<u64> = 16 << 20..=1 << 50;
