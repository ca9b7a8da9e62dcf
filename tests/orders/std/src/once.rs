use std::fmt;
use std::sync::OnceLock as Cell;
use std::time::Duration;

use shuttle::sync::{Mutex, PoisonError};
use shuttle::thread::sleep;

/// As `std::sync::OnceLock`: the scheduler can switch threads between any two calls, and a caller
/// that arrives during the initialization waits for it.
pub struct OnceLock<T> {
    cell: Cell<T>,
    making: Mutex<()>,
}

impl<T> OnceLock<T> {
    /// As in `std`.
    pub const fn new() -> Self {
        Self { cell: Cell::new(), making: Mutex::new(()) }
    }

    /// As in `std`.
    pub fn get(&self) -> Option<&T> {
        sleep(Duration::ZERO);
        self.cell.get()
    }

    /// As in `std`.
    ///
    /// # Errors
    /// The given value, if the cell already has one.
    pub fn set(&self, value: T) -> Result<(), T> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        self.cell.set(value)
    }

    /// As in `std`.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        // No other thread initializes the cell, so this never blocks outside the scheduler.
        self.cell.get_or_init(make)
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cell.fmt(f)
    }
}
