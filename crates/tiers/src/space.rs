//! One budget of bytes on disk, shared by the tiers of a cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes that the tiers of one cache may take on disk together.
#[derive(Debug)]
pub struct Space {
    limit: u64,
    used: AtomicU64,
}

impl Space {
    /// A budget of `limit` bytes, none of it used.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// The budget, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// A tier's own share: what it uses counts against the whole.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { space: Arc::clone(self), used: AtomicU64::new(0) }
    }
}

/// What one tier uses of a [`Space`]. Dropping it gives all of that back.
#[derive(Debug)]
pub struct Share {
    space: Arc<Space>,
    used: AtomicU64,
}

impl Share {
    /// Bytes this tier uses.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Counts `bytes` more.
    pub fn grow(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
        self.space.used.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts `bytes` less, down to nothing.
    pub fn shrink(&self, bytes: u64) {
        let take = |used: u64| Some(used.saturating_sub(bytes));
        let before = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).unwrap_or(0);
        self.space.used.fetch_sub(before.min(bytes), Ordering::AcqRel);
    }

    /// Says that this tier uses `bytes` now.
    pub fn set(&self, bytes: u64) {
        let before = self.used.swap(bytes, Ordering::AcqRel);
        self.space.used.fetch_add(bytes, Ordering::AcqRel);
        self.space.used.fetch_sub(before, Ordering::AcqRel);
    }

    /// By how many bytes all tiers together would exceed the budget after
    /// `more` bytes; zero while they fit.
    pub fn excess(&self, more: u64) -> u64 {
        self.space.used.load(Ordering::Acquire).saturating_add(more).saturating_sub(self.space.limit)
    }

    /// Counts `bytes` that are about to be taken, until the answer is dropped: so
    /// that no two find room in the same place.
    #[cfg(feature = "disk")]
    pub(crate) fn reserve(&self, bytes: u64) -> Reserved<'_> {
        self.grow(bytes);
        Reserved { share: self, bytes }
    }

    /// Bytes that are free of the budget.
    pub fn room(&self) -> u64 {
        self.limit().saturating_sub(self.space.used.load(Ordering::Acquire))
    }

    /// The whole budget, in bytes.
    pub fn limit(&self) -> u64 {
        self.space.limit
    }
}

/// Bytes that are counted and not taken yet.
#[cfg(feature = "disk")]
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    share: &'a Share,
    bytes: u64,
}

#[cfg(feature = "disk")]
impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.share.shrink(self.bytes);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
