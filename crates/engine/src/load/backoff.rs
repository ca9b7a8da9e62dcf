//! Backoff after failed loads whose callers were served a stale value.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use larder_core::clock::Time;
use parking_lot::Mutex;

/// The first backoff. Each further failure doubles it, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest backoff.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Maximum number of remembered pauses, of backoffs and of refreshes each.
pub(super) const PAUSES_MAX: usize = 10_000;

/// The keys whose loads failed lately, by their hash.
#[derive(Default)]
pub(crate) struct Backoffs {
    backoffs: Mutex<HashMap<u64, Backoff, FixedState>>,
    len: AtomicUsize,
}

/// The backoff of one key.
struct Backoff {
    failures: u32,
    until: Time,
}

impl Backoffs {
    /// Returns whether the next load of a key has to wait.
    pub(crate) fn holds(&self, hash: u64, now: Time) -> bool {
        self.len.load(Ordering::Acquire) > 0
            && self.backoffs.lock().get(&hash).is_some_and(|backoff| now < backoff.until)
    }

    /// Records a failure. `chance` shortens the backoff by up to a quarter.
    pub(crate) fn failed(&self, hash: u64, now: Time, chance: u64) {
        let mut backoffs = self.backoffs.lock();
        make_room(&mut backoffs, now, |backoff| backoff.until);
        let backoff = backoffs.entry(hash).or_insert(Backoff { failures: 0, until: now });
        backoff.until = now.after(length(backoff.failures, chance));
        backoff.failures += 1;
        self.len.store(backoffs.len(), Ordering::Release);
    }

    /// Records a success or a write: the next load need not wait.
    #[inline]
    pub(crate) fn end(&self, hash: u64) {
        if self.len.load(Ordering::Acquire) > 0 {
            self.remove(hash);
        }
    }

    #[cold]
    fn remove(&self, hash: u64) {
        let mut backoffs = self.backoffs.lock();
        backoffs.remove(&hash);
        self.len.store(backoffs.len(), Ordering::Release);
    }
}

/// Makes room for one more pause. At the limit the ended ones are dropped; if that frees nothing, the half that
/// ends first is.
pub(super) fn make_room<P>(pauses: &mut HashMap<u64, P, FixedState>, now: Time, until: impl Fn(&P) -> Time) {
    if pauses.len() >= PAUSES_MAX {
        pauses.retain(|_, pause| now < until(pause));
    }
    if pauses.len() < PAUSES_MAX {
        return;
    }
    let mut ends: Vec<Time> = pauses.values().map(&until).collect();
    let (_, median, _) = ends.select_nth_unstable(PAUSES_MAX / 2);
    let median = *median;
    // Many may end at the same moment: those that end later come first.
    let later = pauses.values().filter(|pause| until(pause) > median).count();
    let mut room = (PAUSES_MAX / 2).saturating_sub(later);
    pauses.retain(|_, pause| {
        let stays = until(pause) > median || until(pause) == median && room > 0;
        room -= usize::from(stays && until(pause) == median);
        stays
    });
}

/// Returns the length of a backoff after `failures` earlier failures.
fn length(failures: u32, chance: u64) -> Duration {
    let whole = PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
    whole - whole.mul_f64(0.25 * (chance >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Time = Time::from_millis;

    #[test]
    fn backoff_doubles_up_to_its_maximum_and_ends_with_a_success() {
        let backoffs = Backoffs::default();
        let mut now = T(0);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            backoffs.failed(7, now, 0);
            let end = now.after(Duration::from_secs(seconds));
            assert!(backoffs.holds(7, T(end.as_millis() - 1)) && !backoffs.holds(7, end), "{seconds} s");
            now = end;
        }
        assert!(!backoffs.holds(8, T(0)), "of another key");
        backoffs.failed(7, now, 0);
        backoffs.end(7);
        assert!(!backoffs.holds(7, now));
    }

    #[test]
    fn jitter_shortens_a_backoff_by_a_quarter_at_most() {
        let shortest = length(0, u64::MAX);
        assert!(shortest >= PAUSE_MIN * 3 / 4 && shortest < PAUSE_MIN * 4 / 5);
    }

    #[test]
    fn number_of_backoffs_is_bounded() {
        let backoffs = Backoffs::default();
        (0..3 * PAUSES_MAX as u64).for_each(|hash| backoffs.failed(hash, T(0), 0));
        assert!(backoffs.backoffs.lock().len() <= PAUSES_MAX);
    }

    #[test]
    fn backoffs_that_end_last_outlive_the_others_at_the_limit() {
        let backoffs = Backoffs::default();
        let long: Vec<u64> = (0..100).collect();
        // Four failures: eight seconds.
        (0..4).for_each(|_| long.iter().for_each(|hash| backoffs.failed(*hash, T(0), 0)));
        (100..2 * PAUSES_MAX as u64).for_each(|hash| backoffs.failed(hash, T(0), 0));
        assert!(long.iter().all(|hash| backoffs.holds(*hash, T(7_999))));
    }
}
