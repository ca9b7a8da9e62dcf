//! Wall-clock times, clock offsets, and the source of the present time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Milliseconds since the Unix epoch, by the wall clock.
///
/// Frames store it, so it means the same after a restart and on another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The infinite future: the deadline of an entry that does not expire.
    pub const NEVER: Self = Self(u64::MAX);

    /// A time from milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time `span` later; [`NEVER`](Self::NEVER) on overflow.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it is not in the past.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// How far one clock is ahead of another, in milliseconds; negative if it is behind.
///
/// ```
/// use larder_core::clock::{Offset, Time};
///
/// let (here, there) = (Time::from_millis(1_000), Time::from_millis(4_000));
/// let offset = Offset::between(here, there);
/// assert_eq!(offset.forward(Time::from_millis(1_500)), Time::from_millis(4_500));
/// assert_eq!(offset.backward(Time::from_millis(4_500)), Time::from_millis(1_500));
/// assert_eq!(offset.forward(Time::NEVER), Time::NEVER);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset(i64);

impl Offset {
    /// How far the clock that shows `there` is ahead of the one that shows `here`.
    pub fn between(here: Time, there: Time) -> Self {
        let millis = i128::from(there.0) - i128::from(here.0);
        Self(i64::try_from(millis).unwrap_or(if millis < 0 { i64::MIN } else { i64::MAX }))
    }

    /// The same offset from milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The offset in milliseconds.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// What the other clock shows at `time`. [`Time::NEVER`] stays as it is, and no other time becomes
    /// `NEVER`.
    pub fn forward(self, time: Time) -> Time {
        match time {
            Time::NEVER => time,
            Time(millis) => Time(millis.saturating_add_signed(self.0).min(u64::MAX - 1)),
        }
    }

    /// The reverse of [`forward`](Self::forward).
    pub fn backward(self, time: Time) -> Time {
        Self(self.0.saturating_neg()).forward(time)
    }
}

/// A source of the present time. Tests pass a clock that they set.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a clock",
    label = "does not implement `larder::Clock`",
    note = "`larder::SystemClock` is the default; `larder_testkit::ManualClock` is one that a test sets"
)]
pub trait Clock: Send + Sync + 'static {
    /// The present time.
    ///
    /// # Behavior
    /// - Never blocks and never panics.
    /// - May step back, as wall clocks do; callers must tolerate that.
    fn now(&self) -> Time;

    /// The time since a fixed moment of this process. Backoffs and time windows are measured with it.
    ///
    /// # Behavior
    /// - Never steps back. The default is the monotonic clock of the system.
    fn elapsed(&self) -> Duration {
        START.get_or_init(Instant::now).elapsed()
    }
}

static START: OnceLock<Instant> = OnceLock::new();

/// The wall clock of the operating system, with a resolution of a few milliseconds.
///
/// On Linux it is the coarse clock (`CLOCK_REALTIME_COARSE`): on a machine without a fast counter, reading
/// the exact clock can cost as much as an insert.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[cfg(target_os = "linux")]
    fn now(&self) -> Time {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        // Not negative, as is the fraction of a second.
        let seconds = now.tv_sec.max(0).cast_unsigned();
        Time(seconds.saturating_mul(1000).saturating_add(now.tv_nsec.cast_unsigned() / 1_000_000))
    }

    #[cfg(not(target_os = "linux"))]
    fn now(&self) -> Time {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Time(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX - 1))
    }
}

/// The latest of several moments, rounded down to microseconds. Lock-free.
#[derive(Debug)]
pub struct Latest {
    since: Instant,
    /// Microseconds from `since`, plus one; zero if there is no moment yet.
    micros: AtomicU64,
}

impl Default for Latest {
    fn default() -> Self {
        Self { since: Instant::now(), micros: AtomicU64::new(0) }
    }
}

impl Latest {
    /// Replaces the stored moment by `moment` if that is later. A moment before the creation of this value
    /// counts as the moment of creation.
    pub fn raise(&self, moment: Instant) {
        let micros = moment.saturating_duration_since(self.since).as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX - 1);
        self.micros.fetch_max(micros + 1, Ordering::AcqRel);
    }

    /// The latest moment so far; `None` before the first one.
    pub fn get(&self) -> Option<Instant> {
        let micros = self.micros.load(Ordering::Acquire).checked_sub(1)?;
        self.since.checked_add(Duration::from_micros(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raise_keeps_latest_moment() {
        let before = Instant::now();
        let latest = Latest::default();
        assert_eq!(latest.get(), None);
        latest.raise(before);
        let first = latest.get().unwrap();
        latest.raise(first + Duration::from_secs(2));
        latest.raise(first + Duration::from_secs(1));
        assert_eq!(latest.get(), Some(first + Duration::from_secs(2)));
    }
}
