//! One budget of bytes on disk, shared by the tiers of a cache.
//!
//! The budget shrinks while the medium has less room than that, and grows back
//! with what is written: a part of what fits for each part of it that was
//! written, twice as much each time, until the medium is full again.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use larder_core::Result;
use larder_core::clock::{Clock, SystemClock, Time};
use parking_lot::Mutex;

/// The part of what is used that goes where the medium is full, and by which the
/// budget grows at first.
const STEP: u64 = 16;
/// No smaller part than this.
const STEP_BYTES_MIN: u64 = 64 << 10;
/// The shortest time between two times that room is made on a full medium.
///
/// That may read the head of every entry and open the store again. And where others
/// fill the medium as fast as this cache makes room on it, the cache loses a part of its
/// entries each time, and not all of them at once.
const RELIEF_PAUSE: Duration = Duration::from_secs(1);
/// The shortest time between two writes that are tried again. A medium that is full
/// again sooner is being filled: the write fails, so that its caller knows.
const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// How long a budget is kept to that is too small to store anything.
const SHORTAGE: Duration = Duration::from_secs(1);

/// The directory that the tiers of a cache lie in, as its owner keeps it.
pub trait Home: Send + Sync {
    /// Makes sure that the directory is there and locked by its owner: makes it anew
    /// where it was removed.
    ///
    /// # Errors
    /// `ErrorKind::Unavailable` when it cannot be made, or when another process
    /// made and locked it first: then nothing may be written there.
    fn renew(&self) -> Result<()>;
}

/// The bytes that the tiers of one cache may take on disk together.
pub struct Space {
    limit: u64,
    used: AtomicU64,
    /// The budget at present: `limit` unless the medium has less room.
    budget: AtomicU64,
    growth: Mutex<Growth>,
    clock: Arc<dyn Clock>,
    /// Not owned: the lock of a directory ends with the cache, tiers may live longer.
    home: OnceLock<Weak<dyn Home>>,
}

/// How the budget grows back.
#[derive(Debug, Default)]
struct Growth {
    /// Bytes by which it grows the next time.
    step: u64,
    /// Bytes to be written before that.
    pause: u64,
    /// Bytes written since it changed.
    written: u64,
    /// When the medium was found full, since the start of the clock.
    full_at: Option<Duration>,
}

impl Space {
    /// A budget of `limit` bytes, none of it used.
    pub fn new(limit: u64) -> Arc<Self> {
        Self::with_clock(limit, Arc::new(SystemClock))
    }

    /// The same, with the clock that says which entries have expired.
    pub fn with_clock(limit: u64, clock: Arc<dyn Clock>) -> Arc<Self> {
        let (used, budget) = (AtomicU64::new(0), AtomicU64::new(limit));
        Arc::new(Self { limit, used, budget, growth: Mutex::default(), clock, home: OnceLock::new() })
    }

    /// The budget that was asked for, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The budget at present: less than [`limit`](Self::limit) while the medium has less room.
    pub fn budget(&self) -> u64 {
        self.budget.load(Ordering::Acquire)
    }

    /// Has the tiers tell `home` when they find that their directory was removed.
    /// The first call counts.
    pub fn set_home(&self, home: &Arc<impl Home + 'static>) {
        let home = Arc::downgrade(home) as Weak<dyn Home>;
        let _is_set = self.home.set(home);
    }

    /// A tier's own share: what it uses counts against the whole.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { space: Arc::clone(self), used: AtomicU64::new(0), relieved: Mutex::default() }
    }

    /// Sets the budget, between nothing and the limit.
    fn set_budget(&self, bytes: u64) {
        self.budget.store(bytes.min(self.limit), Ordering::Release);
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space")
            .field("limit", &self.limit)
            .field("budget", &self.budget)
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

/// What is done where the medium is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relief {
    /// Room is made, and the write is tried again.
    Retry,
    /// Room is made for later writes.
    MakeRoom,
    /// Nothing: room was made a moment ago.
    Wait,
}

/// When room was made last, and a write was tried again, since the start of the clock.
#[derive(Debug, Default)]
struct Relieved {
    at: Option<Duration>,
    retried_at: Option<Duration>,
}

/// What one tier uses of a [`Space`]. Dropping it gives all of that back.
#[derive(Debug)]
pub struct Share {
    space: Arc<Space>,
    used: AtomicU64,
    relieved: Mutex<Relieved>,
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
        self.space.used.load(Ordering::Acquire).saturating_add(more).saturating_sub(self.budget())
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
        self.budget().saturating_sub(self.space.used.load(Ordering::Acquire))
    }

    /// The whole budget that was asked for, in bytes.
    pub fn limit(&self) -> u64 {
        self.space.limit
    }

    /// The whole budget at present: see [`Space::budget`].
    pub fn budget(&self) -> u64 {
        self.space.budget()
    }
}

