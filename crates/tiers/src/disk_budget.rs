//! One budget of bytes on disk, shared by the tiers of a cache.
//!
//! The budget follows the free space of the file system. Tiers ask for the free space after a
//! number of bytes written, and set the budget to used plus free space, less a reserve. So normal
//! eviction makes room before the disk is full.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use larder_core::clock::{Clock, SystemClock, Time};
use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

/// The reserve that is kept free is one part in this many of used plus free space. A shrinking
/// budget falls below the used space by one part in this many at a time.
const PART: u64 = 16;
/// Smallest additional reserve, in bytes. A tier may ask for more.
const RESERVE_MIN: u64 = 64 << 10;
/// Longest time between two checks of the free space, as long as there are writes.
const CHECK_PAUSE: Duration = Duration::from_millis(100);
/// Shortest time between two steps of the budget below the used space.
///
/// If other programs fill the disk as fast as this cache frees it, the cache loses a part of its
/// entries each time, and not all of them at once.
const SHRINK_PAUSE: Duration = Duration::from_secs(1);
/// How long a limit is kept that the file system does not report, such as a quota.
const QUOTA_LIFE: Duration = Duration::from_secs(30);

/// The directory in which the tiers of a cache lie, as its owner holds it.
pub trait CacheDir: Send + Sync {
    /// Ensures that the directory exists and that this owner holds its lock. Creates the directory
    /// again if it was removed.
    ///
    /// # Errors
    /// `ErrorKind::Unavailable` when the directory cannot be created, or when another process
    /// created and locked it first. Nothing may be written there then.
    fn ensure(&self) -> Result<()>;
}

/// The disk budget of one cache, in bytes, shared by its tiers.
pub struct DiskBudget {
    limit: u64,
    used: AtomicU64,
    /// `limit`, or less while the disk has less room.
    effective_limit: AtomicU64,
    /// Bytes of the disk to keep free, in addition to one part in [`PART`].
    reserve: AtomicU64,
    /// Bytes written since the last check of the free space.
    written: AtomicU64,
    disk: Mutex<DiskState>,
    clock: Arc<dyn Clock>,
    /// Weak: the lock of the directory ends with the cache, and tiers may live longer.
    dir: OnceLock<Weak<dyn CacheDir>>,
}

/// What is known of the file system. Times are since the start of the clock.
#[derive(Debug, Default)]
struct DiskState {
    /// Time of the next check of the free space.
    due: Duration,
    /// Lower bound of the budget, and when it ends.
    floor: Option<(u64, Duration)>,
    /// Upper bound of the budget, and when it ends. Set after a write failed although the file
    /// system reported free space.
    quota: Option<(u64, Duration)>,
    /// Whether a caller was told that the disk has less room than the limit.
    is_reported: bool,
}

impl DiskBudget {
    /// Creates a budget of `limit` bytes, none of it used.
    pub fn new(limit: u64) -> Arc<Self> {
        Self::with_clock(limit, Arc::new(SystemClock))
    }

    /// Like [`new`](Self::new), with the clock that decides which entries have expired.
    pub fn with_clock(limit: u64, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicU64::new(0),
            effective_limit: AtomicU64::new(limit),
            reserve: AtomicU64::new(RESERVE_MIN),
            written: AtomicU64::new(0),
            disk: Mutex::default(),
            clock,
            dir: OnceLock::new(),
        })
    }

    /// Creates a budget that nothing exceeds and that does not follow the free space: a tier with it evicts
    /// nothing. For programs that look into a directory or repair it.
    pub fn unlimited() -> Arc<Self> {
        Self::new(u64::MAX)
    }

    /// The configured budget, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The present budget, in bytes: less than [`limit`](Self::limit) while the disk has less room.
    pub fn effective_limit(&self) -> u64 {
        self.effective_limit.load(Ordering::Acquire)
    }

    /// Sets what tiers call when they find that their directory was removed. Only the
    /// first call has an effect.
    pub fn set_dir(&self, dir: &Arc<impl CacheDir + 'static>) {
        let dir = Arc::downgrade(dir) as Weak<dyn CacheDir>;
        let _is_set = self.dir.set(dir);
    }

    /// Creates the share of one tier, whose usage counts against the whole budget.
    pub fn share(self: &Arc<Self>) -> BudgetShare {
        BudgetShare { budget: Arc::clone(self), used: AtomicU64::new(0), relief: RateLimit::default() }
    }

    /// One part of `bytes`, but at least the reserve of the tiers.
    fn step_of(&self, bytes: u64) -> u64 {
        (bytes / PART).max(self.reserve.load(Ordering::Acquire))
    }
}

