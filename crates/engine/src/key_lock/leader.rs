//! The leader of a flight: the caller that loads the key.

use std::sync::Arc;

use larder_core::erased::Key;

use super::flight::{Flight, Outcome};
use super::{Holder, Inner, KeyLocks, LockWait, State, TryLock, WriteGuard};

/// The leader of a flight. If it is dropped without an outcome the flight is abandoned, and one of
/// the waiters leads next.
pub(crate) struct FlightLeader {
    pub(super) key_locks: Arc<KeyLocks>,
    pub(super) hash: u64,
    /// The epoch when the flight began.
    pub(super) epoch: u64,
    /// Shared with the key lock until the guard is granted.
    pub(super) key: Option<Key>,
    pub(crate) flight: Arc<Flight>,
    /// Whether the key lock no longer refers to this flight.
    pub(super) has_left: bool,
}

/// Whether the value of a flight may be stored now.
pub(super) enum Claimable<'a> {
    /// It may, under this state of its key.
    Yes(&'a mut State),
    /// The entry changed meanwhile.
    Superseded,
    /// The caller has to wait for a guard, which this section may hold.
    Locked(Option<Holder>),
}

impl FlightLeader {
    /// Takes the guard, unless the entry was written since the flight began, or stored by a later
    /// flight. Once it is granted, no caller joins the flight any more.
    pub(crate) fn claim(&mut self) -> TryLock<WriteGuard> {
        let shard = self.key_locks.shard(self.hash);
        let mut inner = shard.lock();
        let state = match self.claimable(&mut inner) {
            Claimable::Yes(state) => state,
            Claimable::Superseded => return TryLock::Superseded,
            Claimable::Locked(holder) => {
                return TryLock::Locked(LockWait { freed: shard.freed.listen(), holder });
            }
        };
        let on_gate = self.publish_in(state);
        state.storing = true;
        state.holder = Holder::present();
        state.guards += 1;
        inner.guards += 1;
        drop(inner);
        drop(on_gate);
        TryLock::Granted(WriteGuard::plain(&self.key_locks, self.hash))
    }

    /// Returns the state of the key if the value of this flight may be stored now.
    pub(super) fn claimable<'a>(&self, inner: &'a mut Inner) -> Claimable<'a> {
        let is_closed = inner.closed > 0;
        match inner.states.get_mut(&self.hash) {
            None => Claimable::Superseded,
            Some(state) if self.is_superseded(state) => Claimable::Superseded,
            Some(state) if is_closed || state.storing => Claimable::Locked(state.holder.clone()),
            Some(state) => Claimable::Yes(state),
        }
    }

    /// Removes the flight from its key lock, because its value is about to be stored.
    #[must_use]
    pub(super) fn publish_in(&self, state: &mut State) -> Option<(Key, Arc<Flight>)> {
        // A value that was read before this one is stored must not be promoted over it.
        state.published = self.flight.id();
        state.remove(&self.flight)
    }

    /// Returns whether the entry was written since the flight began, or stored by a later flight.
    fn is_superseded(&self, state: &State) -> bool {
        state.epoch != self.epoch || state.published > self.flight.id() || self.is_taken_over(state)
    }

    /// Returns whether a waiter took the key over and loads it now. Only one of the two flights may
    /// store its value.
    fn is_taken_over(&self, state: &State) -> bool {
        let mut others = state.flights.iter().map(|(_, flight)| flight);
        self.flight.is_abandoned() && others.any(|other| other.id() > self.flight.id())
    }

    /// Returns the key of a flight that a waiter took over.
    ///
    /// # Errors
    /// Returns the leader if the flight was not taken over.
    pub(crate) fn give_way(mut self) -> Result<Key, Self> {
        if !self.flight.is_abandoned() {
            return Err(self);
        }
        // The key lock has no copy of the key from here on.
        self.leave();
        self.key.take().ok_or(self)
    }

    /// Takes the key, for the holder of the guard.
    pub(crate) fn take_key(&mut self) -> Option<Key> {
        self.key.take()
    }

    /// Returns the hash of the key.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns the key, until the guard is granted.
    pub(crate) fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Ends the flight with `outcome`.
    pub(crate) fn end(self, outcome: Outcome) {
        self.leave();
        self.flight.end(outcome);
    }

    /// Removes the flight from its key lock, so that no caller joins it any more.
    fn leave(&self) {
        if !self.has_left {
            self.key_locks.forget(self.hash, &self.flight);
        }
    }

    /// Returns whether a caller waits for the flight. Exact once the flight has left its key lock.
    pub(crate) fn is_joined(&self) -> bool {
        Arc::strong_count(&self.flight) > 1
    }
}

impl Drop for FlightLeader {
    fn drop(&mut self) {
        if !self.has_left {
            self.leave();
            self.key_locks.shard(self.hash).lock().release(self.hash, |_| {});
        } else if !self.is_joined() {
            return;
        }
        self.flight.end(Outcome::Abandoned);
    }
}
