//! Guards against reentrant waits, in user code that runs while an entry is stored.
//!
//! The holder of a key's guard inserts into the memory store, and that drops other values. The
//! `Drop` of such a value may call the cache, and so may the function of a `compute`. This call must
//! not wait for a guard or a flight: its holder may itself wait for the guard that is held below on
//! the same stack. So the call fails with [`busy`], or loads without waiting.

use std::cell::Cell;

use larder_core::{Error, ErrorKind};

std::thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Runs `call`. Calls of a cache inside it do not wait.
pub(crate) fn within<R>(call: impl FnOnce() -> R) -> R {
    let _up = Up::new();
    call()
}

/// Returns whether the caller runs inside [`within`] and must not wait.
pub(crate) fn is_up() -> bool {
    DEPTH.get() > 0
}

/// The error of a call that would have to wait inside [`within`].
pub(crate) fn busy() -> Error {
    let message = "a call from the `Drop` of a value, or from the function of `compute`, \
                   would wait while an entry is being changed";
    Error::new(ErrorKind::Busy, message)
}

struct Up;

impl Up {
    fn new() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}
