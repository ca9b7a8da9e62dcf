//! Alarms for tasks: an event at a moment, whatever executor polls for it.
//!
//! tokio's own timer would do where it is switched on; a runtime without it
//! panics. One thread of the process serves all alarms and ends with the last.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use event_listener::{Event, EventListener};
use parking_lot::{Condvar, Mutex};

type Key = (Instant, u64);

struct State {
    alarms: BTreeMap<Key, Event>,
    running: bool,
}

static STATE: Mutex<State> = Mutex::new(State { alarms: BTreeMap::new(), running: false });
static CHANGED: Condvar = Condvar::new();
static NEXT: AtomicU64 = AtomicU64::new(0);

/// An alarm that is set. Dropping it takes it back.
pub(crate) struct Alarm {
    key: Key,
}

impl Alarm {
    /// Sets an alarm, and who hears it. Where no thread can be had it never rings.
    pub(crate) fn at(moment: Instant) -> (Self, EventListener) {
        let key = (moment, NEXT.fetch_add(1, Ordering::Relaxed));
        let event = Event::new();
        let listener = event.listen();
        let mut state = STATE.lock();
        state.alarms.insert(key, event);
        if !state.running {
            let started = std::thread::Builder::new().name("larder-timer".into()).spawn(serve);
            state.running = started.is_ok();
        }
        drop(state);
        CHANGED.notify_one();
        (Self { key }, listener)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut state = STATE.lock();
        state.alarms.remove(&self.key);
        if state.alarms.is_empty() {
            CHANGED.notify_one();
        }
    }
}

fn serve() {
    let mut state = STATE.lock();
    while let Some(first) = state.alarms.first_entry() {
        let moment = first.key().0;
        if moment <= Instant::now() {
            first.remove().notify(usize::MAX);
        } else {
            CHANGED.wait_until(&mut state, moment);
        }
    }
    state.running = false;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use event_listener::Listener;

    use super::*;

    #[test]
    fn alarms_ring_in_their_order() {
        let start = Instant::now();
        let late = Alarm::at(start + Duration::from_millis(40));
        let early = Alarm::at(start + Duration::from_millis(10));
        let taken_back = Alarm::at(start + Duration::from_secs(3600));
        early.1.wait();
        assert!(start.elapsed() >= Duration::from_millis(10));
        late.1.wait();
        assert!(start.elapsed() >= Duration::from_millis(40));
        drop(taken_back);
    }
}
