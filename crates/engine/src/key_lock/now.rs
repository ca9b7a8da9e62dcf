//! Changes that are made at once: under the mutex of a key lock, without a guard.
//!
//! A change of the memory store alone takes about as long as a look-up, and runs no code of the
//! user but the `Eq` of a key. So it is made while the mutex is held: no caller has to be told that
//! a guard is held, and none waits for one.

use larder_core::erased::Key;

use super::leader::{Claimable, FlightLeader};
use super::shard::Locked;
use super::{Flights, KeyLocks};

/// A key lock that is held for one change of the memory store.
pub(crate) struct LockedNow<'a> {
    _inner: Locked<'a>,
    /// Dropped after the mutex is released.
    _superseded: Flights,
}

impl<'a> LockedNow<'a> {
    /// A key lock whose mutex is held. Nothing in progress was superseded.
    pub(super) fn new(inner: Locked<'a>) -> Self {
        Self { _inner: inner, _superseded: Flights::new() }
    }
}

/// The outcome of [`FlightLeader::claim_now`].
pub(crate) enum ClaimNow<'a> {
    /// The value may be stored under this key.
    Granted(LockedNow<'a>, Key),
    /// The entry changed meanwhile.
    Superseded,
    /// The caller has to wait for a guard.
    Locked,
}

impl KeyLocks {
    /// Begins a write: supersedes everything in progress. `None` if it would have to wait for a
    /// guard.
    #[inline]
    pub(crate) fn lock_now(&self, hash: u64) -> Option<LockedNow<'_>> {
        let mut inner = self.shard(hash).lock();
        if inner.closed > 0 {
            return None;
        }
        let superseded = match inner.states.get_mut(&hash) {
            None => Flights::new(),
            Some(state) if state.storing => return None,
            Some(state) => state.supersede(),
        };
        Some(LockedNow { _inner: inner, _superseded: superseded })
    }
}

impl FlightLeader {
    /// As [`claim`](Self::claim), to store the value at once. If it is granted, the flight has left
    /// its key lock.
    pub(crate) fn claim_now(&mut self) -> ClaimNow<'_> {
        let mut inner = self.key_locks.shard(self.hash).lock();
        let state = match self.claimable(&mut inner) {
            Claimable::Yes(state) => state,
            Claimable::Superseded => return ClaimNow::Superseded,
            Claimable::Locked(_) => return ClaimNow::Locked,
        };
        // Drops nothing but references: this leader still has the key and the flight. Without them the
        // key is its own again.
        drop(self.publish_in(state));
        state.guards -= 1;
        if state.guards == 0 {
            inner.states.remove(&self.hash);
        }
        self.has_left = true;
        match self.key.take() {
            Some(key) => ClaimNow::Granted(LockedNow::new(inner), key),
            // The key was taken by an earlier claim.
            None => ClaimNow::Superseded,
        }
    }
}
