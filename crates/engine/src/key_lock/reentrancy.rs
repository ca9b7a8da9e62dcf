//! A shield: around user code that runs while an entry is being stored.
//!
//! Who holds the guard of a key hands values to the memory store, and that
//! drops others: a value's own `Drop` runs then, and may call the cache. Such a
//! call must not wait for a guard or a flight, since whoever has it may wait
//! for the guard that is out. It fails, or loads without waiting.

use std::cell::Cell;

use larder_core::{Error, ErrorKind};

std::thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Runs `call`; calls of a cache within it do not wait.
pub(crate) fn within<R>(call: impl FnOnce() -> R) -> R {
    let _up = Up::new();
    call()
}

/// Whether the caller must not wait.
pub(crate) fn is_up() -> bool {
    DEPTH.get() > 0
}

/// What a call that would have to wait fails with.
pub(crate) fn busy() -> Error {
    let message =
        "called from the `Drop` of a value while another entry was being stored: it would have to wait";
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
