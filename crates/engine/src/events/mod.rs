//! Events: reports what happens in a cache to a listener, on a thread of its own.
//!
//! Callers put events into a bounded queue; one thread takes them out and runs the
//! listener. The thread starts with the first event. It ends when no event came for a
//! while, and with the cache. An event that finds the queue full is dropped and counted,
//! and the listener is told how many it missed.

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
use crate::observation::Observer;
use larder_exec::runtime::Runtime;

/// Capacity of the queue.
const QUEUE_MAX: usize = 4096;
/// While dozing, the thread checks for events after this time, up to `DOZES` times. Only
/// then does it wait to be woken, because waking a thread costs a caller more than
/// everything else.
const DOZE: Duration = Duration::from_millis(1);
const DOZES: u32 = 10;
/// Number of queued events that wakes the thread from dozing, so that a burst finds room.
const WAKING: usize = QUEUE_MAX / 4;
/// How long the thread waits for another event before it ends.
const LINGER: Duration = Duration::from_secs(1);
/// How long `close` waits until the listener has handled every event.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Pause between two questions to the tiers how many entries they evicted. The question
/// makes some tiers walk over their files.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

type Callback = Box<dyn FnMut(Event<Key>) + Send>;

/// A listener and its queue, ready to be given to an engine.
pub struct EventSink {
    queue: Arc<Queue>,
    /// Clones a key for an event; keys that are not `Clone` have no events.
    share: fn(&dyn Any) -> Option<Arc<Key>>,
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Locked by the thread that runs it; `None` after the end.
    callback: Mutex<Option<Callback>>,
    /// Notified when the queue is empty.
    heard: event_listener::Event,
    missed: Count,
    panics: Count,
}

struct State {
    waiting: VecDeque<Event<Key>>,
    /// Number of events dropped since the queue had room.
    missed: u64,
    runner: Runner,
    ended: bool,
}

/// What the listener thread does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runner {
    None,
    /// Waits to be woken.
    Idle,
    /// Sleeps for a moment, then checks the queue by itself.
    Dozing,
    Busy(Option<ThreadId>),
}

impl EventSink {
    /// Creates a queue for one listener.
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

    /// Returns a callback that reports the records that memory expires or evicts.
    pub fn on_departure(&self) -> OnDeparture {
        let queue = Arc::clone(&self.queue);
        Box::new(move |key, Departure { cause, home, bytes }| {
            let (key, tier) = (Arc::new(key), TierKind::Memory);
            queue.push(match cause {
                DepartureCause::Expired => Event::Expired { key, tier },
                DepartureCause::Evicted => {
                    Event::Evicted { key: Some(key), count: 1, tier, home, bytes, cause: Cause::Capacity }
                }
            });
        })
    }
}

impl Queue {
    /// Ends the queue: it accepts no more events, and the listener still gets those that
    /// wait.
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

    /// Drops the listener outside its lock: it may own the last handle of the cache,
    /// whose drop ends this queue again.
    fn dismiss(&self) {
        let listener = self.callback.lock().take();
        drop(listener);
    }
}

impl Queue {
    fn push(self: &Arc<Self>, event: Event<Key>) {
        let refused = self.put(event);
        // Drop without the lock: the event may own the last handle of a key.
        drop(refused);
    }

    /// Puts an event into the queue; returns it if there is no room.
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

    /// Starts the thread. If that fails, the next event tries again.
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
                tracing::error!(target: "larder", "the listener of a cache panicked; it still receives later events");
            }
        }
        let ended = self.state.lock().ended;
        if ended {
            self.dismiss();
        }
    }

    /// Waits for the next event; `None` if the thread is to end.
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

    /// Drops the events that wait, and counts them as missed.
    fn give_up(&self) {
        let mut state = self.state.lock();
        self.missed.add(state.waiting.len() as u64);
        state.missed = 0;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }

    /// Whether there is nothing to wait for: every event was handled, or the caller is
    /// the listener itself.
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

    /// Queues an event with the number of missed ones, in its place among the others.
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

/// The events of a cache. Without a listener and an observer each call costs a branch.
pub(crate) struct Events {
    sinks: Option<Box<Sinks>>,
    /// When the tiers are asked next how many entries they evicted.
    due: Mutex<Option<Instant>>,
}

