//! A circuit of the breaker: closed while calls succeed, open after too many failures.
//!
//! States and transitions:
//!
//! ```text
//! closed ── at least 5 failures, half of the calls of a window ──▶ open
//! open ── the backoff is over, one call is let through as a probe ──▶ probing
//! probing ── the probe succeeds ──▶ closed
//! probing ── it fails ──▶ open, with twice the backoff, up to 30 s
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use larder_core::clock::Clock;
use parking_lot::Mutex;

/// Failures within this time are counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// Minimum number of failures that opens a circuit.
const FAILURES_MIN: u64 = 5;
/// The first pause; it doubles with each failed probe.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const PROBING: u8 = 2;

/// How a report changed the state of the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The circuit opened, for this pause.
    Opened(Duration),
    /// The circuit closed.
    Closed,
}

/// Counts calls and failures, and decides whether the next call may be made.
///
/// A call through a closed circuit costs one atomic load and one addition. A window
/// begins with a failure, and successes are counted since then. So the clock is not read
/// while all calls succeed.
pub(super) struct Circuit {
    state: AtomicU8,
    successes: AtomicU64,
    inner: Mutex<Inner>,
    clock: Arc<dyn Clock>,
    salt: foldhash::fast::RandomState,
}

#[derive(Default)]
struct Inner {
    window_began: Duration,
    failures: u64,
    retry_at: Duration,
    backoff: Duration,
}

/// Permission to make one call. A probe that is dropped without a report counts as
/// failed, because its outcome is unknown.
pub(super) struct Permit<'a> {
    circuit: &'a Circuit,
    is_probe: bool,
    reported: bool,
}

impl Circuit {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            state: AtomicU8::new(CLOSED),
            successes: AtomicU64::new(0),
            inner: Mutex::default(),
            clock,
            salt: foldhash::fast::RandomState::default(),
        }
    }

    /// Asks for permission to make a call; `None` while the circuit is open.
    pub(super) fn enter(&self) -> Option<Permit<'_>> {
        if self.state.load(Ordering::Acquire) == CLOSED {
            return Some(Permit { circuit: self, is_probe: false, reported: false });
        }
        let inner = self.inner.lock();
        match self.state.load(Ordering::Acquire) {
            CLOSED => Some(Permit { circuit: self, is_probe: false, reported: false }),
            OPEN if self.clock.elapsed() >= inner.retry_at => {
                self.state.store(PROBING, Ordering::Release);
                Some(Permit { circuit: self, is_probe: true, reported: false })
            }
            _ => None,
        }
    }

    /// Whether calls are let through, and not only as probes.
    pub(super) fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED
    }

    /// Whether a call would be let through now.
    pub(super) fn is_ready(&self) -> bool {
        match self.state.load(Ordering::Acquire) {
            CLOSED => true,
            OPEN => self.clock.elapsed() >= self.inner.lock().retry_at,
            _ => false,
        }
    }

    fn probed(&self, failed: bool) -> Change {
        let mut inner = self.inner.lock();
        if failed {
            return self.open(&mut inner);
        }
        *inner = Inner::default();
        self.state.store(CLOSED, Ordering::Release);
        Change::Closed
    }

    fn failed(&self) -> Change {
        let mut inner = self.inner.lock();
        let now = self.clock.elapsed();
        if inner.failures == 0 || now.saturating_sub(inner.window_began) > WINDOW {
            inner.window_began = now;
            inner.failures = 0;
            self.successes.store(0, Ordering::Relaxed);
        }
        inner.failures += 1;
        let successes = self.successes.load(Ordering::Relaxed);
        let is_closed = self.state.load(Ordering::Acquire) == CLOSED;
        if is_closed && inner.failures >= FAILURES_MIN && inner.failures >= successes {
            return self.open(&mut inner);
        }
        Change::None
    }

    fn open(&self, inner: &mut Inner) -> Change {
        inner.backoff = (inner.backoff * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        let backoff = self.jittered(inner.backoff);
        inner.retry_at = self.clock.elapsed() + backoff;
        inner.failures = 0;
        self.state.store(OPEN, Ordering::Release);
        Change::Opened(backoff)
    }

    /// Returns a random pause between three and five quarters of `backoff`, so that
    /// callers that failed together do not retry together.
    fn jittered(&self, backoff: Duration) -> Duration {
        use std::hash::BuildHasher;
        let quarters = (self.salt.hash_one(self.clock.elapsed()) % 512) as f64 / 1024.0;
        backoff.mul_f64(0.75 + quarters)
    }
}

