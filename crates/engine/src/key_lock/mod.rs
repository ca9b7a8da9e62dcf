//! The gate of a key: where its writes, loads and promotions meet.
//!
//! Every key that something happens to has a state here, found by its hash:
//! an epoch, whether somebody is storing, and the flights in progress. The
//! rules:
//!
//! - One at a time stores an entry: it holds the [`WriteGuard`] of the key.
//! - A write takes the guard and raises the epoch, so that every load and
//!   promotion that began before is superseded: it can no longer get the
//!   guard, and nobody joins it any more.
//! - Who begins to read or load while somebody stores waits for the end first.
//! - `clear` closes all key_locks, waits for the guards that are out, and
//!   supersedes what began before it ended.
//!
//! Keys with equal hashes share a state. That can make one wait for, or
//! supersede, the other; it never mixes them up, because flights are compared
//! by key. No lock is held across user code but `Eq` of the key, and no thread
//! waits with a lock held. Who holds a guard never depends on the executor of
//! a caller to proceed, as who waits for it drives it ([`LockWait`]), and runs user
//! code only under a [`shield`], so waiting for a guard cannot deadlock.

mod write_order;

pub(crate) mod flight;
pub(crate) mod reentrancy;
pub(crate) mod wait_graph;

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use event_listener::{Event, EventListener};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use larder_core::erased::Key;
use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use self::write_order::WriteOrder;
pub(crate) use self::write_order::{Caller, WriteTurn};
use crate::key_lock::flight::{Flight, Outcome, Start};
use larder_exec::uncancellable::Holder;

const SHARDS: usize = 64;

/// The key_locks of one cache.
pub(crate) struct KeyLocks {
    shards: Box<[Shard]>,
    hasher: RandomState,
    writes_of_tasks: AtomicUsize,
}

struct Shard {
    inner: Mutex<Inner>,
    /// A guard was returned, or the key_locks opened again.
    freed: Event,
}

struct Inner {
    states: HashMap<u64, State, foldhash::fast::FixedState>,
    /// How many clears hold this shard closed.
    closed: u32,
    guards: u32,
}

struct State {
    /// Guards that refer to this state; at zero it goes.
    guards: u32,
    /// Raised by every write.
    epoch: u64,
    /// The latest flight that stored what it loaded.
    published: u64,
    storing: bool,
    turns: WriteOrder,
    /// The section that does, where that may need to be driven.
    holder: Option<Holder>,
    flights: Vec<(Arc<Key>, Arc<Flight>)>,
}

impl State {
    fn new() -> Self {
        Self {
            guards: 0,
            epoch: 0,
            published: 0,
            storing: false,
            turns: WriteOrder::default(),
            holder: None,
            flights: Vec::new(),
        }
    }

    fn remove(&mut self, flight: &Arc<Flight>) -> Option<(Arc<Key>, Arc<Flight>)> {
        let at = self.flights.iter().position(|(_, held)| Arc::ptr_eq(held, flight))?;
        Some(self.flights.swap_remove(at))
    }

    /// Raises the epoch; the flights that go with it are dropped by the caller,
    /// after it gave the lock back.
    #[must_use]
    fn supersede(&mut self) -> Vec<(Arc<Key>, Arc<Flight>)> {
        self.epoch += 1;
        std::mem::take(&mut self.flights)
    }
}

/// What a caller with a missing key is to do.
pub(crate) enum Admission {
    /// Leader: nobody else loads the key.
    Leader(FlightLeader),
    /// Runtime for this flight.
    Join(Key, Arc<Flight>),
    /// Somebody stores the entry: wait, then look again.
    Locked(Key, LockWait),
}

/// What became of the wish for a guard.
pub(crate) enum TryLock<T> {
    Granted(T),
    /// The entry changed since; what was read or loaded must not be stored.
    Superseded,
    Locked(LockWait),
}

/// A guard that is out, or key_locks that are closed, for who waits for the end.
pub(crate) struct LockWait {
    freed: EventListener,
    holder: Option<Holder>,
}

