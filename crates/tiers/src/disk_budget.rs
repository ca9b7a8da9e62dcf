//! One budget of bytes on disk, shared by the tiers of a cache.
//!
//! The budget follows the medium. Tiers ask the file system how much is available, every so
//! many bytes that they write, and keep the budget at what is used and what is available,
//! less a reserve. So normal eviction makes room before the medium is full.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use larder_core::clock::{Clock, SystemClock, Time};
use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

/// The part of the medium that is kept free, and the part of what is used that goes at
/// once at most.
const PART: u64 = 16;
/// What is kept free beside that part, at least: a tier may say more.
const RESERVE_MIN: u64 = 64 << 10;
/// The longest time between two looks at the medium, as long as there are writes.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// The shortest time between two times that the budget falls below what is used.
///
/// Where others fill the medium as fast as this cache makes room on it, the cache loses a
/// part of its entries each time, and not all of them at once.
const SHRINK_PAUSE: Duration = Duration::from_secs(1);
/// How long a limit is kept to that the file system does not tell: a quota, for example.
const QUOTA_LIFE: Duration = Duration::from_secs(30);

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
    /// Bytes of the medium to keep free, beside a part of all.
    reserve: AtomicU64,
    /// Bytes written since the medium was looked at.
    written: AtomicU64,
    medium: Mutex<Medium>,
    clock: Arc<dyn Clock>,
    /// Not owned: the lock of a directory ends with the cache, tiers may live longer.
    home: OnceLock<Weak<dyn Home>>,
}

/// What is known of the medium. Times are since the start of the clock.
#[derive(Debug, Default)]
struct Medium {
    /// When to look at it again.
    due: Duration,
    /// What the budget does not fall below, and until when.
    floor: Option<(u64, Duration)>,
    /// What the budget does not exceed, and until when: writes failed beyond that, though the
    /// file system tells of more.
    quota: Option<(u64, Duration)>,
    /// Whether a caller knows that the medium has less room than the limit.
    is_told: bool,
}

impl Space {
    /// A budget of `limit` bytes, none of it used.
    pub fn new(limit: u64) -> Arc<Self> {
        Self::with_clock(limit, Arc::new(SystemClock))
    }

