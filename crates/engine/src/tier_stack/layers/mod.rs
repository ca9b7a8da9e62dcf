//! Layers: tiers that hold a tier and add one concern.
//!
//! The order, from the outside in: [`Observe`], so that it counts what callers
//! get; [`Breaker`], which answers in place of a tier that fails; [`Limit`],
//! whose time-outs are failures that the breaker has to see. Counting inside a
//! breaker would miss the calls that the breaker refused, and a limit outside
//! of it would hide from it that the tier hangs:
//!
//! ```text
//! right: Observe(Breaker(Limit(tier)))
//! wrong: Breaker(Limit(Observe(tier)))
//! wrong: Observe(Limit(Breaker(tier)))
//! ```

mod breaker;
mod circuit;
mod limit;
mod observe;

pub use breaker::Breaker;
pub use limit::Limit;
pub(crate) use limit::within;
pub use observe::Observe;
