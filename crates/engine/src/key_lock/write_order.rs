//! The order in which tasks began their writes of a key.
//!
//! A task may drop the future of a write. The write still runs to its end, on a
//! thread that may get the lock of the key only after a later write did. What
//! the later write stored has to stay, so the earlier one is superseded: it ends
//! as if it had been made, and overwritten at once. A write whose caller still
//! waits for it is concurrent with every other, and any order will do.
//!
//! A thread stays with its write until that is done, so it needs no number
//! before it has the lock.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::{KeyLocks, State, WriteGuard};

/// A write of one key: which one it was among those of tasks.
pub(crate) struct WriteTurn {
    hash: u64,
    place: Place,
}

enum Place {
    /// A task began it, and may give it up.
    Task(Number),
    /// A thread stays with it.
    Thread,
    /// It is no write of a caller: it overtakes none.
    Upkeep,
}

/// Keeps the state of the key alive, and its numbers with it.
struct Number {
    key_locks: Arc<KeyLocks>,
    hash: u64,
    number: u64,
    caller: Weak<()>,
}

/// RecordLifetimes as long as the future of the caller.
pub(crate) struct Caller(#[expect(dead_code, reason = "only its lifecycle counts")] Option<Arc<()>>);

/// Numbers of the writes of one key.
#[derive(Default)]
pub(super) struct WriteOrder {
    /// The latest number that was given.
    given: u64,
    /// The latest number that got the lock.
    granted: u64,
}

impl WriteOrder {
    /// Whether a write with this turn is superseded by a later one.
    pub(super) fn has_passed(&self, turn: &WriteTurn) -> bool {
        match &turn.place {
            Place::Task(turn) => turn.number < self.granted && turn.caller.strong_count() == 0,
            Place::Thread | Place::Upkeep => false,
        }
    }

    /// A write got the lock; which one had it before.
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

    /// The write that got the lock last changed nothing.
    pub(super) fn take_back(&mut self, former: u64) {
        self.granted = former;
    }
}

impl WriteTurn {
    /// A write that its thread stays with.
    pub(crate) fn of_thread(hash: u64) -> Self {
        Self { hash, place: Place::Thread }
    }

    /// The cache itself removes an entry, because another node changed it say.
    pub(crate) fn of_upkeep(hash: u64) -> Self {
        Self { hash, place: Place::Upkeep }
    }

    /// The hash of the key.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

impl KeyLocks {
    /// A write that begins now, and that its caller may give up: as long as the
    /// caller is there, it lives.
    pub(crate) fn turn_of_task(self: &Arc<Self>, hash: u64) -> (WriteTurn, Caller) {
        self.writes_of_tasks.fetch_add(1, Ordering::AcqRel);
        let mut inner = self.shard(hash).inner.lock();
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

    /// Whether the caller gave a write up and a later one of the key was made.
    pub(crate) fn has_passed(&self, turn: &WriteTurn) -> bool {
        let inner = self.shard(turn.hash()).inner.lock();
        inner.states.get(&turn.hash()).is_some_and(|state| state.turns.has_passed(turn))
    }

    /// Whether a task began a write that is not done yet.
    pub(crate) fn has_writes_of_tasks(&self) -> bool {
        self.writes_of_tasks.load(Ordering::Acquire) > 0
    }
}

impl WriteGuard {
    /// Nothing was changed: earlier writes that were given up are still made.
    pub(crate) fn changed_nothing(&self) {
        if let Some(state) = self.key_locks.shard(self.hash).inner.lock().states.get_mut(&self.hash) {
            state.turns.take_back(self.former);
        }
    }
}

impl Caller {
    /// Of a write that its thread stays with.
    pub(crate) const THREAD: Self = Self(None);
}

impl Drop for Number {
    fn drop(&mut self) {
        self.key_locks.shard(self.hash).inner.lock().release(self.hash, |_| {});
        self.key_locks.writes_of_tasks.fetch_sub(1, Ordering::AcqRel);
    }
}
