//! Timers for tasks: an alarm wakes a waker at a moment, under any executor.
//!
//! tokio's own timer panics in a runtime that has not enabled it. One thread of the process serves
//! all alarms. Most alarms are cancelled before they fire, so a cancellation does not wake the
//! thread. The thread ends when it wakes at the latest moment it knew of and finds no alarm, or
//! when a cache closes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

type Key = (Instant, u64);

struct State {
    alarms: BTreeMap<Key, Waker>,
    running: bool,
    /// The moment until which the thread sleeps.
    sleeps_to: Option<Instant>,
}

static STATE: Mutex<State> = Mutex::new(State { alarms: BTreeMap::new(), running: false, sleeps_to: None });
static CHANGED: Condvar = Condvar::new();
static NEXT: AtomicU64 = AtomicU64::new(0);

/// An alarm that is set. Dropping it cancels it.
pub struct Alarm {
    key: Key,
}

impl Alarm {
    /// Sets an alarm that wakes `waker` at `moment`. It never fires if no thread can be started.
    pub fn wakes_at(moment: Instant, waker: &Waker) -> Self {
        let key = (moment, NEXT.fetch_add(1, Ordering::Relaxed));
        let mut state = STATE.lock();
        state.alarms.insert(key, waker.clone());
        if !state.running {
            let started = std::thread::Builder::new().name("larder-timer".into()).spawn(serve);
            state.running = started.is_ok();
        }
        let is_sooner = state.sleeps_to.is_some_and(|asleep| moment < asleep);
        drop(state);
        if is_sooner {
            CHANGED.notify_one();
        }
        Self { key }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // Drop the waker after the lock: it may be the last handle of a task.
        let _waker = STATE.lock().alarms.remove(&self.key);
    }
}

/// Ends the timer thread if no alarm is set.
pub fn rest() {
    let state = STATE.lock();
    if state.running && state.alarms.is_empty() {
        CHANGED.notify_one();
    }
}

fn serve() {
    let mut state = STATE.lock();
    while let Some(first) = state.alarms.first_entry() {
        let moment = first.key().0;
        if moment <= Instant::now() {
            let waker = first.remove();
            MutexGuard::unlocked(&mut state, || waker.wake());
        } else {
            state.sleeps_to = Some(moment);
            CHANGED.wait_until(&mut state, moment);
            state.sleeps_to = None;
        }
    }
    state.running = false;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;

    struct Rings(Sender<Instant>);

    impl Wake for Rings {
        fn wake(self: Arc<Self>) {
            let _heard = self.0.send(Instant::now());
        }
    }

    #[test]
    fn alarms_fire_in_order_and_cancelled_ones_do_not() {
        let start = Instant::now();
        let (rings, heard) = channel();
        let at = |millis| {
            let waker = Waker::from(Arc::new(Rings(rings.clone())));
            Alarm::wakes_at(start + Duration::from_millis(millis), &waker)
        };
        let (_late, taken_back, _early, _last) = (at(40), at(20), at(10), at(60));
        drop(taken_back);
        for due in [10, 40, 60] {
            let rang = heard.recv_timeout(Duration::from_secs(30)).unwrap();
            assert!(rang.duration_since(start) >= Duration::from_millis(due));
        }
        assert!(heard.try_recv().is_err());
    }
}
