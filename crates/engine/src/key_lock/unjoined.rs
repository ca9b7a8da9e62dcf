//! Loads that run on the calling thread, and that no other caller has joined: their flight is not made yet.
//!
//! Most loads end before another caller asks for their key. So the state of the key has only what a flight
//! is made from. The first caller that joins makes it, under its own key, and the leader finds it at its end.
//! Only the leader has the key of the load, so it compares: a flight that was made under another key with an
//! equal hash is abandoned, and one of its waiters loads.

use std::sync::Arc;
use std::time::Instant;

use hashbrown::hash_map::Entry;
use larder_core::erased::Key;

use super::flight::{Flight, Outcome, Purpose, Start, next_id};
use super::leader::FlightLeader;
use super::now::LockedNow;
use super::{Flights, KeyLocks, State};

/// A load whose flight is made by the first caller that joins it.
pub(super) struct Unjoined {
    /// The id of the flight.
    id: u64,
    /// The epoch of the key when it began.
    epoch: u64,
    /// Sequence number of the latest invalidation when it began.
    stamp: u64,
    began: Instant,
    /// Whether a caller that met it has removed it from the key lock.
    is_forgotten: bool,
    /// Its flights that were removed from the key lock before it ended.
    left: Joined,
}

/// The flights of a load, each with the key under which a caller made it.
pub(crate) type Joined = Vec<(Key, Arc<Flight>)>;

impl Unjoined {
    /// A flight with the id and the beginning of the load.
    fn flight(&self) -> Arc<Flight> {
        let start = Start { purpose: Purpose::Borrowed, watch: None, stamp: self.stamp };
        Arc::new(Flight::begun(self.id, start, self.began))
    }

    /// Whether a caller may join it.
    fn is_open(&self, epoch: u64) -> bool {
        !self.is_forgotten && self.epoch == epoch
    }
}

impl State {
    /// Makes the flight of the load in progress, for a caller with this key and the sequence number of the latest
    /// invalidation. `None` if there is none that it may join. A load from before that invalidation is closed for
    /// all callers.
    pub(super) fn join_unjoined(&mut self, key: &Key, stamp: u64) -> Option<Arc<Flight>> {
        let epoch = self.epoch;
        let load = self.unjoined.as_mut().filter(|load| load.is_open(epoch))?;
        // No flight is made for a caller that would refuse it: its key would stay shared, and a key that is shared
        // cannot be stored.
        load.is_forgotten = load.stamp < stamp;
        if load.is_forgotten {
            return None;
        }
        let flight = load.flight();
        self.flights.push((key.clone(), Arc::clone(&flight)));
        Some(flight)
    }

    /// Takes the flights. Keeps those of the load in progress for its leader.
    pub(super) fn take_flights(&mut self) -> Flights {
        let flights = std::mem::take(&mut self.flights);
        let Some(load) = &mut self.unjoined else { return flights };
        let (own, others): (Joined, Joined) =
            flights.into_iter().partition(|(_, flight)| flight.id() == load.id);
        load.left.extend(own);
        others.into()
    }

    /// Closes the load in progress for further callers, if a flight that was removed is its own. Keeps the flight
    /// for its leader then, and returns it otherwise.
    pub(super) fn close_unjoined(&mut self, removed: (Key, Arc<Flight>)) -> Option<(Key, Arc<Flight>)> {
        match &mut self.unjoined {
            Some(load) if load.id == removed.1.id() => {
                load.is_forgotten = true;
                load.left.push(removed);
                None
            }
            _ => Some(removed),
        }
    }

    /// Ends the load in progress. Returns its flights.
    fn end_unjoined(&mut self) -> Joined {
        if !self.flights.is_empty() {
            self.flights = self.take_flights();
        }
        self.unjoined.take().map_or_else(Joined::new, |load| load.left)
    }
}

impl KeyLocks {
    /// Leads a load on the calling thread, which began just now. `None` if anything is in progress for the key.
    pub(crate) fn lead_unjoined(&self, hash: u64, stamp: u64, began: Instant) -> Option<UnjoinedLeader<'_>> {
        let mut inner = self.shard(hash).lock();
        if inner.closed > 0 {
            return None;
        }
        let Entry::Vacant(place) = inner.states.entry(hash) else { return None };
        let (id, state) = (next_id(), State::new());
        let epoch = state.epoch;
        let load = Unjoined { id, epoch, stamp, began, is_forgotten: false, left: Joined::new() };
        place.insert(State { guards: 1, unjoined: Some(load), ..state });
        Some(UnjoinedLeader { key_locks: self, hash, id, epoch, has_left: false })
    }
}

