//! The builder functions and what they return.
//!
//! Nothing is checked before `build()`, and then everything.

mod listener;
mod memory;
#[cfg(feature = "_codec")]
mod plan;
mod said;
#[cfg(feature = "_codec")]
mod tiered;
mod tiers;
mod time;

use larder_core::{Error, Result};

use self::said::Said;
use crate::options::values::size_text;

pub(crate) use tiers::tier_options;
pub(crate) use time::time_options;

pub use memory::{MemoryBuilder, mcache};
#[cfg(feature = "disk")]
pub use tiered::bcache;
#[cfg(feature = "file")]
pub use tiered::fcache;
#[cfg(feature = "_codec")]
pub use tiered::{TieredBuilder, ucache};

/// Refuses a value outside of a range, by the name of its option.
pub(crate) fn within(
    option: &str,
    given: u64,
    allowed: std::ops::RangeInclusive<u64>,
    unit: &str,
) -> Result<()> {
    if allowed.contains(&given) {
        return Ok(());
    }
    let (from, to) = (allowed.start(), allowed.end());
    Err(match unit {
        "bytes" => {
            Error::config(option, size_text(&given), format!("{} to {}", size_text(from), size_text(to)))
        }
        _ => Error::config(option, format_args!("{given} {unit}"), format!("{from} to {to} {unit}")),
    })
}

/// Entries that a memory store may be bounded to.
pub(crate) const CAPACITY: std::ops::RangeInclusive<u64> = 1..=u32::MAX as u64;
/// Bytes that a memory store may be bounded to: 64 KiB to 16 TiB.
pub(crate) const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 40;
/// Bytes that disk and files may be bounded to: 16 MiB to 1 PiB.
pub(crate) const DISK_BYTES: std::ops::RangeInclusive<u64> = 16 << 20..=1 << 50;
/// The shortest span of time that an option takes.
pub(crate) const SPAN_MIN: std::time::Duration = std::time::Duration::from_millis(1);
/// How long copies of shared entries may serve after the last contact: 50 ms to 1 h.
pub(crate) const LEASE: std::ops::RangeInclusive<std::time::Duration> =
    std::time::Duration::from_millis(50)..=std::time::Duration::from_secs(3600);
/// A share of a time to live.
pub(crate) const SHARE: std::ops::RangeInclusive<f64> = 0.0..=1.0;