/// Where events go.
struct Sinks {
    listener: Option<EventSink>,
    observer: Option<Arc<Observer>>,
}

impl Sinks {
    fn push(&self, event: Event<Key>) {
        if let Some(observer) = &self.observer {
            observer.note(&event);
        }
        if let Some(listener) = &self.listener {
            listener.queue.push(event);
        }
    }

    fn is_heard(&self) -> bool {
        self.listener.is_some() || self.is_watched()
    }

    fn is_watched(&self) -> bool {
        self.observer.as_ref().is_some_and(|observer| observer.is_watched())
    }
}

impl Events {
    pub(crate) fn new(listener: Option<EventSink>, observer: Option<Arc<Observer>>) -> Self {
        let is_on = listener.is_some() || observer.is_some();
        Self { sinks: is_on.then(|| Box::new(Sinks { listener, observer })), due: Mutex::new(None) }
    }

    /// Whether there is a listener, or an observer that keeps events.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.sinks.as_ref().is_some_and(|sinks| sinks.is_heard())
    }

    /// Returns the observer, if the cache is observed.
    #[inline]
    pub(crate) fn observer(&self) -> Option<&Arc<Observer>> {
        self.sinks.as_ref()?.observer.as_ref()
    }

    fn listener(&self) -> Option<&EventSink> {
        self.sinks.as_ref()?.listener.as_ref()
    }

    /// Clones the key for an event, if there is a listener. Runs user code under the
    /// reentrancy guard, because the caller may hold write guards.
    #[inline]
    pub(crate) fn name(&self, key: &Key) -> Option<Arc<Key>> {
        self.name_any(key.as_any())
    }

    /// Clones a borrowed key as [`name`](Self::name) does. For an observer alone, names it.
    #[inline]
    pub(crate) fn name_any(&self, key: &(dyn Any + Send + Sync)) -> Option<Arc<Key>> {
        let sinks = self.sinks.as_ref()?;
        match (&sinks.listener, &sinks.observer) {
            (Some(listener), _) => reentrancy::within(|| (listener.share)(key)),
            (None, Some(observer)) => observer.is_watched().then(|| observer.name_for_event(key)),
            (None, None) => None,
        }
    }

    /// Reports an event, if there is a listener or an observer.
    #[inline]
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event<Key>) {
        if let Some(sinks) = &self.sinks {
            sinks.push(event());
        }
    }

    /// Reports an event of the key that [`name`](Self::name) returned.
    #[inline]
    pub(crate) fn emit_of(&self, key: Option<Arc<Key>>, event: impl FnOnce(Arc<Key>) -> Event<Key>) {
        if let (Some(sinks), Some(key)) = (&self.sinks, key) {
            sinks.push(event(key));
        }
    }

    /// Returns a function that reports events and outlives the borrow.
    pub(crate) fn emitter(&self) -> Option<impl Fn(Event<Key>) + Send + Sync + 'static> {
        let sinks = self.sinks.as_ref()?;
        let queue = sinks.listener.as_ref().map(|listener| Arc::clone(&listener.queue));
        let observer = sinks.observer.clone();
        Some(move |event| {
            if let Some(observer) = &observer {
                observer.note(&event);
            }
            if let Some(queue) = &queue {
                queue.push(event);
            }
        })
    }

    /// Whether the tiers are to be asked for evictions now. Returns true to one caller
    /// per pause, and false without a listener.
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

    /// Returns the number of missed events, and of panics of the listener.
    pub(crate) fn troubles(&self) -> (u64, u64) {
        let troubles = |listener: &EventSink| (listener.queue.missed.get(), listener.queue.panics.get());
        self.listener().map_or((0, 0), troubles)
    }

    /// Ends reporting. Waits at most [`CLOSE_LIMIT`] until every event was handled, and
    /// counts the rest as missed.
    pub(crate) async fn close<W: Runtime>(&self) {
        let Some(EventSink { queue, .. }) = self.listener() else { return };
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
        if let Some(EventSink { queue, .. }) = self.listener() {
            queue.end();
        }
    }
}