impl fmt::Debug for DiskBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskBudget")
            .field("limit", &self.limit)
            .field("effective_limit", &self.effective_limit)
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

/// A rate limiter, by the time since the start of the clock.
#[derive(Debug, Default)]
pub(crate) struct RateLimit(Mutex<Option<Duration>>);

impl RateLimit {
    /// Returns whether `pause` has passed since this last returned true.
    pub(crate) fn allows(&self, now: Duration, pause: Duration) -> bool {
        let mut last = self.0.lock();
        let is_over = last.is_none_or(|last| now >= last + pause);
        if is_over {
            *last = Some(now);
        }
        is_over
    }
}

/// The part of a [`DiskBudget`] that one tier uses. Dropping it returns all of it.
#[derive(Debug)]
pub struct BudgetShare {
    budget: Arc<DiskBudget>,
    used: AtomicU64,
    /// Limits how often room is made after a failed write.
    pub(crate) relief: RateLimit,
}

impl BudgetShare {
    /// Bytes that this tier uses.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Adds `bytes` to the usage.
    pub fn grow(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
        self.budget.used.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Subtracts `bytes` from the usage, down to zero.
    pub fn shrink(&self, bytes: u64) {
        let take = |used: u64| Some(used.saturating_sub(bytes));
        let before = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).unwrap_or(0);
        self.budget.used.fetch_sub(before.min(bytes), Ordering::AcqRel);
    }

    /// Sets the usage of this tier to `bytes`.
    pub fn set(&self, bytes: u64) {
        let before = self.used.swap(bytes, Ordering::AcqRel);
        self.budget.used.fetch_add(bytes, Ordering::AcqRel);
        self.budget.used.fetch_sub(before, Ordering::AcqRel);
    }

    /// By how many bytes all tiers together would exceed the present budget after `more` bytes.
    /// Zero while they fit.
    pub fn excess(&self, more: u64) -> u64 {
        self.budget.used.load(Ordering::Acquire).saturating_add(more).saturating_sub(self.effective_limit())
    }

    /// Counts `bytes` as used until the returned guard is dropped. So two writers cannot both claim
    /// the same free space.
    #[cfg(feature = "disk")]
    pub(crate) fn reserve(&self, bytes: u64) -> Reserved<'_> {
        self.grow(bytes);
        Reserved { share: self, bytes }
    }

    /// Bytes of the effective limit that no tier uses.
    pub fn room(&self) -> u64 {
        self.effective_limit().saturating_sub(self.budget.used.load(Ordering::Acquire))
    }

    /// The configured budget of all tiers together, in bytes.
    pub fn limit(&self) -> u64 {
        self.budget.limit
    }

    /// The present budget of all tiers together: see [`DiskBudget::effective_limit`].
    pub fn effective_limit(&self) -> u64 {
        self.budget.effective_limit()
    }
}

/// Time, free space and the size of the budget.
impl BudgetShare {
    /// The present time, which decides which entries have expired.
    pub(crate) fn now(&self) -> Time {
        self.budget.clock.now()
    }

    /// Time since the start of the clock.
    pub(crate) fn elapsed(&self) -> Duration {
        self.budget.clock.elapsed()
    }

    /// Ensures that the directory of the cache exists and is locked.
    pub(crate) fn ensure_dir(&self) -> Result<()> {
        let dir = self.budget.dir.get().and_then(Weak::upgrade);
        dir.map_or(Ok(()), |dir| dir.ensure())
    }

