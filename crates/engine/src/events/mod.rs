//! What happened is told to a listener, by a thread of its own.
//!
//! Callers put events into a bounded queue and go on; one thread takes them out
//! and runs the listener. It starts with the first event, ends when there was
//! none for a while, and with the cache. What finds the queue full is dropped
//! and counted, and the listener is told how many it missed.

mod emit;

use std::any::Any;
use std::collections::VecDeque;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use larder_core::erased::Key;
use larder_core::events::{Cause, Event};
use larder_core::memory::{Departure, DepartureCause, OnDeparture};
use larder_core::stats::Count;
use larder_core::tier::TierKind;
use parking_lot::{Condvar, Mutex};

use crate::key_lock::reentrancy;
use larder_exec::runtime::Runtime;

/// Events that wait for the listener.
const QUEUE_MAX: usize = 4096;
/// The thread looks for more events after this time, so many times, before it has
/// itself woken: to wake a thread costs a caller more than all the rest.
const DOZE: Duration = Duration::from_millis(1);
const DOZES: u32 = 10;
/// Events that wake it from a doze, so that a burst finds room.
const WAKING: usize = QUEUE_MAX / 4;
/// How long the thread waits for another event before it ends.
const LINGER: Duration = Duration::from_secs(1);
/// How long `close` waits for the listener to have heard everything.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Between two questions to the tiers what they let go of: to ask costs some of
/// them a walk over their files.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

type Callback = Box<dyn FnMut(Event<Key>) + Send>;

/// A listener with its queue, to be given to an engine.
pub struct Listener {
    queue: Arc<Queue>,
    /// How a key is made one of an event, which keys that are not `Clone` cannot be.
    share: fn(&dyn Any) -> Option<Arc<Key>>,
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Held by the thread that runs it; gone with the end.
    callback: Mutex<Option<Callback>>,
    /// Those who wait until everything was heard.
    heard: event_listener::Event,
    missed: Count,
    panics: Count,
}

struct State {
    waiting: VecDeque<Event<Key>>,
    /// What found no room since there was some last.
    missed: u64,
    runner: Runner,
    ended: bool,
}

/// What the thread does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runner {
    None,
    /// Waits, and is to be woken.
    Idle,
    /// Looks again by itself.
    Dozing,
    Busy(Option<ThreadId>),
}

impl Listener {
    /// An listener of one listener.
    pub fn new<K>(mut listener: impl FnMut(Event<K>) + Send + 'static) -> Self
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
    {
        let typed = |key: Arc<Key>| Arc::unwrap_or_clone(key).into_shared();
        let listener = move |event: Event<Key>| {
            if let Some(event) = event.map_key(typed) {
                listener(event);
            }
        };
        let state = State { waiting: VecDeque::new(), missed: 0, runner: Runner::None, ended: false };
        let queue = Queue {
            state: Mutex::new(state),
            changed: Condvar::new(),
            callback: Mutex::new(Some(Box::new(listener))),
            heard: event_listener::Event::new(),
            missed: Count::default(),
            panics: Count::default(),
        };
        let share = |key: &dyn Any| key.downcast_ref::<K>().map(|key| Arc::new(Key::cloneable(key.clone())));
        Self { queue: Arc::new(queue), share }
    }

    /// Tells of the records that leave memory by themselves.
    pub fn on_departure<K>(&self) -> OnDeparture<K>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
    {
        let queue = Arc::clone(&self.queue);
        Box::new(move |key, Departure { cause, home, .. }| {
            let (key, tier) = (Arc::new(Key::shared(key)), TierKind::Memory);
            queue.push(match cause {
                DepartureCause::Expired => Event::Expired { key, tier },
                DepartureCause::Evicted => {
                    Event::Evicted { key: Some(key), count: 1, tier, home, cause: Cause::Capacity }
                }
            });
        })
    }
}

impl Queue {
    /// Takes no more events; what waits is still heard. Then the listener goes.
    fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        let is_idle = state.runner == Runner::None;
        drop(state);
        self.changed.notify_one();
        if is_idle {
            self.dismiss();
        }
    }

    /// Drops the listener, without its lock: with it may go the last handle of
    /// the cache, which ends this again.
    fn dismiss(&self) {
        let listener = self.callback.lock().take();
        drop(listener);
    }
}

impl Queue {
    fn push(self: &Arc<Self>, event: Event<Key>) {
        let refused = self.put(event);
        // Dropped without the lock: the last handle of a key may be among it.
        drop(refused);
    }

    /// Puts an event into the queue; gives it back where there is no room.
    fn put(self: &Arc<Self>, event: Event<Key>) -> Option<Event<Key>> {
        let mut state = self.state.lock();
        let room = QUEUE_MAX.saturating_sub(state.waiting.len());
        if state.ended {
            return Some(event);
        }
        if room < 2 {
            state.missed += 1;
            self.missed.increment();
            return Some(event);
        }
        state.note_missed();
        state.waiting.push_back(event);
        match state.runner {
            Runner::None => self.start(&mut state),
            Runner::Dozing if state.waiting.len() < WAKING => {}
            Runner::Idle | Runner::Dozing => drop(self.changed.notify_one()),
            Runner::Busy(_) => {}
        }
        None
    }

    /// Where no thread can be had now the next event tries again.
    fn start(self: &Arc<Self>, state: &mut State) {
        let queue = Arc::clone(self);
        let started = std::thread::Builder::new().name("larder-events".into()).spawn(move || queue.serve());
        state.runner = if started.is_ok() { Runner::Busy(None) } else { Runner::None };
    }

