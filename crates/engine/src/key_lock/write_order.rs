//! Orders the writes of a key that tasks began and may give up.
//!
//! A task may drop the future of a write. The write still runs to its end, on a thread that may get
//! the key's guard only after a later write did. The later value has to stay, so the earlier write
//! is superseded: the result is the same as if it had been stored and then overwritten. A write
//! whose caller still waits for it is concurrent with every other, and any order is right.
//!
//! A thread stays with its write until the end, so it gets a number only with the guard.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::{KeyLocks, State, WriteGuard};

/// The place of one write in the order of writes of its key.
pub(crate) struct WriteTurn {
    hash: u64,
    place: Place,
}

/// The kind of a write, which decides how it is ordered.
enum Place {
    /// A task began the write and may drop it.
    Task(Number),
    /// A thread stays with the write until its end.
    Thread,
    /// Maintenance of the cache itself. It supersedes no write.
    Upkeep,
}

/// The number of a task's write. Keeps the state of the key, and with it the numbers, alive.
struct Number {
    key_locks: Arc<KeyLocks>,
    hash: u64,
    number: u64,
    caller: Weak<()>,
}

/// Lives as long as the caller's future. A write checks by it whether its caller is gone.
pub(crate) struct Caller(#[expect(dead_code, reason = "only its lifecycle counts")] Option<Arc<()>>);

/// Sequence numbers of the writes of one key.
#[derive(Default)]
pub(super) struct WriteOrder {
    /// The latest number that was given out.
    given: u64,
    /// The latest number that got the guard.
    granted: u64,
}

impl WriteOrder {
    /// Returns whether a later write supersedes the write with this turn.
    pub(super) fn has_passed(&self, turn: &WriteTurn) -> bool {
        match &turn.place {
            Place::Task(turn) => turn.number < self.granted && turn.caller.strong_count() == 0,
            Place::Thread | Place::Upkeep => false,
        }
    }

    /// Records that a write got the guard. Returns the number of the write before it.
    pub(super) fn grant(&mut self, turn: &WriteTurn) -> u64 {
        let former = self.granted;
        match &turn.place {
            Place::Task(turn) => self.granted = self.granted.max(turn.number),
            Place::Thread => {
                self.given += 1;
                self.granted = self.given;
            }
            Place::Upkeep => {}
        }
        former
    }

    /// Restores the number from before a write that changed nothing.
    pub(super) fn take_back(&mut self, former: u64) {
        self.granted = former;
    }
}

impl WriteTurn {
    /// A turn for a write that its thread stays with.
    pub(crate) fn of_thread(hash: u64) -> Self {
        Self { hash, place: Place::Thread }
    }

    /// A turn for a removal by the cache itself, for example because another node changed the
    /// entry.
    pub(crate) fn of_upkeep(hash: u64) -> Self {
        Self { hash, place: Place::Upkeep }
    }

    /// Returns the hash of the key.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

impl KeyLocks {
    /// A turn for a task's write that begins now. The caller's future keeps the [`Caller`]; while
    /// it exists, the write is not superseded.
    pub(crate) fn turn_of_task(self: &Arc<Self>, hash: u64) -> (WriteTurn, Caller) {
        self.writes_of_tasks.fetch_add(1, Ordering::AcqRel);
        let mut inner = self.shard(hash).lock();
        let state = inner.states.entry(hash).or_insert_with(State::new);
        state.guards += 1;
        state.turns.given += 1;
        let number = state.turns.given;
        drop(inner);
        let alive = Arc::new(());
        let caller = Arc::downgrade(&alive);
        let number = Number { key_locks: Arc::clone(self), hash, number, caller };
        (WriteTurn { hash, place: Place::Task(number) }, Caller(Some(alive)))
    }

    /// Returns whether the caller of a write is gone and a later write of the key came first.
    pub(crate) fn has_passed(&self, turn: &WriteTurn) -> bool {
        let inner = self.shard(turn.hash()).lock();
        inner.states.get(&turn.hash()).is_some_and(|state| state.turns.has_passed(turn))
    }

    /// Returns whether a write of a task has begun and not ended yet.
    pub(crate) fn has_writes_of_tasks(&self) -> bool {
        self.writes_of_tasks.load(Ordering::Acquire) > 0
    }
}

impl WriteGuard {
    /// Records that the write changed nothing, so that earlier abandoned writes still count.
    pub(crate) fn changed_nothing(&self) {
        if let Some(state) = self.key_locks.shard(self.hash).lock().states.get_mut(&self.hash) {
            state.turns.take_back(self.former);
        }
    }

    /// As [`changed_nothing`](Self::changed_nothing), for a write that need not have been ordered before the
    /// loads in progress either: their values are stored.
    pub(crate) fn found_nothing(mut self) {
        self.changed_nothing();
        if let Some(state) = self.key_locks.shard(self.hash).lock().states.get_mut(&self.hash) {
            state.restore(&mut self.superseded, self.epoch);
        }
    }
}

impl Caller {
    /// The caller of a write that its thread stays with.
    pub(crate) const THREAD: Self = Self(None);
}

impl Drop for Number {
    fn drop(&mut self) {
        self.key_locks.shard(self.hash).lock().release(self.hash, |_| {});
        self.key_locks.writes_of_tasks.fetch_sub(1, Ordering::AcqRel);
    }
}
