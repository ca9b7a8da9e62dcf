//! Layers: tiers that hold a tier and add one concern.
//!
//! The order, from the outside in: [`Observe`] counts what callers get; [`Breaker`]
//! answers in place of a failing tier; [`Limit`] turns a time-out into a failure that the
//! breaker sees. Counting inside the breaker would miss the calls that it refuses. A
//! limit outside the breaker would hide from it that the tier hangs:
//!
//! ```text
//! right: Observe(Breaker(Limit(tier)))
//! wrong: Breaker(Limit(Observe(tier)))
//! wrong: Observe(Limit(Breaker(tier)))
//! ```
//!
//! [`Layered`] is the tier with all three.

mod breaker;
mod circuit;
mod layered;
mod limit;
mod observe;

use larder_core::tier::BoxFuture;

pub use breaker::Breaker;
pub use layered::Layered;
pub use limit::Limit;
pub(crate) use limit::within;
pub use observe::Observe;

/// Begins a call when it is awaited first: a layer may answer in place of the tier.
async fn lazy<'a, R>(make: impl FnOnce() -> BoxFuture<'a, R> + Send) -> R {
    make().await
}
