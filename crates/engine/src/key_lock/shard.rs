//! A shard: the states of some keys, under one mutex.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

use event_listener::Event;
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use super::{Flights, LockWait, State};

/// The states of some keys, under one mutex.
#[derive(Default)]
pub(super) struct Shard {
    inner: Mutex<Inner>,
    /// Whether there is a state or the shard is closed, as of the last release of the mutex.
    is_used: AtomicBool,
    /// Notified when a guard is released or the shard is opened again.
    pub(super) freed: Event,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) states: HashMap<u64, State, foldhash::fast::FixedState>,
    /// Number of `clear` calls that hold this shard closed.
    pub(super) closed: u32,
    /// Number of write guards that are held in this shard.
    pub(super) guards: u32,
}

/// A shard under its mutex.
pub(super) struct Locked<'a> {
    inner: MutexGuard<'a, Inner>,
    is_used: &'a AtomicBool,
}

impl Deref for Locked<'_> {
    type Target = Inner;

    #[inline]
    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        self.is_used.store(!self.inner.states.is_empty() || self.inner.closed > 0, Ordering::Release);
    }
}

impl Shard {
    #[inline]
    pub(super) fn lock(&self) -> Locked<'_> {
        Locked { inner: self.inner.lock(), is_used: &self.is_used }
    }

    /// Returns whether there is no state and the shard is open, without the mutex.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        !self.is_used.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) -> Flights {
        let mut inner = self.lock();
        inner.closed += 1;
        inner.states.values_mut().flat_map(State::supersede).collect()
    }

    pub(super) fn open(&self) -> Flights {
        let mut inner = self.lock();
        inner.closed -= 1;
        let superseded = inner.states.values_mut().flat_map(State::supersede).collect();
        drop(inner);
        self.freed.notify(usize::MAX);
        superseded
    }

    /// Returns a wait for the guards that are held.
    pub(super) fn locked_shard(&self) -> Option<LockWait> {
        let inner = self.lock();
        let live = || {
            inner.states.values().filter_map(|state| state.holder.as_ref()).find(|holder| holder.is_live())
        };
        (inner.guards > 0).then(|| LockWait { freed: self.freed.listen(), holder: live().cloned() })
    }
}

impl Inner {
    /// Releases one reference to a state.
    pub(super) fn release(&mut self, hash: u64, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.states.get_mut(&hash) {
            change(state);
            state.guards -= 1;
            if state.guards == 0 {
                self.states.remove(&hash);
            }
        }
    }
}