    /// Bytes that are written between two checks of the free space.
    pub(crate) fn check_every(&self) -> u64 {
        (self.effective_limit() / 64).clamp(64 << 10, 4 << 20)
    }

    /// Counts `bytes` that are about to be written. Returns whether the caller should check the
    /// free space.
    pub(crate) fn is_due(&self, bytes: u64) -> bool {
        let written = self.budget.written.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes);
        let now = self.elapsed();
        let mut disk = self.budget.disk.lock();
        let is_due = written >= self.check_every() || now >= disk.due;
        if is_due {
            disk.due = now + CHECK_PAUSE;
            self.budget.written.store(0, Ordering::Release);
        }
        is_due
    }

    /// Sets the budget to used plus `available` space, less a reserve. One call lowers it at most
    /// one part below the used space.
    ///
    /// If nothing is available, the budget stays at the used space. Evicting may not help then,
    /// because the free space may belong to another user. A failed write shows whether it does.
    pub(crate) fn fit_to_free_space(&self, available: Option<u64>) {
        let Some(available) = available.filter(|_| self.limit() < u64::MAX) else { return };
        let (budget, now) = (&self.budget, self.elapsed());
        let used = budget.used.load(Ordering::Acquire);
        let all = used.saturating_add(available);
        let reserve = all / PART + budget.reserve.load(Ordering::Acquire);
        let fits = if available == 0 { used } else { all.saturating_sub(reserve) };
        self.set_effective_limit(&mut budget.disk.lock(), fits, now);
    }

    fn set_effective_limit(&self, disk: &mut DiskState, fits: u64, now: Duration) {
        let budget = &self.budget;
        let used = budget.used.load(Ordering::Acquire);
        disk.quota = disk.quota.filter(|(_, until)| now < *until);
        disk.floor = disk.floor.filter(|(_, until)| now < *until);
        let mut fits = disk.quota.map_or(fits, |(quota, _)| fits.min(quota)).min(budget.limit);
        if fits < used {
            let part = (used.saturating_sub(budget.step_of(used)), now + SHRINK_PAUSE);
            fits = fits.max(disk.floor.get_or_insert(part).0);
        }
        disk.is_reported &= fits < budget.limit;
        budget.effective_limit.store(fits.min(budget.limit), Ordering::Release);
    }

    /// Shrinks the budget below the used space for [`QUOTA_LIFE`], after a write failed although
    /// usage was within the budget.
    pub(crate) fn write_failed(&self) {
        if self.excess(1) > 0 {
            return;
        }
        let (budget, now) = (&self.budget, self.elapsed());
        let used = budget.used.load(Ordering::Acquire);
        let quota = used.saturating_sub(budget.step_of(used));
        let mut disk = budget.disk.lock();
        disk.quota = Some((quota, now + QUOTA_LIFE));
        self.set_effective_limit(&mut disk, quota, now);
    }

    /// Returns whether the disk has less room than the configured budget.
    pub(crate) fn is_short(&self) -> bool {
        self.effective_limit() < self.limit()
    }

    /// Fails once when entries must be evicted because the disk has less room than the configured
    /// budget. So the caller and the statistics learn of it.
    ///
    /// Fails again only after the disk had room for the whole budget.
    pub(crate) fn report_shortage(&self) -> Result<()> {
        if !self.is_short() || std::mem::replace(&mut self.budget.disk.lock().is_reported, true) {
            return Ok(());
        }
        let (budget, limit) = (self.effective_limit(), self.limit());
        let message = format!(
            "the disk has room for {budget} of the {limit} bytes of `disk_bytes`; entries are evicted early"
        );
        tracing::warn!(target: "larder", budget, limit, "the disk has less free space than the disk budget; entries are evicted early");
        Err(Error::new(ErrorKind::Full, message))
    }
}

/// A reservation: bytes that count as used but are not written yet. Dropping it releases them.
#[cfg(feature = "disk")]
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    share: &'a BudgetShare,
    bytes: u64,
}