/// What a tier says of the medium.
impl Share {
    /// The present time, by which entries expire.
    pub(crate) fn now(&self) -> Time {
        self.space.clock.now()
    }

    /// Time since the start of the clock.
    pub(crate) fn elapsed(&self) -> Duration {
        self.space.clock.elapsed()
    }

    /// Makes sure that the directory of the cache is there and locked.
    pub(crate) fn renew_home(&self) -> Result<()> {
        let home = self.space.home.get().and_then(Weak::upgrade);
        home.map_or(Ok(()), |home| home.renew())
    }

    /// Begins with a budget that is no larger than what fits: what is used, and
    /// the `available` bytes of the medium.
    pub(crate) fn fit(&self, available: Option<u64>) {
        let Some(available) = available else { return };
        let fits = self.space.used.load(Ordering::Acquire).saturating_add(available);
        if fits < self.budget() {
            self.space.set_budget(fits);
            *self.space.growth.lock() =
                Growth { step: step_of(fits), pause: step_of(fits), ..Growth::default() };
        }
    }

    /// Shrinks the budget to less than what is used, as the medium takes no more.
    pub(crate) fn shrink_budget(&self) {
        let used = self.space.used.load(Ordering::Acquire);
        let fits = used.saturating_sub(step_of(used)).min(self.budget());
        let mut growth = self.space.growth.lock();
        self.space.set_budget(fits);
        let pause = growth.pause.saturating_mul(2).clamp(step_of(fits), fits.max(STEP_BYTES_MIN));
        let full_at = Some(self.space.clock.elapsed());
        *growth = Growth { step: step_of(fits), pause, written: 0, full_at };
    }

    /// Counts bytes that the medium took; the budget grows back with them.
    pub(crate) fn wrote(&self, bytes: u64) {
        let budget = self.budget();
        if budget >= self.limit() {
            return;
        }
        let mut growth = self.space.growth.lock();
        growth.written = growth.written.saturating_add(bytes);
        if growth.written >= growth.pause {
            self.space.set_budget(budget.saturating_add(growth.step));
            growth.step = growth.step.saturating_mul(2);
            growth.pause = step_of(budget);
            growth.written = 0;
        }
    }

    /// Gives up a budget that had shrunk too far to store anything, a while after
    /// the medium was full; whether it did. The medium is tried again by that.
    pub(crate) fn forget_shortage(&self) -> bool {
        let growth = self.space.growth.lock();
        let is_early = growth.full_at.is_some_and(|at| self.space.clock.elapsed() < at + SHORTAGE);
        let has_shrunk = self.budget() < self.limit();
        if has_shrunk && !is_early {
            self.space.set_budget(self.limit());
        }
        has_shrunk && !is_early
    }

    /// What to do about a medium that is full now.
    pub(crate) fn relief(&self) -> Relief {
        let now = self.space.clock.elapsed();
        let mut relieved = self.relieved.lock();
        let is_within = |last: Option<Duration>, pause| last.is_some_and(|last| now < last + pause);
        if is_within(relieved.at, RELIEF_PAUSE) {
            return Relief::Wait;
        }
        relieved.at = Some(now);
        if is_within(relieved.retried_at, RETRY_PAUSE) {
            return Relief::MakeRoom;
        }
        relieved.retried_at = Some(now);
        Relief::Retry
    }
}

fn step_of(bytes: u64) -> u64 {
    (bytes / STEP).max(STEP_BYTES_MIN)
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

#[cfg(all(test, any(feature = "disk", feature = "file")))]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_budget_shrinks_to_what_fits_and_grows_back_with_what_is_written() {
        let space = Space::new(64 * MIB);
        let share = space.share();
        share.set(16 * MIB);
        share.fit(Some(100 * MIB));
        assert_eq!(space.budget(), 64 * MIB, "there is room for all");
        share.fit(Some(16 * MIB));
        assert_eq!(space.budget(), 32 * MIB);
        share.shrink_budget();
        assert_eq!(space.budget(), 15 * MIB);
        assert_eq!((share.room(), share.excess(0)), (0, MIB));
        let mut written = 0;
        while space.budget() < space.limit() {
            share.wrote(MIB / 4);
            written += MIB / 4;
        }
        assert!((4 * MIB..48 * MIB).contains(&written), "{written}");
        assert_eq!(space.budget(), space.limit(), "and no further");
    }
}
