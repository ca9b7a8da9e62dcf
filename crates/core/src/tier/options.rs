//! Options of one tier of a cache.

use std::time::Duration;

use crate::{Error, Result};

/// What a write means that a tier failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailedWrites {
    /// The first alternative that takes the entry becomes its home. What the tier missed is made up for.
    #[default]
    Repair,
    /// No other tier is tried. The call succeeds, and memory keeps the entry if it was to have a copy.
    Ignore,
    /// No other tier is tried. The call fails with the error of the tier, and the former entry is removed.
    Report,
}

/// Options of one tier of a cache.
///
/// ```
/// use std::time::Duration;
/// use larder_core::tier::{FailedWrites, TierOptions};
///
/// let options = TierOptions::new().ttl(Duration::from_secs(3600)).failed_writes(FailedWrites::Ignore);
/// assert!(!options.read_only);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierOptions {
    /// How long the tier serves an entry after it was written. The time to live of the entry applies too.
    pub ttl: Option<Duration>,
    /// Whether the tier is only read.
    pub read_only: bool,
    /// What a write means that the tier failed.
    pub failed_writes: FailedWrites,
}

impl TierOptions {
    /// The options that every tier has by default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the tier serves an entry after it was written: 1 ms or more. Also holds for the copy in
    /// memory of an entry that is at home in the tier. Default: as long as the entry lives.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Makes the tier one that is read and never written, such as a store that another program fills. It is
    /// asked after all other tiers. A removal hides its entry from this cache until it is closed, up to
    /// 10,000 entries; `clear`, and one removal more, hide all of them.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Sets what a write means that the tier failed. Default [`FailedWrites::Repair`].
    pub fn failed_writes(mut self, means: FailedWrites) -> Self {
        self.failed_writes = means;
        self
    }

    /// Checks the time to live.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config).
    pub fn check(&self) -> Result<()> {
        match self.ttl {
            Some(ttl) if ttl < Duration::from_millis(1) => {
                Err(Error::config("ttl of a tier", format_args!("{ttl:?}"), "1 ms or more"))
            }
            _ => Ok(()),
        }
    }
}
