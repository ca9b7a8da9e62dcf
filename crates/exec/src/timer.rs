//! Timers for tasks: an alarm wakes a waker at a moment, under any executor.
//!
//! tokio's own timer panics in a runtime that has not enabled it. One thread of the process serves
//! all alarms. Most alarms are cancelled before they fire, so a cancellation does not wake the
//! thread. The thread ends when it wakes at the latest moment it knew of and finds no alarm, or
//! when a cache closes.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// How many alarms of a list are looked at to find the place of a new one.
const STEPS_MAX: usize = 8;
/// The index of no alarm.
const NONE: usize = usize::MAX;

struct State {
    alarms: Alarms,
    running: bool,
    /// The moment until which the thread sleeps.
    sleeps_to: Option<Instant>,
}

/// The alarms that are set. Almost all are set for the same time ahead, so that their order is that of their
/// setting: these are a list, to which one is added, and from which one is removed, in a few steps.
struct Alarms {
    slots: Vec<Slot>,
    free: Vec<usize>,
    first: usize,
    last: usize,
    /// The slots of alarms that are earlier than many of the list.
    early: BTreeMap<(Instant, usize), ()>,
}

struct Slot {
    moment: Instant,
    waker: Option<Waker>,
    /// Neighbors in the list.
    before: usize,
    after: usize,
    is_listed: bool,
}

static STATE: Mutex<State> = Mutex::new(State { alarms: Alarms::new(), running: false, sleeps_to: None });
static CHANGED: Condvar = Condvar::new();

impl Alarms {
    const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), first: NONE, last: NONE, early: BTreeMap::new() }
    }

    /// Adds an alarm; returns its slot.
    fn add(&mut self, moment: Instant, waker: Waker) -> usize {
        let slot = Slot { moment, waker: Some(waker), before: NONE, after: NONE, is_listed: false };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        let mut before = self.last;
        for _ in 0..STEPS_MAX {
            if before == NONE || self.slots[before].moment <= moment {
                self.link(at, before);
                return at;
            }
            before = self.slots[before].before;
        }
        self.early.insert((moment, at), ());
        at
    }

    /// Puts a slot into the list, behind another one.
    fn link(&mut self, at: usize, before: usize) {
        let after = if before == NONE { self.first } else { self.slots[before].after };
        let slot = &mut self.slots[at];
        (slot.before, slot.after, slot.is_listed) = (before, after, true);
        self.join(before, at);
        self.join(at, after);
    }

    /// Makes two slots neighbors.
    fn join(&mut self, before: usize, after: usize) {
        match before {
            NONE => self.first = after,
            _ => self.slots[before].after = after,
        }
        match after {
            NONE => self.last = before,
            _ => self.slots[after].before = before,
        }
    }

    /// Takes an alarm out of the order, if it is still there.
    fn unlink(&mut self, at: usize) -> Option<Waker> {
        let Slot { moment, before, after, .. } = self.slots[at];
        if std::mem::take(&mut self.slots[at].is_listed) {
            self.join(before, after);
        } else {
            self.early.remove(&(moment, at));
        }
        self.slots[at].waker.take()
    }

    /// The slot of the earliest alarm, and its moment.
    fn earliest(&self) -> Option<(usize, Instant)> {
        let listed = self.slots.get(self.first).map(|slot| (self.first, slot.moment));
        let early = self.early.first_key_value().map(|((moment, at), ())| (*at, *moment));
        listed.into_iter().chain(early).min_by_key(|(_, moment)| *moment)
    }
}

/// An alarm that is set. Dropping it cancels it.
pub struct Alarm {
    slot: usize,
}

impl Alarm {
    /// Sets an alarm that wakes `waker` at `moment`. It never fires if no thread can be started.
    pub fn wakes_at(moment: Instant, waker: &Waker) -> Self {
        let waker = waker.clone();
        let mut state = STATE.lock();
        let slot = state.alarms.add(moment, waker);
        if !state.running {
            let started = std::thread::Builder::new().name("larder-timer".into()).spawn(serve);
            state.running = started.is_ok();
        }
        let is_sooner = state.sleeps_to.is_some_and(|asleep| moment < asleep);
        drop(state);
        if is_sooner {
            CHANGED.notify_one();
        }
        Self { slot }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut state = STATE.lock();
        // Drop the waker after the lock: it may be the last handle of a task.
        let _waker = state.alarms.unlink(self.slot);
        state.alarms.free.push(self.slot);
        drop(state);
    }
}

/// Ends the timer thread if no alarm is set.
pub fn rest() {
    let state = STATE.lock();
    if state.running && state.alarms.earliest().is_none() {
        CHANGED.notify_one();
    }
}

fn serve() {
    let mut state = STATE.lock();
    while let Some((slot, moment)) = state.alarms.earliest() {
        if moment <= Instant::now() {
            if let Some(waker) = state.alarms.unlink(slot) {
                MutexGuard::unlocked(&mut state, || waker.wake());
            }
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

    #[test]
    fn alarms_are_taken_in_order_however_they_were_set() {
        let (start, mut alarms) = (Instant::now(), Alarms::new());
        let moment = |millis| start + Duration::from_millis(millis);
        let mut state = 7_u64;
        for _ in 0..50 {
            let set: Vec<_> = (0..40)
                .map(|at| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let ahead = if at % 3 == 0 { state >> 56 } else { 1000 + at };
                    (alarms.add(moment(ahead), Waker::noop().clone()), ahead)
                })
                .collect();
            let (cancelled, kept): (Vec<_>, Vec<_>) = set.into_iter().partition(|(slot, _)| slot % 4 == 1);
            for (slot, _) in cancelled {
                assert!(alarms.unlink(slot).is_some() && alarms.unlink(slot).is_none());
                alarms.free.push(slot);
            }
            let mut due: Vec<_> = kept.iter().map(|(_, ahead)| moment(*ahead)).collect();
            due.sort_unstable();
            for expected in due {
                let (slot, found) = alarms.earliest().unwrap();
                assert_eq!(found, expected);
                assert!(alarms.unlink(slot).is_some());
            }
            assert!(alarms.earliest().is_none() && alarms.first == NONE && alarms.last == NONE);
            alarms.free.extend(kept.iter().map(|(slot, _)| slot));
        }
        assert!(alarms.slots.len() <= 40, "slots are used again");
    }
}
