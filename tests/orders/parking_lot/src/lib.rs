//! `parking_lot` under the scheduler of shuttle.
//!
//! Time stands still: a wait with a later deadline waits for a notification, and one that never
//! comes is a deadlock. But a wait of less than a fifth of a second times out at once.

mod rw_lock;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use shuttle::sync::{self, PoisonError};

pub use crate::rw_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Waits shorter than this time out at once.
const SHORT: Duration = Duration::from_millis(200);

/// As `parking_lot::Mutex`.
#[derive(Default)]
pub struct Mutex<T: ?Sized>(sync::Mutex<T>);

impl<T> Mutex<T> {
    /// As in `parking_lot`.
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// As in `parking_lot`.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> Mutex<T> {
    /// As in `parking_lot`.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, held: Some(self.hold()) }
    }

    fn hold(&self) -> sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As in `parking_lot`.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = match self.0.try_lock() {
            Ok(held) => held,
            Err(sync::TryLockError::Poisoned(held)) => held.into_inner(),
            Err(sync::TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { mutex: self, held: Some(held) })
    }

    /// As in `parking_lot`.
    pub fn try_lock_for(&self, _: Duration) -> Option<MutexGuard<'_, T>> {
        Some(self.lock())
    }

    /// As in `parking_lot`.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// As `parking_lot::MutexGuard`.
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// `None` while the lock is released for a time.
    held: Option<sync::MutexGuard<'a, T>>,
}

impl<T: ?Sized> MutexGuard<'_, T> {
    /// As in `parking_lot`.
    pub fn unlocked<R>(guard: &mut Self, call: impl FnOnce() -> R) -> R {
        guard.held = None;
        let result = call();
        guard.held = Some(guard.mutex.hold());
        result
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().unwrap_or_else(|| unreachable!("held but within `unlocked` and `wait`"))
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().unwrap_or_else(|| unreachable!("held but within `unlocked` and `wait`"))
    }
}

/// As `parking_lot::Condvar`.
#[derive(Debug, Default)]
pub struct Condvar(sync::Condvar);

/// As `parking_lot::WaitTimeoutResult`.
#[derive(Clone, Copy, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// As in `parking_lot`.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// As in `parking_lot`.
    pub const fn new() -> Self {
        Self(sync::Condvar::new())
    }

    /// As in `parking_lot`.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(held) = guard.held.take() {
            guard.held = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// As in `parking_lot`, but time stands still.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, moment: Instant) -> WaitTimeoutResult {
        self.wait_for(guard, moment.saturating_duration_since(Instant::now()))
    }

    /// As in `parking_lot`, but time stands still.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) -> WaitTimeoutResult {
        if time >= SHORT {
            self.wait(guard);
            return WaitTimeoutResult(false);
        }
        MutexGuard::unlocked(guard, shuttle::thread::yield_now);
        WaitTimeoutResult(true)
    }

    /// As in `parking_lot`.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// As in `parking_lot`.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
