//! The builder functions and their builders.
//!
//! `build()` checks all options; the methods of a builder check none.

mod bounds;
#[cfg(feature = "encrypt")]
mod encrypt;
mod given_options;
mod listener;
mod memory;
mod observe;
#[cfg(feature = "_codec")]
mod plan;
#[cfg(feature = "_codec")]
mod read_only;
#[cfg(feature = "_codec")]
mod tiered;
mod tiers;
mod time;

use larder_core::{Error, Result};

use self::given_options::GivenOptions;
use crate::options::values::size_text;

pub(crate) use observe::observe_options;
pub(crate) use tiers::tier_options;
pub(crate) use time::time_options;

pub use bounds::{CacheKey, CacheValue};
#[cfg(feature = "_codec")]
pub use bounds::{EncodedCacheKey, EncodedCacheValue};
pub use memory::{MemoryBuilder, mcache};
#[cfg(feature = "disk")]
pub use tiered::bcache;
#[cfg(feature = "file")]
pub use tiered::fcache;
#[cfg(feature = "_codec")]
pub use tiered::{TieredBuilder, ucache};

/// Returns an error that names the option if a value is out of its range.
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

/// The most entries that a memory store can hold. A larger capacity counts as this one.
pub(crate) const CAPACITY_MAX: u64 = u32::MAX as u64;
/// Range of the budget of a memory store: 64 KiB to 16 TiB.
pub(crate) const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 40;
/// Range of the budget on disk and in files: 16 MiB to 1 PiB.
pub(crate) const DISK_BYTES: std::ops::RangeInclusive<u64> = 16 << 20..=1 << 50;
/// The most entries that are read into memory when a cache is opened again.
pub(crate) const WARM_MAX: u64 = 1_000_000;
/// The shortest duration that an option takes.
pub(crate) const SPAN_MIN: std::time::Duration = std::time::Duration::from_millis(1);
/// Range of the lease of memory copies of shared entries: 50 ms to 1 h.
pub(crate) const LEASE: std::ops::RangeInclusive<std::time::Duration> =
    std::time::Duration::from_millis(50)..=std::time::Duration::from_secs(3600);
/// A share of a time to live.
pub(crate) const SHARE: std::ops::RangeInclusive<f64> = 0.0..=1.0;