impl Permit<'_> {
    /// Reports how the call ended.
    pub(super) fn report(mut self, failed: bool) -> Change {
        self.reported = true;
        match (self.is_probe, failed) {
            (true, failed) => self.circuit.probed(failed),
            (false, true) => self.circuit.failed(),
            (false, false) => {
                self.circuit.successes.fetch_add(1, Ordering::Relaxed);
                Change::None
            }
        }
    }

    /// Reports how the calls of a batch ended.
    pub(super) fn report_many(mut self, successes: u64, failures: u64) -> Change {
        self.reported = true;
        if self.is_probe {
            return self.circuit.probed(failures > 0);
        }
        // The first failure may begin a window, which resets the successes before it.
        let first = if failures > 0 { self.circuit.failed() } else { Change::None };
        self.circuit.successes.fetch_add(successes, Ordering::Relaxed);
        let rest = (1..failures).map(|_| self.circuit.failed());
        rest.fold(first, |seen, next| if seen == Change::None { next } else { seen })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.reported {
            self.circuit.probed(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_core::clock::Time;

    use super::*;

    #[derive(Clone, Default)]
    struct Hand(Arc<AtomicU64>);

    impl Hand {
        fn advance(&self, by: Duration) {
            self.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        }
    }

    impl Clock for Hand {
        fn now(&self) -> Time {
            Time::from_millis(0)
        }

        fn elapsed(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::SeqCst))
        }
    }

    fn calls(circuit: &Circuit, count: usize, failed: bool) -> Change {
        (0..count).map(|_| circuit.enter().unwrap().report(failed)).last().unwrap()
    }

    #[test]
    fn circuit_opens_at_half_of_the_calls_and_not_before_five_failures() {
        let hand = Hand::default();
        let circuit = Circuit::new(Arc::new(hand.clone()));
        assert_eq!(calls(&circuit, 4, true), Change::None);
        calls(&circuit, 20, false);
        assert_eq!(calls(&circuit, 15, true), Change::None, "19 of 39");
        assert!(matches!(calls(&circuit, 1, true), Change::Opened(_)), "20 of 40");
        assert!(circuit.enter().is_none());
    }

    #[test]
    fn calls_of_a_batch_count_one_by_one() {
        let hand = Hand::default();
        let circuit = Circuit::new(Arc::new(hand.clone()));
        assert_eq!(circuit.enter().unwrap().report_many(20, 4), Change::None);
        assert_eq!(circuit.enter().unwrap().report_many(0, 15), Change::None, "19 of 39");
        assert!(matches!(circuit.enter().unwrap().report_many(0, 9), Change::Opened(_)), "20 of 40");
        hand.advance(PAUSE_MIN * 2);
        assert!(
            matches!(circuit.enter().unwrap().report_many(99, 1), Change::Opened(_)),
            "a probe that fails"
        );
        hand.advance(PAUSE_MIN * 4);
        assert_eq!(circuit.enter().unwrap().report_many(99, 0), Change::Closed);
    }

    #[test]
    fn failures_in_different_windows_do_not_add_up() {
        let hand = Hand::default();
        let circuit = Circuit::new(Arc::new(hand.clone()));
        for _ in 0..20 {
            assert_eq!(calls(&circuit, 1, true), Change::None);
            hand.advance(WINDOW / 3);
        }
    }

    #[test]
    fn only_one_probe_runs_at_a_time_and_pause_grows_to_its_limit() {
        let hand = Hand::default();
        let circuit = Circuit::new(Arc::new(hand.clone()));
        let Change::Opened(mut backoff) = calls(&circuit, 5, true) else { panic!("it did not open") };
        assert!(backoff >= PAUSE_MIN.mul_f64(0.75) && backoff <= PAUSE_MIN.mul_f64(1.25), "{backoff:?}");
        for _ in 0..10 {
            assert!(!circuit.is_ready());
            hand.advance(backoff + Duration::from_millis(1));
            let probe = circuit.enter().expect("the backoff is over");
            assert!(circuit.enter().is_none() && !circuit.is_ready(), "one at a time");
            let Change::Opened(next) = probe.report(true) else { panic!("it must open again") };
            backoff = next;
        }
        assert!(backoff >= PAUSE_MAX.mul_f64(0.75) && backoff <= PAUSE_MAX.mul_f64(1.25), "{backoff:?}");
        hand.advance(PAUSE_MAX * 2);
        assert_eq!(circuit.enter().unwrap().report(false), Change::Closed);
        assert_eq!(calls(&circuit, 4, true), Change::None, "failures of before are forgotten");
    }

    #[test]
    fn dropped_probe_leaves_circuit_open() {
        let hand = Hand::default();
        let circuit = Circuit::new(Arc::new(hand.clone()));
        calls(&circuit, 5, true);
        hand.advance(PAUSE_MIN * 2);
        drop(circuit.enter().unwrap());
        assert!(circuit.enter().is_none());
        hand.advance(PAUSE_MIN * 4);
        assert_eq!(circuit.enter().unwrap().report(false), Change::Closed);
    }
}
