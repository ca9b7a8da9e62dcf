//! Pauses after failed loads whose callers were served a stale value.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use larder_core::clock::Time;
use parking_lot::Mutex;

/// The first pause. Each failure in a row doubles it, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// More pauses than this are not remembered: the oldest go.
const PAUSES_MAX: usize = 10_000;

/// The keys whose loads failed lately, by their hash at the gates.
#[derive(Default)]
pub(crate) struct Pauses {
    pauses: Mutex<HashMap<u64, Pause, FixedState>>,
    len: AtomicUsize,
}

struct Pause {
    failures: u32,
    until: Time,
}

impl Pauses {
    /// Whether the next attempt has to wait.
    pub(crate) fn holds(&self, hash: u64, now: Time) -> bool {
        self.len.load(Ordering::Acquire) > 0
            && self.pauses.lock().get(&hash).is_some_and(|pause| now < pause.until)
    }

    /// Notes a failure. The pause is cut by up to a quarter, by `chance`.
    pub(crate) fn failed(&self, hash: u64, now: Time, chance: u64) {
        let mut pauses = self.pauses.lock();
        if pauses.len() >= PAUSES_MAX {
            pauses.retain(|_, pause| now < pause.until);
        }
        if pauses.len() >= PAUSES_MAX {
            pauses.clear();
        }
        let pause = pauses.entry(hash).or_insert(Pause { failures: 0, until: now });
        pause.until = now.after(length(pause.failures, chance));
        pause.failures += 1;
        self.len.store(pauses.len(), Ordering::Release);
    }

    /// Notes a success or a write: the next attempt need not wait.
    pub(crate) fn end(&self, hash: u64) {
        if self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut pauses = self.pauses.lock();
        pauses.remove(&hash);
        self.len.store(pauses.len(), Ordering::Release);
    }
}

fn length(failures: u32, chance: u64) -> Duration {
    let whole = PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
    whole - whole.mul_f64(0.25 * (chance >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Time = Time::from_millis;

    #[test]
    fn pauses_grow_and_end() {
        let pauses = Pauses::default();
        let mut now = T(0);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            pauses.failed(7, now, 0);
            let end = now.after(Duration::from_secs(seconds));
            assert!(pauses.holds(7, T(end.as_millis() - 1)) && !pauses.holds(7, end), "{seconds} s");
            now = end;
        }
        assert!(!pauses.holds(8, T(0)), "of another key");
        pauses.failed(7, now, 0);
        pauses.end(7);
        assert!(!pauses.holds(7, now));
    }

    #[test]
    fn chance_takes_a_quarter_at_most() {
        let shortest = length(0, u64::MAX);
        assert!(shortest >= PAUSE_MIN * 3 / 4 && shortest < PAUSE_MIN * 4 / 5);
    }

    #[test]
    fn they_are_bounded() {
        let pauses = Pauses::default();
        (0..3 * PAUSES_MAX as u64).for_each(|hash| pauses.failed(hash, T(0), 0));
        assert!(pauses.pauses.lock().len() <= PAUSES_MAX);
    }
}