    fn serve(&self) {
        while let Some(event) = self.next() {
            let Some(listener) = &mut *self.callback.lock() else { break };
            if catch_unwind(AssertUnwindSafe(|| listener(event))).is_err() {
                self.panics.increment();
                tracing::error!(target: "larder", "the listener of a cache panicked; it hears the next event all the same");
            }
        }
        let ended = self.state.lock().ended;
        if ended {
            self.dismiss();
        }
    }

    /// The next event; `None` where the thread is to end, and counts as gone.
    fn next(&self) -> Option<Event<Key>> {
        let mut state = self.state.lock();
        let mut dozes = 0;
        loop {
            if let Some(event) = state.take() {
                state.runner = Runner::Busy(Some(std::thread::current().id()));
                return Some(event);
            }
            self.heard.notify(usize::MAX);
            if state.ended || dozes > DOZES {
                state.runner = Runner::None;
                return None;
            }
            let (runner, time) = if dozes < DOZES { (Runner::Dozing, DOZE) } else { (Runner::Idle, LINGER) };
            state.runner = runner;
            self.changed.wait_for(&mut state, time);
            dozes += 1;
        }
    }

    /// Gives up what was not heard yet.
    fn give_up(&self) {
        let mut state = self.state.lock();
        self.missed.add(state.waiting.len() as u64);
        state.missed = 0;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }

    /// Whether there is nothing to wait for: all was heard, or it is the
    /// listener itself that asks.
    fn is_heard(&self) -> bool {
        let state = self.state.lock();
        match state.runner {
            Runner::Busy(thread) => thread == Some(std::thread::current().id()),
            Runner::None | Runner::Idle | Runner::Dozing => state.is_empty(),
        }
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.missed == 0
    }

    /// Puts what was missed into its place among the events.
    fn note_missed(&mut self) {
        let count = std::mem::take(&mut self.missed);
        if count > 0 {
            self.waiting.push_back(Event::Missed { count });
        }
    }

    fn take(&mut self) -> Option<Event<Key>> {
        if self.waiting.is_empty() {
            self.note_missed();
        }
        self.waiting.pop_front()
    }
}

/// The listener of a cache, where it has one. Without one each question costs a
/// branch.
pub(crate) struct Events {
    listener: Option<Listener>,
    /// When the tiers are asked next for what they let go of.
    due: Mutex<Option<Instant>>,
}

impl Events {
    pub(crate) fn new(listener: Option<Listener>) -> Self {
        Self { listener, due: Mutex::new(None) }
    }

    /// Whether anybody listens.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.listener.is_some()
    }

    /// The key for an event, where anybody listens. Clones it, under a shield:
    /// guards may be held.
    #[inline]
    pub(crate) fn name(&self, key: &Key) -> Option<Arc<Key>> {
        self.name_any(key.as_any())
    }

    /// As [`name`](Self::name), of a key that is lent.
    #[inline]
    pub(crate) fn name_any(&self, key: &(dyn Any + Send + Sync)) -> Option<Arc<Key>> {
        self.listener.as_ref().and_then(|listener| reentrancy::within(|| (listener.share)(key)))
    }

    /// Tells of an event, where anybody listens.
    #[inline]
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event<Key>) {
        if let Some(listener) = &self.listener {
            listener.queue.push(event());
        }
    }

    /// Tells of an event of the key that [`name`](Self::name) gave.
    #[inline]
    pub(crate) fn emit_of(&self, key: Option<Arc<Key>>, event: impl FnOnce(Arc<Key>) -> Event<Key>) {
        if let (Some(listener), Some(key)) = (&self.listener, key) {
            listener.queue.push(event(key));
        }
    }

    /// A way of telling that outlives the borrow.
    pub(crate) fn emitter(&self) -> Option<impl Fn(Event<Key>) + Send + Sync + 'static> {
        let queue = Arc::clone(&self.listener.as_ref()?.queue);
        Some(move |event| queue.push(event))
    }

    /// Whether tiers are to be asked what they let go of; true for one caller a
    /// backoff, and never where nobody listens.
    #[inline]
    pub(crate) fn is_look_due(&self) -> bool {
        self.is_on() && self.take_look()
    }

    #[cold]
    fn take_look(&self) -> bool {
        let (mut due, now) = (self.due.lock(), Instant::now());
        let is_due = due.is_none_or(|due| due <= now);
        if is_due {
            *due = Some(now + LOOK_PAUSE);
        }
        is_due
    }

    /// Events that were missed, and panics of the listener.
    pub(crate) fn troubles(&self) -> (u64, u64) {
        self.listener
            .as_ref()
            .map_or((0, 0), |listener| (listener.queue.missed.get(), listener.queue.panics.get()))
    }

    /// Ends the telling: waits until all was heard, at most for [`CLOSE_LIMIT`].
    /// What was not is counted as missed.
    pub(crate) async fn close<W: Runtime>(&self) {
        let Some(Listener { queue, .. }) = &self.listener else { return };
        let until = Instant::now() + CLOSE_LIMIT;
        while Instant::now() < until {
            let heard = queue.heard.listen();
            if queue.is_heard() {
                break;
            }
            W::event_until(heard, Some(until)).await;
        }
        queue.end();
        if !queue.is_heard() {
            queue.give_up();
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(Listener { queue, .. }) = &self.listener {
            queue.end();
        }
    }
}