/// The leader of a load whose flight is made by the first caller that joins it. If it is dropped without an
/// outcome, one of the waiters leads next.
pub(crate) struct UnjoinedLeader<'a> {
    key_locks: &'a KeyLocks,
    hash: u64,
    id: u64,
    /// The epoch when the load began.
    epoch: u64,
    /// Whether the load has left its key lock.
    has_left: bool,
}

/// The outcome of [`UnjoinedLeader::claim`].
pub(crate) enum ClaimUnjoined<'a> {
    /// The value may be stored.
    Granted(LockedNow<'a>, Joined),
    /// The entry changed meanwhile.
    Superseded(Joined),
    /// The caller has to wait for a guard.
    Locked,
}

impl<'a> UnjoinedLeader<'a> {
    /// Returns the id of the flight.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns the hash of the key.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Claims the key, to store the value at once. Unless it is locked, the load has left its key lock then.
    pub(crate) fn claim(&mut self) -> ClaimUnjoined<'a> {
        let mut inner = self.key_locks.shard(self.hash).lock();
        let is_closed = inner.closed > 0;
        let Entry::Occupied(mut place) = inner.states.entry(self.hash) else {
            return ClaimUnjoined::Superseded(Joined::new());
        };
        let state = place.get_mut();
        let is_superseded = state.epoch != self.epoch || state.published > self.id;
        if !is_superseded {
            if is_closed || state.storing {
                return ClaimUnjoined::Locked;
            }
            // A value that was read before this one is stored must not be promoted over it.
            state.published = self.id;
        }
        let joined = state.end_unjoined();
        state.guards -= 1;
        if state.guards == 0 {
            place.remove();
        }
        self.has_left = true;
        if is_superseded {
            return ClaimUnjoined::Superseded(joined);
        }
        ClaimUnjoined::Granted(LockedNow::new(inner), joined)
    }

    /// Leaves the key lock, so that no caller joins the load any more. Returns its flights.
    pub(crate) fn leave(&mut self) -> Joined {
        if std::mem::replace(&mut self.has_left, true) {
            return Joined::new();
        }
        let mut joined = Joined::new();
        let mut inner = self.key_locks.shard(self.hash).lock();
        inner.release(self.hash, |state| joined = state.end_unjoined());
        joined
    }

    /// Becomes the leader of a flight, which is made now if no caller has made it. `None` if the load has left its
    /// key lock.
    pub(crate) fn into_leader(mut self, key_locks: &Arc<KeyLocks>, key: Key) -> Option<FlightLeader> {
        if self.has_left {
            return None;
        }
        let (hash, epoch) = (self.hash, self.epoch);
        let mut inner = self.key_locks.shard(hash).lock();
        let state = inner.states.get_mut(&hash)?;
        let load = state.unjoined.as_ref()?;
        let (is_open, made) = (load.is_open(state.epoch), load.flight());
        let mut joined = state.end_unjoined();
        let own = joined.iter().position(|(held, _)| *held == key);
        let flight = own.map_or(made, |own| Arc::clone(&joined[own].1));
        if is_open {
            state.flights.push((key.clone(), Arc::clone(&flight)));
        }
        drop(inner);
        self.has_left = true;
        joined.retain(|(_, other)| !Arc::ptr_eq(other, &flight));
        end_flights(joined, &Outcome::Abandoned);
        Some(FlightLeader {
            key_locks: Arc::clone(key_locks),
            hash,
            epoch,
            key: Some(key),
            flight,
            has_left: false,
        })
    }
}

impl Drop for UnjoinedLeader<'_> {
    fn drop(&mut self) {
        if !self.has_left {
            end_flights(self.leave(), &Outcome::Abandoned);
        }
    }
}

/// Ends flights with an outcome. No mutex may be held.
pub(crate) fn end_flights(joined: Joined, outcome: &Outcome) {
    // Drops the keys first: a waiter that leads next stores the key that it made the flight under.
    let flights: Vec<_> = joined.into_iter().map(|(_, flight)| flight).collect();
    for flight in flights {
        flight.end(outcome.clone());
    }
}
