//! `futures-util` under shuttle's scheduler: `Shared` takes locks of its own, which
//! are invisible to a scheduler.

use std::panic::UnwindSafe;

pub use crate::future::Shared;

/// As `futures_util::future`.
pub mod future;

/// As much of `futures_util::FutureExt` as is used.
pub trait FutureExt: Future + Sized {
    /// As in `futures_util`.
    fn boxed<'a>(self) -> future::BoxFuture<'a, Self::Output>
    where
        Self: Send + 'a,
    {
        real::FutureExt::boxed(self)
    }

    /// As in `futures_util`.
    fn catch_unwind(self) -> real::future::CatchUnwind<Self>
    where
        Self: UnwindSafe,
    {
        real::FutureExt::catch_unwind(self)
    }

    /// As in `futures_util`.
    fn shared(self) -> Shared<Self>
    where
        Self::Output: Clone,
    {
        Shared::new(self)
    }
}

impl<F: Future> FutureExt for F {}
