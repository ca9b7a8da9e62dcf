//! Key locks: they order the writes, loads and promotions of each key.
//!
//! Each key in use has a state, found by the hash of the key: an epoch, whether a [`WriteGuard`] is
//! held, and the flights (loads in progress). The rules:
//!
//! - One caller at a time stores an entry: the holder of the key's [`WriteGuard`].
//! - A write takes the guard and raises the epoch. This supersedes every load and promotion that
//!   began before: it can no longer get the guard, and no caller joins it any more.
//! - A load that begins while the guard is held waits for its release first. A read does not wait,
//!   but what it finds is not promoted.
//! - `clear` closes all key locks, waits for the guards that are held, and supersedes everything
//!   that began before it ended.
//!
//! Keys with equal hashes share a state. One may then wait for the other, or be superseded by it.
//! They are never confused, because flights are compared by key. No mutex is held while code of the
//! user runs, except `Eq` of the key, and no thread waits while it holds a mutex.
//!
//! Waiting for a guard cannot deadlock. The holder does not depend on the executor of its caller,
//! because a waiter drives the holder's section ([`LockWait`]). The holder runs code of the user
//! only within [`reentrancy::within`], where calls of the cache do not wait.

mod leader;
mod now;
mod shard;
mod write_order;

pub(crate) mod flight;
pub(crate) mod reentrancy;
pub(crate) mod unjoined;
pub(crate) mod wait_graph;

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use event_listener::EventListener;
use foldhash::quality::RandomState;
use larder_core::erased::Key;
use larder_core::{Error, ErrorKind, Result};
use smallvec::SmallVec;

pub(crate) use self::leader::FlightLeader;
pub(crate) use self::now::{ClaimNow, LockedNow};
use self::shard::{Inner, Shard};
use self::unjoined::Unjoined;
use self::write_order::WriteOrder;
pub(crate) use self::write_order::{Caller, WriteTurn};
use crate::key_lock::flight::{Flight, Start};
use larder_exec::uncancellable::Holder;

/// Number of shards, each with a mutex of its own.
const SHARDS: usize = 64;

/// The key locks of one cache.
pub(crate) struct KeyLocks {
    shards: Box<[Shard]>,
    hasher: RandomState,
    /// Number of writes that tasks have begun and that have not ended.
    writes_of_tasks: AtomicUsize,
}

/// The loads in progress of one key lock. There is rarely more than one.
type Flights = SmallVec<[(Key, Arc<Flight>); 1]>;

/// The lock of one key, or of several keys with equal hashes.
struct State {
    /// Number of guards, leaders and observers that refer to this state. At zero it is removed.
    guards: u32,
    /// Raised by every write.
    epoch: u64,
    /// Id of the latest flight that stored its value.
    published: u64,
    /// Whether a write guard is held.
    storing: bool,
    turns: WriteOrder,
    /// The section that holds the guard, if a waiter may have to drive it.
    holder: Option<Holder>,
    /// The loads in progress, by key.
    flights: Flights,
    /// A load in progress whose flight is made when a caller joins it.
    unjoined: Option<Unjoined>,
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
            flights: Flights::new(),
            unjoined: None,
        }
    }

    fn remove(&mut self, flight: &Arc<Flight>) -> Option<(Key, Arc<Flight>)> {
        let at = self.flights.iter().position(|(_, held)| Arc::ptr_eq(held, flight))?;
        Some(self.flights.swap_remove(at))
    }

    /// Raises the epoch and removes the flights. The caller drops them after it has released the
    /// mutex, or [restores](Self::restore) them.
    #[must_use]
    fn supersede(&mut self) -> Flights {
        self.epoch += 1;
        self.take_flights()
    }

    /// Undoes [`supersede`](Self::supersede), unless a later write has superseded the flights too. While the
    /// guard is held no flight begins. A leader that has ended meanwhile removes its flight once more.
    fn restore(&mut self, flights: &mut Flights, epoch: u64) {
        if self.epoch == epoch {
            self.epoch -= 1;
            self.flights = std::mem::take(flights);
        }
    }
}

