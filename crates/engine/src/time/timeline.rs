//! The time of a cache. It follows the clock of the cache, but never runs backwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder_core::clock::{Clock, Time};
use parking_lot::Mutex;

/// If the clock is set back by less than this, in milliseconds, time stands still until the
/// clock catches up. This also covers two threads that read the clock in one order and use
/// the result in the other.
const TOLERATED_MS: u64 = 1000;

/// A monotonic clock over a clock that may be set back. Setting the clock back neither
/// revives an expired entry nor extends the life of an entry.
///
/// If the clock steps back by [`TOLERATED_MS`] or more, the timeline adds the difference to
/// the clock from then on. If the clock steps forward, the timeline steps forward too.
pub(crate) struct Timeline {
    clock: Arc<dyn Clock>,
    /// The latest time that was returned, in milliseconds.
    seen: AtomicU64,
    /// Milliseconds added to the clock.
    skew: AtomicU64,
    stepping: Mutex<()>,
}

impl Timeline {
    /// Creates a timeline that follows `clock` and never shows a time before `earliest`.
    pub(crate) fn new(clock: Arc<dyn Clock>, earliest: Time) -> Self {
        let skew = earliest.as_millis().saturating_sub(clock.now().as_millis());
        let seen = AtomicU64::new(earliest.as_millis());
        Self { clock, seen, skew: AtomicU64::new(skew), stepping: Mutex::default() }
    }

    /// Returns the current time.
    #[inline]
    pub(crate) fn now(&self) -> Time {
        let shown = self.shown();
        let seen = self.seen.load(Ordering::Relaxed);
        if shown == seen { Time::from_millis(shown) } else { self.moved(shown, seen) }
    }

    /// Returns the current time, if the clock shows another one than the latest that was returned.
    #[inline(never)]
    fn moved(&self, shown: u64, seen: u64) -> Time {
        if shown > seen {
            self.seen.fetch_max(shown, Ordering::Relaxed);
        } else if seen - shown >= TOLERATED_MS {
            return self.stepped_back();
        }
        Time::from_millis(shown.max(seen))
    }

    /// Returns the time since a fixed moment of this process. Setting the clock does not affect
    /// it.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Converts a time of the clock to a time of this timeline.
    pub(crate) fn of(&self, time: Time) -> Time {
        Time::from_millis(time.as_millis().saturating_add(self.skew.load(Ordering::Relaxed)))
    }

    fn shown(&self) -> u64 {
        let shown = self.clock.now().as_millis().saturating_add(self.skew.load(Ordering::Relaxed));
        // Time stays below `Time::NEVER`, the deadline of entries that never expire.
        shown.min(Time::NEVER.as_millis() - 1)
    }

    #[cold]
    fn stepped_back(&self) -> Time {
        let _alone = self.stepping.lock();
        let (shown, seen) = (self.shown(), self.seen.load(Ordering::Relaxed));
        let back = seen.saturating_sub(shown);
        if back >= TOLERATED_MS {
            self.skew.fetch_add(back, Ordering::Relaxed);
            tracing::info!(target: "larder", millis = back, "the clock was set back; entries continue to age");
        }
        Time::from_millis(seen.max(shown))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    struct Hands(AtomicU64);

    impl Clock for Hands {
        fn now(&self) -> Time {
            Time::from_millis(self.0.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn time_continues_when_the_clock_steps_back() {
        let hands = Arc::new(Hands(AtomicU64::new(1_000_000)));
        let time = Timeline::new(Arc::clone(&hands) as Arc<dyn Clock>, Time::from_millis(0));
        let shows = |clock: u64| {
            hands.0.store(clock, Ordering::SeqCst);
            time.now().as_millis()
        };
        assert_eq!(shows(1_000_000), 1_000_000);
        assert_eq!(shows(999_500), 1_000_000, "a little back: it stands still");
        assert_eq!(shows(500_000), 1_000_000, "far back");
        assert_eq!(shows(500_700), 1_000_700, "and on from there");
        assert_eq!(shows(9_000_000), 9_500_000, "forward is believed");
        assert_eq!(shows(u64::MAX), u64::MAX - 1);
    }

    #[test]
    fn time_starts_where_an_earlier_run_ended() {
        let hands = Arc::new(Hands(AtomicU64::new(1_000)));
        let time = Timeline::new(Arc::clone(&hands) as Arc<dyn Clock>, Time::from_millis(5_000));
        assert_eq!(time.now().as_millis(), 5_000);
        hands.0.store(1_001, Ordering::SeqCst);
        assert_eq!(time.now().as_millis(), 5_001);
        assert_eq!(time.of(Time::from_millis(2_000)).as_millis(), 6_000);
    }
}
