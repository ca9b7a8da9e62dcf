//! `std`, with its shared-memory primitives under the scheduler of shuttle.
//!
//! Everything else is `std` itself. In a package that names this crate `std`, paths that begin with
//! `std::` lead here.

mod local;
mod once;
mod spawned;

pub use ::std::*;

/// As `std::sync`.
pub mod sync {
    pub use ::std::sync::*;
    pub use shuttle::sync::{Barrier, Condvar, Mutex, Once, RwLock, mpsc};

    pub use crate::once::OnceLock;

    /// As `std::sync::atomic`, but every memory ordering is `SeqCst`.
    pub mod atomic {
        pub use shuttle::sync::atomic::*;
    }
}

/// As `std::thread`.
pub mod thread {
    pub use ::std::thread::*;
    pub use shuttle::thread::{
        Scope, ScopedJoinHandle, Thread, ThreadId, current, park, scope, sleep, yield_now,
    };

    pub use crate::local::LocalKey;
    pub use crate::spawned::{Builder, JoinHandle, spawn};
}

#[doc(hidden)]
pub use shuttle as __shuttle;

/// As `std::thread_local`. The macro of the prelude is still that of `std`, so code under test must
/// write `std::thread_local!`.
#[macro_export]
macro_rules! thread_local {
    () => {};
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = const { $init:expr } $(; $($rest:tt)*)?) => {
        $(#[$attr])*
        $vis static $name: $crate::thread::LocalKey<$t> = {
            $crate::__shuttle::thread_local! { static INNER: $t = $init; }
            $crate::thread::LocalKey::new(&INNER)
        };
        $($crate::thread_local! { $($rest)* })?
    };
}