#[cfg(feature = "disk")]
impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.share.shrink(self.bytes);
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A test clock whose elapsed time is set in milliseconds.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct ElapsedClock(AtomicU64);

#[cfg(test)]
impl ElapsedClock {
    pub(crate) fn set(&self, millis: u64) {
        self.0.store(millis, Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Clock for ElapsedClock {
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

    fn budget(limit: u64) -> (Arc<ElapsedClock>, Arc<DiskBudget>) {
        let clock = Arc::new(ElapsedClock::default());
        let budget = DiskBudget::with_clock(limit, Arc::clone(&clock) as Arc<dyn Clock>);
        (clock, budget)
    }

    #[test]
    fn budget_shrinks_and_grows_with_the_free_space() {
        let (_, budget) = budget(64 * MIB);
        let share = budget.share();
        share.set(16 * MIB);
        share.fit_to_free_space(Some(100 * MIB));
        assert_eq!((budget.effective_limit(), share.is_short()), (64 * MIB, false), "there is room for all");
        let fits = |available| {
            share.fit_to_free_space(Some(available));
            budget.effective_limit()
        };
        assert_eq!(fits(16 * MIB), 30 * MIB - RESERVE_MIN);
        assert_eq!(fits(48 * MIB), 60 * MIB - RESERVE_MIN);
        assert_eq!(fits(100 * MIB), 64 * MIB);
        assert_eq!(fits(0), 16 * MIB, "used bytes stay, since eviction may not free any space");
        share.fit_to_free_space(None);
        assert_eq!(
            budget.effective_limit(),
            16 * MIB,
            "unchanged if the file system does not report its free space"
        );
    }

    #[test]
    fn budget_falls_below_usage_by_one_part_each_second() {
        let (clock, budget) = budget(64 * MIB);
        let share = budget.share();
        share.set(16 * MIB);
        share.fit_to_free_space(Some(1));
        assert_eq!(budget.effective_limit(), 15 * MIB);
        share.set(15 * MIB);
        share.fit_to_free_space(Some(1));
        assert_eq!(budget.effective_limit(), 15 * MIB, "other programs took the space that became free");
        clock.set(1_000);
        share.fit_to_free_space(Some(1));
        assert_eq!(budget.effective_limit(), 15 * MIB / 16 * 15);
        share.fit_to_free_space(Some(MIB));
        assert_eq!(budget.effective_limit(), 15 * MIB - RESERVE_MIN, "no other program took the free space");
    }

    #[test]
    fn unreported_quota_limits_the_budget_for_a_while() {
        let (clock, budget) = budget(64 * MIB);
        let share = budget.share();
        share.set(16 * MIB);
        share.fit_to_free_space(Some(100 * MIB));
        share.write_failed();
        assert_eq!(budget.effective_limit(), 15 * MIB);
        share.fit_to_free_space(Some(100 * MIB));
        assert_eq!(budget.effective_limit(), 15 * MIB);
        clock.set(30_000);
        share.fit_to_free_space(Some(100 * MIB));
        assert_eq!(budget.effective_limit(), 64 * MIB);
    }

    #[test]
    fn shortage_is_reported_once_until_the_disk_has_room_again() {
        let (_, budget) = budget(64 * MIB);
        let share = budget.share();
        share.report_shortage().unwrap();
        for _ in 0..2 {
            share.fit_to_free_space(Some(MIB));
            assert_eq!(share.report_shortage().unwrap_err().kind(), ErrorKind::Full);
            share.report_shortage().unwrap();
            share.fit_to_free_space(Some(100 * MIB));
            share.report_shortage().unwrap();
        }
    }

    #[test]
    fn free_space_is_checked_after_bytes_written_and_after_time() {
        let (clock, budget) = budget(64 * MIB);
        let share = budget.share();
        assert!(share.is_due(1));
        let every = share.check_every();
        assert_eq!([share.is_due(every - 1), share.is_due(1), share.is_due(1)], [false, true, false]);
        clock.set(100);
        assert!(share.is_due(1));
    }
}