impl LockWait {
    /// Waits until something was freed. Who has the guard is driven meanwhile,
    /// if it is a section of a task: that task may not be polled before this is.
    pub(crate) async fn over(self) {
        let Self { mut freed, holder } = self;
        let Some(holder) = holder else { return freed.await };
        // On the heap: a loader that loads other keys is deep enough without it.
        let mut help = Box::pin(holder.help());
        poll_fn(|context| {
            let is_freed = Pin::new(&mut freed).poll(context).is_ready();
            if is_freed || help.as_mut().poll(context).is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl KeyLocks {
    pub(crate) fn new() -> Arc<Self> {
        let shard = || Shard {
            inner: Mutex::new(Inner { states: HashMap::default(), closed: 0, guards: 0 }),
            freed: Event::new(),
        };
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::default(),
            writes_of_tasks: AtomicUsize::new(0),
        })
    }

    /// The hash that finds the gate of a key, in all its borrowed forms.
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    fn shard(&self, hash: u64) -> &Shard {
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    /// Remembers the epoch of a key, for a promotion.
    pub(crate) fn observe(self: &Arc<Self>, hash: u64) -> KeyEpoch {
        let mut inner = self.shard(hash).inner.lock();
        let state = inner.states.entry(hash).or_insert_with(State::new);
        state.guards += 1;
        // Closed key_locks or a guard out: what is read now may change before it is used.
        let now = (state.epoch, state.published);
        let usable = !state.storing && inner.closed == 0;
        drop(inner);
        KeyEpoch { key_locks: Arc::clone(self), hash, seen: usable.then_some(now) }
    }

    /// Takes a flight off the gate: who comes later leads one of its own.
    pub(crate) fn forget(&self, hash: u64, flight: &Arc<Flight>) {
        let mut inner = self.shard(hash).inner.lock();
        let on_gate = inner.states.get_mut(&hash).and_then(|state| state.remove(flight));
        drop(inner);
        drop(on_gate);
    }

    /// Begins a write: everything in progress is superseded at once, then the
    /// guard is waited for.
    ///
    /// # Errors
    /// Under a shield, where it would have to wait. Where its caller gave it up
    /// and a later write of the key was made first.
    pub(crate) async fn write(self: &Arc<Self>, turn: &WriteTurn) -> Result<WriteGuard> {
        loop {
            match self.try_write(turn) {
                TryLock::Granted(guard) => return Ok(guard),
                TryLock::Superseded => return Err(passed()),
                TryLock::Locked(_) if reentrancy::is_up() => return Err(reentrancy::busy()),
                TryLock::Locked(hold) => hold.over().await,
            }
        }
    }

    /// As [`write`](Self::write), without waiting: unless it is superseded itself,
    /// it supersedes what is in progress in any case.
    pub(crate) fn try_write(self: &Arc<Self>, turn: &WriteTurn) -> TryLock<WriteGuard> {
        let hash = turn.hash();
        let shard = self.shard(hash);
        let mut inner = shard.inner.lock();
        let is_closed = inner.closed > 0;
        let state = inner.states.entry(hash).or_insert_with(State::new);
        // While a later write has the lock, it may still turn out to change nothing.
        let has_passed = state.turns.has_passed(turn);
        if has_passed && !state.storing {
            return TryLock::Superseded;
        }
        let superseded = if has_passed { Vec::new() } else { state.supersede() };
        if is_closed || state.storing {
            let hold = LockWait { freed: shard.freed.listen(), holder: state.holder.clone() };
            if state.guards == 0 {
                inner.states.remove(&hash);
            }
            drop(inner);
            drop(superseded);
            return TryLock::Locked(hold);
        }
        state.storing = true;
        let former = state.turns.grant(turn);
        state.holder = Holder::present();
        state.guards += 1;
        inner.guards += 1;
        drop(inner);
        drop(superseded);
        TryLock::Granted(WriteGuard { key_locks: Arc::clone(self), hash, former })
    }

    /// Closes every gate, waits for the guards that are out, and supersedes
    /// all that is in progress. The key_locks open when the guard is dropped.
    ///
    /// # Errors
    /// Under a shield: a guard is out then, and returns after this call.
    pub(crate) async fn close(self: &Arc<Self>) -> Result<Closed> {
        if reentrancy::is_up() {
            return Err(reentrancy::busy());
        }
        let mut closed = Closed { key_locks: Arc::clone(self), shards: 0 };
        for shard in &self.shards {
            drop(shard.close());
            closed.shards += 1;
            while let Some(hold) = shard.locked_shard() {
                hold.over().await;
            }
        }
        Ok(closed)
    }
}

/// A write that nobody waits for any more came too late.
fn passed() -> Error {
    Error::new(ErrorKind::Busy, "a later change of the entry was made first")
}

impl Shard {
    fn close(&self) -> Vec<(Arc<Key>, Arc<Flight>)> {
        let mut inner = self.inner.lock();
        inner.closed += 1;
        inner.states.values_mut().flat_map(State::supersede).collect()
    }

    fn open(&self) -> Vec<(Arc<Key>, Arc<Flight>)> {
        let mut inner = self.inner.lock();
        inner.closed -= 1;
        let superseded = inner.states.values_mut().flat_map(State::supersede).collect();
        drop(inner);
        self.freed.notify(usize::MAX);
        superseded
    }

    fn locked_shard(&self) -> Option<LockWait> {
        let inner = self.inner.lock();
        let live = || {
            inner.states.values().filter_map(|state| state.holder.as_ref()).find(|holder| holder.is_live())
        };
        (inner.guards > 0).then(|| LockWait { freed: self.freed.listen(), holder: live().cloned() })
    }
}

impl Inner {
    /// Lets go of one guard of a state.
    fn release(&mut self, hash: u64, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.states.get_mut(&hash) {
            change(state);
            state.guards -= 1;
            if state.guards == 0 {
                self.states.remove(&hash);
            }
        }
    }
}

impl KeyLocks {
    /// Asks what to do about a missing key.
    pub(crate) fn enter(self: &Arc<Self>, hash: u64, key: Key, start: Start) -> Admission {
        let shard = self.shard(hash);
        let mut inner = shard.inner.lock();
        let is_closed = inner.closed > 0;
        let state = inner.states.entry(hash).or_insert_with(State::new);
        if is_closed || state.storing {
            let hold = LockWait { freed: shard.freed.listen(), holder: state.holder.clone() };
            if state.guards == 0 {
                inner.states.remove(&hash);
            }
            return Admission::Locked(key, hold);
        }
        if let Some((_, flight)) = state.flights.iter().find(|(held, _)| **held == key) {
            let flight = Arc::clone(flight);
            return Admission::Join(key, flight);
        }
        let flight = Arc::new(Flight::new(start));
        let key = Arc::new(key);
        state.flights.push((Arc::clone(&key), Arc::clone(&flight)));
        state.guards += 1;
        let epoch = state.epoch;
        drop(inner);
        Admission::Leader(FlightLeader { key_locks: Arc::clone(self), hash, epoch, key: Some(key), flight })
    }
}

/// What a reader remembers of a key, to know later whether it changed.
pub(crate) struct KeyEpoch {
    key_locks: Arc<KeyLocks>,
    hash: u64,
    /// Epoch and latest flight; `None` where the entry was changing.
    seen: Option<(u64, u64)>,
}

impl KeyEpoch {
    /// The guard, unless the entry changed or is being stored. Never waits:
    /// a promotion is not worth it.
    pub(crate) fn claim(&self) -> Option<WriteGuard> {
        let mut inner = self.key_locks.shard(self.hash).inner.lock();
        if inner.closed > 0 {
            return None;
        }
        let state = inner.states.get_mut(&self.hash)?;
        if state.storing || Some((state.epoch, state.published)) != self.seen {
            return None;
        }
        state.storing = true;
        state.holder = Holder::present();
        state.guards += 1;
        inner.guards += 1;
        Some(WriteGuard { key_locks: Arc::clone(&self.key_locks), hash: self.hash, former: 0 })
    }
}

impl Drop for KeyEpoch {
    fn drop(&mut self) {
        self.key_locks.shard(self.hash).inner.lock().release(self.hash, |_| {});
    }
}

/// The right to store an entry. Dropping it lets the next one in.
pub(crate) struct WriteGuard {
    key_locks: Arc<KeyLocks>,
    hash: u64,
    /// The latest write that had it before.
    former: u64,
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        let shard = self.key_locks.shard(self.hash);
        let mut inner = shard.inner.lock();
        inner.guards -= 1;
        inner.release(self.hash, |state| {
            state.storing = false;
            state.holder = None;
        });
        drop(inner);
        shard.freed.notify(usize::MAX);
    }
}

/// The leader of a flight. Dropping it without an outcome abandons the flight,
/// and one of those who wait leads next.
pub(crate) struct FlightLeader {
    key_locks: Arc<KeyLocks>,
    hash: u64,
    /// The epoch when the flight began.
    epoch: u64,
    /// Shared with the gate until the guard is granted.
    key: Option<Arc<Key>>,
    pub(crate) flight: Arc<Flight>,
}

impl FlightLeader {
    /// The guard, unless the entry was written since the flight began, or
    /// loaded by a later flight. Once granted, nobody joins the flight any more.
    pub(crate) fn claim(&mut self) -> TryLock<WriteGuard> {
        let shard = self.key_locks.shard(self.hash);
        let mut inner = shard.inner.lock();
        let is_closed = inner.closed > 0;
        let Some(state) = inner.states.get_mut(&self.hash) else { return TryLock::Superseded };
        if state.epoch != self.epoch || state.published > self.flight.id() || self.is_taken_over(state) {
            return TryLock::Superseded;
        }
        if is_closed || state.storing {
            return TryLock::Locked(LockWait { freed: shard.freed.listen(), holder: state.holder.clone() });
        }
        let on_gate = state.remove(&self.flight);
        // What others read before this is stored must not be promoted over it.
        state.published = self.flight.id();
        state.storing = true;
        state.holder = Holder::present();
        state.guards += 1;
        inner.guards += 1;
        drop(inner);
        drop(on_gate);
        TryLock::Granted(WriteGuard { key_locks: Arc::clone(&self.key_locks), hash: self.hash, former: 0 })
    }

    /// Whether a waiter took the key over and loads it now: one of the two stores
    /// what it loads.
    fn is_taken_over(&self, state: &State) -> bool {
        let mut others = state.flights.iter().map(|(_, flight)| flight);
        self.flight.is_abandoned() && others.any(|other| other.id() > self.flight.id())
    }

    /// The key of a flight that a waiter took over.
    ///
    /// # Errors
    /// The leader, where the flight goes on, or another thread still looks at the key.
    pub(crate) fn give_way(mut self) -> Result<Key, Self> {
        if !self.flight.is_abandoned() {
            return Err(self);
        }
        match self.key.take().map(Arc::try_unwrap) {
            Some(Ok(key)) => Ok(key),
            Some(Err(shared)) => {
                self.key = Some(shared);
                Err(self)
            }
            None => Err(self),
        }
    }

    /// The key as its own, for who holds the guard.
    pub(crate) fn take_key(&mut self) -> Option<Key> {
        self.key.take().and_then(Arc::into_inner)
    }

    /// The hash of the key.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The key, until the guard is granted.
    pub(crate) fn key(&self) -> Option<&Key> {
        self.key.as_deref()
    }

    /// Ends the flight.
    pub(crate) fn end(self, outcome: Outcome) {
        self.leave();
        self.flight.end(outcome);
    }

    /// Takes the flight off the gate, so that nobody joins it any more.
    fn leave(&self) {
        self.key_locks.forget(self.hash, &self.flight);
    }
}

impl Drop for FlightLeader {
    fn drop(&mut self) {
        self.leave();
        self.key_locks.shard(self.hash).inner.lock().release(self.hash, |_| {});
        self.flight.end(Outcome::Abandoned);
    }
}

/// All key_locks closed.
pub(crate) struct Closed {
    key_locks: Arc<KeyLocks>,
    shards: usize,
}

impl Drop for Closed {
    fn drop(&mut self) {
        for shard in &self.key_locks.shards[..self.shards] {
            drop(shard.open());
        }
    }
}
