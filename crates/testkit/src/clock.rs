//! A clock that moves only on command, and one with an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use larder_core::clock::{Clock, SystemClock, Time};

/// A clock that stands still until it is moved. Clones share one clock.
///
/// `advance` moves the wall clock and the elapsed time together; `set` moves only the
/// wall clock.
///
/// ```
/// use std::time::Duration;
/// use larder_core::clock::Clock;
/// use larder_testkit::ManualClock;
///
/// let clock = ManualClock::default();
/// let start = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().since(start), Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    millis: Arc<AtomicU64>,
    elapsed_millis: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that shows `time`.
    pub fn new(time: Time) -> Self {
        Self { millis: Arc::new(AtomicU64::new(time.as_millis())), elapsed_millis: Arc::default() }
    }

    /// Moves the clock forward by `duration`, in whole milliseconds.
    pub fn advance(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let step = |now: u64| Some(now.saturating_add(millis));
        for shown in [&self.millis, &self.elapsed_millis] {
            let _ = shown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step);
        }
    }

    /// Sets the wall clock to `time`, which may lie in the past.
    pub fn set(&self, time: Time) {
        self.millis.store(time.as_millis(), Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    /// A clock that shows a moment in November 2023.
    fn default() -> Self {
        Self::new(Time::from_millis(1_700_000_000_000))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time::from_millis(self.millis.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_millis.load(Ordering::SeqCst))
    }
}

/// The wall clock of a machine, with an error that the test sets. Clones share one clock.
///
/// ```
/// use larder_core::clock::{Clock, SystemClock};
/// use larder_testkit::SkewedClock;
///
/// let clock = SkewedClock::ahead(-60_000);
/// assert!(clock.now() < SystemClock.now());
/// clock.set_ahead(60_000);
/// assert!(clock.now() > SystemClock.now());
/// ```
#[derive(Clone, Debug, Default)]
pub struct SkewedClock(Arc<AtomicI64>);

impl SkewedClock {
    /// A clock that is ahead by this many milliseconds, or behind if they are negative.
    pub fn ahead(millis: i64) -> Self {
        Self(Arc::new(AtomicI64::new(millis)))
    }

    /// Makes the clock jump, so that it is ahead by this many milliseconds.
    pub fn set_ahead(&self, millis: i64) {
        self.0.store(millis, Ordering::SeqCst);
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Time {
        let now = SystemClock.now().as_millis();
        Time::from_millis(now.saturating_add_signed(self.0.load(Ordering::SeqCst)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_steps_back_on_set_and_never_overflows() {
        let clock = ManualClock::default();
        let other = clock.clone();
        clock.set(Time::from_millis(5));
        assert_eq!(other.now(), Time::from_millis(5));
        clock.advance(Duration::MAX);
        assert_eq!(other.now(), Time::NEVER);
        assert_eq!(other.elapsed(), Duration::from_millis(u64::MAX));
    }
}