    /// The same, with the clock that says which entries have expired.
    pub fn with_clock(limit: u64, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicU64::new(0),
            budget: AtomicU64::new(limit),
            reserve: AtomicU64::new(RESERVE_MIN),
            written: AtomicU64::new(0),
            medium: Mutex::default(),
            clock,
            home: OnceLock::new(),
        })
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
        Share { space: Arc::clone(self), used: AtomicU64::new(0), relieved: Pause::default() }
    }

    /// A part of `bytes`, and no less than the reserve of the tiers.
    fn step_of(&self, bytes: u64) -> u64 {
        (bytes / PART).max(self.reserve.load(Ordering::Acquire))
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

/// Lets something happen once in a while, by the time since the start of the clock.
#[derive(Debug, Default)]
pub(crate) struct Pause(Mutex<Option<Duration>>);

impl Pause {
    /// Whether `pause` has passed since this was true last.
    pub(crate) fn is_over(&self, now: Duration, pause: Duration) -> bool {
        let mut last = self.0.lock();
        let is_over = last.is_none_or(|last| now >= last + pause);
        if is_over {
            *last = Some(now);
        }
        is_over
    }
}

/// What one tier uses of a [`Space`]. Dropping it gives all of that back.
#[derive(Debug)]
pub struct Share {
    space: Arc<Space>,
    used: AtomicU64,
    /// When room was made after a write had failed.
    pub(crate) relieved: Pause,
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

    /// Keeps at least `bytes` of the medium free, for what the tier writes later than it
    /// counts.
    #[cfg(feature = "disk")]
    pub(crate) fn keep_free(&self, bytes: u64) {
        self.space.reserve.fetch_max(bytes, Ordering::AcqRel);
    }

    /// Bytes that are written between two looks at the medium, or at what databases take.
    pub(crate) fn look_every(&self) -> u64 {
        (self.budget() / 64).clamp(64 << 10, 4 << 20)
    }

    /// Counts `bytes` that are about to be written; whether the medium is to be looked at.
    pub(crate) fn is_due(&self, bytes: u64) -> bool {
        let written = self.space.written.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes);
        let now = self.elapsed();
        let mut medium = self.space.medium.lock();
        let is_due = written >= self.look_every() || now >= medium.due;
        if is_due {
            medium.due = now + LOOK_PAUSE;
            self.space.written.store(0, Ordering::Release);
        }
        is_due
    }

    /// Sets the budget to what fits: what is used, and the `available` bytes of the medium
    /// less a reserve. It falls below what is used by a part at once at most.
    ///
    /// Where nothing is available the budget stays at what is used, since making room may
    /// be in vain: what is free belongs to another user. A write tells whether it was.
    pub(crate) fn fit(&self, available: Option<u64>) {
        let Some(available) = available else { return };
        let (space, now) = (&self.space, self.elapsed());
        let used = space.used.load(Ordering::Acquire);
        let all = used.saturating_add(available);
        let reserve = all / PART + space.reserve.load(Ordering::Acquire);
        let fits = if available == 0 { used } else { all.saturating_sub(reserve) };
        self.set_budget(&mut space.medium.lock(), fits, now);
    }

    fn set_budget(&self, medium: &mut Medium, fits: u64, now: Duration) {
        let space = &self.space;
        let used = space.used.load(Ordering::Acquire);
        medium.quota = medium.quota.filter(|(_, until)| now < *until);
        medium.floor = medium.floor.filter(|(_, until)| now < *until);
        let mut fits = medium.quota.map_or(fits, |(quota, _)| fits.min(quota)).min(space.limit);
        if fits < used {
            let part = (used.saturating_sub(space.step_of(used)), now + SHRINK_PAUSE);
            fits = fits.max(medium.floor.get_or_insert(part).0);
        }
        medium.is_told &= fits < space.limit;
        space.budget.store(fits.min(space.limit), Ordering::Release);
    }

    /// Shrinks the budget after the medium refused a write, where what is used fits by what
    /// the file system tells: it is to be less for a while.
    pub(crate) fn refused(&self) {
        if self.excess(1) > 0 {
            return;
        }
        let (space, now) = (&self.space, self.elapsed());
        let used = space.used.load(Ordering::Acquire);
        let quota = used.saturating_sub(space.step_of(used));
        let mut medium = space.medium.lock();
        medium.quota = Some((quota, now + QUOTA_LIFE));
        self.set_budget(&mut medium, quota, now);
    }

    /// Whether the medium has less room than the budget that was asked for.
    pub(crate) fn is_short(&self) -> bool {
        self.budget() < self.limit()
    }

    /// Fails once where entries have to go as the medium has less room than the budget that
    /// was asked for, so that a caller and the statistics know. It fails again only after
    /// the medium had room for all.
    pub(crate) fn tell_shortage(&self) -> Result<()> {
        if !self.is_short() || std::mem::replace(&mut self.space.medium.lock().is_told, true) {
            return Ok(());
        }
        let (budget, limit) = (self.budget(), self.limit());
        let message = format!(
            "the medium has room for {budget} of {limit} bytes: entries are evicted before their budget is full"
        );
        tracing::warn!(target: "larder", budget, limit, "the medium has less room than the budget: entries are evicted");
        Err(Error::new(ErrorKind::Full, message))
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

/// A clock that is moved: milliseconds since its start.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Hands(AtomicU64);

#[cfg(test)]
impl Hands {
    pub(crate) fn set(&self, millis: u64) {
        self.0.store(millis, Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Clock for Hands {
    fn now(&self) -> Time {
        Time::from_millis(0)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(all(test, any(feature = "disk", feature = "file")))]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn space(limit: u64) -> (Arc<Hands>, Arc<Space>) {
        let clock = Arc::new(Hands::default());
        let space = Space::with_clock(limit, Arc::clone(&clock) as Arc<dyn Clock>);
        (clock, space)
    }

    #[test]
    fn the_budget_follows_what_the_medium_has_in_both_directions() {
        let (_, space) = space(64 * MIB);
        let share = space.share();
        share.set(16 * MIB);
        share.fit(Some(100 * MIB));
        assert_eq!((space.budget(), share.is_short()), (64 * MIB, false), "there is room for all");
        let fits = |available| {
            share.fit(Some(available));
            space.budget()
        };
        assert_eq!(fits(16 * MIB), 30 * MIB - RESERVE_MIN);
        assert_eq!(fits(48 * MIB), 60 * MIB - RESERVE_MIN);
        assert_eq!(fits(100 * MIB), 64 * MIB);
        assert_eq!(fits(0), 16 * MIB, "what is used stays where making room may be in vain");
        share.fit(None);
        assert_eq!(space.budget(), 16 * MIB, "where the file system tells nothing");
    }

    #[test]
    fn the_budget_falls_below_what_is_used_by_a_part_each_second() {
        let (clock, space) = space(64 * MIB);
        let share = space.share();
        share.set(16 * MIB);
        share.fit(Some(1));
        assert_eq!(space.budget(), 15 * MIB);
        share.set(15 * MIB);
        share.fit(Some(1));
        assert_eq!(space.budget(), 15 * MIB, "others took what became free");
        clock.set(1_000);
        share.fit(Some(1));
        assert_eq!(space.budget(), 15 * MIB / 16 * 15);
        share.fit(Some(MIB));
        assert_eq!(space.budget(), 15 * MIB - RESERVE_MIN, "nobody took it");
    }

    #[test]
    fn a_quota_that_the_file_system_does_not_tell_is_kept_for_a_while() {
        let (clock, space) = space(64 * MIB);
        let share = space.share();
        share.set(16 * MIB);
        share.fit(Some(100 * MIB));
        share.refused();
        assert_eq!(space.budget(), 15 * MIB);
        share.fit(Some(100 * MIB));
        assert_eq!(space.budget(), 15 * MIB);
        clock.set(30_000);
        share.fit(Some(100 * MIB));
        assert_eq!(space.budget(), 64 * MIB);
    }

    #[test]
    fn a_shortage_is_told_once_until_the_medium_has_room_again() {
        let (_, space) = space(64 * MIB);
        let share = space.share();
        share.tell_shortage().unwrap();
        for _ in 0..2 {
            share.fit(Some(MIB));
            assert_eq!(share.tell_shortage().unwrap_err().kind(), ErrorKind::Full);
            share.tell_shortage().unwrap();
            share.fit(Some(100 * MIB));
            share.tell_shortage().unwrap();
        }
    }

    #[test]
    fn the_medium_is_looked_at_by_bytes_and_by_time() {
        let (clock, space) = space(64 * MIB);
        let share = space.share();
        assert!(share.is_due(1));
        let every = share.look_every();
        assert_eq!([share.is_due(every - 1), share.is_due(1), share.is_due(1)], [false, true, false]);
        clock.set(100);
        assert!(share.is_due(1));
    }
}
