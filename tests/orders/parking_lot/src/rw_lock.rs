use std::ops::{Deref, DerefMut};
use std::sync::{self, PoisonError};

use crate::{Condvar, Mutex};

/// As `parking_lot::RwLock`: a reader queues behind a waiting writer, so a recursive read can
/// deadlock.
#[derive(Debug, Default)]
pub struct RwLock<T: ?Sized> {
    state: Mutex<State>,
    changed: Condvar,
    /// The inner lock is always free when this lock admits a caller.
    value: sync::RwLock<T>,
}

#[derive(Debug, Default)]
struct State {
    readers: usize,
    writers_waiting: usize,
    is_written: bool,
}

impl State {
    const NEW: Self = Self { readers: 0, writers_waiting: 0, is_written: false };
}

impl<T> RwLock<T> {
    /// As in `parking_lot`.
    pub const fn new(value: T) -> Self {
        Self { value: sync::RwLock::new(value), state: Mutex::new(State::NEW), changed: Condvar::new() }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// As in `parking_lot`.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let mut state = self.state.lock();
        while state.is_written || state.writers_waiting > 0 {
            self.changed.wait(&mut state);
        }
        state.readers += 1;
        let value = self.value.read().unwrap_or_else(PoisonError::into_inner);
        RwLockReadGuard { lock: self, value: Some(value) }
    }

    /// As in `parking_lot`.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let mut state = self.state.lock();
        state.writers_waiting += 1;
        while state.is_written || state.readers > 0 {
            self.changed.wait(&mut state);
        }
        state.writers_waiting -= 1;
        state.is_written = true;
        let value = self.value.write().unwrap_or_else(PoisonError::into_inner);
        RwLockWriteGuard { lock: self, value: Some(value) }
    }

    /// As in `parking_lot`.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        let mut state = self.state.lock();
        if state.is_written || state.readers > 0 {
            return None;
        }
        state.is_written = true;
        let value = self.value.write().unwrap_or_else(PoisonError::into_inner);
        Some(RwLockWriteGuard { lock: self, value: Some(value) })
    }

    fn leave(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}

/// As `parking_lot::RwLockReadGuard`.
#[derive(Debug)]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    value: Option<sync::RwLockReadGuard<'a, T>>,
}

/// As `parking_lot::RwLockWriteGuard`.
#[derive(Debug)]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    value: Option<sync::RwLockWriteGuard<'a, T>>,
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.lock.leave(|state| state.readers -= 1);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.lock.leave(|state| state.is_written = false);
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().unwrap_or_else(|| unreachable!("held until it is dropped"))
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().unwrap_or_else(|| unreachable!("held until it is dropped"))
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().unwrap_or_else(|| unreachable!("held until it is dropped"))
    }
}
