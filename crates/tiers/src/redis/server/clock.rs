//! The clock of a server, readable without I/O.
//!
//! Every heartbeat asks the server for its time; in between, the monotonic clock of this machine extrapolates
//! it. So the wall clock of this machine has no influence, and a change of the server's clock is followed
//! within a heartbeat.

use std::time::{Duration, Instant};

use larder_core::clock::Time;
use parking_lot::Mutex;
use redis::{FromRedisValue, Value};

/// After this time a less exact answer replaces an older one, since clocks drift.
const EXACT_LIFE: Duration = Duration::from_secs(10);

/// The known clock of one server.
#[derive(Debug, Default)]
pub(in crate::redis) struct ServerClock(Mutex<Option<Answer>>);

/// An answer to `TIME`: the time that the server showed between two moments.
#[derive(Clone, Copy, Debug)]
struct Answer {
    asked: Instant,
    answered: Instant,
    micros: u64,
}

impl Answer {
    /// The earliest and the latest time that the server may show at `moment`, in microseconds.
    fn at(&self, moment: Instant) -> (u64, u64) {
        let since = |start| micros(moment.saturating_duration_since(start));
        (self.micros + since(self.answered), self.micros + since(self.asked))
    }

    fn is_as_exact_as(&self, other: &Self) -> bool {
        self.answered - self.asked <= other.answered - other.asked
    }

    /// Whether the server's clock advanced as the local one did, up to its drift.
    fn agrees_with(&self, earlier: &Self) -> bool {
        const DRIFT: u64 = 10_000;
        let (earliest, latest) = earlier.at(self.answered);
        let late = micros(self.answered - self.asked);
        self.micros.saturating_add(late + DRIFT) >= earliest && self.micros <= latest.saturating_add(DRIFT)
    }
}

impl ServerClock {
    /// Records the server's answer to a `TIME` that was sent at `asked`. Ignores a malformed answer.
    pub(in crate::redis) fn record(&self, asked: Instant, answer: Value) {
        let Ok((seconds, micros)) = <(u64, u64)>::from_redis_value(answer) else { return };
        let micros = seconds.saturating_mul(1_000_000).saturating_add(micros);
        self.keep_better(Answer { asked, answered: Instant::now(), micros });
    }

    /// Keeps `answer` if it is better than the known one.
    fn keep_better(&self, answer: Answer) {
        let mut known = self.0.lock();
        let is_better = known.is_none_or(|known| {
            answer.is_as_exact_as(&known)
                || answer.asked - known.asked > EXACT_LIFE
                || !answer.agrees_with(&known)
        });
        if is_better {
            *known = Some(answer);
        }
    }

    /// The present time of the server; `None` before the first answer.
    pub(in crate::redis) fn now(&self) -> Option<Time> {
        let known = (*self.0.lock())?;
        let (earliest, latest) = known.at(Instant::now());
        Some(Time::from_millis((earliest / 2 + latest / 2) / 1000))
    }
}

fn micros(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(span.subsec_micros())).min(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(seconds: u64) -> Value {
        Value::Array(vec![
            Value::BulkString(seconds.to_string().into_bytes()),
            Value::BulkString(b"0".to_vec()),
        ])
    }

    fn near(clock: &ServerClock, seconds: u64) -> bool {
        let now = clock.now().unwrap().as_millis();
        (seconds * 1000..seconds * 1000 + 900).contains(&now)
    }

    #[test]
    fn server_clock_set_forward_or_back_is_followed() {
        let clock = ServerClock::default();
        assert_eq!(clock.now(), None);
        clock.record(Instant::now(), shows(1_000_000));
        assert!(near(&clock, 1_000_000));
        for seconds in [1_007_200, 992_800, 400_000_000, 1] {
            clock.record(Instant::now(), shows(seconds));
            assert!(near(&clock, seconds), "{seconds}");
        }
        clock.record(Instant::now(), Value::Nil);
        assert!(near(&clock, 1), "an answer that is none changes nothing");
    }

    /// A time one second earlier, shown at an unknown moment of the last 1.5 s, agrees with the exact answer;
    /// one second later does not.
    #[test]
    fn late_answer_does_not_replace_an_exact_one() {
        let (clock, asked) = (ServerClock::default(), Instant::now());
        let late = Duration::from_millis(1500);
        let answer = |asked, answered, seconds: u64| Answer { asked, answered, micros: seconds * 1_000_000 };
        let exact = answer(asked + late, asked + late, 1_000_000);
        clock.keep_better(exact);
        clock.keep_better(answer(asked, asked + late, 999_999));
        assert_eq!(clock.0.lock().unwrap().micros, exact.micros);
        clock.keep_better(answer(asked, asked + late, 1_000_001));
        assert_eq!(clock.0.lock().unwrap().micros, 1_000_001_000_000, "the server's clock was set meanwhile");
    }
}
