//! Layers: tiers that hold a tier and add one concern.
//!
//! The order, from the outside in: [`Observe`], so that it counts what callers
//! get; then what answers in place of the tier. Counting inside a breaker
//! would miss the calls that the breaker refused:
//!
//! ```text
//! right: Observe(Breaker(Timeout(tier)))
//! wrong: Breaker(Timeout(Observe(tier)))
//! ```

mod observe;

pub use observe::Observe;