/// What a caller with a missing key has to do.
pub(crate) enum Admission {
    /// Lead: no other caller loads the key.
    Leader(FlightLeader),
    /// Wait for this flight.
    Join(Key, Arc<Flight>),
    /// A caller stores the entry: wait, then try again.
    Locked(Key, LockWait),
}

/// Outcome of an attempt to take a guard.
pub(crate) enum TryLock<T> {
    Granted(T),
    /// The entry changed meanwhile. The value that was read or loaded must not be stored.
    Superseded,
    Locked(LockWait),
}

/// A wait for a guard that is held, or for key locks that are closed.
pub(crate) struct LockWait {
    freed: EventListener,
    holder: Option<Holder>,
}

impl LockWait {
    /// Waits until a guard is released. Meanwhile drives the section that holds the guard, if there
    /// is one: its task may not be polled before this caller goes on.
    pub(crate) async fn over(self) {
        let Self { mut freed, holder } = self;
        let Some(holder) = holder else { return freed.await };
        // On the heap: nested loaders make the stack deep enough without it.
        let mut help = Box::pin(holder.help());
        poll_fn(|context| {
            let is_freed = Pin::new(&mut freed).poll(context).is_ready();
            if is_freed || help.as_mut().poll(context).is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl KeyLocks {
    /// Creates key locks. `hasher` is the one of the memory store, if that has one.
    pub(crate) fn new(hasher: Option<RandomState>) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: hasher.unwrap_or_default(),
            writes_of_tasks: AtomicUsize::new(0),
        })
    }

    /// Returns the hash that finds the lock of a key. Borrowed forms of a key hash alike.
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard {
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    /// Returns whether nothing is in progress for a key, so that a change need not supersede anything.
    ///
    /// Without the mutex: exact for what a thread began before it called the memory store, for a caller under
    /// the lock of the store that such a call takes.
    #[inline]
    pub(crate) fn is_idle(&self, hash: u64) -> bool {
        self.shard(hash).is_idle()
    }

    /// Takes a snapshot of the key's epoch, for a promotion.
    pub(crate) fn observe(self: &Arc<Self>, hash: u64) -> KeyEpoch {
        let mut inner = self.shard(hash).lock();
        let state = inner.states.entry(hash).or_insert_with(State::new);
        state.guards += 1;
        // While the locks are closed or the guard is held, a value may change after it is read.
        let now = (state.epoch, state.published);
        let usable = !state.storing && inner.closed == 0;
        drop(inner);
        KeyEpoch { key_locks: Arc::clone(self), hash, seen: usable.then_some(now) }
    }

    /// Removes a flight from its key lock: the next caller leads a flight of its own.
    pub(crate) fn forget(&self, hash: u64, flight: &Arc<Flight>) {
        let mut inner = self.shard(hash).lock();
        let on_gate = inner.states.get_mut(&hash).and_then(|state| {
            let removed = state.remove(flight)?;
            state.close_unjoined(removed)
        });
        drop(inner);
        drop(on_gate);
    }

    /// Begins a write: supersedes everything in progress at once, then waits for the guard.
    ///
    /// # Errors
    /// `ErrorKind::Busy` where it would have to wait while user code runs under a guard
    /// ([`reentrancy`]). The same if its caller was dropped and a later write of the key came
    /// first.
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

    /// As [`write`](Self::write), without waiting. Supersedes what is in progress even if the guard
    /// is held, unless this write is superseded itself.
    pub(crate) fn try_write(self: &Arc<Self>, turn: &WriteTurn) -> TryLock<WriteGuard> {
        let hash = turn.hash();
        let shard = self.shard(hash);
        let mut inner = shard.lock();
        let is_closed = inner.closed > 0;
        let state = inner.states.entry(hash).or_insert_with(State::new);
        // A later write that holds the guard may still turn out to change nothing.
        let has_passed = state.turns.has_passed(turn);
        if has_passed && !state.storing {
            return TryLock::Superseded;
        }
        let superseded = if has_passed { Flights::new() } else { state.supersede() };
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
        let (former, epoch) = (state.turns.grant(turn), state.epoch);
        state.holder = Holder::present();
        state.guards += 1;
        inner.guards += 1;
        drop(inner);
        TryLock::Granted(WriteGuard { key_locks: Arc::clone(self), hash, former, epoch, superseded })
    }

    /// Closes every key lock, waits for the guards that are held, and supersedes everything in
    /// progress. The locks open again when the returned value is dropped.
    ///
    /// # Errors
    /// `ErrorKind::Busy` while user code runs under a guard ([`reentrancy`]): that guard is
    /// released only after this call returns.
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

/// The error of a write whose caller was dropped and which a later write has overtaken.
fn passed() -> Error {
    Error::new(ErrorKind::Busy, "a later change of the entry was applied first")
}

impl KeyLocks {
    /// Decides what a caller with a missing key has to do.
    pub(crate) fn enter(self: &Arc<Self>, hash: u64, key: Key, start: Start) -> Admission {
        let shard = self.shard(hash);
        let mut inner = shard.lock();
        let is_closed = inner.closed > 0;
        let state = inner.states.entry(hash).or_insert_with(State::new);
        if is_closed || state.storing {
            let hold = LockWait { freed: shard.freed.listen(), holder: state.holder.clone() };
            if state.guards == 0 {
                inner.states.remove(&hash);
            }
            return Admission::Locked(key, hold);
        }
        if let Some((_, flight)) = state.flights.iter().find(|(held, _)| *held == key) {
            let flight = Arc::clone(flight);
            return Admission::Join(key, flight);
        }
        if let Some(flight) = state.join_unjoined(&key, start.stamp) {
            return Admission::Join(key, flight);
        }
        let flight = Arc::new(Flight::new(start));
        state.flights.push((key.clone(), Arc::clone(&flight)));
        state.guards += 1;
        let epoch = state.epoch;
        drop(inner);
        Admission::Leader(FlightLeader {
            key_locks: Arc::clone(self),
            hash,
            epoch,
            key: Some(key),
            flight,
            has_left: false,
        })
    }
}

/// A snapshot of a key's epoch. Tells later whether the entry has changed.
pub(crate) struct KeyEpoch {
    key_locks: Arc<KeyLocks>,
    hash: u64,
    /// Epoch and latest stored flight. `None` if the entry was being changed.
    seen: Option<(u64, u64)>,
}

impl KeyEpoch {
    /// Takes the guard, unless the entry changed since or is being stored. Never waits: a promotion
    /// is not worth a wait.
    pub(crate) fn claim(&self) -> Option<WriteGuard> {
        let mut inner = self.key_locks.shard(self.hash).lock();
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
        Some(WriteGuard::plain(&self.key_locks, self.hash))
    }
}

impl Drop for KeyEpoch {
    fn drop(&mut self) {
        self.key_locks.shard(self.hash).lock().release(self.hash, |_| {});
    }
}

/// The right to store an entry. Dropping it releases the key lock.
pub(crate) struct WriteGuard {
    key_locks: Arc<KeyLocks>,
    hash: u64,
    /// Number of the write that held the guard before.
    former: u64,
    /// The epoch that this write began.
    epoch: u64,
    /// The loads that this write superseded, until it is known to change something.
    superseded: Flights,
}

impl WriteGuard {
    /// The guard of a value that was read or loaded: it supersedes nothing.
    fn plain(key_locks: &Arc<KeyLocks>, hash: u64) -> Self {
        Self { key_locks: Arc::clone(key_locks), hash, former: 0, epoch: 0, superseded: Flights::new() }
    }
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        let shard = self.key_locks.shard(self.hash);
        let mut inner = shard.lock();
        inner.guards -= 1;
        inner.release(self.hash, |state| {
            state.storing = false;
            state.holder = None;
        });
        drop(inner);
        shard.freed.notify(usize::MAX);
    }
}

/// Keeps key locks closed until it is dropped.
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
